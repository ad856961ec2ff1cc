"""What moves, by its own features: where they are now, and where they were a moment ago.

`free_space.py` knows what moves from where nothing was; this knows it without having seen the place
before, which is what is needed while people stand in the picture from the first frame on. Matches
of two frames follow as many rigid motions as things move; RANSAC finds one after the other (Torr,
"Geometric motion segmentation and model selection", Phil. Trans. R. Soc. 1998), and the motion of
the largest surface is taken for the camera's.
"""

import collections
import dataclasses

import jax
import numpy as np
import scipy.spatial

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.pose_result import PoseResult
from ace_jax.geometry.ransac_kabsch import depth_threshold, estimate_rigid_transform
from ace_jax.slam.guided_pose import MOST_MOTIONS, optimized, pixel_errors, surface
from ace_jax.slam.matching import LandmarkBlock, MatchGates, guided_match
from ace_jax.slam.pose_optimization import CHI2_PIXEL, NoiseModel

SHORT, LONG, KEPT = 0.095, 0.245, 0.5  # seconds to look back; at 30 Hz three and eight frames
RADIUS = 60.0  # pixels of a picture 640 wide that a feature may be from where it stood
PIXEL_SIGMA = 1.0  # pixels of a picture 640 wide; neighbouring frames show a feature alike
CLOSE = 0.02  # metres; points closer than this always agree with a motion
CLEARLY = 1.1  # times the surface that another motion must explain to be the camera's
MOST_DRAGGED = 0.1  # metres that a walking person can have dragged a pose within SHORT
FEWEST = 20  # matches that are asked for a motion
MOVED = (0.06, 0.02)  # metres, and metres per metre of distance, that make a match a moving one
CROWD = 8  # moving matches, at least; fewer are mismatches
REACH = 0.3  # metres from moving points within which what has no match moves as well,
NEIGHBOURS = 3  # if it has so many of them there, and they are closer than as many that stand


@dataclasses.dataclass(frozen=True)
class _Look:
    time: float
    features: Features
    camera_from_world: np.ndarray


@jax.jit
def _align(
    then: jax.Array, now: jax.Array, mask: jax.Array, limit: jax.Array, key: jax.Array
) -> PoseResult:
    return estimate_rigid_transform(then, now, key, mask, threshold=limit, max_hypotheses=512)


class RecentFrames:
    """Keeps the features of the last half second and compares a new frame with them.

    Args:
        camera: intrinsics of the frames.
        gates: what a match must satisfy, except for its radius.
        noise: of depth; that of pixels is `PIXEL_SIGMA`.
    """

    def __init__(self, camera: Camera, gates: MatchGates, noise: NoiseModel) -> None:
        self._camera = camera
        pixel = camera.width / 640.0
        self._gates = gates.replace(radius=np.float32(RADIUS * pixel))
        self._noise = noise.replace(pixel_sigma=PIXEL_SIGMA * pixel)
        self._key = jax.random.key(0)
        self._looks: collections.deque[_Look] = collections.deque()

    def warm_up(self, features: Features) -> None:
        """Compiles the search for motions with blank features."""
        nowhere = np.zeros((len(features.mask), 3), np.float32)
        self._motion(nowhere, features, features.mask, np.zeros(len(features.mask), np.float32))

    def forget(self) -> None:
        """Drops all frames: the world's axes have changed, or the camera was lost."""
        self._looks.clear()

    def remember(self, time: float, features: Features, camera_from_world: np.ndarray) -> None:
        """Keeps the features of a tracked frame, those of moving things too.

        Args:
            time: seconds.
            features: N features.
            camera_from_world: (4, 4).
        """
        self._looks.append(_Look(time, features, camera_from_world))
        while self._looks[0].time < time - KEPT:
            self._looks.popleft()

    def moving(self, time: float, features: Features, camera_from_world: np.ndarray) -> np.ndarray:
        """Which features (N,) are not where they were, and what has no past beside them.

        Args:
            time: of the frame, seconds.
            features: N features with depth.
            camera_from_world: (4, 4) where the camera is.
        """
        matched = self._match(time, LONG, features, camera_from_world)
        if matched is None:
            matched = self._match(time, SHORT, features, camera_from_world)
        if matched is None:
            return np.zeros(len(features.mask), bool)
        found, then = matched
        now = self._points(features, camera_from_world)
        way = np.linalg.norm(now - then, axis=1)
        moved = found & (way > MOVED[0] + MOVED[1] * features.depth)
        return _spread(now, features, moved, found & ~moved)

    def corrected(
        self, time: float, features: Features, camera_from_world: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Pose and moving features, if the camera was taken to follow something that moves.

        Args:
            time: of the frame, seconds.
            features: N features with depth.
            camera_from_world: (4, 4) where the camera seems to be.

        Returns:
            None, or the (4, 4) pose that explains clearly more surface, and which features (N,)
            follow other motions than that.
        """
        matched = self._match(time, SHORT, features, camera_from_world)
        if matched is None:
            return None
        found, then = matched
        limit = np.asarray(
            depth_threshold(features.depth, self._noise.inverse_depth_sigma, floor=CLOSE)
        )
        agree = found & self._agree(camera_from_world, then, features, limit)
        most = CLEARLY * self._surface(agree, then, features, camera_from_world)
        centre, best, left = _centre(camera_from_world), None, found
        for _ in range(MOST_MOTIONS):
            if left.sum() < FEWEST:
                break
            pose = self._motion(then, features, left, limit)
            if pose is None:
                break
            agree = found & self._agree(pose, then, features, limit)
            area = self._surface(agree, then, features, pose)
            if area > most and np.linalg.norm(_centre(pose) - centre) < MOST_DRAGGED:
                most, best = area, (pose, agree)
            left = left & ~agree & ~self._beside(pose, then, features, limit)
        if best is None:
            return None
        pose, agree = best
        return pose, _spread(self._points(features, pose), features, found & ~agree, agree)

    def _points(self, features: Features, camera_from_world: np.ndarray) -> np.ndarray:
        """(N, 3) world points of features."""
        camera = self._camera
        z = features.depth[:, None].astype(np.float64)
        in_camera = np.concatenate(
            [(features.uv - [camera.cx, camera.cy]) / [camera.fx, camera.fy] * z, z], axis=1
        )
        return (in_camera - camera_from_world[:3, 3]) @ camera_from_world[:3, :3]

    def _match(
        self, time: float, ago: float, features: Features, camera_from_world: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Which features were seen `ago` seconds back or earlier, and where they were (N, 3)."""
        looks = [look for look in self._looks if look.time <= time - ago]
        if not looks:
            return None
        then, pose = looks[-1].features, looks[-1].camera_from_world
        points = self._points(then, pose)
        to_camera = _centre(pose) - points
        distances = np.linalg.norm(to_camera, axis=1)
        block = LandmarkBlock(
            points=points.astype(np.float32),
            descriptors=np.asarray(then.descriptors)[None],
            view_directions=to_camera / np.maximum(distances, 1e-6)[:, None],
            distances=distances,
            mask=then.mask & (then.depth > 0),
        )
        seen = features.replace(mask=features.mask & (features.depth > 0))
        match = guided_match(block, seen, camera_from_world, self._camera, self._gates)
        return match >= 0, block.points[np.maximum(match, 0)]

    def _motion(
        self, then: np.ndarray, features: Features, asked: np.ndarray, limit: np.ndarray
    ) -> np.ndarray | None:
        """(4, 4) pose that most of the `asked` matches agree with."""
        now = self._points(features, np.eye(4)).astype(np.float32)
        result = _align(then, now, asked, limit, self._key)
        pose = np.asarray(result.camera_from_world)
        votes = asked & self._beside(pose, then, features, limit)
        pose, _ = optimized(pose, then, features, asked, votes, self._camera, self._noise)
        return pose if bool(result.success) else None

    def _beside(
        self, pose: np.ndarray, then: np.ndarray, features: Features, limit: np.ndarray
    ) -> np.ndarray:
        """Which features (N,) are within `limit` of where a pose puts what was seen then."""
        now = self._points(features, np.eye(4))
        return np.linalg.norm(then @ pose[:3, :3].T + pose[:3, 3] - now, axis=1) < limit

    def _agree(
        self, pose: np.ndarray, then: np.ndarray, features: Features, limit: np.ndarray
    ) -> np.ndarray:
        """Which of them (N,) are there to the pixel, too."""
        gate = np.sqrt(CHI2_PIXEL) * self._noise.pixel_sigma
        near = pixel_errors(then, features.uv, pose, self._camera) < gate
        return near & self._beside(pose, then, features, limit)

    def _surface(
        self, chosen: np.ndarray, then: np.ndarray, features: Features, pose: np.ndarray
    ) -> float:
        return surface(then[chosen], features.uv[chosen], pose, self._camera)


def _centre(camera_from_world: np.ndarray) -> np.ndarray:
    return -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]


def _spread(
    points: np.ndarray, features: Features, moved: np.ndarray, still: np.ndarray
) -> np.ndarray:
    """Moving features (N,): those that moved, if they are many, and what is new beside them."""
    moving = moved.copy()
    if moved.sum() < CROWD:
        return np.zeros(len(moved), bool)
    unknown = np.flatnonzero(features.mask & (features.depth > 0) & ~moved & ~still)
    if len(unknown):
        to_moved, _ = scipy.spatial.cKDTree(points[moved]).query(
            points[unknown], k=NEIGHBOURS, distance_upper_bound=REACH
        )
        to_still = np.full(len(unknown), np.inf)
        if still.sum() >= NEIGHBOURS:
            distances, _ = scipy.spatial.cKDTree(points[still]).query(points[unknown], k=NEIGHBOURS)
            to_still = distances[:, -1]
        moving[unknown] = np.isfinite(to_moved[:, -1]) & (to_moved[:, -1] < to_still)
    return moving
