"""Files of the map-free relocalization benchmark (Arnold et al., ECCV 2022), from its description.

A scene's folder, `s00525`, has the reference image `seq0/frame_00000.jpg`, whose camera is the
world, the queries `seq1/*.jpg`, and `intrinsics.txt`. A submission is a zip file with one
`pose_SCENE.txt` for each scene: `seq1/frame_00000.jpg qw qx qy qz tx ty tz confidence`, world to
camera, metres.
"""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ace_jax.data.frame import BadFrame
from ace_jax.data.pose_writers import submission_lines
from ace_jax.errors import UserError
from ace_jax.files import replacing
from ace_jax.geometry.camera import Camera

_MEMBER = re.compile(r"pose_[\w-]+\.txt")


class ImageIntrinsics:
    """Intrinsics by image: lines of `PATH fx fy cx cy width height`."""

    def __init__(self, path: str | Path) -> None:
        """Reads the file.

        Raises:
            UserError: it cannot be read, or a line is none of this kind.
        """
        self._path, self._cameras = Path(path), {}
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or line.startswith("#"):
                continue
            try:
                name, *values = words
                fx, fy, cx, cy, width, height = map(float, values)
                good = min(fx, fy, width, height) > 0 and np.isfinite([fx, fy, cx, cy]).all()
                self._cameras[name] = Camera(fx, fy, cx, cy, int(width), int(height))
            except (ValueError, OverflowError):
                good = False
            if not good:
                raise UserError(
                    f"{path}, line {number}: not NAME fx fy cx cy width height, but {line[:80]!r}"
                )

    def camera_of(self, file: Path) -> Camera:
        """The camera of an image, whose folder is part of its name.

        Raises:
            BadFrame: the file does not tell it.
        """
        name = f"{file.resolve().parent.name}/{file.name}"
        camera = self._cameras.get(name) or self._cameras.get(file.name)
        if camera is None:
            raise BadFrame(f"{self._path} has no line for {name}")
        return camera


def scene_of(queries: str | Path) -> str:
    """The scene's name, of the queries' folder SCENE/seq1.

    Raises:
        UserError: it is no such folder.
    """
    folder = Path(queries).resolve()
    if not folder.is_dir() or not re.fullmatch(r"seq\d+", folder.name):
        raise UserError(f"{queries} is not the queries' folder of a map-free scene, SCENE/seq1")
    return f"{folder.parent.name}/{folder.name}"


def add_scene(
    path: str | Path,
    scene: str,
    names: Sequence[str],
    world_from_camera: Sequence[np.ndarray | None],
    confidence: Sequence[float],
) -> None:
    """Adds a scene to a submission, or makes one; a scene that is there is replaced.

    A query without a pose has no line. The other scenes' files are kept as they are.

    Args:
        path: the zip file.
        scene: SCENE/seq1, see `scene_of`.
        names: file names of the queries.
        world_from_camera: their poses (4, 4) in the reference's camera axes, metres, or None.
        confidence: how sure each one is, in any unit: the benchmark ranks by it. Here, inliers.

    Raises:
        UserError: the file is no submission.
    """
    folder, sequence = scene.split("/")
    lines = submission_lines([f"{sequence}/{name}" for name in names], world_from_camera)
    posed = [c for c, pose in zip(confidence, world_from_camera, strict=True) if pose is not None]
    text = "".join(f"{line} {float(c):g}\n" for line, c in zip(lines, posed, strict=True))
    members = _members(Path(path))
    members[f"pose_{folder}.txt"] = text.encode()
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in sorted(members):
            # One date, so that the same poses give the same file.
            file.writestr(zipfile.ZipInfo(name), members[name], zipfile.ZIP_DEFLATED)


def _members(path: Path) -> dict[str, bytes]:
    if not path.exists():
        return {}
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            if all(_MEMBER.fullmatch(name) for name in names):
                return {name: file.read(name) for name in names}
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as a submission: {error}") from error
    raise UserError(f"{path} is not a map-free submission: name a new file")
