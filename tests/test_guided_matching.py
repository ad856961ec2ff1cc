"""Guided matching, on the host and on the device: planted pairs are found, and each gate keeps out
what it should.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_scene import rotation

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project, unproject_to_world
from ace_jax.geometry.rigid import centre
from ace_jax.localization.guided_matching import (
    guided_match,
    guided_match_on_device,
    neighbours,
)
from ace_jax.localization.landmarks import Landmarks, MatchGates, directions_to

CAMERA = Camera(300.0, 310.0, 159.5, 119.5, 320, 240)
GATES = MatchGates(
    radius=8.0, min_cosine=0.75, match_ratio=0.9, cos_max_view_angle=0.5, max_scale_change=2.0
)
LANDMARKS, FEATURES, DIM = 60, 90, 32
ON_DEVICE = jax.jit(guided_match_on_device, static_argnames=("most", "established_first"))


@pytest.fixture(params=["host", "device"], autouse=True)
def on_device(request):
    """Every test here is of both implementations."""
    Scene.on_device = request.param == "device"
    return Scene.on_device


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@dataclasses.dataclass
class Scene:
    """Landmark i is seen as feature `feature[i]`; the other features show nothing."""

    block: Landmarks
    features: Features
    camera_from_world: np.ndarray
    feature: np.ndarray
    on_device: ClassVar[bool] = False

    def match(self, most=None, established_first=False, **gates) -> np.ndarray:
        """Landmark of each feature."""
        asked = self.block, self.features, self.camera_from_world, CAMERA, GATES.replace(**gates)
        if self.on_device:
            asked = jax.tree.map(jax.numpy.asarray, asked)
            return np.asarray(ON_DEVICE(*asked, most=most, established_first=established_first))
        return guided_match(*asked)

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
    points = unproject_to_world(uv[seen], depth, CAMERA, pose)
    to_camera = centre(pose) - points
    descriptors = _unit(rng.normal(size=(FEATURES, DIM)))
    stored = _unit(rng.normal(size=(LANDMARKS, appearances, DIM)))
    right = rng.integers(appearances, size=LANDMARKS)  # one of the appearances is the one seen
    stored[np.arange(LANDMARKS), right] = _unit(
        descriptors[seen] + 0.04 * rng.normal(size=(LANDMARKS, DIM))
    )
    return Scene(
        block=Landmarks(
            points=points.astype(np.float32),
            descriptors=stored.astype(np.float32),
            view_directions=_unit(to_camera).astype(np.float32),
            distances=np.linalg.norm(to_camera, axis=1).astype(np.float32),
            views=np.full(LANDMARKS, 2),
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
    block.views[gone] = 0
    block.points[gone] = np.nan
    block.descriptors[gone] = np.nan
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
    scene.block = scene.block.replace(descriptors=np.stack([alike[:LANDMARKS]] * 2, axis=1))
    matched = scene.match(radius=100.0, match_ratio=2.0)
    matched = matched[matched >= 0]
    assert len(matched) > 5
    assert len(np.unique(matched)) == len(matched)


def test_twin_landmarks_share_no_feature():
    scene = make_scene()
    block = jax.tree.map(np.copy, scene.block)
    for leaf in (block.points, block.view_directions, block.distances):
        leaf[1] = leaf[0]
    block.descriptors[1] = block.descriptors[0]
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
    if scene.on_device:
        return  # asks for no ratio
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
    to_camera = centre(pose) - block.points[landmark]
    block.distances[landmark] = np.linalg.norm(to_camera)
    block.view_directions[landmark] = _unit(to_camera)
    features.uv[scene.feature[landmark]] = project(in_camera, CAMERA)
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


def test_what_was_seen_from_an_unknown_place_always_looks_alike():
    scene = make_scene()
    scene.block = scene.block.replace(
        view_directions=np.full((LANDMARKS, 3), np.nan, np.float32),
        distances=np.full(LANDMARKS, np.nan, np.float32),
    )
    np.testing.assert_array_equal(scene.match(), scene.expected())


def test_landmarks_that_move_are_seen_from_the_same_places():
    block = make_scene().block
    moved = block.with_points(block.points + 0.1)
    np.testing.assert_allclose(moved.viewpoints, block.viewpoints, atol=1e-5)
    directions, distances = directions_to(block.viewpoints, block.points)
    np.testing.assert_allclose(directions, block.view_directions, atol=1e-5)
    np.testing.assert_allclose(distances, block.distances, rtol=1e-5)


def _rivals(scene: Scene) -> Scene:
    """Landmark 1 is nearly landmark 0, in its place, and a little less similar."""
    block = jax.tree.map(np.copy, scene.block)
    for leaf in (block.points, block.view_directions, block.distances):
        leaf[1] = leaf[0]
    block.descriptors[1] = _unit(block.descriptors[0] + 0.02 * block.descriptors[2])
    return dataclasses.replace(scene, block=block)


def test_established_landmarks_come_first_if_asked_for(on_device):
    scene = _rivals(make_scene(appearances=1))
    best = scene.match()[scene.feature[0]]
    scene.block.views[best] = 1
    assert scene.match()[scene.feature[0]] == best
    if on_device:
        assert scene.match(established_first=True)[scene.feature[0]] == 1 - best
        # One that matches nothing takes nothing away.
        scene.block.descriptors[1 - best] *= -1
        assert scene.match(established_first=True)[scene.feature[0]] == best


def test_many_landmarks_of_any_length_and_the_first_in_view(on_device):
    if not on_device:
        pytest.skip("the host compares all")
    scene = make_scene(appearances=1)
    rows = np.random.default_rng(0).permutation(20 * LANDMARKS)
    many = jax.tree.map(lambda x: np.concatenate([x, *[x[::-1]] * 19])[rows], scene.block)
    many.views[rows >= LANDMARKS] = 0  # only the real ones are there, anywhere among many
    scene.block = many.replace(descriptors=7.0 * many.descriptors)
    found = scene.match()
    np.testing.assert_array_equal(found >= 0, scene.expected() >= 0)
    np.testing.assert_array_equal(rows[found[found >= 0]], scene.expected()[found >= 0])
    first = np.sort(found[found >= 0])[:17]
    np.testing.assert_array_equal(np.sort(scene.match(most=17)[scene.match(most=17) >= 0]), first)


def test_many_features_match_as_all_pairs_compared_say(on_device):
    if not on_device:
        pytest.skip("the host looks at pairs that are near")
    rng = np.random.default_rng(5)
    count, others = 700, 500
    depth = rng.uniform(2, 4, others)
    uv = rng.uniform([5, 5], [314, 234], (others, 2))
    points = unproject_to_world(uv, depth, CAMERA, np.eye(4))
    away = np.linalg.norm(points, axis=1)
    block = Landmarks(
        points=points.astype(np.float32),
        descriptors=_unit(rng.normal(size=(others, 1, 8)).astype(np.float32)),
        view_directions=(-points / away[:, None]).astype(np.float32),
        distances=away.astype(np.float32),
        views=np.full(others, 2, np.int32),
    )
    # Half of the features are in one corner.
    pixels = rng.uniform([0, 0], [320, 240], (count, 2)) * np.where(
        rng.random((count, 1)) < 0.5, 1, 0.2
    )
    descriptors = _unit(rng.normal(size=(count, 8)).astype(np.float32))
    mask = rng.random(count) < 0.9
    features = Features(
        uv=jnp.asarray(pixels, jnp.float32),
        descriptors=jnp.asarray(descriptors),
        scores=jnp.ones(count),
        mask=jnp.asarray(mask),
        depth=jnp.zeros(count),
    )
    gates = MatchGates(15.0, 0.3)
    match = jax.jit(
        lambda b, among=None: guided_match_on_device(
            b, features, jnp.eye(4), CAMERA, gates, among=among
        )
    )
    found = np.asarray(match(jax.tree.map(jnp.asarray, block)))
    apart = np.linalg.norm(uv[:, None] - pixels, axis=2)
    similarity = np.where((apart < 15) & mask, block.descriptors[:, 0] @ descriptors.T, -2.0)
    expected = np.full(count, -1)
    best = similarity.argmax(axis=1)
    for landmark in np.argsort(similarity.max(axis=1)):
        if similarity[landmark, best[landmark]] > 0.3:
            expected[best[landmark]] = landmark
    np.testing.assert_array_equal(found, expected)
    assert (found >= 0).sum() > 150
    # Of some rows, padded with one that is none: as if there were no others.
    rows = np.flatnonzero(rng.random(others) < 0.4).astype(np.int32)
    block.views[np.setdiff1d(np.arange(others), rows)] = 0
    among = jnp.asarray([*rows, others, others])
    alone = np.asarray(match(jax.tree.map(jnp.asarray, block)))
    block.views[:] = 2
    np.testing.assert_array_equal(match(jax.tree.map(jnp.asarray, block), among=among), alone)
    assert 50 < (alone >= 0).sum() < 150


@pytest.mark.parametrize("radius", [0.4, 3.0, 20.0, 300.0, 1e4])
@pytest.mark.parametrize("spread", [1.0, 640.0, 50_000.0])
def test_neighbours_are_those_of_a_tree(radius, spread):
    rng = np.random.default_rng(3)
    for count, other_count in ((0, 5), (5, 0), (1, 1), (150, 90), (90, 150)):
        points = rng.uniform(-0.5, 1.5, (count, 2)).astype(np.float32) * spread
        others = rng.uniform(0, 1, (other_count, 2)) * spread
        mask, other_mask = rng.random(count) < 0.8, rng.random(other_count) < 0.8
        found = set(zip(*neighbours(points, mask, others, other_mask, radius), strict=True))
        distances = np.linalg.norm(points[:, None].astype(np.float64) - others, axis=2)
        near = (distances <= radius) & mask[:, None] & other_mask
        assert found == set(zip(*np.nonzero(near), strict=True))
