"""The command `python -m ace_jax.evaluation`: what it prints, and how it fails."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import run_python

import ace_jax
from ace_jax.data.pose_writers import write_trajectory_tum
from ace_jax.errors import UserError
from ace_jax.evaluation.files import read_trajectory
from ace_jax.evaluation.trajectory import Trajectory, compare, errors_summary, errors_table
from ace_jax.geometry.rigid import from_quaternion, invert, to_quaternion

PACKAGE_ROOT = Path(ace_jax.__file__).parent.parent


def _poses(count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return from_quaternion(rng.normal(size=(count, 4)), rng.normal(size=(count, 3)))


def _write_named(path, poses, pattern="seq-01/frame-{:06d}.color.png", first=0):
    lines = []
    for number, pose in enumerate(invert(poses), first):
        numbers = [*to_quaternion(pose[:3, :3]), *pose[:3, 3], 525.505]
        lines.append(" ".join([pattern.format(number), *map(repr, map(float, numbers))]))
    path.write_text("\n".join(lines) + "\n")


def _run(*arguments: object) -> subprocess.CompletedProcess:
    return run_python("-m", "ace_jax.evaluation", *arguments, cwd=Path.cwd())


def test_table_json_and_plot(tmp_path):
    poses = _poses()
    times = np.arange(12) / 30
    write_trajectory_tum(tmp_path / "estimate.tum", times[:9], poses[:9])
    _write_named(tmp_path / "truth.txt", poses)
    done = _run(
        tmp_path / "estimate.tum",
        tmp_path / "truth.txt",
        "--frames=12",
        f"--json={tmp_path / 'out.json'}",
        f"--plot={tmp_path / 'out.png'}",
    )
    assert done.returncode == 0, done.stderr
    assert "75.0% of 12 frames" in done.stdout
    assert "ATE (cm)" in done.stdout
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary["ate_trans_m"]["rmse"] < 1e-6
    assert summary["matched"] == 9
    assert (tmp_path / "out.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.tum", "good.tum"], "missing.tum: No such file"),
        (["good.tum", "later.tum"], "no overlap"),
        (["good.tum"], "missing GT"),
        (["good.tum", "good.tum", "--detla=1"], "Unknown command line flag"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_trajectory_tum("good.tum", np.arange(12.0), _poses())
    write_trajectory_tum("later.tum", np.arange(12.0) + 1000, _poses())
    done = _run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "content",
    [b"it was a dark and stormy night\n", b"\xff\xfe\x00\x80" * 9, b"", b"1 2 3 4 5 6 7 x\n"],
)
def test_a_file_that_is_no_trajectory_is_refused(tmp_path, content):
    (tmp_path / "other.tum").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.tum"):
        read_trajectory(tmp_path / "other.tum", fps=30.0)


def test_help_shows_examples_and_succeeds():
    done = _run("--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert "--max_difference" in done.stdout


def test_named_poses_get_their_times_from_the_frame_numbers(tmp_path):
    poses = _poses()
    _write_named(tmp_path / "truth.txt", poses, first=30)
    truth = read_trajectory(tmp_path / "truth.txt", fps=30.0)
    np.testing.assert_allclose(truth.timestamps, 1 + np.arange(12) / 30)
    np.testing.assert_allclose(truth.world_from_camera, poses, atol=1e-9)


@pytest.mark.parametrize("pattern", ["image.png", "{:06d}/image-1.png"])
def test_names_that_number_no_sequence_are_refused(tmp_path, pattern):
    _write_named(tmp_path / "truth.txt", _poses(), pattern=pattern)
    with pytest.raises(UserError, match="do not number the frames"):
        read_trajectory(tmp_path / "truth.txt", fps=30.0)


def test_table_tells_when_the_coverage_is_unknown():
    truth = Trajectory(np.arange(12.0), _poses())
    result = compare(truth, truth)
    assert "unknown" in errors_table(result, truth, truth)
    assert errors_summary(result, truth)["coverage"] is None
    assert errors_summary(result, truth, frames=24)["coverage"] == 0.5
