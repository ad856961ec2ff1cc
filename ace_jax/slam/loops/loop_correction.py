"""Correction of the map by a verified loop: pose graph, then keyframes and their landmarks."""

import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.pose_graph import PoseGraph, optimize_pose_graph
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import difference, invert
from ace_jax.localization.landmarks import Landmarks
from ace_jax.slam.config import LoopConfig
from ace_jax.slam.loops.verification import Examination
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.mapping_queue import Job


@dataclasses.dataclass(frozen=True)
class Place:
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
        fused: landmarks that turned out to be one.
    """

    keyframe: int
    old_keyframe: int
    confirmed_by: tuple[int, ...]
    inliers: int
    drift: float
    drift_angle: float
    fused: int


def correct(
    landmark_map: LandmarkMap,
    number: int,
    places: list[Place],
    config: LoopConfig,
    examine: Callable[[Landmarks, Features, np.ndarray, NoiseModel], Examination],
    noise: NoiseModel,
) -> Generator[Job, Any, LoopClosure | None]:
    """Corrects a map by a verified loop: pose graph, landmarks, duplicates.

    Args:
        landmark_map: the map; changed in the last step alone.
        number: the newest keyframe.
        places: keyframes found in the old map, which agree.
        config: constants.
        examine: matches landmarks into features at a pose.
        noise: standard deviations.

    Yields:
        A computation, whose result it takes.

    Returns:
        What was done; None if the graph contradicts the loop.
    """
    numbers = np.array(list(landmark_map.keyframes))
    before = np.stack([k.camera_from_world for k in landmark_map.keyframes.values()])
    table = landmark_map.landmarks_of(numbers)
    anchors = landmark_map.keyframes.anchors()
    places = [dataclasses.replace(p, old=int(anchors[p.old])) for p in places]
    slots = landmark_map.slots_seen_by(np.unique(np.concatenate([p.group for p in places])))
    shared = landmark_map.covisibility(landmark_map.landmarks_of(number))
    shared[: number + 1 - config.min_gap] = 0
    shared[number] = np.iinfo(shared.dtype).max
    recent = np.argsort(-shared, kind="stable")[: config.fuse_keyframes]
    recent = recent[shared[recent] >= config.min_covisible]
    slots = slots[~np.isin(slots, landmark_map.slots_seen_by(recent))]
    slots = landmark_map.most_observed(slots, config.max_group_landmarks)
    serials = landmark_map.serial[slots]
    made_at = places_of(landmark_map, numbers, landmark_map.created_at[slots])
    block = landmark_map.block(slots, config.max_group_landmarks)
    features = [landmark_map.keyframes[n].features for n in recent]
    recent_places = np.searchsorted(numbers, recent)
    here = int(np.searchsorted(numbers, number))

    def job():
        graph = build_graph(numbers, before, table, places, config)
        result = optimize_pose_graph(graph)
        if not result.success or not np.all(result.weights[graph.is_loop]):
            return None
        after = result.camera_from_world
        there = moved_block(block, (invert(after) @ before)[made_at])
        matches = [
            examine(there, f, after[n], noise).matches
            for n, f in zip(recent_places, features, strict=True)
        ]
        return after, matches

    result = yield job
    if result is None:
        return None
    after, matches = result
    moved = invert(after) @ before
    drift, angle = difference(after[here], before[here])
    move_map(landmark_map, numbers, moved)
    alive = landmark_map.serial[slots] == serials
    fused = 0
    for row, match in zip(recent, matches, strict=True):
        features_matched = np.flatnonzero(match >= 0)
        features_matched = features_matched[alive[match[features_matched]]]
        given = slots[match[features_matched]]
        fused += landmark_map.show(int(row), features_matched, given, keep_given=True)
    return LoopClosure(
        keyframe=number,
        old_keyframe=places[0].old,
        confirmed_by=tuple(sorted(p.number for p in places)),
        inliers=sum(p.inliers for p in places),
        drift=drift,
        drift_angle=angle,
        fused=fused,
    )


def build_graph(
    numbers: np.ndarray,
    poses: np.ndarray,
    table: np.ndarray,
    places: list[Place],
    config: LoopConfig,
) -> PoseGraph:
    """Pose graph of a map: what neighbours measure of each other, and the new loop.

    Args:
        numbers: (K,) of the keyframes, ascending.
        poses: (K, 4, 4) camera_from_world.
        table: (K, N) landmark of each keyframe's features, -1 where there is none.
        places: keyframes found in the old map; their `old` ones are among the K.
        config: how many edges, and how good they are.
    """
    import scipy.sparse  # here, and in `pose_graph`: most runs close no loop

    count = len(poses)
    rows, features = np.nonzero(table >= 0)
    sees = scipy.sparse.csr_array(
        (np.ones(len(rows), np.int32), (rows, table[rows, features])),
        shape=(count, int(table.max(initial=0)) + 1),
    )
    shared = (sees @ sees.T).tocoo()
    later = (shared.row > shared.col) & (shared.data >= config.min_covisible)
    first, second, weight = shared.col[later], shared.row[later], shared.data[later]
    is_old = numbers[second] - numbers[first] >= config.min_gap
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
    olds = np.searchsorted(numbers, [p.old for p in places])
    found = np.searchsorted(numbers, [p.number for p in places])
    first = np.r_[first, loose - 1, olds].astype(np.int64)
    second = np.r_[second, loose, found].astype(np.int64)
    weight = np.r_[weight, np.ones(len(loose)), [p.inliers for p in places]]
    measured = poses[second] @ invert(poses)[first]
    if places:
        found_poses = np.stack([p.camera_from_world for p in places])
        measured[-len(places) :] = found_poses @ invert(poses[olds])
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


def move_map(landmark_map: LandmarkMap, numbers: np.ndarray, new_from_old: np.ndarray) -> None:
    """Moves keyframes and the landmarks that they made.

    Args:
        landmark_map: the map; may have grown meanwhile, what is newer moves with the last motion.
        numbers: (K,) ascending: all the keyframes it had.
        new_from_old: (K, 4, 4) motion of the world around each of them.
    """
    back = invert(new_from_old)
    place = places_of(landmark_map, numbers, np.arange(landmark_map.keyframes.next_number))
    for number, keyframe in landmark_map.keyframes.items():
        keyframe.camera_from_world = keyframe.camera_from_world @ back[place[number]]
    slots = np.flatnonzero(landmark_map.valid)
    moved = new_from_old[place[landmark_map.created_at[slots]]]
    landmark_map.points[slots] = _apply(moved, landmark_map.points[slots])
    landmark_map.view_directions[slots] = _turn(moved, landmark_map.view_directions[slots])


def places_of(landmark_map: LandmarkMap, numbers: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Positions in `numbers` of the anchors of keyframes `of`; the last position if they are newer.

    Args:
        landmark_map: the map.
        numbers: (K,) ascending: the keyframes it has, or had before the newest ones came.
        of: (M,) numbers of keyframes and former ones.
    """
    anchors = landmark_map.keyframes.anchors()
    return np.minimum(np.searchsorted(numbers, anchors[of]), len(numbers) - 1)


def moved_block(block: Landmarks, new_from_old: np.ndarray) -> Landmarks:
    """A block whose first M landmarks are moved, each by its own (M, 4, 4) motion."""
    count = len(new_from_old)
    points, directions = block.points.copy(), block.view_directions.copy()
    points[:count] = _apply(new_from_old, points[:count])
    directions[:count] = _turn(new_from_old, directions[:count])
    return block.replace(points=points, view_directions=directions)


def _apply(motions: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(M, 3) float32 points, each moved by its own (M, 4, 4) motion."""
    return (_turn(motions, points) + motions[:, :3, 3]).astype(np.float32)


def _turn(motions: np.ndarray, directions: np.ndarray) -> np.ndarray:
    return np.einsum("mij,mj->mi", motions[:, :3, :3], directions).astype(np.float32)
