"""A user's own recording: a folder with `rgb/`, `depth/` and `intrinsics.json`.

```
rgb/NAME.{png,jpg}     colour
depth/NAME.png         16 bit, registered to colour, paired by NAME; optional
intrinsics.json        {"fx": , "fy": , "cx": , "cy": , "depth_scale": units per metre, ...}
times.txt              `NAME seconds`, or one time a line in the order of names; optional
poses.txt              camera to world, optional: `t tx ty tz qx qy qz qw` (TUM), or a row-major
                       4 x 4 matrix a line in the order of names, or as a pose file of names
```

Without `rgb/` the folder's own images are the colour images. Without `times.txt` a frame's time is
its name if all names are numbers with a fraction (seconds), else its position at 30 frames a
second.
"""

import os
import re
from pathlib import Path

import numpy as np
from absl import logging

from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import first_size
from ace_jax.data.intrinsics import FILE_NAME, Intrinsics, read_intrinsics
from ace_jax.data.places import images, natural, own_folder, read_text, with_slashes
from ace_jax.data.poses_file import Trajectory, image_stem, read_matrices, read_poses
from ace_jax.data.recording import positions_as_times
from ace_jax.errors import UserError


class Folder(ImageRecording):
    """A recording in plain files. Frames follow the natural order of names: 2 before 10.

    Attributes:
        dropped_rgb: colour images without a depth image (if there is a `depth` folder).
        dropped_depth: depth images without a colour image.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        intrinsics: Intrinsics | None = None,
        name: str | None = None,
    ) -> None:
        """Opens a folder.

        Args:
            folder: holds `rgb/` and `intrinsics.json`.
            intrinsics: instead of that file.
            name: for messages; the folder's name by default.

        Raises:
            UserError: something is missing or unreadable.
        """
        folder = Path(folder)
        name = name or Path(os.path.abspath(folder)).name
        colour_folder = folder / "rgb"
        if not colour_folder.is_dir() and images(folder):
            colour_folder = folder
        colour = images(colour_folder)
        if not colour:
            raise UserError(f"{name}: no PNG or JPEG images in {colour_folder}")
        depth = images(folder / "depth")
        stems = sorted(colour.keys() & depth.keys() if depth else colour, key=natural)
        if not stems:
            raise UserError(
                f"{name}: no image of {colour_folder} has its name in {folder / 'depth'}; depth "
                "images are paired with colour by name"
            )
        self.dropped_rgb = len(colour) - len(stems)
        self.dropped_depth = len(depth) - len(stems) if depth else 0
        if self.dropped_rgb or self.dropped_depth:
            logging.warning(
                "%s: %d colour and %d depth images without a partner dropped",
                name,
                self.dropped_rgb,
                self.dropped_depth,
            )
        files = [colour[stem] for stem in stems]
        if intrinsics is None:
            intrinsics = read_intrinsics(folder / FILE_NAME)
        all_stems = sorted(colour, key=natural)  # files without names count every colour image
        kept = np.isin(all_stems, stems)
        known = _times(folder / "times.txt", all_stems)
        times = positions_as_times(len(all_stems)) if known is None else known
        super().__init__(
            name,
            intrinsics.camera(*first_size(files, name)),
            files,
            [depth[stem] for stem in stems] if depth else None,
            names=stems,
            timestamps=None if known is None else times[kept],
            poses=_poses(folder / "poses.txt", all_stems, times, kept),
            units_per_metre=intrinsics.depth_scale,
            distortion=intrinsics.lens(),
        )


def _times(path: Path, stems: list[str]) -> np.ndarray | None:
    """(N,) seconds of the frames of all colour images; None where nothing tells them."""
    if not path.exists():
        if all(re.fullmatch(r"\d+\.\d+", stem) for stem in stems):
            return np.array([float(stem) for stem in stems])
        return None
    rows = [line.split() for line in read_text(path, "lines are 'NAME seconds'").splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    try:
        if all(len(row) == 1 for row in rows):
            times = np.array([float(row[0]) for row in rows])
        else:
            named = {
                image_stem(with_slashes(name).rsplit("/", 1)[-1]): float(time)
                for name, time in rows
            }
            times = np.array([named[stem] for stem in stems])
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path}: unreadable, or no time for an image ({error}); lines are 'NAME seconds'"
        ) from error
    if len(times) != len(stems) or not np.isfinite(times).all():
        raise UserError(f"{path}: {len(times)} times for {len(stems)} images in rgb/")
    return times


def _poses(path: Path, stems: list[str], times: np.ndarray, kept: np.ndarray) -> np.ndarray | None:
    """(N, 4, 4) poses of the frames that are kept, or None without a file."""
    if not path.exists():
        return None
    lines = (line.split() for line in read_text(path, "it should hold poses").splitlines())
    first = next((line for line in lines if line and not line[0].startswith("#")), [])
    if len(first) == 16:
        matrices = read_matrices(path)
        if len(matrices) != len(stems):
            raise UserError(f"{path}: {len(matrices)} poses for {len(stems)} images in rgb/")
        return matrices[kept]
    poses = read_poses(path)
    if isinstance(poses, Trajectory):
        return poses.at(times[kept])
    return poses.of([stem for stem, keep in zip(stems, kept, strict=True) if keep])


def open_named(rest: str, root: Path, intrinsics: Intrinsics | None = None) -> Folder:
    """Opens `folder/PATH`."""
    folder = own_folder(rest, root, "rgb/, depth/ and intrinsics.json")
    return Folder(folder, intrinsics=intrinsics)
