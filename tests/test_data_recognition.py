"""A path is enough: what a recording is, is told by what it holds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_scene import PlaneSource, pose

from ace_jax.data.export import LAYOUTS, export
from ace_jax.data.intrinsics import Intrinsics, parse_intrinsics
from ace_jax.data.recognition import open_path, recognise
from ace_jax.data.registry import FORMATS, open_sequence, path_of, short_name
from ace_jax.data.verbs.convert import convert
from ace_jax.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder of each layout, which has its layout's name after `a-`."""
    root = tmp_path_factory.mktemp("recordings")
    for layout in LAYOUTS:
        export(PlaneSource(4), root / f"a-{layout}", layout)
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_layout_is_recognised_by_its_absolute_path(root, layout, slash):
    folder = root / f"a-{layout}"
    assert recognise(folder) == (layout, folder)
    source = open_sequence(f"{folder}{slash}", "/nowhere")
    assert len(source) == 4
    assert source.has_depth
    np.testing.assert_allclose(source.poses()[2], pose(2), atol=1e-5)


def test_kinds_are_those_that_have_names(root):
    from ace_jax.data.recognition import _KINDS

    for kind in _KINDS:
        assert FORMATS[kind.name].module == f"ace_jax.data.{kind.reader.split('.')[0]}"
        assert hasattr(FORMATS[kind.name].load(), kind.reader.split(".")[1])


def test_relative_paths_and_what_outputs_are_called(root, monkeypatch):
    monkeypatch.chdir(root)
    for name in ("a-folder", "./a-folder", "../" + root.name + "/a-folder"):
        assert len(open_sequence(name, "data")) == 4
        assert short_name(name) == "a-folder"
    for layout in ("7scenes", "ace"):  # of two names, also where the path has one
        assert open_sequence(f"a-{layout}", "data").name == f"{root.name}/a-{layout}"
    (root / "link").symlink_to(root / "a-folder")
    assert short_name("link") == open_sequence("link", "data").name == "link"
    monkeypatch.chdir(root / "a-folder")
    assert short_name(".") == open_sequence(".", "data").name == "a-folder"
    monkeypatch.chdir(root)
    (root / "fox").mkdir()
    (root / "fox/transforms.json").write_text("{}")
    assert short_name("fox/transforms.json") == short_name("fox") == "fox"
    assert short_name("7scenes/redkitchen/seq-01") == "7scenes/redkitchen/seq-01"
    assert short_name("folder/a-folder/") == "folder/a-folder"


@pytest.mark.parametrize("out", ["mine", "tum/freiburg1_mine"])
def test_what_was_converted_opens_as_convert_says(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = convert(PlaneSource(3), "tum", out).rpartition("; open it as ")[2]
    assert len(open_sequence(path, "data")) == 3


def test_a_name_is_not_taken_for_a_path(tmp_path, monkeypatch):
    """`tum/x` stays the sequence below the data root; `./tum/x` is the folder here."""
    monkeypatch.chdir(tmp_path)
    export(PlaneSource(3), tmp_path / "tum" / "freiburg1_x", "tum")
    assert path_of("tum/freiburg1_x") is None
    assert path_of("./tum/freiburg1_x") == Path("tum/freiburg1_x")
    with pytest.raises(UserError, match="tum/freiburg1_x not found"):
        open_sequence("tum/freiburg1_x", "data")
    assert len(open_sequence("./tum/freiburg1_x", "data")) == 3


def test_files_and_folders_by_their_marks(tmp_path):
    for made, kind in (
        ("walk.MP4", "video"),
        ("drive.bag", "bag"),
        ("drive.mcap", "bag"),
        ("capture/transforms.json", "nerfstudio"),
        ("ros2/metadata.yaml", "bag"),
        ("phone/keyframes/images/1.jpg", "polycam"),
        ("scan/color/0.jpg", "scannet"),
        ("photos/0.png", "folder"),
    ):
        (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / made).touch()
        if kind == "scannet":
            (tmp_path / "scan/intrinsic").mkdir()
        whole = tmp_path / made.split("/")[0]
        assert recognise(whole)[0] == kind
    assert recognise(tmp_path / "capture/transforms.json")[0] == "nerfstudio"


def test_a_scene_with_one_sequence_is_that_sequence(root, tmp_path):
    shutil.copytree(root / "a-7scenes", tmp_path / "heads" / "seq-03")
    assert recognise(tmp_path / "heads") == ("7scenes", tmp_path / "heads" / "seq-03")
    shutil.copytree(root / "a-7scenes", tmp_path / "heads" / "seq-04")
    with pytest.raises(UserError, match="several sequences: name one of seq-03, seq-04"):
        recognise(tmp_path / "heads")


def test_what_is_no_recording_is_one_line(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    (tmp_path / "nothing").mkdir()
    for name, words in (
        ("notes", "is no recording, it has a.txt; it should be a folder with rgb/"),
        ("notes/a.txt", "is no recording: it should be"),
        ("nothing", "it is empty"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            open_sequence(str(tmp_path / name), "data")
        assert "\n" not in str(caught.value)


def test_a_folder_of_recordings_names_them(root):
    with pytest.raises(UserError, match="holds recordings and is none: name one of a-7scenes, a-"):
        recognise(root)


def test_images_alone_need_intrinsics(root, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(root / "a-folder" / "rgb", photos)
    with pytest.raises(UserError, match=r"intrinsics.json.*write one like.*--intrinsics fx,fy,cx"):
        open_path(photos)
    source = open_path(photos, parse_intrinsics("300,301,31.5,23.5"))
    assert (len(source), source.has_depth, source.name) == (4, False, "photos")
    assert [float(x) for x in source.camera.intrinsics] == [300, 301, 31.5, 23.5]
    named = open_sequence(f"folder/{photos}", "data", intrinsics=Intrinsics(300, 301, 31.5, 23.5))
    assert named.camera == source.camera


def test_intrinsics_replace_those_of_the_file(root):
    source = open_path(root / "a-folder", Intrinsics(300.0, 300.0, 31.5, 23.5, depth_scale=5000))
    assert float(source.camera.fx) == 300.0
    with pytest.raises(UserError, match=r"has intrinsics of its own .tum."):
        open_path(root / "a-tum", Intrinsics(300.0, 300.0, 31.5, 23.5))


def test_intrinsics_in_a_file(tmp_path):
    values = {"fx": 1.5, "fy": 2.5, "cx": 3, "cy": 4, "depth_scale": 5000}
    (tmp_path / "k.json").write_text(json.dumps(values))
    assert parse_intrinsics(str(tmp_path / "k.json")) == Intrinsics(
        1.5, 2.5, 3, 4, None, None, 5000
    )
    for wrong in ("nowhere.json", "1,2,3", "1,2,3,nan", "0,1,2,3", ""):
        with pytest.raises(UserError, match="--intrinsics"):
            parse_intrinsics(wrong)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photos", "no depth; SLAM needs RGB-D: put colour into rgb/ and depth into"),
        ("colour", "no depth; SLAM needs RGB-D: put depth into"),
        ("kitchen/rgb", r"the colour images alone; give .*kitchen, which has depth"),
        ("walk.mp4", "no depth in a video"),
        ("folder/PATH/colour", "no depth"),
        ("video/PATH/walk.mp4", "no depth in a video"),
    ],
)
def test_what_cannot_have_depth_is_told_before_its_intrinsics(root, tmp_path, name, words):
    shutil.copytree(root / "a-folder" / "rgb", tmp_path / "photos")
    shutil.copytree(root / "a-folder" / "rgb", tmp_path / "colour" / "rgb")
    shutil.copytree(root / "a-folder", tmp_path / "kitchen")
    (tmp_path / "walk.mp4").touch()
    path = name.replace("PATH", str(tmp_path)) if "PATH" in name else str(tmp_path / name)
    with pytest.raises(UserError, match=words):
        open_sequence(path, "data", needs_depth=True)
