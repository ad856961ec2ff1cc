"""Names of recordings: `7scenes/redkitchen/seq-01`, `tum/freiburg1_rpy`, `folder/PATH`, ..."""

import re
from collections.abc import Callable
from pathlib import Path

from ace_jax.data.folder import Folder
from ace_jax.data.frame import FrameSource
from ace_jax.data.poses_file import with_poses
from ace_jax.data.replica import Replica
from ace_jax.data.seven_scenes import COLOUR_FOCAL, SevenScenes
from ace_jax.data.subset import SubsetSource
from ace_jax.data.tum import Tum
from ace_jax.errors import UserError

_SEVEN_SCENES_URL = "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/"
_REPLICA_URL = "https://cvg-data.inf.ethz.ch/nice-slam/data/Replica.zip"
_TUM_URL = "https://cvg.cit.tum.de/data/datasets/rgbd-dataset/download"


def open_sequence(
    name: str,
    data_root: str | Path,
    *,
    start: int = 0,
    stride: int = 1,
    max_frames: int | None = None,
    poses: str | Path | None = None,
    focal: float | None = None,
) -> FrameSource:
    """Opens a recording by name.

    Args:
        name: `7scenes/SCENE/SEQ`, `tum/SEQUENCE`, `replica/SCENE`, `folder/PATH`
            (`folder//abs/path` for an absolute one) or `synthetic/ROOM`.
        data_root: folder that holds `7scenes/`, `tum/`, ...
        start: first frame.
        stride: take every n-th frame.
        max_frames: at most so many frames; None for all.
        poses: a file whose poses replace the recording's own, see `poses_file.read_poses`.
        focal: focal length in pixels of 7-Scenes' colour camera, instead of 525.

    Raises:
        UserError: the name is unknown or nothing is there; the line says how to get it.
    """
    kind, _, rest = name.rstrip("/").partition("/")
    if kind not in _OPENERS or not rest:
        raise UserError(f"no sequence {name!r}: names are {', '.join(_FORMS)}")
    if focal is not None and kind != "7scenes":
        raise UserError(f"{name}: a focal length can be given for 7scenes only")
    source = _OPENERS[kind](rest, Path(data_root), focal)
    if poses is not None:
        source = with_poses(source, poses)
    if start or stride != 1 or max_frames is not None:
        source = SubsetSource(source, start=start, stride=stride, max_frames=max_frames)
    return source


def _open_seven_scenes(rest: str, root: Path, focal: float | None) -> FrameSource:
    scene, _, sequence = rest.partition("/")
    folder = root / "7scenes" / scene
    how = f"download it from {_SEVEN_SCENES_URL} and unpack it, with its seq-XX.zip, there"
    _existing(folder, f"7scenes/{scene}", how)
    if not sequence:
        found = sorted(path.name for path in folder.glob("seq-*") if path.is_dir())
        if len(found) > 1:
            raise UserError(f"7scenes/{scene} has several sequences: name one of {_list(found)}")
        sequence = found[0] if found else "seq-01"
    folder = _existing(folder / sequence, f"7scenes/{scene}/{sequence}", how)
    return SevenScenes(folder, focal=focal or COLOUR_FOCAL, name=f"7scenes/{scene}/{sequence}")


def _open_tum(rest: str, root: Path, focal: float | None) -> FrameSource:
    sequence = re.sub(r"^fr(?=[123])", "freiburg", rest.removeprefix("rgbd_dataset_"))
    folder = root / "tum" / f"rgbd_dataset_{sequence}"
    if not folder.is_dir() and (root / "tum" / rest).is_dir():
        folder = root / "tum" / rest
    how = f"download rgbd_dataset_{sequence}.tgz from {_TUM_URL} and unpack it there"
    return Tum(_existing(folder, f"tum/{sequence}", how), name=f"tum/{sequence}")


def _open_replica(rest: str, root: Path, focal: float | None) -> FrameSource:
    parent = next(
        (root / n for n in ("replica", "Replica") if (root / n).is_dir()), root / "replica"
    )
    how = f"download {_REPLICA_URL} and unpack it there"
    return Replica(_existing(parent / rest, f"replica/{rest}", how), name=f"replica/{rest}")


def _open_folder(rest: str, root: Path, focal: float | None) -> FrameSource:
    # `folder//abs/olute` and `folder/relative`, seen from the working folder or the data root.
    path = Path(rest).expanduser()
    if not path.is_absolute() and not path.is_dir():
        path = root / path
    if not path.is_dir():
        raise UserError(f"no folder {path}: it should hold rgb/, depth/ and intrinsics.json")
    return Folder(path)


def _open_synthetic(rest: str, root: Path, focal: float | None) -> FrameSource:
    # Imported here: real recordings need no renderer.
    from ace_jax.synthetic.sequences import open_synthetic

    return open_synthetic(rest)


def _existing(folder: Path, name: str, how: str) -> Path:
    """The folder, or an error that says what is missing where, what is there, and the remedy."""
    if folder.is_dir():
        return folder
    there = ""
    if folder.parent.is_dir():
        beside = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
        there = f" (there: {_list(beside)})" if beside else " (nothing there)"
    raise UserError(f"{name} not found: no folder {folder}{there}; {how}, or set --data_root")


def _list(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


_OPENERS: dict[str, Callable[[str, Path, float | None], FrameSource]] = {
    "7scenes": _open_seven_scenes,
    "tum": _open_tum,
    "replica": _open_replica,
    "folder": _open_folder,
    "synthetic": _open_synthetic,
}
_FORMS = ("7scenes/SCENE/SEQ", "tum/SEQUENCE", "replica/SCENE", "folder/PATH", "synthetic/ROOM")
