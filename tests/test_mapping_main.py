"""The commands `ace_jax.mapping` and `ace_jax.relocalize`, as a user meets them."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
from repository import REPO
from slam_scene import RoomSource, render

from ace_jax.data.export import export

# Runs commands in one process: importing JAX once is enough.
_DRIVER = textwrap.dedent("""
    import contextlib, io, json, runpy, sys, traceback
    from absl import app, flags, logging
    from ml_collections import config_flags

    app.define_help_flags()
    known = set(flags.FLAGS)
    results = []
    for module, *arguments in json.load(sys.stdin):
        for name in list(flags.FLAGS):
            if name in known:
                flags.FLAGS[name].unparse()
            else:
                delattr(flags.FLAGS, name)
        sys.argv = [module, *arguments]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_module(f"ace_jax.{module}", run_name="__main__", alter_sys=True)
                code = 0
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException:
                traceback.print_exc()
                code = 1
        results.append([code, out.getvalue(), err.getvalue()])
    json.dump(results, sys.__stdout__)
""")


def _run(commands, cwd):
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    environment["ACE_JAX_WEIGHTS"] = str(cwd / "no-weights")  # SIFT, whatever this machine has
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A map, and what relocalization made of it; one process for all."""
    cwd = tmp_path_factory.mktemp("work")
    export(RoomSource(40), cwd / "room", "folder")
    photos = cwd / "photos"
    photos.mkdir()
    for view in (11, 21):
        cv2.imwrite(str(photos / f"{view}.png"), render(view)[0][..., ::-1])
    cv2.imwrite(str(cwd / "dark.png"), np.zeros((240, 320, 3), np.uint8))
    shutil.copytree(cwd / "room", cwd / "broken")
    broken = sorted((cwd / "broken" / "rgb").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:300])
    mapping = ["mapping", "--seq", "folder/room", "--data_root", ".", "--frames", "0:40:2"]
    settings = ["--config.points.source=estimated", "--config.landmarks.min_views=2"]
    intrinsics = "262,262,159.5,119.5"
    commands = {
        "map": [*mapping, "--out", "map.safetensors", *settings],
        "relocalize": [
            *("relocalize", "--map", "map.safetensors", "--seq", "folder/room"),
            *("--data_root", ".", "--frames", "1:40:6", "--out", "out"),
        ],
        "photos": [
            *("relocalize", "--map", "map.safetensors", "--images", "photos"),
            *("--intrinsics", intrinsics, "--out", "photos_out", "--submission", "aachen.txt"),
        ],
        "dark": [
            *("relocalize", "--map", "map.safetensors", "--images", "dark.png"),
            *("--intrinsics", "262", "--out", "dark_out"),
        ],
        "broken": [
            *("relocalize", "--map", "map.safetensors", "--seq", "folder/broken"),
            *("--data_root", ".", "--frames", "1:8:2", "--out", "broken_out"),
        ],
    }
    results = dict(zip(commands, _run(list(commands.values()), cwd), strict=True))
    return cwd, results


def test_mapping_writes_one_file_and_says_what_is_in_it(runs):
    cwd, results = runs
    code, out, err = results["map"]
    assert code == 0, err
    assert "landmark_attention on sift, 20 images" in out
    assert "features" in err  # the progress bar
    assert (cwd / "map.safetensors").stat().st_size < 4e6
    written = sorted(p.name for p in cwd.iterdir() if "map" in p.name)
    assert written == ["map.report.html", "map.safetensors"]
    assert "Map of room" in (cwd / "map.report.html").read_text()


def test_relocalization_finds_the_other_frames(runs):
    cwd, results = runs
    code, out, err = results["relocalize"]
    assert code == 0, err
    metrics = json.loads((cwd / "out" / "metrics.json").read_text())
    assert metrics["registered"] == metrics["queries"] == 7
    assert metrics["within_5cm_5deg"] == 100.0
    assert metrics["median_translation_m"] < 0.01
    assert "7 of 7" in out
    assert (cwd / "out" / "report.html").stat().st_size > 20_000


def test_photos_without_poses_are_located(runs):
    cwd, results = runs
    assert results["photos"][0] == 0, results["photos"][2]
    _, *lines = (cwd / "photos_out" / "poses.txt").read_text().splitlines()
    submitted = (cwd / "aachen.txt").read_text().splitlines()
    assert submitted == [" ".join(line.split()[:8]) for line in lines]
    assert [line.split()[0] for line in lines] == ["11.png", "21.png"]


def test_a_frame_that_cannot_be_read_is_exit_code_1(runs):
    cwd, results = runs
    code, out, _ = results["broken"]
    assert code == 1
    assert "1 frames could not be read" in out
    assert json.loads((cwd / "broken_out" / "metrics.json").read_text())["unread"] == 1


def test_mistakes_are_one_line_and_exit_code_2(runs):
    cwd, _ = runs
    (cwd / "text.safetensors").write_text("hello")
    (cwd / "noposes").mkdir(exist_ok=True)
    shutil.copytree(cwd / "room", cwd / "noposes", dirs_exist_ok=True)
    (cwd / "noposes" / "poses.txt").unlink()
    room = ["--seq", "folder/room", "--data_root", "."]
    mistakes = {
        "no folder": ["mapping", "--seq", "folder/none", "--data_root", ".", "--out", "m"],
        "missing --seq;": ["mapping", "--out", "m"],
        "steps.x": ["mapping", *room, "--out", "m", "--config.training.steps.x=3"],
        "stepz": ["mapping", *room, "--out", "m", "--config.training.stepz=3"],
        "no such file": ["mapping", *room, "--out", "m", "--config", "nothing"],
        "is a folder": ["mapping", *room, "--out", "room"],
        "has no poses": ["mapping", "--seq", "folder/noposes", "--data_root", ".", "--out", "m"],
        "unknown features": ["mapping", *room, "--out", "m", "--config.features.name=orb"],
        "no weights": ["mapping", *room, "--out", "m", "--config.features.name=xfeat"],
        "START:STOP:STEP": ["mapping", *room, "--out", "m", "--frames", "a:b"],
        "must be trained": [
            *("mapping", *room, "--out", "m", "--config.head.name=tri_mlp"),
        ],
        "points.source": ["mapping", *room, "--out", "m", "--config.points.source=lidar"],
        "no map none": ["relocalize", "--map", "none", *room],
        "not a readable": ["relocalize", "--map", "text.safetensors", *room],
        "either --seq": ["relocalize", "--map", "map.safetensors"],
        "no image": ["relocalize", "--map", "map.safetensors", "--images", "void"],
        "--intrinsics": [
            *("relocalize", "--map", "map.safetensors", "--images", "photos"),
            *("--intrinsics", "x"),
        ],
    }
    for text, (code, _, err) in zip(mistakes, _run(list(mistakes.values()), cwd), strict=True):
        lines = [line for line in err.splitlines() if line.startswith("error:")]
        assert code == 2, (text, err[-2000:])
        assert len(lines) == 1, (text, err)
        assert text in lines[0]
        assert "Traceback" not in err


def test_a_black_image_is_a_failure_not_an_error(runs):
    _, results = runs
    code, out, err = results["dark"]
    assert code == 0, err
    assert "0 of 1 queries registered" in out
