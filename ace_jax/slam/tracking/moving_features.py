"""Moving-object detection from feature tracks over the last quarter of a second.

`free_space.py` detects motion into space that was seen to be empty; this needs no earlier view of
the place, so it works when people stand in the image from the first frame on.

Features are followed from frame to frame. One that is no longer where it was first seen has moved
or is a mismatch. A group of them with one velocity has moved: mismatches and errors of depth or of
the shutter have none in common.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import unproject_to_world
from ace_jax.geometry.ransac_kabsch import depth_threshold
from ace_jax.geometry.reprojection import CHI2_PIXEL, NoiseModel
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
from ace_jax.localization.landmarks import MatchGates, landmarks_of
from ace_jax.slam.config import MovingConfig
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
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
        points: (N, 3) world points of the features, metres.
        landmarks: (N,) landmark of each feature, or `NO_LANDMARK`.
        moving: (N,) which features were found to move.
        before: (N,) which feature of the look before each one is; `NO_MATCH`: none. None: unasked.
    """

    time: float
    features: Features
    camera_from_world: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    moving: np.ndarray = dataclasses.field(init=False)
    before: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.moving = np.zeros(len(self.features.mask), bool)


class RecentFrames:
    """Keeps the features of the last frames and follows them into a new one.

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
        self._gates = gates
        self._noise = NoiseModel(config.pixel_sigma * camera.pixel_scale, INVERSE_DEPTH_SIGMA)
        self._looks: collections.deque[_Look] = collections.deque()

    def warm_up(self, features: Features) -> list[Job]:
        """A call that compiles the search for motions, with blank features."""
        nowhere = np.zeros((len(features.mask), 3), np.float32)
        seen = features.uv, features.depth, features.mask
        return [lambda: most_common_motion(nowhere, *seen, self._camera)]

    def forget(self) -> None:
        """Drops all frames: the world's axes have changed."""
        self._looks.clear()

    def forget_before(self, time: float) -> None:
        """Drops the frames that are too old at a time, seconds: the camera was lost."""
        while self._looks and self._looks[0].time < time - self._config.memory:
            self._looks.popleft()

    def remember(
        self,
        time: float,
        features: Features,
        camera_from_world: np.ndarray,
        landmarks: np.ndarray,
    ) -> np.ndarray:
        """Keeps the features of a tracked frame, and tells which of them move.

        Args:
            time: of the frame, seconds.
            features: N features with depth.
            camera_from_world: (4, 4) where the camera is.
            landmarks: (N,) landmark of each feature that agrees with that, or `NO_LANDMARK`;
                how far these seem to have moved is noise.

        Returns:
            Which features (N,) move, with what has no past beside them.
        """
        if self._looks and time <= self._looks[-1].time:
            self.forget()
        look = self._look(time, features, camera_from_world, landmarks)
        look.moving = self._moving(look)
        self._looks.append(look)
        self.forget_before(time)
        return look.moving

    def content(self) -> dict[str, np.ndarray]:
        """The frames, as `restore` takes them."""
        looks = self._looks
        if not looks:
            return {"times": np.zeros(0)}
        stacked = {
            name: np.stack([np.asarray(getattr(look.features, name)) for look in looks])
            for name in _FEATURES
        }
        stacked["poses"] = np.stack([look.camera_from_world for look in looks])
        stacked["landmarks"] = np.stack([look.landmarks for look in looks])
        stacked["moving"] = np.stack([look.moving for look in looks])
        return stacked | {"times": np.array([look.time for look in looks])}

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
        # Checkpoints of earlier versions do not say what moved.
        shape = content["depth"].shape
        landmarks = content.get("landmarks", np.full(shape, NO_LANDMARK))
        moving = content.get("moving", np.zeros(shape, bool))
        arrays = [content["mask"], landmarks, moving]
        if content["uv"].shape != (*shape, 2) or any(x.shape != shape for x in arrays):
            raise ValueError("the recent frames are not whole")
        for i, time in enumerate(content["times"].tolist()):
            features = Features(**{name: content[name][i] for name in _FEATURES})
            look = self._look(time, features, content["poses"][i], landmarks[i])
            look.moving = moving[i] > 0
            self._looks.append(look)

    def show(self, landmarks: np.ndarray) -> None:
        """Notes the landmarks (N,) that the newest frame's features were made into."""
        if self._looks:  # they are forgotten where that closed a loop
            self._looks[-1].landmarks = landmarks

    def moving_landmarks(self) -> np.ndarray:
        """Landmarks (M,) that what moves in the newest frame showed in earlier ones; named once.

        Without those that something else shows now: its matches then were wrong.
        """
        look = self._looks[-1]
        if not look.moving.any():
            return np.zeros(0, np.int64)
        shown = [
            then.landmarks[index[look.moving & (index >= 0)]]
            for then, index in self._followed(look)
        ]
        slots = np.unique(np.concatenate([np.zeros(0, np.int64), *shown]))
        slots = np.setdiff1d(slots, [NO_LANDMARK, *look.landmarks[~look.moving]])
        # Their places in the map may be used again at once.
        for then in self._looks:
            then.landmarks = np.where(np.isin(then.landmarks, slots), NO_LANDMARK, then.landmarks)
        return slots

    @property
    def something_moves(self) -> bool:
        """Whether something moved in the last frame."""
        return bool(self._looks) and bool(self._looks[-1].moving.any())

    def moved_before(self, features: Features, camera_from_world: np.ndarray | None) -> np.ndarray:
        """Which features (N,) moved in the last frame, and what is new beside them.

        Args:
            features: N features of a new frame, with depth.
            camera_from_world: (4, 4) where the camera is, about; None: unknown.
        """
        found = np.zeros(len(features.mask), bool)
        if camera_from_world is None or not self.something_moves:
            return found
        last = self._looks[-1]
        # The whole radius, whatever the time: the prediction may be that far off.
        before = self._same(features, camera_from_world, last)
        known = before >= 0
        moved = known & last.moving[before]
        now = self._points(features, camera_from_world)
        return self._spread(now, features, moved, known & ~moved)

    def _moving(self, look: _Look) -> np.ndarray:
        """See `remember`."""
        config, depth = self._config, look.features.depth
        now = look.points
        then, age = now.copy(), np.zeros(len(depth))
        for earlier, index in self._followed(look):
            found = index >= 0
            then[found], age[found] = earlier.points[index[found]], look.time - earlier.time
        known = age >= config.track_age
        way = np.linalg.norm(now - then, axis=1)
        noise = depth_threshold(depth, INVERSE_DEPTH_SIGMA, CLOSE)
        settled = known & (look.landmarks != NO_LANDMARK)
        if settled.sum() >= config.min_settled:
            noise = noise * max(1.0, float(np.quantile(way[settled] / noise[settled], 0.9)))
        # Twice the noise: a group is then told from another one that does not move.
        moved = known & (way > np.maximum(2.0 * noise, noise + config.least_speed * age))
        time = np.maximum(age, config.track_age)
        moved = self._groups(moved, (now - then) / time[:, None], noise / time)
        return self._spread(now, look.features, moved, (age >= config.long_track) & ~moved)

    def _groups(self, moved: np.ndarray, velocity: np.ndarray, limit: np.ndarray) -> np.ndarray:
        """Those of moved features (N,) that share a velocity (N, 3) within limits (N,), m/s."""
        grouped, left = np.zeros(len(moved), bool), np.flatnonzero(moved)
        for _ in range(MOST_MOTIONS):
            if len(left) < self._config.min_moving:
                break
            apart = np.linalg.norm(velocity[left, None] - velocity[left], axis=-1)
            alike = apart < limit[left]
            group = alike[np.argmax(alike.sum(axis=1))]
            if group.sum() < self._config.min_moving:
                break
            grouped[left[group]] = True
            left = left[~group]
        # Much that moves in no group tells that the noise is larger than was thought.
        enough = grouped.sum() >= self._config.min_grouped * moved.sum()
        return grouped if enough else np.zeros_like(grouped)

    def _followed(self, look: _Look) -> Iterator[tuple[_Look, np.ndarray]]:
        """Frames before a look, newest first, and which feature each of its (N,) is in them.

        `NO_MATCH` where the track has ended.
        """
        index, later = np.arange(len(look.features.mask)), look
        for earlier in reversed(self._looks):
            if earlier is look:
                continue
            if later is not look and look.time - earlier.time > self._config.memory:
                return
            if later.before is None:
                part = min((later.time - earlier.time) / self._config.radius[1], 1.0)
                seen = later.features, later.camera_from_world
                later.before = self._same(*seen, earlier, part)
            index = np.where(index >= 0, later.before[index], NO_MATCH)
            yield earlier, index
            later = earlier

    def _same(
        self, features: Features, camera_from_world: np.ndarray, earlier: _Look, part: float = 1.0
    ) -> np.ndarray:
        """Which feature of an earlier frame each one (N,) is, within a part of the radius."""
        viewpoint = centre(earlier.camera_from_world)
        block = landmarks_of(earlier.features, earlier.points, viewpoint)
        seen = features.replace(mask=features.mask & (features.depth > 0))
        radius = part * self._config.radius[0] * self._camera.pixel_scale
        gates = self._gates.replace(radius=np.float32(radius))
        return guided_match(block, seen, camera_from_world, self._camera, gates)

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
        tracked = self._tracked(time, features, camera_from_world)
        if tracked is None:
            return None
        found, then = tracked
        followed = found & self._agree(camera_from_world, then, features)
        area = self._surface(followed, then, features, camera_from_world)
        most = self._config.surface_ratio * area
        best, left, agreeing = None, found, [followed]
        for _ in range(MOST_MOTIONS):
            if left.sum() < self._config.min_matches:
                break
            motion = most_common_motion(then, features.uv, features.depth, left, self._camera)
            if motion is None:
                break
            start, votes = motion
            pose, _ = optimized(start, then, features, left, votes, self._camera, self._noise)
            agree = found & self._agree(pose, then, features)
            agreeing.append(agree)
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
        if agreed and max(np.sum(others & ~agree) for others in agreeing) < least:
            return None
        moved = found & ~agree
        if moved.sum() < self._config.min_moving:  # mismatches
            return pose, np.zeros(len(moved), bool)
        return pose, self._spread(self._points(features, pose), features, moved, agree)

    def _tracked(
        self, time: float, features: Features, camera_from_world: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Which features were tracked (N,), and where they were (N, 3), in one earlier frame.

        It is the earliest to which at least half as many are followed as to any. None: there is
        none.
        """
        nothing = np.full(len(features.mask), NO_LANDMARK)
        look = self._look(time, features, camera_from_world, nothing)
        best, most = None, self._config.min_matches
        for earlier, index in self._followed(look):
            found = index >= 0
            most = max(most, found.sum())
            if found.sum() < max(most / 2, self._config.min_matches):
                break
            best = found, earlier.points[index].astype(np.float32)
        return best

    def _look(
        self, time: float, features: Features, camera_from_world: np.ndarray, landmarks: np.ndarray
    ) -> _Look:
        points = self._points(features, camera_from_world)
        return _Look(time, features, camera_from_world, points, landmarks)

    def _points(self, features: Features, camera_from_world: np.ndarray) -> np.ndarray:
        """(N, 3) world points of features."""
        return unproject_to_world(features.uv, features.depth, self._camera, camera_from_world)

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
        """Moving features (N,): those that moved, and what is new beside them."""
        moving = moved.copy()
        if not moved.any():
            return moving
        unknown = features.mask & (features.depth > 0) & ~moved & ~still
        to_moved = nth_nearest(
            points[unknown], points[moved], self._config.neighbours, self._config.reach
        )
        to_still = nth_nearest(points[unknown], points[still], self._config.neighbours)
        moving[unknown] = np.isfinite(to_moved) & (to_moved < to_still)
        return moving
