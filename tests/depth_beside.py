"""Synthetic recordings whose depth camera stands beside the colour camera."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from ace_jax.data.frame import Frame
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import image_rays, project
from ace_jax.geometry.rigid import transform
from ace_jax.synthetic.sensor import Sensor, sense_depth
from ace_jax.synthetic.sequences import open_synthetic

SMALL = Camera(262.5, 262.5, 159.5, 119.5, 320, 240)


@dataclasses.dataclass(frozen=True)
class Rig:
    """Where a depth camera is.

    Attributes:
        turn: (3,) rotation vector of colour_from_depth, radians.
        place: (3,) of the depth camera's centre in the colour camera's axes, metres.
        ratio: of its focal length to the colour camera's.
    """

    turn: tuple[float, float, float]
    place: tuple[float, float, float]
    ratio: float

    def colour_from_depth(self) -> np.ndarray:
        """(4, 4) motion of points."""
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(self.turn).as_matrix()
        pose[:3, 3] = self.place
        return pose

    def camera(self, colour: Camera) -> Camera:
        """The depth camera's intrinsics."""
        return colour.replace(fx=colour.fx * self.ratio, fy=colour.fy * self.ratio)


def frames_beside(
    name: str, rig: Rig, count: int, camera: Camera = SMALL, noisy: bool = False
) -> tuple[list[Frame], list[np.ndarray]]:
    """Frames of a room with depth as the rig's depth camera sees it, and with registered depth.

    Returns:
        The frames, and for each the depth (H, W) that the colour camera would measure.
    """
    source = open_synthetic(name, camera=camera)
    numbers = np.linspace(0, len(source) - 1, count).astype(int).tolist()
    source.prepare(numbers)
    frames, registered = [], []
    for number in numbers:
        frame = source[number]
        pose = frame.world_from_camera @ rig.colour_from_depth()
        _, depth = source.scene.render(number, jnp.asarray(pose, jnp.float32), rig.camera(camera))
        if noisy:
            key = jax.random.fold_in(jax.random.key(7), number)
            depth = sense_depth(depth, rig.camera(camera), Sensor(), key)
        registered.append(frame.depth)
        frames.append(dataclasses.replace(frame, depth=np.array(depth)))
    return frames, registered


def pixel_error(found, rig: Rig, frames: list[Frame]) -> float:
    """RMS distance of where depth pixels land and where they should, in pixels of 640."""
    colour = frames[0].camera
    errors = []
    for frame in frames:
        pixels = []
        for camera, pose in (
            (found.camera, found.colour_from_depth),
            (rig.camera(colour), rig.colour_from_depth()),
        ):
            z = frame.depth[::4, ::4][..., None]
            points = (image_rays(camera)[::4, ::4] * z)[z[..., 0] > 0]
            pixels.append(project(transform(pose, points), colour))
        errors.append(np.sum((pixels[0] - pixels[1]) ** 2, axis=-1))
    return float(np.sqrt(np.mean(np.concatenate(errors)))) / colour.pixel_scale
