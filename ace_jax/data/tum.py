"""TUM RGB-D (Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems", IROS 2012).

`rgb.txt`, `depth.txt` and `groundtruth.txt` list files and poses with their times. Depth comes
registered to colour, 5000 units per metre. Lens distortion is removed at reading.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
from absl import logging

from ace_jax.data.association import MAX_DIFFERENCE, associate
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import first_size
from ace_jax.data.intrinsics import FILE_NAME, Intrinsics, read_intrinsics
from ace_jax.data.places import existing, inside, read_text, with_slashes
from ace_jax.data.poses_file import read_trajectory
from ace_jax.data.recording import KINECT_READOUT
from ace_jax.errors import UserError

URL = "https://cvg.cit.tum.de/data/datasets/rgbd-dataset/download"
UNITS_PER_METRE = 5000.0

# The benchmark's published calibrations of the colour cameras; the images of freiburg3 are
# undistorted already.
FAMILIES = {
    "freiburg1": Intrinsics(
        517.3, 516.5, 318.6, 255.3, distortion=(0.2624, -0.9531, -0.0054, 0.0026, 1.1633)
    ),
    "freiburg2": Intrinsics(
        520.9, 521.0, 325.1, 249.7, distortion=(0.2312, -0.7849, -0.0033, -0.0001, 0.9172)
    ),
    "freiburg3": Intrinsics(535.4, 539.2, 320.1, 247.6),
}


class Tum(ImageRecording):
    """One sequence; frames are the pairs of colour and depth images.

    Attributes:
        dropped_rgb: colour images without a depth image within 0.02 s.
        dropped_depth: depth images that no colour image took.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        intrinsics: Intrinsics | None = None,
        readout: float = KINECT_READOUT,
        name: str | None = None,
    ) -> None:
        """Opens a sequence.

        Args:
            folder: the sequence's folder; its name tells the family (freiburg1, 2 or 3), whose
                calibration serves unless the folder holds an `intrinsics.json`.
            intrinsics: of data sets that share the layout and have another camera.
            readout: seconds of the rolling shutter, see `Recording`.
            name: for messages; the folder's name by default.

        Raises:
            UserError: a list is missing or unreadable, nothing pairs up, or the camera is unknown.
        """
        folder = Path(folder)
        name = name or folder.name
        times, colour = read_list(folder / "rgb.txt")
        self.dropped_rgb = self.dropped_depth = 0
        depth_files = None
        if (folder / "depth.txt").exists():
            depth_times, depth = read_list(folder / "depth.txt")
            i, j = associate(times, depth_times, MAX_DIFFERENCE)
            if colour and not len(i):
                raise UserError(
                    f"{name}: no colour image has a depth image within {MAX_DIFFERENCE} s; "
                    "check the times in rgb.txt and depth.txt"
                )
            self.dropped_rgb = len(colour) - len(i)
            self.dropped_depth = len(depth) - len(i)
            if self.dropped_rgb or self.dropped_depth:
                logging.info(
                    "%s: %d colour and %d depth images without a partner dropped",
                    name,
                    self.dropped_rgb,
                    self.dropped_depth,
                )
            times = times[i]
            colour = [colour[place] for place in i]
            depth_files = [inside(folder, depth[place]) for place in j]
        if not colour:
            raise UserError(f"{name}: {folder / 'rgb.txt'} lists no images")
        files = [inside(folder, file) for file in colour]
        intrinsics = _intrinsics(folder, intrinsics)
        poses = None
        if (folder / "groundtruth.txt").exists():
            poses = read_trajectory(folder / "groundtruth.txt").at(times)
        super().__init__(
            name,
            intrinsics.camera(*first_size(files, name)),
            files,
            depth_files,
            names=[Path(file).stem for file in colour],
            timestamps=times,
            poses=poses,
            units_per_metre=intrinsics.depth_scale,
            distortion=intrinsics.lens(),
            readout=readout,
        )


def read_list(path: Path) -> tuple[np.ndarray, list[str]]:
    """Times (N,) and N file names of an `rgb.txt` or `depth.txt`."""
    lines = [line.split() for line in read_text(path, "a TUM sequence needs it").splitlines()]
    rows = [line for line in lines if line and not line[0].startswith("#")]
    try:
        return np.array([float(row[0]) for row in rows]), [with_slashes(row[1]) for row in rows]
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is unreadable: its lines must be 'time file'") from error


def _intrinsics(folder: Path, known: Intrinsics | None) -> Intrinsics:
    if (folder / FILE_NAME).exists():
        return read_intrinsics(folder / FILE_NAME)
    if known is not None:
        return known
    match = re.search(r"freiburg[123]", folder.resolve().name)
    if match is None:
        raise UserError(
            f"{folder}: its name tells no camera (freiburg1, 2 or 3); add an {FILE_NAME}"
        )
    return dataclasses.replace(FAMILIES[match[0]], depth_scale=UNITS_PER_METRE)


def open_named(rest: str, root: Path) -> Tum:
    """Opens `tum/SEQUENCE`; freiburg1_rpy, fr1_rpy and the full name mean the same."""
    sequence = re.sub(r"^fr(?=[123])", "freiburg", rest.removeprefix("rgbd_dataset_"))
    folder = root / "tum" / f"rgbd_dataset_{sequence}"
    if not folder.is_dir() and (root / "tum" / rest).is_dir():
        folder = root / "tum" / rest
    how = f"download rgbd_dataset_{sequence}.tgz from {URL} and unpack it there"
    return Tum(existing(folder, f"tum/{sequence}", how), name=f"tum/{sequence}")
