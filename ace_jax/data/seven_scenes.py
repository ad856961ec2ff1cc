"""7-Scenes (Glocker et al., "Real-time RGB-D camera relocalization", ISMAR 2013).

`frame-NNNNNN.{color.png,depth.png,pose.txt}` in a folder per sequence. Depth is in millimetres and
not registered to colour; the pose is that of the depth camera. The reader registers the depth and
moves the pose to the colour camera. JPEG colour is read too.
"""

import re
from pathlib import Path

import numpy as np

from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.intrinsics import FILE_NAME, read_intrinsics
from ace_jax.data.poses_file import read_pose_files
from ace_jax.data.registration import DepthRegistration
from ace_jax.data.rigid import invert
from ace_jax.geometry.camera import Camera

FRAMES_PER_SECOND = 30.0
UNITS_PER_METRE = 1000.0
COLOUR_FOCAL = 525.0
DEPTH_FOCAL = 585.0
# Principal point of the depth camera, measured on redkitchen/seq-01, frames 0-499. With the nominal
# (320, 240) depth lands 7 px left of and 3 px above what it belongs to: of 9100 points triangulated
# from colour and the SfM poses 56 % are within 2 % of the depth read there, with this centre 62 %
# (held-out halves agree, and so do depth with colour edges; it does not depend on motion). A likely
# cause: the extrinsics are the infrared camera's, against which a Kinect shifts its depth image
# (Konolige and Mihelich, "Technical description of Kinect calibration", 2011).
DEPTH_CENTRE = (312.0, 236.4)
COLOUR_FROM_DEPTH = np.array(
    [
        [0.99996518, 0.0026765126, -0.0079041012, -0.0255589432],
        [-0.0027409311, 0.99996303, -0.0081504521, 0.0001010964],
        [0.0078819942, 0.0081718329, 0.99993554, 0.0020318322],
        [0.0, 0.0, 0.0, 1.0],
    ]
)

_COLOUR = re.compile(r"frame-(\d+)\.color\.(?:png|jpg|jpeg)")


class SevenScenes(ImageRecording):
    """One sequence. Time is the frame number over 30 s, also when the sequence starts later.

    An `intrinsics.json` beside the frames (our own exports) says that depth is already registered
    to the camera that it describes, whose poses the pose files then are.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        focal: float = COLOUR_FOCAL,
        depth_centre: tuple[float, float] = DEPTH_CENTRE,
        name: str | None = None,
    ) -> None:
        """Opens a sequence.

        Args:
            folder: the sequence's folder.
            focal: focal length of the colour camera, pixels. 525 is the sensor's nominal value; the
                SfM pseudo ground truth states 525.505.
            depth_centre: principal point of the depth camera, pixels.
            name: for messages; the folder's last two names by default.

        Raises:
            UserError: no frames, or an unreadable `intrinsics.json`.
        """
        folder = Path(folder)
        name = name or f"{folder.parent.name}/{folder.name}"
        matches = (_COLOUR.fullmatch(file.name) for file in folder.iterdir())
        files = {int(match[1]): match[0] for match in matches if match}
        numbers = sorted(files)
        colour = [folder / files[number] for number in numbers]
        stems = [files[number].split(".")[0] for number in numbers]
        depth = [folder / f"{stem}.depth.png" for stem in stems]
        poses = read_pose_files([folder / f"{stem}.pose.txt" for stem in stems])
        registration = depth_from_colour = None
        if (folder / FILE_NAME).exists():
            camera = read_intrinsics(folder / FILE_NAME).camera(640, 480)
        else:
            camera = Camera(focal, focal, 320.0, 240.0, 640, 480)
            depth_camera = Camera(DEPTH_FOCAL, DEPTH_FOCAL, *depth_centre, 640, 480)
            registration = DepthRegistration(depth_camera, camera, COLOUR_FROM_DEPTH)
            depth_from_colour = invert(COLOUR_FROM_DEPTH)
        super().__init__(
            name,
            camera,
            colour,
            depth if any(path.exists() for path in depth) else None,
            names=[f"{folder.name}/{stem}" for stem in stems],
            timestamps=np.array(numbers) / FRAMES_PER_SECOND,
            poses=poses,
            recorded_from_camera=depth_from_colour,
            units_per_metre=UNITS_PER_METRE,
            to_colour=registration,
        )
