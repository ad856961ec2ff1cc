"""Moving-object detection from feature tracks over the last half second.

`free_space.py` detects motion into space that was seen to be empty; this needs no earlier view of
the place, so it works when people stand in the image from the first frame on.
"""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import unproject_to_world
from ace_jax.geometry.reprojection import CHI2_PIXEL, NoiseModel
from ace_jax.geometry.ransac_kabsch import depth_threshold
from ace_jax.geometry.rigid import centre, difference
from ace_jax.geometry.rigid_motions import (
    CLOSE,
    INVERSE_DEPTH_SIGMA,
    MOST_MOTIONS,
    beside,
    most_common_motion,
    surface,
)
from ace_jax.localization.guided_matching import NO_MATCH, guided_match
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.slam.config import MovingConfig
from ace_jax.slam.mapping.mapping_queue import Job
from ace_jax.slam.tracking.free_space import nth_nearest
from ace_jax.slam.tracking.guided_pose import optimized, pixel_errors

_FEATURES = tuple(field.name for field in dataclasses.fields(Features))


@dataclasses.dataclass
class _Look:
    """A tracked frame.

    Attributes:
        time: seconds.
        features: N features.
        camera_from_world: (4, 4).
        moving: (N,) which features were found to move.
        before: (N,) which feature of the look before each one is; `NO_MATCH`: none. None: unasked.
    """

    time: float
    features: Features
    camera_from_world: np.ndarray
    moving: np.ndarray
    before: np.ndarray | None = None


class RecentFrames:
    """Keeps the features of the last half second and compares a new frame with them.

    Args:
        camera: intrinsics of the frames.
        gates: what a match must satisfy, except for its radius.
        config: constants.
    """

    def __init__(
        self,
        camera: Camera,
        gates: MatchGates,
        config: MovingConfig = MovingConfig(),  # noqa: B008
    ) -> None:
        self._camera = camera
        self._config = config
        pixel = camera.pixel_scale
        self._gates = gates.replace(radius=np.float32(config.radius * pixel))
        self._noise = NoiseModel(config.pixel_sigma * pixel, INVERSE_DEPTH_SIGMA)
        self._looks: collections.deque[_Look] = collections.deque()

    def warm_up(self, features: Features) -> list[Job]:
        """A call that compiles the search for motions, with blank features."""
        nowhere = np.zeros((len(features.mask), 3), np.float32)
        seen = features.uv, features.depth, features.mask
        return [lambda: most_common_motion(nowhere, *seen, self._camera)]

    def forget(self) -> None:
        """Drops all frames: the world's axes have changed, or the camera was lost."""
        self._looks.clear()

    def remember(self, time: float, features: Features, camera_from_world: np.ndarray, moving: np.ndarray) -> None:
        """Keeps the features of a tracked frame, those of moving things too.

        Args:
            time: seconds.
            features: N features.
            camera_from_world: (4, 4).
            moving: (N,) bool, which of them move.
        """
        self._looks.append(_Look(time, features, camera_from_world, moving))
        while self._looks[0].time < time - self._config.memory:
            self._looks.popleft()

    def content(self) -> dict[str, np.ndarray]:
        """The frames, as `restore` takes them."""
        looks = self._looks
        if not looks:
            return {"times": np.zeros(0)}
        stacked = {
            name: np.stack([np.asarray(getattr(look.features, name)) for look in looks])
            for name in _FEATURES
        }
        poses = np.stack([look.camera_from_world for look in looks])
        return stacked | {"times": np.array([look.time for look in looks]), "poses": poses}

    def restore(self, content: Mapping[str, np.ndarray]) -> None:
        """Takes over the frames of another run with the same features.

        Raises:
            ValueError: arrays of different lengths, or not finite.
            KeyError: one is missing.
        """
        self.forget()
        count = len(content["times"])
        if not count:
            return
        arrays = [content[name] for name in (*_FEATURES, "times", "poses")]
        if any(len(x) != count or not np.isfinite(x).all() for x in arrays):
            raise ValueError("the recent frames are not whole")
        if content["uv"].shape[1:] != (content["depth"].shape[1], 2):
            raise ValueError("the recent frames are not whole")
        for i, time in enumerate(content["times"].tolist()):
            features = Features(**{name: content[name][i] for name in _FEATURES})
            self._looks.append(_Look(time, features, content["poses"][i], np.zeros(len(features.mask), bool)))

    @property
    def something_moves(self) -> bool:
        """Whether something moved in the last frame."""
        return bool(self._looks) and bool(self._looks[-1].moving.any())

    def moved_before(
        self, features: Features, camera_from_world: np.ndarray | None
    ) -> np.ndarray:
        """Which features (N,) are those that were found to move in the last frame.

        Args:
            features: N features of a new frame, with depth.
            camera_from_world: (4, 4) where the camera is, about; None: unknown.
        """
        found = np.zeros(len(features.mask), bool)
        if camera_from_world is None or not self._looks or not self._looks[-1].moving.any():
            return found
        last = self._looks[-1]
        before = self._same(_Look(last.time + 10, features, camera_from_world, found), last)
        linked = before >= 0
        moved = linked & last.moving[before]
        return self._spread(self._points(features, camera_from_world), features, moved, linked & ~moved)

    def moving(
        self,
        time: float,
        features: Features,
        camera_from_world: np.ndarray,
        agreeing: np.ndarray,
    ) -> np.ndarray:
        """Which features (N,) are not where they were, and what has no past beside them.

        Args:
            time: of the frame, seconds.
            features: N features with depth.
            camera_from_world: (4, 4) where the camera is.
            agreeing: (N,) bool, features whose landmarks agree with that.
        """
        now = self._points(features, camera_from_world)
        then, age = self._earliest(_Look(time, features, camera_from_world, agreeing))
        known = age >= self._config.track_age
        velocity = (now - then) / np.maximum(age, self._config.track_age)[:, None]
        noise = depth_threshold(features.depth, INVERSE_DEPTH_SIGMA, CLOSE)
        way = np.linalg.norm(now - then, axis=1)
        still = known & agreeing
        if still.sum() >= self._config.min_rivals:
            noise *= max(1.0, float(np.quantile(way[still] / noise[still], 0.9)))
        moved = known & (way > 2 * noise) & (way > noise + self._config.least_speed * age)
        moved = self._coherent(moved, velocity, noise / np.maximum(age, self._config.track_age))
        short = age < 0.8 * self._config.look_back[1]
        still = known & ~moved & ~short
        moved = self._spread(now, features, moved, still)
        return moved

    def _coherent(self, moved: np.ndarray, velocity: np.ndarray, limit: np.ndarray) -> np.ndarray:
        """Those of moved features (N,) that have a velocity (N, 3) in common, to a limit (N,)."""
        coherent = np.zeros(len(moved), bool)
        left = np.flatnonzero(moved)
        for _ in range(MOST_MOTIONS):
            if len(left) < self._config.min_moving:
                break
            apart = np.linalg.norm(velocity[left, None] - velocity[left], axis=-1)
            alike = apart < limit[left]
            group = alike[np.argmax(alike.sum(1))]
            if group.sum() < self._config.min_moving:
                break
            coherent[left[group]] = True
            left = left[~group]
        return coherent

    def _earliest(self, look: _Look) -> tuple[np.ndarray, np.ndarray]:
        """Where features were first seen (N, 3), world, and how long ago (N,), seconds.

        They are followed from each frame to the one before, for `look_back`'s longer time.
        """
        index = np.arange(len(look.features.mask))
        then = self._points(look.features, look.camera_from_world)
        age = np.zeros(len(index))
        current = look
        for earlier in reversed(self._looks):
            if current is not look and look.time - earlier.time > self._config.look_back[1] + 0.05:
                break
            if current.before is None:
                current.before = self._same(current, earlier)
            index = np.where(index >= 0, current.before[np.maximum(index, 0)], NO_MATCH)
            if not (index >= 0).any():
                break
            points = self._points(earlier.features, earlier.camera_from_world)
            then[index >= 0] = points[index[index >= 0]]
            age[index >= 0] = look.time - earlier.time
            current = earlier
        return then, age

    def _same(self, look: _Look, earlier: _Look) -> np.ndarray:
        """Which feature of an earlier look each of a look's (N,) is, near where it stood."""
        part = min((look.time - earlier.time) / self._config.look_back[0], 1.0)
        gates = self._gates.replace(radius=np.float32(self._gates.radius * part))
        seen = look.features
        seen = seen.replace(mask=seen.mask & (seen.depth > 0))
        block = self._block(earlier)
        return guided_match(block, seen, look.camera_from_world, self._camera, gates)

    def corrected(
        self, time: float, features: Features, camera_from_world: np.ndarray, agreed: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Pose and moving features, if the camera was taken to follow something that moves.

        Args:
            time: of the frame, seconds.
            features: N features with depth.
            camera_from_world: (4, 4) where the camera seems to be.
            agreed: most matches agreed with that pose; many of them must then move.

        Returns:
            None, or the (4, 4) pose that explains clearly more surface, and which features (N,)
            follow other motions than that.
        """
        tracked = self._tracked(_Look(time, features, camera_from_world, np.zeros(len(features.mask), bool)))
        if tracked is None:
            return None
        found, then = tracked
        followed = found & self._agree(camera_from_world, then, features)
        most = self._config.surface_ratio * self._surface(followed, then, features, camera_from_world)
        best, left, motions = None, found, []
        for _ in range(MOST_MOTIONS):
            if left.sum() < self._config.min_matches:
                break
            motion = most_common_motion(then, features.uv, features.depth, left, self._camera)
            if motion is None:
                break
            start, votes = motion
            pose, _ = optimized(start, then, features, left, votes, self._camera, self._noise)
            agree = found & self._agree(pose, then, features)
            motions.append(agree)
            area = self._surface(agree, then, features, pose)
            dragged, _ = difference(pose, camera_from_world)
            if area > most and dragged < self._config.max_dragged:
                most, best = area, (pose, agree)
            left = left & ~agree & ~votes
        if best is None:
            return None
        pose, agree = best
        # Without something that moves, another pose of the same features is mere noise.
        least = max(self._config.min_rivals, self._config.min_rival_share * found.sum())
        others = max(np.sum(other & ~agree) for other in [followed, *motions])
        if agreed and others < least:
            return None
        return pose, self._spread(self._points(features, pose), features, found & ~agree, agree)

    def _tracked(self, look: _Look) -> tuple[np.ndarray, np.ndarray] | None:
        """Which features of a look were tracked (N,), and where they were (N, 3), at one time.

        As long ago as half of them can be followed, at most `look_back`'s longer time.
        """
        index, best, most = np.arange(len(look.features.mask)), None, 0
        current = look
        for earlier in reversed(self._looks):
            if current is not look and look.time - earlier.time > self._config.look_back[1] + 0.05:
                break
            if current.before is None:
                current.before = self._same(current, earlier)
            index = np.where(index >= 0, current.before[np.maximum(index, 0)], NO_MATCH)
            found = index >= 0
            most = max(most, found.sum())
            if found.sum() < max(most / 2, self._config.min_matches):
                break
            points = self._points(earlier.features, earlier.camera_from_world).astype(np.float32)
            best = found, points[np.maximum(index, 0)]
            current = earlier
        return best

    def _points(self, features: Features, camera_from_world: np.ndarray) -> np.ndarray:
        """(N, 3) world points of features."""
        return unproject_to_world(features.uv, features.depth, self._camera, camera_from_world)

    def _match(
        self, time: float, ago: float, features: Features, camera_from_world: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Which features were seen `ago` seconds back or earlier, and where they were (N, 3)."""
        looks = [look for look in self._looks if look.time <= time - ago]
        if not looks:
            return None
        block = self._block(looks[-1])
        seen = features.replace(mask=features.mask & (features.depth > 0))
        match = guided_match(block, seen, camera_from_world, self._camera, self._gates)
        return match >= 0, block.points[np.maximum(match, 0)]

    def _block(self, look: _Look) -> Landmarks:
        """A look's features as landmarks."""
        then, pose = look.features, look.camera_from_world
        points = self._points(then, pose)
        to_camera = centre(pose) - points
        distances = np.linalg.norm(to_camera, axis=1)
        return Landmarks(
            points=points.astype(np.float32),
            descriptors=np.asarray(then.descriptors)[:, None],
            view_directions=to_camera / np.maximum(distances, 1e-6)[:, None],
            distances=distances,
            views=(then.mask & (then.depth > 0)).astype(np.int32),
        )

    def _agree(self, pose: np.ndarray, then: np.ndarray, features: Features) -> np.ndarray:
        """Which features (N,) are where a pose puts what was seen then, to the pixel."""
        gate = np.sqrt(CHI2_PIXEL) * self._noise.pixel_sigma
        near = pixel_errors(then, features.uv, pose, self._camera) < gate
        return near & beside(pose, then, features.uv, features.depth, self._camera)

    def _surface(
        self, chosen: np.ndarray, then: np.ndarray, features: Features, pose: np.ndarray
    ) -> float:
        return surface(then[chosen], features.uv[chosen], pose, self._camera)

    def _spread(
        self, points: np.ndarray, features: Features, moved: np.ndarray, still: np.ndarray
    ) -> np.ndarray:
        """Moving features (N,): those that moved, if they are many, and what is new beside them."""
        moving = moved.copy()
        if moved.sum() < self._config.min_moving:
            return np.zeros(len(moved), bool)
        unknown = features.mask & (features.depth > 0) & ~moved & ~still
        to_moved = nth_nearest(
            points[unknown], points[moved], self._config.neighbours, self._config.reach
        )
        to_still = nth_nearest(points[unknown], points[still], self._config.neighbours)
        moving[unknown] = np.isfinite(to_moved) & (to_moved < to_still)
        return moving
