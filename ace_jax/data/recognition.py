"""Recognises the format of a recording by the content of its folder or file."""

import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ace_jax.data.frame import FrameSource
from ace_jax.data.intrinsics import Intrinsics
from ace_jax.data.places import IMAGE_SUFFIXES, colmap_model, shortened
from ace_jax.errors import UserError

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
_BAGS = (".bag", ".mcap", ".db3")
_SEQUENCE = re.compile(r"seq-\d+")


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How a recording is told from others, and the class that reads it.

    Attributes:
        name: as in `registry.FORMATS`.
        reader: `module.Class`, made from the path.
        holds: whether a path is one.
    """

    name: str
    reader: str
    holds: Callable[[Path], bool]


def _has(*parts: str) -> Callable[[Path], bool]:
    """Whether all of them are in the folder."""
    return lambda path: all((path / part).exists() for part in parts)


def _any(pattern: str) -> Callable[[Path], bool]:
    """Whether a file in the folder has such a name."""
    return lambda path: path.is_dir() and next(path.glob(pattern), None) is not None


def _has_images(path: Path) -> bool:
    return path.is_dir() and any(map(_is_image, path.iterdir()))


# From what is told by a file of its own down to plain images, so that the first that fits is meant.
_KINDS = (
    _Kind("video", "video.Video", lambda path: path.suffix.lower() in VIDEOS),
    _Kind("bag", "bag.Bag", lambda path: path.suffix.lower() in _BAGS),
    _Kind("nerfstudio", "nerfstudio.Nerfstudio", lambda path: path.suffix.lower() == ".json"),
    _Kind("bag", "bag.Bag", _has("metadata.yaml")),
    _Kind("nerfstudio", "nerfstudio.Nerfstudio", _has("transforms.json")),
    _Kind("tum", "tum.Tum", _has("rgb.txt")),
    _Kind("icl", "icl_nuim.IclNuim", _has("associations.txt")),
    _Kind("7scenes", "seven_scenes.SevenScenes", _any("frame-*.color.*")),
    _Kind("12scenes", "twelve_scenes.TwelveScenes", _has("info.txt", "data")),
    _Kind("replica", "replica.Replica", _has("results")),
    _Kind("scannet", "scannet.ScanNet", _has("color", "intrinsic")),
    _Kind("polycam", "polycam.Polycam", _has("keyframes")),
    _Kind("record3d", "record3d.Record3D", _has("metadata.json", "rgb")),
    _Kind("ace", "ace_layout.AceLayout", _has("rgb", "calibration")),
    _Kind("colmap", "colmap.Colmap", lambda path: colmap_model(path) is not None),
    _Kind("folder", "folder.Folder", _has("rgb")),
    _Kind("folder", "folder.Folder", _has_images),
)
_TAKE_INTRINSICS = ("folder", "video")
_KNOWN = (
    "a folder with rgb/ and depth/, a TUM or 7-Scenes sequence, a COLMAP model, a transforms.json, "
    "an export of Record3D or Polycam, a bag or a video"
)


def recognise(path: Path) -> tuple[str, Path]:
    """The kind of a recording, as in `registry.FORMATS`, and where it begins.

    Args:
        path: an existing folder or file; a scene's folder with one sequence stands for that.

    Raises:
        UserError: it is none that is known, or a folder of several.
    """
    for kind in _KINDS:
        if kind.holds(path):
            return kind.name, path
    if path.is_file():
        image = "; for photos: ace-jax relocalize --images" if _is_image(path) else ""
        raise UserError(f"{path} is no recording: it should be {_KNOWN}{image}")
    found = sorted(p.name for p in path.iterdir() if p.is_dir() and _SEQUENCE.fullmatch(p.name))
    if len(found) == 1:
        return recognise(path / found[0])
    if found:
        raise UserError(f"{path} has several sequences: name one of {shortened(found)}")
    if (path / "train" / "calibration").is_dir():  # a scene of ACE's
        return recognise(path / "train")
    inner = sorted(p.name for p in path.iterdir())
    recordings = [name for name in inner if _is_recording(path / name)]
    if recordings:
        raise UserError(f"{path} holds recordings and is none: name one of {shortened(recordings)}")
    there = f"it has {shortened(inner)}" if inner else "it is empty"
    raise UserError(f"{path} is no recording, {there}; it should be {_KNOWN}")


def open_path(
    path: Path, intrinsics: Intrinsics | None = None, depth_for: str | None = None
) -> FrameSource:
    """Opens a recording by what it holds.

    Args:
        path: an existing folder or file.
        intrinsics: of the colour images, where the recording does not tell them.
        depth_for: what the user calls it, if it must have depth.

    Raises:
        UserError: see `recognise` and `require_depth`, or what its reader says.
    """
    name, path = recognise(path)
    if depth_for is not None:
        require_depth(name, path, depth_for)
    kind = next(kind for kind in _KINDS if kind.name == name)
    module, reader = kind.reader.split(".")
    options = intrinsics_option(intrinsics, name, str(path))
    if name == "tum" and path.resolve().name.startswith("rgbd_bonn_"):
        return importlib.import_module("ace_jax.data.bonn").open_folder(path)
    return getattr(importlib.import_module(f"ace_jax.data.{module}"), reader)(path, **options)


def intrinsics_option(intrinsics: Intrinsics | None, kind: str, name: str) -> dict[str, Any]:
    """Intrinsics as a reader's argument, if there are any.

    Raises:
        UserError: the recording is of a kind that has its own.
    """
    if intrinsics is None:
        return {}
    if kind not in _TAKE_INTRINSICS:
        raise UserError(
            f"{name} has intrinsics of its own ({kind}); --intrinsics is for folders of images "
            "and videos"
        )
    return {"intrinsics": intrinsics}


def require_depth(kind: str, path: Path, name: str) -> None:
    """Says at once that a recording cannot have depth, before it is asked for anything else.

    Raises:
        UserError: it has none.
    """
    if kind == "video":
        raise UserError(
            f"{name}: no depth in a video; SLAM needs RGB-D. Localize its frames in a map: "
            "ace-jax relocalize --seq, or ace-jax slam --frozen --session"
        )
    if kind == "folder" and path.is_dir() and not (path / "depth").is_dir():
        if (path.parent / "depth").is_dir():
            raise UserError(f"{name}: the colour images alone; give {path.parent}, which has depth")
        rgb = "" if (path / "rgb").is_dir() else "colour into rgb/ and "
        raise UserError(
            f"{name}: no depth; SLAM needs RGB-D: put {rgb}depth into {path / 'depth'}, 16 bit PNG "
            "registered to colour, with the colour images' names"
        )


def _is_recording(path: Path) -> bool:
    try:
        return path.is_dir() and any(kind.holds(path) for kind in _KINDS)
    except OSError:  # a folder that cannot be read
        return False


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES
