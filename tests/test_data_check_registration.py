"""Depth that is not registered to colour is found, and registered depth is left in peace."""

import dataclasses

import numpy as np
import pytest

from ace_jax.data.checks import registration
from ace_jax.data.frame import Frame
from ace_jax.data.registration import DepthRegistration
from ace_jax.data.registry import open_sequence
from ace_jax.geometry.camera import Camera

CAMERA = Camera(262.0, 262.0, 159.5, 119.5, 320, 240)
FRAMES = 16


def boards(seed: int) -> Frame:
    """Boards of one grey each at random depths before a wall, and shadows of the depth sensor."""
    rng = np.random.default_rng(seed)
    grey, depth = np.full((240, 320), 120.0), np.full((240, 320), 4.0, np.float32)
    for z in np.sort(rng.uniform(0.9, 3.5, 12))[::-1]:
        x, y = rng.integers(0, 290), rng.integers(0, 210)
        w, h = rng.integers(20, 70, 2)
        grey[y : y + h, x : x + w] = rng.uniform(0, 255)
        depth[y : y + h, x : x + w] = z
        depth[y : y + h, max(x - 6, 0) : x] = 0.0
    grey += rng.normal(0, 4, grey.shape)
    rgb = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return Frame(seed, f"boards-{seed}", seed / 30, rgb, depth, CAMERA)


def unregistered(frames: list[Frame], ratio: float, baseline: float) -> list[Frame]:
    """Depth as a camera of another focal length sees it, `baseline` metres beside."""
    colour = frames[0].camera
    camera = colour.replace(fx=colour.fx * ratio, fy=colour.fy * ratio)
    depth_from_colour = np.eye(4)
    depth_from_colour[0, 3] = -baseline
    warp = DepthRegistration(colour, camera, depth_from_colour)
    return [dataclasses.replace(frame, depth=warp(frame.depth)) for frame in frames]


@pytest.fixture(scope="module")
def recordings(shared_dir):
    made = {"boards": [boards(seed) for seed in range(FRAMES)]}

    def read(name, folder=""):
        if name not in made:
            source = open_sequence(name, shared_dir / "data" / folder)
            numbers = np.linspace(0, len(source) - 1, FRAMES).astype(int)
            made[name] = [source[int(i)] for i in numbers]
        return made[name]

    return read


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("boards", ""),
        ("7scenes/redkitchen/seq-01", ""),
        ("tum/freiburg1_rpy", ""),
        ("folder/hololens_lounge", "folders"),
    ],
)
def test_registered_depth_is_best_where_it_is(recordings, name, folder):
    alignment = registration.align(recordings(name, folder))
    assert alignment.frames == FRAMES
    assert alignment.peak > 0.5
    assert alignment.centre > 0.95 * alignment.peak
    assert registration.judge(alignment) == []


@pytest.mark.parametrize(
    ("ratio", "baseline"), [(0.63, 0.015), (0.9, 0.025), (1.0, 0.06), (1.05, 0.0), (1.5, 0.03)]
)
@pytest.mark.parametrize("name", ["boards", "7scenes/redkitchen/seq-01"])
def test_another_camera_is_found(recordings, name, ratio, baseline):
    alignment = registration.align(unregistered(recordings(name), ratio, baseline))
    assert alignment.centre < 0.75 * alignment.peak
    assert alignment.zoom == pytest.approx(1 / ratio, rel=0.06)
    assert alignment.gain > 4 * alignment.gain_error
    (finding,) = registration.judge(alignment)
    assert finding.fault == "unregistered_depth"


def test_a_realsense_that_does_not_align_is_found(recordings):
    alignment = registration.align(recordings("folder/realsense_lab", "folders"))
    assert alignment.centre < 0.3 * alignment.peak
    assert alignment.zoom == pytest.approx(615 / 385, rel=0.06)  # a D435's focal lengths
    assert [f.fault for f in registration.judge(alignment)] == ["unregistered_depth"]


def test_edges_that_have_nothing_to_do_with_each_other_accuse_nobody():
    for shift in range(1, 6):
        frames = [boards(seed) for seed in range(FRAMES)]
        mixed = [
            dataclasses.replace(frame, depth=frames[(i + shift) % FRAMES].depth)
            for i, frame in enumerate(frames)
        ]
        alignment = registration.align(mixed)
        assert alignment.peak < 0.3
        assert registration.judge(alignment) == []


def test_holes_beside_an_edge_count_as_what_lies_behind():
    depth = np.full((60, 80), 3.0, np.float32)
    depth[20:40, 30:50] = 1.0
    left = registration.near_edges(depth)[25:35, 28:34]
    assert left.any()
    depth[20:40, 22:30] = 0.0  # hidden from one eye
    np.testing.assert_array_equal(registration.near_edges(depth)[25:35, 28:34], left)
    depth[:, :12] = 0.0  # no neighbour on one side: no edge
    assert not registration.near_edges(depth)[:, :16].any()
