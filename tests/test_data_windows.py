r"""Lists that were written on Windows, with names like `images\0001.jpg`."""

import json

import numpy as np
import pytest
from data_formats import WRITERS

from ace_jax.data.colmap import Colmap
from ace_jax.data.places import inside
from ace_jax.data.poses_file import NamedPoses
from ace_jax.data.registry import open_sequence
from ace_jax.data.verbs.check import check
from ace_jax.errors import UserError

# The files that hold names of images, by format.
LISTS = {
    "nerfstudio": ("**/transforms.json",),
    "tum": ("**/rgb.txt", "**/depth.txt"),
    "cambridge": ("**/dataset_*.txt", "**/reconstruction.nvm"),
    "icl": ("**/associations.txt",),
}


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_images_are_found(tmp_path, kind):
    name = WRITERS[kind](tmp_path)
    before = open_sequence(name, tmp_path)
    frames = list(before)
    changed = 0
    for pattern in LISTS[kind]:
        for path in tmp_path.glob(pattern):
            text = path.read_text()
            changed += text.count("/")
            path.write_text(text.replace("/", "\\\\" if path.suffix == ".json" else "\\"))
    assert changed >= len(frames)
    after = open_sequence(name, tmp_path)
    assert after.names() == before.names()
    for old, new in zip(frames, after, strict=True):
        np.testing.assert_array_equal(new.rgb, old.rgb)
        if old.depth is not None:
            np.testing.assert_array_equal(new.depth, old.depth)


def test_colmap_names_in_folders(tmp_path):
    WRITERS["colmap"](tmp_path)
    (path,) = tmp_path.rglob("images.txt")
    folder = next(parent for parent in path.parents if (parent / "images").is_dir())
    before = list(Colmap(folder))
    (folder / "moved").mkdir()
    (folder / "images").rename(folder / "moved" / "left")
    (folder / "moved").rename(folder / "images")
    lines = path.read_text().splitlines()
    lines = [
        " ".join([*line.split()[:9], f"left\\{line.split()[9]}"])
        if len(line.split()) == 10 and not line.startswith("#")
        else line
        for line in lines
    ]
    path.write_text("\n".join(lines) + "\n")
    after = Colmap(folder)
    assert after.names()[0] == f"left/{before[0].name}"
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.rgb, old.rgb)
        if old.depth is not None:
            np.testing.assert_array_equal(new.depth, old.depth)


def test_poses_are_matched_by_name():
    pose = np.eye(4)
    for given, asked in ((r"images\1.jpg", "images/1"), ("images/1.jpg", r"images\1.jpg")):
        assert np.isfinite(NamedPoses({given: pose}).of([asked])).all()


@pytest.mark.parametrize("name", [r"..\secret.png", r"C:\secret.png", "C:/secret.png", r"\a.png"])
def test_names_must_stay_inside_as_windows_reads_them(tmp_path, name):
    with pytest.raises(UserError, match="leads out"):
        inside(tmp_path, name)


def test_what_is_missing_is_said_to_be_missing_and_once(tmp_path):
    name = WRITERS["nerfstudio"](tmp_path)
    (listing,) = tmp_path.rglob("transforms.json")
    values = json.loads(listing.read_text())
    for entry in values["frames"][1:3]:
        (listing.parent / entry["file_path"]).unlink()
    report = check(open_sequence(name, tmp_path))
    found = [finding for finding in report.findings if finding.fault != "few_frames"]
    (finding,) = [f for f in found if f.fault in ("missing_files", "unreadable")]
    assert finding.fault == "missing_files"
    assert "2 files of 2 of 5 frames" in finding.seen
    assert str(listing.parent / sorted(e["file_path"] for e in values["frames"][1:3])[0]) in (
        finding.seen
    )
    for entry in values["frames"]:
        (listing.parent / entry["file_path"]).unlink(missing_ok=True)
    report = check(open_sequence(name, tmp_path))
    assert [f.fault for f in report.findings].count("missing_files") == 1
    assert "copy these files again" not in report.text()
