"""ICL-NUIM (Handa et al., ICRA 2014): rendered rooms, in the edition made compatible with TUM's.

`icl/living_room_traj0_frei_png/` holds `associations.txt`, `rgb/N.png`, `depth/N.png` and
`livingRoom0.gt.freiburg`; `associations.txt` has `n depth/N.png n rgb/N.png`, the trajectory
`n tx ty tz qx qy qz qw`. The published camera has fy = -480: its y axis points up. With y down, as
everywhere here, fy is 480 and a pose P becomes S P S with S = diag(1, -1, 1, 1), in a world that is
mirrored likewise.
"""

from pathlib import Path

import numpy as np

from ace_jax.data.frame import RENDERED_INVERSE_DEPTH_SIGMA
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.intrinsics import FILE_NAME, read_intrinsics
from ace_jax.data.places import existing, inside, read_text, with_slashes
from ace_jax.data.poses_file import read_trajectory
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

URL = "https://www.doc.ic.ac.uk/~ahanda/VaFRIC/iclnuim.html"
FRAMES_PER_SECOND = 30.0
UNITS_PER_METRE = 5000.0
CAMERA = Camera(481.20, 480.00, 319.50, 239.50, 640, 480)
_MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])


class IclNuim(ImageRecording):
    """One trajectory; time is the frame number over 30 s."""

    inverse_depth_sigma = RENDERED_INVERSE_DEPTH_SIGMA

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a trajectory.

        Args:
            folder: holds `associations.txt`.
            name: for messages; the folder's name by default.

        Raises:
            UserError: a file is missing or unreadable.
        """
        folder = Path(folder)
        name = name or folder.name
        path = folder / "associations.txt"
        what = "its lines are 'n depth/N.png n rgb/N.png'"
        rows = [line.split() for line in read_text(path, what).splitlines() if line.strip()]
        try:
            numbers = np.array([float(row[2]) for row in rows])
            depth, colour = ([with_slashes(row[i]) for row in rows] for i in (1, 3))
        except (ValueError, IndexError) as error:
            raise UserError(f"{path}: {error}; {what}") from error
        truth = next(iter(sorted(folder.glob("*.gt.freiburg"))), None)
        poses = None
        if truth is not None:
            poses = _MIRROR @ read_trajectory(truth).at(numbers, interpolate=False) @ _MIRROR
        super().__init__(
            name,
            _camera(folder),
            [inside(folder, file) for file in colour],
            [inside(folder, file) for file in depth],
            names=[Path(file).stem for file in colour],
            timestamps=numbers / FRAMES_PER_SECOND,
            poses=poses,
            units_per_metre=UNITS_PER_METRE,
        )


def _camera(folder: Path) -> Camera:
    """The published camera, unless an `intrinsics.json` names another."""
    path = folder / FILE_NAME
    if not path.exists():
        return CAMERA
    return read_intrinsics(path).camera(CAMERA.width, CAMERA.height)


def open_named(rest: str, root: Path) -> IclNuim:
    """Opens `icl/TRAJECTORY`; `living_room_traj0` means `living_room_traj0_frei_png`."""
    folder = root / "icl" / rest
    if not folder.is_dir():
        folder = root / "icl" / f"{rest}_frei_png"
    how = f"download {folder.name}.tar.gz from {URL} and unpack it there"
    return IclNuim(existing(folder, f"icl/{rest}", how), name=f"icl/{rest}")
