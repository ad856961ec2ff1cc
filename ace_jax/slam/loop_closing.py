"""Loop closing: a place that was mapped long ago is recognised, and the drift since taken out.

For each new keyframe: old keyframes that the drift so far may have brought here, a vote of
descriptors among them, RANSAC over 3D-3D matches, a guided search in the old map, and then proof:
the same correction in several keyframes, landmarks found wherever they are expected, depth that
does not contradict them, no second place that fits as well. Only then the pose graph is optimised,
landmarks move with the keyframes that made them, and duplicates are fused. The stages are those of
ORB-SLAM (Mur-Artal and Tardos, T-RO 2017, section VII); the map is only touched in the last step.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Generator
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from scipy.spatial.transform import Rotation

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera, unproject
from ace_jax.geometry.ransac_kabsch import depth_threshold, estimate_rigid_transform
from ace_jax.models.landmark_attention import EMPTY, nearest
from ace_jax.slam.landmark_map import LandmarkMap
from ace_jax.slam.matching import LandmarkBlock, MatchGates, guided_match, visible
from ace_jax.slam.pose_graph import PoseGraph, inverse, optimize_pose_graph
from ace_jax.slam.pose_optimization import NoiseModel, optimize_pose

Job = Callable[[], Any]
CELLS = (6, 4)  # columns and rows of the grid in which evidence is counted


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """When two places are the same. Pixel figures are for an image 640 wide.

    Attributes:
        min_gap: keyframes between this one and one that counts as old.
        min_covisible: shared landmarks that make two keyframes neighbours already.
        drift: metres by which the pose may be off whatever the path, and per metre of it.
        drift_angle: the same for the direction, radians, and radians per metre.
        view_distance: metres between keyframes that may still see the same things.
        view_angle: radians between their optical axes.
        max_candidates: old keyframes that are voted on.
        max_candidate_landmarks: capacity of the vote (static shape).
        min_votes: matched landmarks of one old keyframe that make it worth a geometric check.
        group_keyframes: old keyframes around the best one whose landmarks form the old local map.
        max_group_landmarks: capacity of that map (static shape).
        min_cosine: least descriptor similarity of a match without a prior.
        wide_radius: first guided search around a predicted pose, pixels.
        fine_radius: second one, pixels.
        near_radius: pixels within which a feature's depth speaks about a landmark.
        min_inliers: matched old landmarks in each keyframe.
        min_cells: of the grid's 24 cells, those that must hold matches.
        min_support: matched over expected landmarks, relative to the old keyframe's own figure.
        max_holes: share of the cells with expected landmarks in which next to none is found.
        max_contradicted: share of the landmarks with a depth beside them that it contradicts.
        confirmations: keyframes that must agree on one correction.
        patience: keyframes without confirmation after which a hypothesis is given up.
        agreement: metres and radians by which the keyframes' corrections may differ.
        rival: a second place with this share of the first one's inliers makes both doubtful.
        rest: keyframes after a closure in which none is looked for.
        fuse_keyframes: newest keyframes into which old landmarks are fused.
        max_edges: pose graph edges of a keyframe to its recent past.
        max_loop_edges: and to older keyframes it shares landmarks with (former loops).
        edge_sigma: metres and radians of an edge of `edge_landmarks` shared landmarks.
        edge_landmarks: see `edge_sigma`; the variance goes with one over the number.
    """

    min_gap: int = 12
    min_covisible: int = 15
    drift: tuple[float, float] = (0.3, 0.04)
    drift_angle: tuple[float, float] = (0.1, 0.02)
    view_distance: float = 1.5
    view_angle: float = 0.8
    max_candidates: int = 60
    max_candidate_landmarks: int = 4096
    min_votes: int = 15
    group_keyframes: int = 10
    max_group_landmarks: int = 1536
    min_cosine: float = 0.75
    wide_radius: float = 24.0
    fine_radius: float = 8.0
    near_radius: float = 6.0
    min_inliers: int = 30
    min_cells: int = 6
    min_support: float = 0.5
    max_holes: float = 0.25
    max_contradicted: float = 0.2
    confirmations: int = 3
    patience: int = 2
    agreement: tuple[float, float] = (0.1, 0.05)
    rival: float = 0.6
    rest: int = 4
    fuse_keyframes: int = 10
    max_edges: int = 4
    max_loop_edges: int = 2
    edge_sigma: tuple[float, float] = (0.01, 0.005)
    edge_landmarks: int = 50


@dataclasses.dataclass(frozen=True)
class LoopClosure:
    """What a closed loop did.

    Attributes:
        keyframe: the newest keyframe that recognised the place.
        old_keyframe: the old keyframe that it was recognised in.
        confirmed_by: keyframes that agreed on the correction.
        inliers: old landmarks matched in them, together.
        drift: metres between where the newest keyframe was and where it belongs.
        drift_angle: radians, the same for its direction.
        correction: (4, 4) new_world_from_old_world for everything that hangs on the newest
            keyframes: a camera_from_world that was computed before becomes
            `camera_from_world @ inverse(correction)`.
        fused: landmarks that turned out to be one.
    """

    keyframe: int
    old_keyframe: int
    confirmed_by: tuple[int, ...]
    inliers: int
    drift: float
    drift_angle: float
    correction: np.ndarray
    fused: int


@flax.struct.dataclass
class Examination:
    """What a keyframe shows of a block of P landmarks, seen from its best pose.

    Attributes:
        camera_from_world: (4, 4).
        matches: (N,) landmark of each feature, -1 where there is none.
        expected: (24,) landmarks that should be in view, by cell of the image.
        found: (24,) those of them that were matched.
        agreeing: () landmarks with a depth beside them that fits.
        contradicted: () landmarks with depths beside them of which none fits.
    """

    camera_from_world: jax.Array
    matches: jax.Array
    expected: jax.Array
    found: jax.Array
    agreeing: jax.Array
    contradicted: jax.Array

    @property
    def inliers(self) -> int:
        """Matched landmarks."""
        return int(np.sum(self.matches >= 0))


@jax.jit
def match_mutually(
    queries: jax.Array,
    query_mask: jax.Array,
    keys: jax.Array,
    key_mask: jax.Array,
    min_cosine: float,
) -> jax.Array:
    """(N,) index of the key that is a query's best and vice versa, -1 where there is none."""
    index, similarity = nearest(queries, keys, jnp.where(key_mask, 0.0, EMPTY))
    back, _ = nearest(keys, queries, jnp.where(query_mask, 0.0, EMPTY))
    mutual = back[index] == jnp.arange(queries.shape[0])
    return jnp.where(query_mask & mutual & (similarity > min_cosine), index, -1)


@functools.partial(jax.jit, static_argnames=("max_hypotheses",))
def align(
    block: LandmarkBlock,
    features: Features,
    camera: Camera,
    noise: NoiseModel,
    min_cosine: float,
    key: jax.Array,
    number: jax.Array,
    max_hypotheses: int = 512,
):
    """Pose of features among landmarks without a prior: mutual matches, then RANSAC-Kabsch."""
    appearances, size, dim = block.descriptors.shape
    match = match_mutually(
        features.descriptors,
        features.mask & (features.depth > 0),
        block.descriptors.reshape(-1, dim),
        jnp.tile(block.mask, appearances),
        min_cosine,
    )
    return estimate_rigid_transform(
        block.points[jnp.maximum(match, 0) % size],
        unproject(features.uv, features.depth, camera),
        jax.random.fold_in(key, number),
        mask=match >= 0,
        threshold=depth_threshold(features.depth, noise.inverse_depth_sigma, floor=0.05),
        max_hypotheses=max_hypotheses,
    )


@jax.jit
def examine(
    block: LandmarkBlock,
    features: Features,
    camera_from_world: jax.Array,
    camera: Camera,
    gates: MatchGates,
    radii: jax.Array,
    noise: NoiseModel,
    near_radius: float,
) -> Examination:
    """Guided matching from a predicted pose, and what speaks for and against the place."""

    def search(pose: jax.Array, radius: jax.Array) -> tuple[jax.Array, jax.Array]:
        matches = guided_match(block, features, pose, camera, gates.replace(radius=radius))
        points = block.points[jnp.maximum(matches, 0)]
        pose, inliers = optimize_pose(
            pose, points, features.uv, features.depth, matches >= 0, camera, noise
        )
        return pose, jnp.where(inliers, matches, -1)

    pose, matches = jax.lax.scan(search, camera_from_world, radii)
    matches = matches[-1]
    size = block.mask.shape[0]
    found = jnp.zeros(size, bool)
    found = found.at[jnp.where(matches >= 0, matches, size)].set(True, mode="drop")

    uv, seen = visible(block, pose, camera, gates)
    column = jnp.clip(uv[:, 0] / camera.width * CELLS[0], 0, CELLS[0] - 1).astype(jnp.int32)
    row = jnp.clip(uv[:, 1] / camera.height * CELLS[1], 0, CELLS[1] - 1).astype(jnp.int32)
    cell = (row * CELLS[0] + column)[:, None] == jnp.arange(CELLS[0] * CELLS[1])

    inverse_z = 1.0 / jnp.maximum(block.points @ pose[2, :3] + pose[2, 3], 1e-3)
    measured = features.mask & (features.depth > 0)
    inverse_depth = 1.0 / jnp.where(measured, features.depth, 1.0)
    du = uv[:, None, 0] - features.uv[None, :, 0]
    dv = uv[:, None, 1] - features.uv[None, :, 1]
    near = (du * du + dv * dv < near_radius**2) & seen[:, None] & measured[None, :]
    sigmas = jnp.abs(inverse_depth[None, :] - inverse_z[:, None]) / noise.inverse_depth_sigma
    agrees = jnp.any(near & (sigmas < 4.0), axis=1) | found
    differs = jnp.any(near & (sigmas > 6.0), axis=1) & ~agrees
    return Examination(
        camera_from_world=pose,
        matches=matches,
        expected=jnp.sum(cell & seen[:, None], axis=0),
        found=jnp.sum(cell & (seen & found)[:, None], axis=0),
        agreeing=jnp.sum(agrees),
        contradicted=jnp.sum(differs),
    )


@dataclasses.dataclass(frozen=True)
class _Place:
    """A keyframe found in the old map.

    Attributes:
        number: the keyframe.
        old: the old keyframe.
        camera_from_world: (4, 4) where it belongs in the old map.
        inliers: matched landmarks.
        group: old keyframes whose landmarks they are.
    """

    number: int
    old: int
    camera_from_world: np.ndarray
    inliers: int
    group: np.ndarray


@dataclasses.dataclass
class _Hypothesis:
    """A correction that some keyframes agree on, and how long ago the last one did."""

    old_from_drifted: np.ndarray
    places: list[_Place]
    age: int = 0


class LoopCloser:
    """Closes loops in a `LandmarkMap`, one keyframe after the other.

    Args:
        camera: intrinsics.
        config: when two places are the same.
        gates: of guided matching; the radius is that of `config`.
        noise: standard deviations.
        seed: of RANSAC.

    Attributes:
        outcomes: how often the search ended how, for reports.
    """

    def __init__(
        self,
        camera: Camera,
        config: LoopConfig,
        gates: MatchGates,
        noise: NoiseModel,
        seed: int = 0,
    ):
        self.camera = camera
        self.config = config
        self.noise = noise
        self.outcomes: collections.Counter[str] = collections.Counter()
        pixel = camera.width / 640.0
        self._gates = gates
        self._radii = np.float32([config.wide_radius * pixel, config.fine_radius * pixel])
        self._near_radius = np.float32(config.near_radius * pixel)
        self._key = jax.random.key(seed)
        self._hypothesis: _Hypothesis | None = None
        self._rest_until = 0

    def warm_up(self, world: LandmarkMap, features: Features) -> None:
        """Compiles every program with blank features."""
        nothing = np.full(1, -1)
        keys, mask = self._first_appearances(world, np.zeros(0, np.int64))
        match_mutually(features.descriptors, features.mask, keys, mask, self.config.min_cosine)
        block = world.block(nothing, self.config.max_group_landmarks)
        self._align(block, features, 0)
        self._examine(block, features, np.eye(4))

    def close(self, world: LandmarkMap, number: int) -> Generator[Job, Any, LoopClosure | None]:
        """Looks for a loop at a new keyframe, and closes it.

        Yields computations; the value of a `yield` is what the computation returned. One search
        at a time. The map may grow in between; it is changed only in the step that returns a
        closure, after which the caller owes its own poses the `LoopClosure.correction`.
        """
        if number < self._rest_until:
            return None
        old, local_slots = self._old_keyframes(world, number)
        if len(old) == 0:
            self._hypothesis = None
            self.outcomes["nothing near"] += 1
            return None
        if self._hypothesis is not None:
            place = yield from self._confirm(world, number, old, local_slots)
        else:
            place = yield from self._discover(world, number, old, local_slots)
        if place is None:
            self._lose_patience()
            return None
        if self._hypothesis is None:
            pose = world.keyframes[number].camera_from_world
            self._hypothesis = _Hypothesis(inverse(place.camera_from_world) @ pose, [])
        hypothesis = self._hypothesis
        hypothesis.places.append(place)
        hypothesis.age = 0
        yield from self._confirm_earlier(world, number, old, local_slots)
        if len(hypothesis.places) < self.config.confirmations:
            self.outcomes["waits for confirmation"] += 1
            return None
        self._hypothesis = None
        closure = yield from self._correct(world, number, hypothesis)
        self.outcomes["not correctable" if closure is None else "closed"] += 1
        if closure is not None:
            self._rest_until = number + self.config.rest
        return closure

    def _confirm_earlier(self, world, number, old, local_slots) -> Generator[Job, Any, None]:
        """Asks the keyframes before this one, as long as confirmations are missing."""
        places = self._hypothesis.places
        for earlier in range(number - 1, max(number - 1 - self.config.confirmations, -1), -1):
            if len(places) >= self.config.confirmations:
                return
            if earlier > max(old) and earlier not in [p.number for p in places]:
                place = yield from self._confirm(world, earlier, old, local_slots)
                if place is None:
                    return  # before that the camera saw even less of the old place
                places.append(place)

    def _lose_patience(self) -> None:
        if self._hypothesis is not None:
            self._hypothesis.age += 1
            if self._hypothesis.age > self.config.patience:
                self._hypothesis = None

    def _old_keyframes(self, world: LandmarkMap, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Old keyframes that may see what this one sees, nearest first; and the local slots."""
        config = self.config
        last = number - config.min_gap
        if last < 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        poses = np.stack([k.camera_from_world for k in world.keyframes[: number + 1]])
        centres = inverse(poses)[:, :3, 3]
        steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        path = np.append(np.cumsum(steps[::-1])[::-1], 0.0)[: last + 1]
        distance = np.linalg.norm(centres[: last + 1] - centres[number], axis=1)
        turned = np.arccos(np.clip(poses[: last + 1, 2, :3] @ poses[number, 2, :3], -1, 1))
        near = (distance < config.view_distance + self._drift(path)) & (
            turned < config.view_angle + self._drift_angle(path)
        )
        if not near.any():
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        shared = world.covisibility(world.keyframes[number].landmarks)
        neighbours = np.flatnonzero(shared >= config.min_covisible)
        local_slots = world.slots_seen_by(np.union1d(neighbours, [number]))
        near &= world.covisibility(local_slots)[: last + 1] < config.min_covisible
        order = np.argsort(np.where(near, distance, np.inf), kind="stable")
        return order[: int(near.sum())], local_slots

    def _drift(self, path: np.ndarray | float) -> np.ndarray | float:
        return self.config.drift[0] + self.config.drift[1] * path

    def _drift_angle(self, path: np.ndarray | float) -> np.ndarray | float:
        return self.config.drift_angle[0] + self.config.drift_angle[1] * path

    def _discover(self, world, number, old, local_slots) -> Generator[Job, Any, _Place | None]:
        """The old place that this keyframe shows, without a prior."""
        config = self.config
        slots = world.slots_seen_by(old[: config.max_candidates])
        slots = slots[~np.isin(slots, local_slots)]
        slots = _most_observed(world, slots, config.max_candidate_landmarks)
        if len(slots) < config.min_inliers:
            self.outcomes["nothing near"] += 1
            return None
        keyframe = world.keyframes[number]
        keys, mask = self._first_appearances(world, slots)
        serials = world.serial[slots]
        match = yield lambda: np.asarray(
            match_mutually(keyframe.descriptors, keyframe.mask, keys, mask, self.config.min_cosine)
        )
        slots = slots[match[match >= 0]]
        slots = slots[world.serial[slots] == serials[match[match >= 0]]]
        votes = np.zeros(len(world.keyframes), np.int64)
        votes[old] = world.covisibility(slots)[old]
        first = int(np.argmax(votes))
        if votes[first] < config.min_votes:
            self.outcomes["few votes"] += 1
            return None
        group = self._group(world, first, old)
        place = yield from self._inspect(world, number, first, group, local_slots, None)
        if place is None:
            return None
        votes[group] = 0
        second = int(np.argmax(votes))
        if votes[second] >= config.min_votes:
            group = self._group(world, second, old)
            rival = yield from self._inspect(world, number, second, group, local_slots, None)
            if (
                rival is not None
                and rival.inliers > config.rival * place.inliers
                and not self._agree(rival.camera_from_world, place.camera_from_world)
            ):
                self.outcomes["two places alike"] += 1
                return None
        return place

    def _confirm(self, world, number, old, local_slots) -> Generator[Job, Any, _Place | None]:
        """The place of a keyframe where the hypothesis expects it, or None."""
        pose = world.keyframes[number].camera_from_world
        predicted = pose @ inverse(self._hypothesis.old_from_drifted)
        poses = np.stack([world.keyframes[n].camera_from_world for n in old])
        centre = inverse(predicted)[:3, 3]
        distance = np.linalg.norm(inverse(poses)[:, :3, 3] - centre, axis=1)
        turned = np.arccos(np.clip(poses[:, 2, :3] @ predicted[2, :3], -1, 1))
        anchor = int(old[np.argmin(distance + turned)])
        group = self._group(world, anchor, old)
        place = yield from self._inspect(world, number, anchor, group, local_slots, predicted)
        if place is not None and not self._agree(place.camera_from_world, predicted):
            self.outcomes["corrections differ"] += 1
            return None
        return place

    def _agree(self, pose: np.ndarray, other: np.ndarray) -> bool:
        drift, angle = _difference(pose, other)
        return drift < self.config.agreement[0] and angle < self.config.agreement[1]

    def _group(self, world: LandmarkMap, anchor: int, old: np.ndarray) -> np.ndarray:
        """An old keyframe and those of `old` that share most with it."""
        shared = world.covisibility(world.keyframes[anchor].landmarks)[old]
        shared[old == anchor] = np.iinfo(shared.dtype).max
        order = np.argsort(-shared, kind="stable")[: self.config.group_keyframes]
        return old[order[shared[order] > 0]]

    def _inspect(
        self, world, number, anchor, group, local_slots, predicted
    ) -> Generator[Job, Any, _Place | None]:
        """Where a keyframe is in the old local map around `anchor`, if that is beyond doubt."""
        slots = world.slots_seen_by(group)
        slots = slots[~np.isin(slots, local_slots)]
        slots = _most_observed(world, slots, self.config.max_group_landmarks)
        if len(slots) < self.config.min_inliers:
            self.outcomes["small old map"] += 1
            return None
        block = world.block(slots, self.config.max_group_landmarks)
        features, old_features = (_features_of(world, n) for n in (number, anchor))
        old_pose = world.keyframes[anchor].camera_from_world

        def job() -> tuple[Examination, Examination] | None:
            start = predicted
            if start is None:
                aligned = self._align(block, features, number)
                if not bool(aligned.success):
                    return None
                start = aligned.camera_from_world
            seen = self._examine(block, features, start)
            return seen, self._examine(block, old_features, old_pose)

        result = yield job
        if result is None:
            self.outcomes["no pose"] += 1
            return None
        seen, reference = result
        pose = _rigid(seen.camera_from_world)
        doubt = self._doubt(seen, reference)
        if doubt is None and not self._plausible(world, number, anchor, pose):
            doubt = "more than drift"
        if doubt is not None:
            self.outcomes[doubt] += 1
            return None
        return _Place(number, anchor, pose, seen.inliers, group)

    def _doubt(self, seen: Examination, reference: Examination) -> str | None:
        """What speaks against the place; None if nothing does."""
        config = self.config
        if seen.inliers < config.min_inliers:
            return "few inliers"
        if np.sum(seen.found > 0) < config.min_cells:
            return "matches in one corner"
        if support(seen) < config.min_support * support(reference):
            return "landmarks missing"
        if holes(seen) > config.max_holes:
            return "holes"
        if seen.contradicted > config.max_contradicted * (seen.agreeing + seen.contradicted):
            return "depth contradicts"
        return None

    def _plausible(self, world: LandmarkMap, number: int, anchor: int, pose: np.ndarray) -> bool:
        """Whether drift since `anchor` can explain the correction."""
        centres = np.stack([k.centre for k in world.keyframes[anchor : number + 1]])
        path = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
        drift, angle = _difference(pose, world.keyframes[number].camera_from_world)
        return drift < self._drift(path) and angle < self._drift_angle(path)

    def _correct(self, world, number, hypothesis) -> Generator[Job, Any, LoopClosure | None]:
        """Pose graph, landmarks, duplicates."""
        config = self.config
        before = np.stack([k.camera_from_world for k in world.keyframes])
        table = np.stack([k.landmarks for k in world.keyframes])
        places = hypothesis.places
        slots = world.slots_seen_by(np.unique(np.concatenate([p.group for p in places])))
        shared = world.covisibility(world.keyframes[number].landmarks)
        shared[: number + 1 - config.min_gap] = 0
        shared[number] = np.iinfo(shared.dtype).max
        recent = np.argsort(-shared, kind="stable")[: config.fuse_keyframes]
        recent = recent[shared[recent] >= config.min_covisible]
        slots = slots[~np.isin(slots, world.slots_seen_by(recent))]
        slots = _most_observed(world, slots, config.max_group_landmarks)
        serials, created = world.serial[slots], world.created_at[slots]
        block = world.block(slots, config.max_group_landmarks)
        features = [_features_of(world, n) for n in recent]

        def job():
            graph = build_graph(before, table, places, config)
            result = optimize_pose_graph(graph)
            if not result.success or not np.all(result.weights[graph.is_loop]):
                return None
            after = result.camera_from_world
            moved = np.zeros((config.max_group_landmarks, 4, 4))
            moved[: len(slots)] = (inverse(after) @ before)[created]
            there = block.replace(
                points=_apply(moved, block.points),
                view_directions=_turn(moved, block.view_directions),
            )
            matches = [
                self._examine(there, f, after[n]).matches
                for n, f in zip(recent, features, strict=True)
            ]
            return after, matches

        result = yield job
        if result is None:
            return None
        after, matches = result
        moved = inverse(after) @ before
        drift, angle = _difference(after[number], before[number])
        move_map(world, moved)
        alive = world.serial[slots] == serials
        fused = 0
        for row, match in zip(recent, matches, strict=True):
            features_matched = np.flatnonzero(match >= 0)
            features_matched = features_matched[alive[match[features_matched]]]
            fused += _fuse(world, int(row), features_matched, slots[match[features_matched]])
        return LoopClosure(
            keyframe=number,
            old_keyframe=places[0].old,
            confirmed_by=tuple(sorted(p.number for p in places)),
            inliers=sum(p.inliers for p in places),
            drift=drift,
            drift_angle=angle,
            correction=moved[-1],
            fused=fused,
        )

    def _first_appearances(
        self, world: LandmarkMap, slots: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One descriptor of each landmark and a mask, padded to the vote's capacity."""
        size = self.config.max_candidate_landmarks
        keys = np.zeros((size, world.descriptors.shape[2]), np.float32)
        keys[: len(slots)] = world.descriptors[0, slots]
        return keys, np.arange(size) < len(slots)

    def _align(self, block: LandmarkBlock, features: Features, number: int):
        return align(
            block,
            features,
            self.camera,
            self.noise,
            self.config.min_cosine,
            self._key,
            np.int32(number),
        )

    def _examine(self, block: LandmarkBlock, features: Features, pose: np.ndarray) -> Examination:
        seen = examine(
            block,
            features,
            np.asarray(pose, np.float32),
            self.camera,
            self._gates,
            self._radii,
            self.noise,
            self._near_radius,
        )
        return jax.tree.map(np.asarray, seen)


def support(seen: Examination) -> float:
    """Share of the expected landmarks that were found."""
    return float(seen.found.sum()) / max(float(seen.expected.sum()), 1.0)


def holes(seen: Examination, least: int = 8, share: float = 0.25) -> float:
    """Share of the cells with `least` expected landmarks whose support is below `share` of all's.

    Chance thins matches out everywhere; another object empties a region.
    """
    counted = seen.expected >= least
    empty = seen.found < share * support(seen) * seen.expected
    return float(np.sum(counted & empty)) / max(float(np.sum(counted)), 1.0)


def build_graph(
    poses: np.ndarray, table: np.ndarray, places: list[_Place], config: LoopConfig
) -> PoseGraph:
    """Pose graph of a map: what neighbours measure of each other, and the new loop.

    Args:
        poses: (K, 4, 4) camera_from_world.
        table: (K, N) landmark of each keyframe's features, -1 where there is none.
        places: keyframes found in the old map.
        config: how many edges, and how good they are.
    """
    count = len(poses)
    rows, features = np.nonzero(table >= 0)
    sees = scipy.sparse.csr_array(
        (np.ones(len(rows), np.int32), (rows, table[rows, features])),
        shape=(count, int(table.max(initial=0)) + 1),
    )
    shared = (sees @ sees.T).tocoo()
    later = (shared.row > shared.col) & (shared.data >= config.min_covisible)
    first, second, weight = shared.col[later], shared.row[later], shared.data[later]
    is_old = second - first >= config.min_gap
    # Rank each edge among those of its later keyframe, recent and old ones apart.
    order = np.lexsort((first, -weight, is_old, second))
    start = np.r_[True, (np.diff(second[order]) != 0) | (np.diff(is_old[order]) != 0)]
    index = np.arange(len(order))
    rank = index - np.maximum.accumulate(np.where(start[: len(order)], index, 0))
    kept = order[rank < np.where(is_old[order], config.max_loop_edges, config.max_edges)]
    first, second, weight = first[kept], second[kept], weight[kept].astype(float)
    # The chain keeps a keyframe that shares nothing (after the camera was lost) in the graph.
    chained = np.isin(np.arange(1, count), second[second - first == 1])
    loose = np.flatnonzero(~chained) + 1
    first = np.r_[first, loose - 1, [p.old for p in places]]
    second = np.r_[second, loose, [p.number for p in places]]
    weight = np.r_[weight, np.ones(len(loose)), [p.inliers for p in places]]
    measured = poses[second] @ inverse(poses)[first]
    if places:
        olds = poses[[p.old for p in places]]
        measured[-len(places) :] = np.stack([p.camera_from_world for p in places]) @ inverse(olds)
    precision = 1.0 / np.repeat(np.square(config.edge_sigma), 3)
    scale = weight / config.edge_landmarks
    return PoseGraph(
        camera_from_world=poses,
        first=first,
        second=second,
        second_from_first=measured,
        information=scale[:, None, None] * np.diag(precision),
        is_loop=np.arange(len(first)) >= len(first) - len(places),
        fixed=np.arange(count) == 0,
    )


def move_map(world: LandmarkMap, new_from_old: np.ndarray) -> None:
    """Moves keyframes and the landmarks that they made.

    Args:
        world: the map; may have grown meanwhile, what is newer moves with the last motion.
        new_from_old: (K, 4, 4) motion of the world around each of the first K keyframes.
    """
    last = len(new_from_old) - 1
    back = inverse(new_from_old)
    for number, keyframe in enumerate(world.keyframes):
        keyframe.camera_from_world = keyframe.camera_from_world @ back[min(number, last)]
    slots = np.flatnonzero(world.valid)
    moved = new_from_old[np.minimum(world.created_at[slots], last)]
    world.points[slots] = _apply(moved, world.points[slots])
    world.view_directions[slots] = _turn(moved, world.view_directions[slots])


def _fuse(world: LandmarkMap, number: int, features: np.ndarray, slots: np.ndarray) -> int:
    """Gives features of a keyframe the old landmarks they show; returns how many were fused."""
    keyframe = world.keyframes[number]
    new = ~np.isin(slots, keyframe.landmarks) & world.valid[slots]
    fused = 0
    for feature, slot in zip(features[new], slots[new], strict=True):
        own = int(keyframe.landmarks[feature])
        if own < 0:
            world.observe(number, np.array([feature]), np.array([slot]))
        else:
            world.fuse(int(slot), own)
            fused += 1
    return fused


def _most_observed(world: LandmarkMap, slots: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of some slots, those with most observers, in their order."""
    if len(slots) <= count:
        return slots
    return np.sort(slots[np.argsort(-world.observations[slots], kind="stable")[:count]])


def _features_of(world: LandmarkMap, number: int) -> Features:
    keyframe = world.keyframes[number]
    return Features(
        uv=keyframe.uv,
        descriptors=keyframe.descriptors,
        scores=keyframe.mask.astype(np.float32),
        mask=keyframe.mask,
        depth=keyframe.depth,
    )


def _difference(pose: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Distance of two cameras' centres, metres, and angle between them, radians."""
    distance = np.linalg.norm(inverse(pose)[:3, 3] - inverse(other)[:3, 3])
    cosine = (np.trace(pose[:3, :3] @ other[:3, :3].T) - 1) / 2
    return float(distance), float(np.arccos(np.clip(cosine, -1, 1)))


def _rigid(pose: np.ndarray) -> np.ndarray:
    """(4, 4) float64 with a rotation that is one to double precision."""
    result = np.eye(4)
    result[:3, :3] = Rotation.from_matrix(np.asarray(pose[:3, :3], np.float64)).as_matrix()
    result[:3, 3] = pose[:3, 3]
    return result


def _apply(motions: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(M, 3) float32 points, each moved by its own (M, 4, 4) motion."""
    return (_turn(motions, points) + motions[:, :3, 3]).astype(np.float32)


def _turn(motions: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return np.einsum("mij,mj->mi", motions[:, :3, :3], directions).astype(np.float32)
