"""Guided matching: planted pairs are found, and each gate keeps out what it should."""

import dataclasses

import jax
import numpy as np
import pytest
from data_scene import rotation

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.localization.guided_matching import LandmarkBlock, MatchGates, guided_match

CAMERA = Camera(300.0, 310.0, 159.5, 119.5, 320, 240)
GATES = MatchGates(
    radius=8.0, min_cosine=0.75, match_ratio=0.9, cos_max_view_angle=0.5, max_scale_change=2.0
)
LANDMARKS, FEATURES, DIM = 60, 90, 32


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@dataclasses.dataclass
class Scene:
    """Landmark i is seen as feature `feature[i]`; the other features show nothing."""

    block: LandmarkBlock
    features: Features
    camera_from_world: np.ndarray
    feature: np.ndarray

    def match(self, **gates) -> np.ndarray:
        """Landmark of each feature."""
        gates = GATES.replace(**gates)
        return guided_match(self.block, self.features, self.camera_from_world, CAMERA, gates)

    def expected(self) -> np.ndarray:
        landmark = np.full(FEATURES, -1)
        landmark[self.feature] = np.arange(LANDMARKS)
        return landmark


def make_scene(seed: int = 0, noise_px: float = 1.0, appearances: int = 2) -> Scene:
    rng = np.random.default_rng(seed)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = rotation(rng.normal(size=3) * 0.4)
    pose[:3, 3] = rng.normal(size=3)
    # A grid in the image, further apart than the search radius.
    u, v = np.meshgrid(np.linspace(20, 300, 15), np.linspace(20, 220, 6))
    uv = np.stack([u.ravel(), v.ravel()], 1)
    places = rng.permutation(FEATURES)
    seen = places[:LANDMARKS]
    depth = rng.uniform(1.0, 4.0, LANDMARKS)
    in_camera = np.stack(
        [
            (uv[seen, 0] - CAMERA.cx) / CAMERA.fx * depth,
            (uv[seen, 1] - CAMERA.cy) / CAMERA.fy * depth,
            depth,
        ],
        1,
    )
    points = (in_camera - pose[:3, 3]) @ pose[:3, :3]
    centre = -pose[:3, :3].T @ pose[:3, 3]
    to_camera = centre - points
    descriptors = _unit(rng.normal(size=(FEATURES, DIM)))
    stored = _unit(rng.normal(size=(appearances, LANDMARKS, DIM)))
    right = rng.integers(appearances, size=LANDMARKS)  # one of the appearances is the one seen
    stored[right, np.arange(LANDMARKS)] = _unit(
        descriptors[seen] + 0.04 * rng.normal(size=(LANDMARKS, DIM))
    )
    return Scene(
        block=LandmarkBlock(
            points=points.astype(np.float32),
            descriptors=stored.astype(np.float32),
            view_directions=_unit(to_camera).astype(np.float32),
            distances=np.linalg.norm(to_camera, axis=1).astype(np.float32),
            mask=np.ones(LANDMARKS, bool),
        ),
        features=Features(
            uv=(uv + noise_px * rng.uniform(-1, 1, uv.shape)).astype(np.float32),
            descriptors=descriptors.astype(np.float32),
            scores=np.ones(FEATURES, np.float32),
            mask=np.ones(FEATURES, bool),
            depth=np.zeros(FEATURES, np.float32),
        ),
        camera_from_world=pose,
        feature=seen,
    )


@pytest.mark.parametrize("seed", range(5))
def test_planted_pairs_are_found_and_nothing_else(seed):
    scene = make_scene(seed)
    np.testing.assert_array_equal(scene.match(), scene.expected())


def test_masked_landmarks_and_features_take_no_part_even_if_nan():
    scene = make_scene()
    gone, unused = np.arange(0, LANDMARKS, 3), scene.feature[1::4]
    block = jax.tree.map(np.copy, scene.block)
    block.mask[gone] = False
    block.points[gone] = np.nan
    block.descriptors[:, gone] = np.nan
    block.view_directions[gone] = np.nan
    block.distances[gone] = np.nan
    features = jax.tree.map(np.copy, scene.features)
    features.mask[unused] = False
    features.uv[unused] = np.nan
    features.descriptors[unused] = np.nan
    expected = scene.expected()
    expected[np.isin(expected, gone)] = -1
    expected[unused] = -1
    found = dataclasses.replace(scene, block=block, features=features).match()
    np.testing.assert_array_equal(found, expected)
    assert (found >= 0).any()


@pytest.mark.parametrize("seed", range(5))
def test_one_to_one_where_everything_looks_alike(seed):
    scene = make_scene(seed)
    rng = np.random.default_rng(seed)
    alike = _unit(1.0 + 0.05 * rng.normal(size=(FEATURES, DIM))).astype(np.float32)
    scene.features = scene.features.replace(descriptors=alike)
    scene.block = scene.block.replace(
        descriptors=np.broadcast_to(alike[:LANDMARKS], (2, LANDMARKS, DIM)).copy()
    )
    matched = scene.match(radius=100.0, match_ratio=2.0)
    matched = matched[matched >= 0]
    assert len(matched) > 5
    assert len(np.unique(matched)) == len(matched)


def test_twin_landmarks_share_no_feature():
    scene = make_scene()
    block = jax.tree.map(np.copy, scene.block)
    for leaf in (block.points, block.view_directions, block.distances):
        leaf[1] = leaf[0]
    block.descriptors[:, 1] = block.descriptors[:, 0]
    scene.block = block
    found = scene.match()
    assert np.isin(found, [0, 1]).sum() == 1
    assert found[scene.feature[0]] in (0, 1)


def test_search_radius():
    scene = make_scene(noise_px=0.0)
    scene.features = scene.features.replace(uv=scene.features.uv + np.array([6.0, 0.0], np.float32))
    assert (scene.match(radius=5.5) == -1).all()
    np.testing.assert_array_equal(scene.match(radius=6.5), scene.expected())


def test_least_similarity_and_ambiguity():
    scene = make_scene()
    assert (scene.match(min_cosine=0.9999) == -1).all()
    # A second feature that looks almost the same, next to the right one: not to be told apart.
    twin = np.setdiff1d(np.arange(FEATURES), scene.feature)[0]
    right = scene.feature[7]
    features = jax.tree.map(np.copy, scene.features)
    features.uv[twin] = features.uv[right] + 2.0
    features.descriptors[twin] = _unit(features.descriptors[right] + 1e-3)
    scene.features = features
    assert 7 not in scene.match()
    assert 7 in scene.match(match_ratio=10.0)


def _moved(scene: Scene, landmark: int, in_camera: np.ndarray) -> Scene:
    """The scene with one landmark elsewhere, and its feature where that projects to."""
    pose, block = scene.camera_from_world, jax.tree.map(np.copy, scene.block)
    features = jax.tree.map(np.copy, scene.features)
    block.points[landmark] = (in_camera - pose[:3, 3]) @ pose[:3, :3]
    to_camera = -pose[:3, :3].T @ pose[:3, 3] - block.points[landmark]
    block.distances[landmark] = np.linalg.norm(to_camera)
    block.view_directions[landmark] = _unit(to_camera)
    x, y, z = in_camera
    features.uv[scene.feature[landmark]] = [
        CAMERA.fx * x / z + CAMERA.cx,
        CAMERA.fy * y / z + CAMERA.cy,
    ]
    return dataclasses.replace(scene, block=block, features=features)


@pytest.mark.parametrize(
    ("in_camera", "seen"),
    [
        ([0.03, 0.04, 2.0], True),
        ([0.03, 0.04, -2.0], False),  # behind: the same pixel
        ([0.003, 0.004, 0.05], False),  # in the lens
        ([-1.10, 0.0, 2.0], False),  # left of the image, by 6 pixels
        ([1.10, 0.0, 2.0], False),
        ([0.0, -0.80, 2.0], False),
        ([0.0, 0.80, 2.0], False),
    ],
)
def test_only_what_lies_before_the_camera_and_in_the_image(in_camera, seen):
    scene = _moved(make_scene(), 3, np.array(in_camera))
    assert (3 in scene.match()) == seen


@pytest.mark.parametrize(("angle_deg", "seen"), [(0, True), (55, True), (65, False), (180, False)])
def test_viewing_angle(angle_deg, seen):
    scene = make_scene()
    block = jax.tree.map(np.copy, scene.block)
    mean = block.view_directions[3]
    axis = _unit(np.cross(mean, [0.3, 0.2, 0.9]))
    block.view_directions[3] = rotation(axis * np.deg2rad(angle_deg)) @ mean
    scene.block = block
    assert (3 in scene.match()) == seen


@pytest.mark.parametrize(
    ("ratio", "seen"), [(1.0, True), (1.9, True), (2.1, False), (0.55, True), (0.45, False)]
)
def test_change_of_scale(ratio, seen):
    scene = make_scene()
    block = jax.tree.map(np.copy, scene.block)
    block.distances[3] /= ratio
    scene.block = block
    assert (3 in scene.match()) == seen


def test_a_pose_that_is_not_a_number_matches_nothing():
    scene = make_scene()
    scene.camera_from_world = np.full((4, 4), np.nan, np.float32)
    assert (scene.match() == -1).all()
