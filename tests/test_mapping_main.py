"""The commands `ace_jax.mapping` and `ace_jax.relocalize`, as a user meets them."""

import json
import shutil

import cv2
import numpy as np
import pytest
from commands import run_named
from slam_scene import RoomSource, render

from ace_jax.data.export import export

pytestmark = pytest.mark.optimized
ROOM = "--seq folder/room --data_root ."
ASK = "relocalize --map map.safetensors"
COMMANDS = {
    "map": f"mapping {ROOM} --frames 0:40:2 --out map.safetensors "
    "--config.points.source=estimated --config.landmarks.min_views=2",
    "relocalize": f"{ASK} {ROOM} --frames 1:40:6 --out out",
    "photos": f"{ASK} --images photos --intrinsics 262,262,159.5,119.5 --out photos_out "
    "--submission aachen.txt",
    "dark": f"{ASK} --images dark.png --intrinsics 262 --out dark_out",
    "broken": f"{ASK} --seq folder/broken --data_root . --frames 1:8:2 --out broken_out",
}
MISTAKES = {
    "no folder": "mapping --seq folder/none --data_root . --out m",
    "missing --seq;": "mapping --out m",
    "steps.x": f"mapping {ROOM} --out m --config.training.steps.x=3",
    "stepz": f"mapping {ROOM} --out m --config.training.stepz=3",
    "no such file": f"mapping {ROOM} --out m --config nothing",
    "is a folder": f"mapping {ROOM} --out room",
    "has no poses": "mapping --seq folder/noposes --data_root . --out m",
    "unknown features": f"mapping {ROOM} --out m --config.features.name=orb",
    "no weights": f"mapping {ROOM} --out m --config.features.name=xfeat",
    "START:STOP:STEP": f"mapping {ROOM} --out m --frames a:b",
    "must be trained": f"mapping {ROOM} --out m --config.head.name=tri_mlp",
    "points.source": f"mapping {ROOM} --out m --config.points.source=lidar",
    "no map none": f"relocalize --map none {ROOM}",
    "not a readable": f"relocalize --map text.safetensors {ROOM}",
    "either --seq": ASK,
    "no image": f"{ASK} --images void",
    "--intrinsics": f"{ASK} --images photos --intrinsics x",
}


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
    (cwd / "text.safetensors").write_text("hello")
    shutil.copytree(cwd / "room", cwd / "noposes")
    (cwd / "noposes" / "poses.txt").unlink()
    commands = {name: command.split() for name, command in (COMMANDS | MISTAKES).items()}
    return cwd, run_named(commands, cwd)


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


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_line_and_exit_code_2(runs, text):
    code, _, err = runs[1][text]
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert code == 2, err
    assert text in line
    assert "Traceback" not in err


def test_a_black_image_is_a_failure_not_an_error(runs):
    _, results = runs
    code, out, err = results["dark"]
    assert code == 0, err
    assert "0 of 1 queries registered" in out
