"""Names of recordings: `7scenes/redkitchen/seq-01`, `tum/freiburg1_rpy`, or a path."""

import dataclasses
import difflib
import importlib
import os
from pathlib import Path
from types import ModuleType

from ace_jax.data.frame import FrameSource
from ace_jax.data.intrinsics import Intrinsics
from ace_jax.data.places import own_path
from ace_jax.data.poses_file import with_poses
from ace_jax.data.recognition import intrinsics_option, open_path, require_depth
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.plugins import Registry


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of recording.

    Attributes:
        form: what its names look like.
        module: reads it; has `open_named(rest, root)`, and `split_sequences(scene, root, split)`
            or `open_split(scene, root, split)` where the data set has official splits.
        what: one line for people.
    """

    form: str
    module: str
    what: str

    def load(self) -> ModuleType:
        """The module; imported on use, as some readers need a renderer, or an extra."""
        return importlib.import_module(self.module)


_BUILT_IN = {
    "7scenes": Format("7scenes/SCENE/SEQ", "ace_jax.data.seven_scenes", "7-Scenes"),
    "tum": Format("tum/SEQUENCE", "ace_jax.data.tum", "TUM RGB-D"),
    "replica": Format("replica/SCENE", "ace_jax.data.replica", "Replica, NICE-SLAM's renderings"),
    "12scenes": Format("12scenes/PLACE/SCENE", "ace_jax.data.twelve_scenes", "12-Scenes"),
    "cambridge": Format("cambridge/SCENE", "ace_jax.data.cambridge", "Cambridge Landmarks"),
    "indoor6": Format("indoor6/SCENE", "ace_jax.data.indoor6", "Indoor-6"),
    "rio10": Format("rio10/SCENE/SEQ", "ace_jax.data.rio10", "RIO10"),
    "scannet": Format("scannet/SCAN", "ace_jax.data.scannet", "ScanNet, exported by SensReader"),
    "bonn": Format("bonn/SEQUENCE", "ace_jax.data.bonn", "Bonn RGB-D Dynamic"),
    "icl": Format("icl/TRAJECTORY", "ace_jax.data.icl_nuim", "ICL-NUIM, edition like TUM's"),
    "folder": Format("folder/PATH", "ace_jax.data.folder", "rgb/, depth/ and intrinsics.json"),
    "ace": Format("ace/PATH", "ace_jax.data.ace_layout", "ACE's rgb/, poses/, calibration/"),
    "colmap": Format("colmap/PATH", "ace_jax.data.colmap", "a COLMAP model with its images"),
    "nerfstudio": Format("nerfstudio/PATH", "ace_jax.data.nerfstudio", "a transforms.json"),
    "record3d": Format("record3d/PATH", "ace_jax.data.record3d", "an export of Record3D"),
    "polycam": Format("polycam/PATH", "ace_jax.data.polycam", "a raw export of Polycam"),
    "video": Format("video/FILE", "ace_jax.data.video", "a video with FILE.json beside"),
    "bag": Format("bag/PATH", "ace_jax.data.bag", "a ROS 1 or 2 bag, or MCAP (extra: bags)"),
    "live": Format("live/DEVICE", "ace_jax.data.live", "webcam, webcam/N, realsense (extra: live)"),
    "synthetic": Format("synthetic/ROOM", "ace_jax.synthetic.rooms", "procedural rooms"),
}
# A package's entry point is a `Format`; its name is what recordings' names begin with.
FORMATS: Registry[Format] = Registry("ace_jax.readers", _BUILT_IN)


def find_format(name: str) -> tuple[Format, str]:
    """The format of a name, and what follows its first slash.

    Raises:
        UserError: there is no such format.
    """
    kind, _, rest = name.rstrip("/").partition("/")
    known = FORMATS.find(kind) if rest else None
    if known is None:
        raise UserError(f"no sequence {name!r}: {_nearest(name)}")
    return known, rest


def _nearest(name: str) -> str:
    """What a name may have meant that is neither a path nor one of `FORMATS`."""
    missing = "no such folder or file"
    if Path(name).expanduser().is_absolute():
        return missing
    here = [path.name for path in Path().iterdir()] if "/" not in name else []
    if close := difflib.get_close_matches(name, here, 1):
        return f"{missing}; did you mean {close[0]!r}?"
    return (
        f"{missing}, and no name of a recording, such as synthetic/room0 or 7scenes/SCENE/SEQ: "
        "`ace-jax data list` shows all"
    )


def path_of(name: str) -> Path | None:
    """The folder or file that a name is, if it is a path and not the name of a known kind."""
    path = Path(name).expanduser()
    kind, _, rest = name.partition("/")
    return path if name and path.exists() and not (rest and kind in FORMATS.names()) else None


def short_name(name: str) -> str:
    """A recording's name that can be a folder's below others: of a path, its last part."""
    path = path_of(name)
    if path is None:
        return name.strip("/")
    path = Path(os.path.abspath(path))
    # Every such file is called the same: its folder tells one from another.
    return path.parent.name if path.name == "transforms.json" else path.name


def open_sequence(
    name: str,
    data_root: str | Path,
    *,
    start: int = 0,
    stride: int = 1,
    max_frames: int | None = None,
    poses: str | Path | None = None,
    focal: float | None = None,
    intrinsics: Intrinsics | None = None,
    needs_depth: bool = False,
) -> FrameSource:
    """Opens a recording by name or by path.

    Args:
        name: a folder or file, whose kind is recognised by what it holds; or a name, see `FORMATS`
            (`folder//abs/path` is an absolute path).
        data_root: folder that holds `7scenes/`, `tum/`, ...
        start: first frame.
        stride: take every n-th frame.
        max_frames: at most so many frames; None for all.
        poses: a file whose poses replace the recording's own, see `poses_file.read_poses`.
        focal: focal length in pixels of 7-Scenes' colour camera, instead of 525.
        intrinsics: of a folder of images or a video, instead of those in a file.
        needs_depth: refuse at once what cannot have any.

    Raises:
        UserError: the name is unknown or nothing is there; the line says how to get it.
    """
    if focal is not None and not name.startswith("7scenes/"):
        raise UserError(f"{name}: a focal length can be given for 7scenes only")
    path = path_of(name)
    if path is not None:
        source = open_path(path, intrinsics, name if needs_depth else None)
    else:
        found, rest = find_format(name)
        kind = name.partition("/")[0]
        if needs_depth:
            require_depth(kind, own_path(rest, Path(data_root)), name)
        options = intrinsics_option(intrinsics, kind, name)
        if focal is not None:
            options["focal"] = focal
        source = found.load().open_named(rest, Path(data_root), **options)
    if poses is not None:
        source = with_poses(source, poses)
    if start or stride != 1 or max_frames is not None:
        source = SubsetSource(source, start=start, stride=stride, max_frames=max_frames)
    return source
