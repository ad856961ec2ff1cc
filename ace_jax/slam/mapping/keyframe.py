"""Keyframes, and the poses of those that were retired."""

import dataclasses

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.rigid import centre, invert


@dataclasses.dataclass
class Keyframe:
    """An image that stays in the map, which knows the landmarks that it shows.

    Attributes:
        frame_index: the source's index of the image.
        camera_from_world: (4, 4) float64.
        uv: (N, 2) pixels.
        descriptors: (N, D) unit length.
        depth: (N,) metres, 0 where unknown, corrected by the map's depth calibration.
        mask: (N,) bool.
        inlier_ratio: quality of its pose when it was tracked.
        travelled: metres from keyframe to keyframe until here; set when it comes into a map.
        planes: (R, C, 3) surfaces of its depth image as the sensor sees them, see `depth_planes`;
            None if they are unknown.
    """

    frame_index: int
    camera_from_world: np.ndarray
    uv: np.ndarray
    descriptors: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    inlier_ratio: float
    travelled: float = 0.0
    planes: np.ndarray | None = None

    @property
    def centre(self) -> np.ndarray:
        """(3,) camera centre in the world, metres."""
        return centre(self.camera_from_world)

    @property
    def features(self) -> Features:
        """The image's features."""
        return Features(
            uv=self.uv,
            descriptors=self.descriptors,
            scores=self.mask.astype(np.float32),
            mask=self.mask,
            depth=self.depth,
        )


@dataclasses.dataclass(frozen=True)
class Retired:
    """A keyframe that made room: what is left is its pose relative to another keyframe.

    Attributes:
        anchor: number of that keyframe, which may be retired by now itself.
        camera_from_anchor: (4, 4) float64.
    """

    anchor: int
    camera_from_anchor: np.ndarray


class Keyframes(dict[int, Keyframe]):
    """Keyframes by number, oldest first; numbers are never given twice.

    Attributes:
        retired: former keyframes by number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.retired: dict[int, Retired] = {}

    @property
    def next_number(self) -> int:
        """The number that the next keyframe will have."""
        return len(self) + len(self.retired)

    @property
    def newest(self) -> int:
        """The newest keyframe's number."""
        return next(reversed(self))

    def append(self, keyframe: Keyframe) -> int:
        """Adds a keyframe and notes how far the camera has travelled; returns its number."""
        number = self.next_number
        if self:
            before = self[self.newest]
            step = float(np.linalg.norm(keyframe.centre - before.centre))
            keyframe.travelled = before.travelled + step
        self[number] = keyframe
        return number

    def retire(self, number: int, anchor: int) -> None:
        """Keeps of a keyframe its pose relative to keyframe `anchor`."""
        pose = self.pop(number).camera_from_world
        self.retired[number] = Retired(anchor, pose @ invert(self[anchor].camera_from_world))

    def pose_of(self, number: int) -> np.ndarray:
        """(4, 4) camera_from_world of a keyframe, or of a former one, as known now."""
        live, camera_from_live = self.anchored(number)
        return camera_from_live @ self[live].camera_from_world

    def anchored(self, number: int) -> tuple[int, np.ndarray]:
        """The keyframe that a pose is relative to, and (4, 4) the motion from it.

        For a keyframe that is not retired: itself.
        """
        motion = np.eye(4)
        while (gone := self.retired.get(number)) is not None:
            motion = motion @ gone.camera_from_anchor
            number = gone.anchor
        return number, motion

    def anchors(self) -> np.ndarray:
        """(next_number,) the keyframe that each one's pose is relative to, see `anchored`."""
        anchor = np.arange(self.next_number)
        for number, gone in self.retired.items():
            anchor[number] = gone.anchor
        while np.any(anchor != anchor[anchor]):
            anchor = anchor[anchor]
        return anchor
