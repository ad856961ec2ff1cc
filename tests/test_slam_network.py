"""Networks as the map of SLAM: what they learn, what they must not learn, and the loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slam_scene import CAMERA, CONFIG, FEATURES, RoomSource, render

from ace_jax.data.depth_at_features import sample_depth
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.features.sift import Sift
from ace_jax.geometry.camera import unproject
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.models.scene_coordinate_heads import create_head
from ace_jax.slam.frame_poses import State
from ace_jax.slam.networks.config import HEAD_OPTIONS, NetworkConfig
from ace_jax.slam.networks.distillation import DistilledNetworkSlam
from ace_jax.slam.networks.network_mapping import (
    NetworkMap,
    coordinate_loss,
    predict,
)
from ace_jax.slam.run import CompilationCounter
from ace_jax.slam.tracking.frame_features import blank_features

NETWORK = NetworkConfig(
    batch=256, steps=16, first_steps=100, final_steps=60, capacity=12, extent=3.0
)
EXTRACTOR = Sift(image_size=None, max_features=FEATURES)


def _features(i: int):
    rgb, depth = render(i)
    features = jax.tree.map(np.asarray, EXTRACTOR.extract(rgb))
    return features.replace(depth=np.where(features.mask, sample_depth(depth, features.uv), 0))


def _network(head: str = "tri_mlp", config: NetworkConfig = NETWORK) -> NetworkMap:
    module = create_head(head, **HEAD_OPTIONS[head])
    return NetworkMap(head, module, EXTRACTOR.dim, FEATURES, CAMERA, config, jax.random.key(0))


def _params(network: NetworkMap) -> dict:
    return jax.tree.map(np.array, network.state.params)


def _equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.parametrize("head", sorted(HEAD_OPTIONS))
def test_a_network_locates_the_frames_it_learned_from(head):
    network, first = _network(head), _features(0)
    points = unproject(first.uv, first.depth, CAMERA)[first.depth > 0]

    def located():
        coordinates, result, ratio = network.locate(first, None, jax.random.key(1))
        error = np.linalg.norm(coordinates.xyz[first.depth > 0] - points, axis=1)
        return result, float(ratio), np.median(error)

    network.start(first)
    network.add(first, np.eye(4), 0)
    _, ratio, before = located()
    assert ratio < 0.2  # knows nothing yet
    # Twice the steps that the slowest of three seeds needs: rounding must not decide.
    network.train_on(np.zeros(9, np.int32), 400, 0)
    result, ratio, error = located()
    assert bool(result.success)
    assert ratio > 0.6
    assert error < 0.2 * before
    np.testing.assert_allclose(result.camera_from_world, np.eye(4), atol=0.1)


def test_nothing_is_learned_from_features_without_depth():
    network = _network()
    network.hold(blank_features(EXTRACTOR), np.eye(4))
    before = _params(network)
    network.train_on(np.full(9, NETWORK.capacity, np.int32), 3, 0)
    assert _equal(before, _params(network))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_unusable_depth_gives_no_pose_and_no_nan(value):
    network = _network()
    features = _features(0)
    features = features.replace(depth=np.full_like(features.depth, value))
    network.start(features)
    network.add(features, np.eye(4), 0)
    network.train_on(np.zeros(9, np.int32), 2, 0)
    _, result, ratio = network.locate(features, None, jax.random.key(0))
    assert not bool(result.success)
    assert float(ratio) == 0
    assert np.isfinite(result.camera_from_world).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(_params(network)))


def test_seeded_units_answer_to_their_descriptor_alone():
    network = _network()
    features = _features(0)
    network.add(features, np.eye(4), 0)
    layer = _params(network)["fc0"]
    units = int(NETWORK.seeded_first * len(layer["bias"]))
    kernel, bias = layer["kernel"][:, :units], layer["bias"][:units]
    response = np.maximum(features.descriptors[features.mask] @ kernel + bias, 0)
    np.testing.assert_allclose(response.max(0), NETWORK.seeded_answer, rtol=0.1)
    assert np.mean(response > 0) < 1.3 * NETWORK.seeded_support


def test_the_window_holds_the_current_frame_the_latest_and_rather_the_worst():
    network = _network()
    network.keyframe_at = list(range(12))
    ratios = np.where(np.arange(12) == 3, 0.1, 1.0)
    windows = np.stack([network.window(ratios, i) for i in range(200)])
    assert (windows[:, 0] == NETWORK.capacity).all()
    assert (np.sort(windows[:, 1:5], 1) == [8, 9, 10, 11]).all()
    drawn = np.bincount(windows[:, 5:].ravel(), minlength=12)
    assert drawn[8:].sum() == 0
    # 1 / |P| + a (1 - lambda) with |P| = 8: 0.125 + 0.09 against 0.125
    assert 1.3 < drawn[3] / np.delete(drawn[:8], 3).mean() < 2.2


def test_a_full_buffer_keeps_the_first_keyframe():
    network = _network()
    for number in range(20):
        network.add(blank_features(EXTRACTOR), np.eye(4), number)
    assert len(network.keyframe_at) == NETWORK.capacity
    assert network.keyframe_at[0] == 0
    assert 19 in network.keyframe_at


def test_coordinate_loss_is_smooth_and_blind_to_masked_rows():
    error = jnp.array([[0.0, 0, 0], [0.3, 0.4, 0], [9.0, 9, 9]])
    mask = jnp.array([True, True, False])
    value, gradient = jax.value_and_grad(coordinate_loss)(error, mask)
    np.testing.assert_allclose(value, 0.255, atol=1e-3)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[2], 0)
    assert float(coordinate_loss(error, jnp.zeros(3, bool))) == 0


def _make(**options):
    options.setdefault("network", NETWORK)
    return DistilledNetworkSlam(CAMERA, EXTRACTOR, config=CONFIG, **options)


def _ate(trajectory, source) -> float:
    truth = Trajectory(source.timestamps(), source.poses())
    errors = compare(Trajectory(*trajectory), truth).ate_trans_m
    return float(np.sqrt(np.mean(errors**2)))


def test_distilled_slam_tracks_by_its_network_and_saves_it(tmp_path):
    source = RoomSource(14)
    system = _make()
    with CompilationCounter() as compilations:
        for frame in source:
            system.process(frame)
            assert system.state is State.TRACKING
            if frame.index == 1:
                compilations.reset()
    assert compilations.count == 0
    assert system.tracker.located > 6  # the network does find most frames, of 13
    system.finish()
    assert _ate(system.live_trajectory(), source) < 0.01
    assert _ate(system.final_trajectory(), source) < 0.01

    save_map(tmp_path / "map.safetensors", system.scene_map())
    saved = load_map(tmp_path / "map.safetensors")
    network = _network()
    network.state = network.state.replace(**saved.variables)
    assert saved.head == "tri_mlp"
    features = _features(7)
    np.testing.assert_allclose(
        predict(saved.create_head(), network.state, features.descriptors).xyz,
        predict(system.network.head, system.network.state, features.descriptors).xyz,
        atol=1e-4,
    )
    _, result, _ = network.locate(features, None, jax.random.key(0))
    expected = np.linalg.inv(system.final_trajectory()[1][7])
    np.testing.assert_allclose(result.camera_from_world, expected, atol=0.1)


def test_nothing_is_learned_while_lost_and_the_way_back_is_found():
    source = RoomSource(12, order=(*range(8), 8, 8, 8, 2), black=(8, 9), foreign=(10,))
    system = _make()
    for frame in source:
        before = _params(system.network) if frame.index in (8, 9, 10) else None
        tracked = system.process(frame)
        if before is not None:
            assert system.state is State.LOST
            assert tracked.live_camera_from_world is None
            assert _equal(before, _params(system.network))
    assert system.state is State.TRACKING
    assert len(system.live_trajectory()[0]) == 9
    assert _ate(system.live_trajectory(), source) < 0.15
    points, colours = system.points()
    assert len(points) == len(colours) > 100


def test_the_same_seed_gives_the_same_trajectory():
    runs, few = [], dataclasses.replace(NETWORK, first_steps=10)
    for _ in range(2):
        system = _make(seed=3, network=few)
        for frame in RoomSource(5):
            system.process(frame)
        runs.append(system.live_trajectory()[1])
    np.testing.assert_array_equal(*runs)
