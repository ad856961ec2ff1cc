"""The command `python -m ace_jax.evaluation`: what it prints, and how it fails."""

import json

import numpy as np
import pytest
from commands import run_named

from ace_jax.data.pose_writers import write_trajectory_tum
from ace_jax.errors import UserError
from ace_jax.evaluation.files import read_trajectory
from ace_jax.evaluation.trajectory import Trajectory, compare, errors_summary, errors_table
from ace_jax.geometry.rigid import from_quaternion, invert, to_quaternion

MISTAKES = {
    "missing.tum: No such file": "missing.tum good.tum",
    "no overlap": "good.tum later.tum",
    "missing GT": "good.tum",
    "Unknown command line flag": "good.tum good.tum --detla=1",
}
RUNS = {
    "whole": "estimate.tum truth.txt --frames=12 --json=out.json --plot=out.png",
    "help": "--help",
}


def _poses(count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return from_quaternion(rng.normal(size=(count, 4)), rng.normal(size=(count, 3)))


def _write_named(path, poses, pattern="seq-01/frame-{:06d}.color.png", first=0):
    lines = []
    for number, pose in enumerate(invert(poses), first):
        numbers = [*to_quaternion(pose[:3, :3]), *pose[:3, 3], 525.505]
        lines.append(" ".join([pattern.format(number), *map(repr, map(float, numbers))]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Where the commands ran, and how each of them ended."""
    folder, poses = tmp_path_factory.mktemp("commands"), _poses()
    write_trajectory_tum(folder / "estimate.tum", np.arange(9) / 30, poses[:9])
    write_trajectory_tum(folder / "good.tum", np.arange(12.0), poses)
    write_trajectory_tum(folder / "later.tum", np.arange(12.0) + 1000, poses)
    _write_named(folder / "truth.txt", poses)
    commands = {name: ["evaluation", *words.split()] for name, words in (RUNS | MISTAKES).items()}
    return folder, run_named(commands, folder)


def test_table_json_and_plot(answers):
    folder, ended = answers
    code, out, err = ended["whole"]
    assert code == 0, err
    assert "75.0% of 12 frames" in out
    assert "ATE (cm)" in out
    summary = json.loads((folder / "out.json").read_text())
    assert summary["ate_trans_m"]["rmse"] < 1e-6
    assert summary["matched"] == 9
    assert (folder / "out.png").stat().st_size > 10_000


@pytest.mark.parametrize("message", MISTAKES)
def test_bad_input_is_one_line_and_exit_code_2(answers, message):
    code, out, err = answers[1][message]
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [b"it was a dark and stormy night\n", b"\xff\xfe\x00\x80" * 9, b"", b"1 2 3 4 5 6 7 x\n"],
)
def test_a_file_that_is_no_trajectory_is_refused(tmp_path, content):
    (tmp_path / "other.tum").write_bytes(content)
    with pytest.raises(UserError, match=r"other\.tum"):
        read_trajectory(tmp_path / "other.tum", fps=30.0)


def test_help_shows_examples_and_succeeds(answers):
    code, out, _ = answers[1]["help"]
    assert code == 0
    assert "Examples:" in out
    assert "--max_difference" in out


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
