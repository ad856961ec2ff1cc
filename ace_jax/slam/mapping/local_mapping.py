"""Local mapping of a new keyframe: landmarks, fusion, registration, bundle adjustment, culling.

The steps after the insertion of the keyframe are a mapping task, see `mapping_queue`.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.bundle_adjustment import BundleProblem, bundle_adjust
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_calibration import calibration_equations, correct_planes
from ace_jax.geometry.depth_planes import fit_planes
from ace_jax.geometry.host_camera import unproject_to_world
from ace_jax.geometry.plane_registration import register
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import difference, invert, nearest_view, orthonormalized
from ace_jax.localization.landmarks import MatchGates
from ace_jax.programs import program
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.mapping.fusing import match_into
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframe
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.mapping_queue import Job, MappingTask, together
from ace_jax.slam.mapping.sensor_changes import calibrate_depth

_bundle_adjust = program(bundle_adjust, static_argnames=("robust_iterations", "plain_iterations"))


class LocalMapper:
    """Keeps the map near the newest keyframe complete and consistent."""

    def __init__(self, camera: Camera, config: SlamConfig, gates: MatchGates, noise: NoiseModel):
        self.camera = camera
        self.config = config
        self.gates = gates
        self.noise = noise

    def warm_up(self, landmark_map: LandmarkMap, features: Features) -> list[Job]:
        """Calls that compile the mapping programs, with blank features."""

        def fuse(count: int) -> None:
            block = landmark_map.block(np.full(1, -1), 1)
            stacked = jax.tree.map(lambda x: np.stack([x] * count), features)
            poses = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
            match_into(block, stacked, poses, self.camera, self.gates, self.noise)

        config = self.config
        planes = fit_planes(np.zeros((self.camera.height, self.camera.width)), self.camera)
        count = config.registered_neighbours
        poses = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
        pairs = planes, np.stack([planes] * count), poses, self.camera
        calibration = landmark_map.depth_calibration
        size, points = config.window_free + config.window_fixed, config.max_window_landmarks
        nothing = np.zeros(0, int)
        problem = BundleProblem(
            camera_from_world=np.tile(np.eye(4, dtype=np.float32), (size, 1, 1)),
            free=np.zeros(config.window_free, bool),
            points=np.zeros((points, 3), np.float32),
            uv=np.zeros((size, points, 2), np.float32),
            depth=np.zeros((size, points), np.float32),
            observed=np.zeros((size, points), bool),
            relative=landmark_map.edges.within(nothing, nothing, 0, config.max_window_edges),
        )
        return [
            lambda: _bundle_adjust(problem, self.camera, self.noise),
            lambda: register(*pairs),
            lambda: calibration_equations(*pairs, calibration=calibration),
            *(functools.partial(fuse, count) for count in (config.fuse_neighbours, 1)),
        ]

    def insert(
        self,
        landmark_map: LandmarkMap,
        keyframe: Keyframe,
        landmarks: np.ndarray,
        rgb: np.ndarray,
    ) -> int:
        """Adds a keyframe that shows `landmarks` (N,), and those that it is the first to show.

        Returns:
            Its number.
        """
        number = landmark_map.add_keyframe(keyframe, landmarks)
        self._create_landmarks(landmark_map, number, rgb)
        return number

    def refine(self, landmark_map: LandmarkMap, numbers: Sequence[int]) -> MappingTask:
        """Makes the map around new keyframes consistent: fusing, bundle adjustment, culling.

        Two jobs, however many keyframes there are: the newest `max_fused` are fused, all are
        adjusted together, as far as the window holds them.

        Args:
            landmark_map: the map; it may grow between the steps.
            numbers: the keyframes, oldest first.
        """
        neighbours = {
            n: self._neighbours(landmark_map, n, self.config.fuse_neighbours) for n in numbers
        }
        tied = [n for n in numbers if len(neighbours[n])]
        if tied:
            yield from together(
                [
                    self._calibrate_depth(landmark_map),
                    *(
                        self._fuse(landmark_map, n, neighbours[n])
                        for n in tied[-self.config.max_fused :]
                    ),
                ]
            )
            yield from self.adjust(landmark_map, tied)
        landmark_map.cull(numbers[-1], self.config.cull_patience)

    def tie(self, landmark_map: LandmarkMap, number: int, others: Sequence[int]) -> MappingTask:
        """Fuses a keyframe with others that show the same, though they share no landmarks yet.

        Args:
            landmark_map: the map.
            number: of the keyframe.
            others: where to look: keyframes of the part of the map that it was found in.
        """
        chosen = np.array([n for n in others if n in landmark_map.keyframes])
        if number not in landmark_map.keyframes or not len(chosen):
            return
        pose = landmark_map.keyframes[number].camera_from_world
        poses = np.stack([landmark_map.keyframes[n].camera_from_world for n in chosen])
        nearest = chosen[nearest_view(poses, pose)]
        shared = landmark_map.covisibility(landmark_map.landmarks_of(nearest))[chosen]
        shared[chosen == nearest] = np.iinfo(shared.dtype).max
        order = np.argsort(-shared, kind="stable")[: self.config.fuse_neighbours]
        yield from self._fuse(landmark_map, number, chosen[order[shared[order] > 0]])
        yield from self.adjust(landmark_map, [number])

    def settle(self, landmark_map: LandmarkMap) -> MappingTask:
        """Adjusts every keyframe once more if the sensor is known better now than at its time."""
        same_depth = np.array_equal(
            landmark_map.depth_calibration, landmark_map.settled_calibration
        )
        if not same_depth or landmark_map.readout != landmark_map.settled_readout:
            for number in list(landmark_map.keyframes):
                yield from self.adjust(landmark_map, [number])
            landmark_map.settled_calibration = landmark_map.depth_calibration
            landmark_map.settled_readout = landmark_map.readout

    def _create_landmarks(self, landmark_map: LandmarkMap, number: int, rgb: np.ndarray) -> None:
        keyframe = landmark_map.keyframes[number]
        near, far = self.config.insert_depth
        depth = np.where(keyframe.mask & (keyframe.depth > near), keyframe.depth, np.inf)
        # A view down a hall shows little else than far points, and they are better than none: the
        # nearest ones make up the number (as in ORB-SLAM2, Mur-Artal and Tardos 2017, III-D).
        nearest = np.sort(depth)[: self.config.min_near_landmarks]
        far = max(far, float(nearest[np.isfinite(nearest)].max(initial=0.0)))
        new = np.flatnonzero((landmark_map.landmarks_of(number) < 0) & (depth <= far))
        uv, depth = keyframe.uv[new], keyframe.depth[new]
        points = unproject_to_world(uv, depth, self.camera, keyframe.camera_from_world)
        u = np.clip(np.rint(uv[:, 0]).astype(int), 0, rgb.shape[1] - 1)
        v = np.clip(np.rint(uv[:, 1]).astype(int), 0, rgb.shape[0] - 1)
        landmark_map.create(number, new, points.astype(np.float32), rgb[v, u])

    def _neighbours(self, landmark_map: LandmarkMap, number: int, count: int) -> np.ndarray:
        """Keyframes that share at least `min_covisible` landmarks, best first."""
        shared = landmark_map.covisibility(landmark_map.landmarks_of(number))
        shared[number] = 0
        order = np.argsort(-shared, kind="stable")[:count]
        return order[shared[order] >= self.config.min_covisible]

    def _features_of(self, landmark_map: LandmarkMap, numbers: np.ndarray, size: int):
        """Features and poses of keyframes, padded to `size` by masked copies of the first."""
        chosen = [landmark_map.keyframes[n] for n in numbers]
        padded = chosen + [chosen[0]] * (size - len(chosen))
        mask = np.stack([k.mask for k in padded])
        mask[len(chosen) :] = False
        features = Features(
            uv=np.stack([k.uv for k in padded]),
            descriptors=np.stack([k.descriptors for k in padded]),
            scores=mask.astype(np.float32),
            mask=mask,
            depth=np.stack([k.depth for k in padded]),
        )
        poses = np.stack([k.camera_from_world for k in padded]).astype(np.float32)
        return features, poses

    def _fuse(self, landmark_map: LandmarkMap, number: int, neighbours: np.ndarray) -> MappingTask:
        """Landmarks of the keyframe matched into its neighbours, and theirs into the keyframe.

        At the same time its depth image is registered to theirs.
        """
        keyframe = landmark_map.keyframes[number]
        own = landmark_map.landmarks_of(number).copy()
        theirs = landmark_map.slots_seen_by(neighbours)
        theirs = theirs[~np.isin(theirs, own)]
        theirs = theirs[
            landmark_map.in_view(
                theirs, keyframe.camera_from_world, self.camera, self.config.view_margin
            )
        ]
        theirs = theirs[: self.config.max_fuse_landmarks]
        serials = landmark_map.serial[own], landmark_map.serial[theirs]
        # The keyframe's landmarks look as they do in the keyframe: its neighbours' views are close.
        block = landmark_map.block(own, len(own)).replace(
            descriptors=keyframe.descriptors[:, None].copy()
        )
        into_neighbours = functools.partial(
            match_into,
            block,
            *self._features_of(landmark_map, neighbours, self.config.fuse_neighbours),
            self.camera,
            self.gates,
            self.noise,
        )
        into_keyframe = functools.partial(
            match_into,
            landmark_map.block(theirs, max(len(theirs), 1)),
            *self._features_of(landmark_map, np.array([number]), 1),
            self.camera,
            self.gates,
            self.noise,
        )
        near = self._with_planes(landmark_map, neighbours)
        registration = self._of_pairs(landmark_map, register, number, near)
        matches, back, found = yield lambda: (
            np.asarray(into_neighbours()),
            np.asarray(into_keyframe()),
            jax.tree.map(np.asarray, registration()),
        )
        if found is not None:
            landmark_map.edges.add(number, near, found)
        own = np.where(landmark_map.serial[own] == serials[0], own, NO_LANDMARK)
        theirs = np.where(landmark_map.serial[theirs] == serials[1], theirs, NO_LANDMARK)
        for row, neighbour in enumerate(neighbours):
            features = np.flatnonzero(matches[row] >= 0)
            landmark_map.show(int(neighbour), features, own[matches[row][features]])
        features = np.flatnonzero(back[0] >= 0)
        landmark_map.show(number, features, theirs[back[0][features]])

    def _calibrate_depth(self, landmark_map: LandmarkMap) -> MappingTask:
        """Calibration of the depth camera from the keyframes that were registered last.

        They were adjusted since then, so their poses are better now.
        """
        pairs = list(landmark_map.edges.unlearned)
        jobs = [
            self._of_pairs(
                landmark_map,
                calibration_equations,
                *pair,
                calibration=landmark_map.depth_calibration,
            )
            for pair in pairs
        ]
        try:
            found = yield lambda: [jax.tree.map(np.asarray, job()) for job in jobs]
        finally:
            del landmark_map.edges.unlearned[: len(pairs)]
        for equations in found:
            if equations is not None:
                landmark_map.calibrator.add(equations)
                calibrate_depth(landmark_map, landmark_map.calibrator.calibration, self.camera)

    def _with_planes(self, landmark_map: LandmarkMap, numbers: np.ndarray) -> list[int]:
        """Those of some keyframes, best first, that a depth image is registered to."""
        known = [n for n in numbers.tolist() if landmark_map.keyframes[n].planes is not None]
        return known[: self.config.registered_neighbours]

    def _of_pairs(
        self, landmark_map: LandmarkMap, compute: Callable, number: int, others: list[int], **more
    ) -> Callable:
        """A computation on the surfaces and relative poses of a keyframe and others.

        Where one of them has no surfaces, or is gone, it returns None.
        """
        chosen = [landmark_map.keyframes.get(n) for n in (number, *others)]
        if not others or any(k is None or k.planes is None for k in chosen):
            return lambda: None
        chosen += chosen[1:2] * (self.config.registered_neighbours - len(others))
        planes, calibration = np.stack([k.planes for k in chosen]), landmark_map.depth_calibration
        poses = np.stack([k.camera_from_world for k in chosen])
        relative = (poses[1:] @ invert(poses[0])).astype(np.float32)

        def job():
            corrected = correct_planes(planes, self.camera, calibration)
            return compute(corrected[0], corrected[1:], relative, self.camera, **more)

        return job

    def adjust(self, landmark_map: LandmarkMap, numbers: Sequence[int]) -> MappingTask:
        """Bundle adjustment of keyframes and of those that see most of the same landmarks.

        Where the window cannot hold all of `numbers`, the last ones are adjusted.
        """
        config = self.config
        free = np.array(numbers[::-1][: config.window_free], np.int64)
        others = self._neighbours(landmark_map, numbers[-1], config.window_free + len(free))
        others = others[~np.isin(others, free)]
        free = np.concatenate([free, others[: config.window_free - len(free)]])
        slots = landmark_map.slots_seen_by(free)
        slots = slots[landmark_map.observations[slots] >= 2]
        slots = landmark_map.most_observed(slots, config.max_window_landmarks)
        shared = landmark_map.covisibility(slots)
        shared[free] = 0
        fixed = np.argsort(-shared, kind="stable")[: config.window_fixed]
        fixed = fixed[shared[fixed] > 0]
        window = np.concatenate([free, fixed])

        num_free, size = config.window_free, config.window_free + config.window_fixed
        place = np.concatenate([np.arange(len(free)), num_free + np.arange(len(fixed))])
        num_points = config.max_window_landmarks
        local = np.full(landmark_map.capacity + 1, -1, np.int64)
        local[slots] = np.arange(len(slots))
        uv = np.zeros((size, num_points, 2), np.float32)
        depth = np.zeros((size, num_points), np.float32)
        feature_of = np.full((size, num_points), -1, np.int32)
        poses = np.tile(np.eye(4, dtype=np.float32), (size, 1, 1))
        for row, keyframe_number in zip(place, window, strict=True):
            keyframe = landmark_map.keyframes[keyframe_number]
            column = local[landmark_map.landmarks_of(keyframe_number)]
            features = np.flatnonzero(column >= 0)
            column = column[features]
            uv[row, column] = keyframe.uv[features]
            depth[row, column] = keyframe.depth[features]
            feature_of[row, column] = features
            poses[row] = keyframe.camera_from_world
        observed = feature_of >= 0
        may_move = np.zeros(num_free, bool)
        may_move[: len(free)] = (free != 0) & (
            observed[: len(free)].sum(1) >= config.min_bundle_observations
        )
        points = np.zeros((num_points, 3), np.float32)
        points[: len(slots)] = landmark_map.points[slots]
        serials = landmark_map.serial[slots]
        problem = BundleProblem(
            camera_from_world=poses,
            free=may_move,
            points=points,
            uv=uv,
            depth=np.where(depth < config.max_depth, depth, 0.0),
            observed=observed,
            relative=landmark_map.edges.within(window, place, num_free, config.max_window_edges),
        )
        adjust = functools.partial(_bundle_adjust, problem, self.camera, self.noise)
        result = yield lambda: jax.tree.map(np.asarray, adjust())
        if not result.success:
            return
        adjusted = result.camera_from_world.astype(np.float64)
        moved = np.flatnonzero(may_move)
        if any(
            self._moved_too_far(landmark_map.keyframes[free[row]].camera_from_world, adjusted[row])
            for row in moved
        ):
            return
        for row in moved:
            landmark_map.keyframes[free[row]].camera_from_world = orthonormalized(adjusted[row])
        alive = landmark_map.valid[slots] & (landmark_map.serial[slots] == serials)
        landmark_map.points[slots[alive]] = result.points[: len(slots)][alive]
        outliers = observed & ~result.inliers
        slot_of = np.append(slots, np.full(num_points - len(slots), NO_LANDMARK))
        for row, keyframe_number in zip(place, window, strict=True):
            column = np.flatnonzero(outliers[row])
            features = feature_of[row, column]
            # Fusing may have given the feature another landmark meanwhile.
            same = landmark_map.landmarks_of(keyframe_number)[features] == slot_of[column]
            landmark_map.forget(int(keyframe_number), features[same])

    def _moved_too_far(self, before: np.ndarray, after: np.ndarray) -> bool:
        distance, angle = difference(after, before)
        most, most_angle = self.config.max_bundle_move
        return distance > most or angle > most_angle
