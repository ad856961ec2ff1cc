"""The command `python -m ace_jax.slam`: what it leaves, and one line for every mistake."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import Ended, run_named, run_python
from safetensors.numpy import save_file
from slam_scene import RoomSource

from ace_jax.data.export import export


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """A short recording in a plain folder."""
    folder = tmp_path_factory.mktemp("data") / "recording"
    export(RoomSource(12), folder, "folder")
    return folder


def _copy(recording: Path, folder: Path) -> Path:
    return Path(shutil.copytree(recording, folder))


MISTAKES = {
    "no data root": (
        ["--seq=7scenes/redkitchen/seq-01", "--data_root=TMP/nowhere"],
        ["7scenes/redkitchen not found", "TMP/nowhere", "download", "--data_root"],
    ),
    "no such room": (["--seq=synthetic/room99"], ["'room99'", "room0"]),
    "unknown kind": (["--seq=kitti/00"], ["no sequence 'kitti/00'", "ace-jax data list"]),
    "no depth": (["--seq=folder/TMP/colour"], ["no depth", "RGB-D"]),
    "no frames": (["--seq=folder/TMP/empty"], ["no PNG or JPEG images in", "rgb"]),
    "no intrinsics": (["--seq=folder/TMP/unknown"], ["intrinsics.json"]),
    "unreadable intrinsics": (["--seq=folder/TMP/garbled"], ["intrinsics.json"]),
    "start beyond the end": (["--seq=folder/REC", "--start=99"], ["12 frames, start 99"]),
    "no weights": (
        ["--seq=folder/REC", "--features=xfeat", "--weights_dir=TMP/nowhere"],
        ["no weights", "xfeat", "TMP/nowhere"],
    ),
    "weights that are none": (
        ["--seq=folder/REC", "--features=xfeat", "--weights_dir=TMP/junk"],
        ["xfeat.onnx"],
    ),
    "weights of another model": (
        ["--seq=folder/REC", "--features=xfeat", "--weights_dir=TMP/other"],
        ["xfeat.safetensors"],
    ),
    "unknown features": (["--seq=folder/REC", "--features=orb"], ["'orb'", "sift", "xfeat"]),
    "unknown head": (
        ["--seq=folder/REC", "--features=sift", "--head=nerf"],
        ["'nerf'", "landmark_attention"],
    ),
    "no poses file": (["--seq=folder/REC", "--poses=TMP/none.txt"], ["none.txt"]),
    "poses that are none": (["--seq=folder/REC", "--poses=TMP/junk/xfeat.onnx"], ["xfeat.onnx"]),
    "out is a file": (["--seq=folder/REC", "--out=TMP/file"], ["cannot write to", "--out"]),
    "nothing to be frozen": (["--seq=folder/REC", "--frozen"], ["--session"]),
    "no session": (["--seq=folder/REC", "--session=TMP/none"], ["no map", "TMP/none"]),
    "a session that is none": (["--seq=folder/REC", "--session=TMP/file"], ["TMP/file"]),
    "a focal length for nothing": (
        ["--seq=folder/REC", "--depth_focal=400"],
        ["--register_depth", "give both"],
    ),
    "depth that cannot be registered": (
        ["--seq=folder/REC", "--register_depth"],
        ["depth camera cannot be found", "near and far"],
    ),
    "negative stride": (["--stride=-1"], ["stride", "--help"]),
    "no frames wanted": (["--max_frames=0"], ["max_frames", "--help"]),
    "start before the beginning": (["--start=-3"], ["start", "--help"]),
    "misspelt flag": (["--sede=3"], ["sede", "Did you mean: seed", "--help"]),
    "no such path": (["room0"], ["no sequence 'room0': no such folder or file"]),
    "two recordings": (["REC", "--seq=synthetic/room0"], ["two recordings", "give one"]),
    "two paths": (["REC", "REC"], ["unexpected argument"]),
    "a video": (["TMP/walk.mp4"], ["walk.mp4: no depth in a video", "--frozen"]),
    "photos": (["TMP/photos"], ["photos: no depth", "colour into rgb/ and depth into"]),
    "a photo": (["TMP/photo.png"], ["no recording", "relocalize --images"]),
    "no intrinsics, by path": (["TMP/unknown"], ['{"fx": 525', "--intrinsics fx,fy,cx,cy"]),
    "intrinsics of three": (["TMP/unknown", "--intrinsics=1,2,3"], ["'1,2,3'", "fx,fy,cx,cy"]),
    "no numbers": (["TMP/unknown", "--intrinsics=a,b"], ["neither a file nor"]),
    "intrinsics twice": (
        ["--seq=synthetic/room0", "--intrinsics=1,1,0,0"],
        ["has intrinsics of its own (synthetic)"],
    ),
    "nothing there": (["TMP/junk"], ["is no recording, it has xfeat.onnx", "rgb/ and depth/"]),
}


@pytest.fixture(scope="module")
def folder(recording, tmp_path_factory) -> Path:
    """Where the commands run, and what they are given."""
    folder = tmp_path_factory.mktemp("commands")
    shutil.rmtree(_copy(recording, folder / "colour") / "depth")
    for path in (_copy(recording, folder / "empty") / "rgb").iterdir():
        path.unlink()
    (_copy(recording, folder / "unknown") / "intrinsics.json").unlink()
    (_copy(recording, folder / "garbled") / "intrinsics.json").write_text('{"fx": 5')
    for name in ("junk", "other"):
        (folder / name).mkdir()
    (folder / "junk" / "xfeat.onnx").write_bytes(b"\x00\x01 this is no model")
    save_file({"conv.weight": np.zeros((2, 2))}, folder / "other" / "xfeat.safetensors")
    (folder / "file").write_text("")
    (folder / "walk.mp4").write_bytes(b"")
    shutil.copytree(recording / "rgb", folder / "photos")
    shutil.copy(next((recording / "rgb").iterdir()), folder / "photo.png")
    # Two frames spoilt; another ground truth.
    mine = _copy(recording, folder / "mine")
    names = sorted(path.name for path in (mine / "rgb").iterdir())
    path = mine / "rgb" / names[4]
    path.write_bytes(path.read_bytes()[:500])
    cv2.imwrite(str(mine / "depth" / names[6]), np.zeros((24, 32), np.uint16))
    times, poses = RoomSource(12).timestamps(), RoomSource(12).poses()
    lines = []
    for time, pose in zip(times, poses, strict=True):
        lines.append(f"{time:.9f} " + " ".join(f"{x:.9f}" for x in (*pose[:3, 3], 0, 0, 0, 1)))
    (folder / "truth.txt").write_text("\n".join(lines) + "\n")
    return folder


SESSION = "first/session.safetensors"
RUNS = {
    "first": ["slam", "--seq=folder/REC", "--features=sift", "--out=first"],
    "again": ["slam", "--seq=folder/REC", f"--session={SESSION}", "--out=second"],
    "merge": ["slam.merge", SESSION, SESSION, "--out", "both.safetensors"],
    "merge one": ["slam.merge", SESSION, "--out", "one.safetensors"],
    "path": ["slam", "TMP/unknown", "--intrinsics=262,262,159.5,119.5", "--features=sift",
             "--max_frames=3"],
    "own": ["slam", "--seq=folder/mine", "--features=sift", "--stride=2", "--seed=5",
            "--poses=truth.txt"],
    "help": ["slam", "--help"],
}  # fmt: skip
RUNS["path again"] = RUNS["path"]


@pytest.fixture(scope="module")
def answers(folder, recording) -> dict[str, Ended]:
    """How every run and every mistake ended."""

    def filled(text: str) -> str:
        return text.replace("TMP", str(folder)).replace("REC", str(recording))

    commands = {name: [filled(word) for word in words] for name, words in RUNS.items()}
    for name, (words, _) in MISTAKES.items():
        has_out = any(word.startswith("--out") for word in words)
        commands[name] = ["slam", *map(filled, words), *([] if has_out else ["--out=unused"])]
    done = run_named(commands, folder)
    assert not any((folder / "unused").glob("*")), "a mistake left files behind"
    return {
        name: end._replace(err=end.err.replace(str(folder), "TMP")) for name, end in done.items()
    }


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(answers, name):
    code, out, err = answers[name]
    assert code == 2, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    for words in MISTAKES[name][1]:
        assert words in err


def test_a_run_is_continued_and_two_are_merged(answers, folder):
    assert answers["first"].code == 0, answers["first"].err
    assert answers["again"].code == 0, answers["again"].err
    metrics = json.loads((folder / "second" / "metrics.json").read_text())
    assert metrics["coverage"] == 1.0
    assert metrics["features"] == "sift", "a session brings its features"
    assert answers["merge"].code == 0, answers["merge"].err
    assert "lie in the first" in answers["merge"].out
    assert (folder / "both.safetensors").is_file()
    assert answers["merge one"] == (2, "", "error: missing SECOND; see --help\n")


def test_exit_code_of_the_real_command():
    done = run_python("-m", "ace_jax.slam", "--stride=-1")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_names_the_flags_and_the_recordings(answers):
    code, out, _ = answers["help"]
    assert code == 0
    for words in (
        "--seq",
        "--stride",
        "--poses",
        "--register_depth",
        "--weights_dir",
        "synthetic/room0",
        "tum/",
    ):
        assert words in out
    flags = re.findall(r"^  --(?:\[no\])?(\w+)", out, re.MULTILINE)
    assert flags[0] == "seq"
    assert {"rerun", "intrinsics", "session"} < set(flags)
    assert "default: None" not in out


def test_a_path_is_enough(answers, folder):
    """An absolute path, intrinsics by a flag; run again, it says what it overwrites."""
    for name, overwritten in (("path", False), ("path again", True)):
        code, out, err = answers[name]
        assert code == 0, err
        assert "results in runs/slam/unknown" in out
        assert ("which are overwritten" in err) is overwritten
    header = (folder / "runs/slam/unknown/trajectory_live.tum").read_text().splitlines()[0]
    assert header == "# timestamp tx ty tz qx qy qz qw: camera to world, seconds, metres"


def test_a_recording_of_ones_own(answers, folder):
    """Two frames spoilt; another ground truth; the default place for the results."""
    code, told, err = answers["own"]
    assert code == 0, err
    out = folder / "runs" / "slam" / "folder" / "mine"
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["frames"], metrics["frames_skipped"]) == (6, 2)
    assert metrics["frames_tracked"] == 4
    assert metrics["seed"] == 5
    assert metrics["ate_rmse_m"] < 0.01
    header, *lines = (out / "trajectory.tum").read_text().splitlines()
    assert "camera to world" in header
    assert len(lines) == 4
    assert "4 of 6 frames tracked (66.7 %)" in told
    assert "ATE RMSE" in told
    assert "skipped: " in err
    assert "Traceback" not in err
