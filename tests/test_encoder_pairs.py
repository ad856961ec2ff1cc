"""Pairs of images for the encoder: exact correspondences, draws that repeat, plain mistakes."""

import dataclasses

import cv2
import encoder_world as world
import numpy as np
import pytest

from ace_jax.data.frame import Frame
from ace_jax.encoder import pairs
from ace_jax.encoder.augmentation import STILL, Dial, augment
from ace_jax.encoder.batches import Keypoints, partners
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import image_rays
from ace_jax.pretrain.scenes import Views

SIZE = 160, 120
CAMERA = Camera(150.0, 150.0, 99.5, 74.5, 200, 150)
GEOMETRY = dataclasses.replace(
    STILL, roll=40.0, scale=1.6, shift=8.0, perspective=8e-4, shutter=12.0, first=0.5
)


def _ramp(width, height):
    """An image whose colours tell where a pixel is."""
    x, y = np.meshgrid(np.linspace(20, 230, width), np.linspace(20, 230, height))
    return np.stack([x, y, 0 * x + 128], axis=-1).round().astype(np.uint8)


def _colour(image, uv):
    x, y = (uv[:, i].astype(np.float32)[:, None] for i in (0, 1))
    return cv2.remap(image.astype(np.float32), x, y, cv2.INTER_LINEAR)[:, 0]


def _grid(size):
    x, y = np.meshgrid(np.arange(6, size[0] - 6, 5.0), np.arange(6, size[1] - 6, 5.0))
    return np.stack([x, y], axis=-1).reshape(-1, 2) + 0.3


def _check_colours(pair, least, tolerance):
    uv = _grid(pair.first.shape[1::-1])
    there, known = pair.locate(uv)
    assert known.mean() > least
    error = _colour(pair.first, uv[known]) - _colour(pair.second, there[known])
    assert np.abs(error).max() < tolerance
    return there[known] - uv[known]


@pytest.mark.parametrize("seed", range(5))
def test_after_homographies_a_point_has_the_same_colour(seed):
    pair = augment(pairs.still(_ramp(320, 240)), GEOMETRY, SIZE, np.random.default_rng(seed))
    # 0.75 pixels of the ramp are a grey level.
    moved = _check_colours(pair, least=0.2, tolerance=1.5)
    assert np.abs(moved).max() > 5.0


def test_all_of_the_augmentation_moves_points_as_the_geometry_alone_does():
    source = pairs.still(world.texture(0))
    plain = dataclasses.replace(
        Dial(), motion=0, focus=0, noise=0, exposure=0, falloff=0, gamma=0, cast=0, jpeg=0
    )
    # The homographies are drawn first in each image, so the first image's agree.
    full, bare = (augment(source, dial, SIZE, np.random.default_rng(3)) for dial in (Dial(), plain))
    back = [pair.locate(_grid(SIZE))[1].mean() for pair in (full, bare)]
    assert min(back) > 0.3
    assert np.abs(full.first.astype(float) - bare.first).mean() > 2.0
    assert full.first.shape == (SIZE[1], SIZE[0], 3)
    assert full.first.dtype == np.uint8


def _frame(x, box):
    """A frame of a wall at 3 m, coloured by place, from x metres beside; a box hides some of it."""
    rays = image_rays(CAMERA)
    depth = np.full(rays.shape[:2], 3.0, np.float32)
    place = rays * 3.0
    rgb = np.clip(128 + 30 * (place[..., :2] + [x, 0]), 0, 255)
    rgb = np.concatenate([rgb, np.full_like(rgb[..., :1], 128)], axis=-1)
    if box:
        near = rays * 1.5 + [x, 0, 0]
        on_it = (np.abs(near[..., 0]) < 0.3) & (np.abs(near[..., 1]) < 0.3)
        depth[on_it], rgb[on_it] = 1.5, [128, 128, 255]
    pose = np.eye(4)
    pose[0, 3] = x
    return Frame(
        index=0, name="0", timestamp=0.0, rgb=rgb.round().astype(np.uint8), depth=depth,
        camera=CAMERA, world_from_camera=pose,
    )  # fmt: skip


def test_by_depth_a_point_has_the_same_colour_and_what_is_hidden_is_not_known():
    bare = pairs.of_frames(_frame(0.0, False), _frame(0.3, False))
    moved = _check_colours(bare, least=0.6, tolerance=1.5)
    np.testing.assert_allclose(moved, np.broadcast_to([-15.0, 0.0], moved.shape), atol=1e-3)
    boxed = pairs.of_frames(_frame(0.0, True), _frame(0.3, True))
    _check_colours(boxed, least=0.4, tolerance=1.5)
    # The wall at the box's left side, which the camera farther right does not see.
    hidden = np.array([[62.0, 74.0]])
    assert bare.locate(hidden)[1].all()
    assert not boxed.locate(hidden)[1].any()


class _Scene:
    identity = "walls"

    def __len__(self):
        return 3

    def images(self, number, views):
        assert views.total == 3
        return [_frame(x + 0.01 * number, False) for x in (0.0, 0.3, 50.0)]


def test_only_images_that_overlap_are_pairs_and_a_number_has_one_pair():
    source = pairs.ScenePairs(_Scene(), Views(2, 0, 1), seed=0)
    drawn = [source.pair(number) for number in range(24)]
    moves = [abs(pair.locate(np.array([[100.0, 75.0]]))[0][0, 0] - 100.0) for pair in drawn]
    np.testing.assert_allclose(moves, 15.0, atol=1e-3)  # never the image 50 m away
    again = pairs.ScenePairs(_Scene(), Views(2, 0, 1), seed=0)
    for number in (23, 0, 11):
        np.testing.assert_array_equal(again.pair(number).first, drawn[number].first)


def test_every_scene_is_visited():
    source = pairs.ScenePairs(_Scene(), Views(2, 0, 1), seed=0)
    for begin in (0, 3, 6):
        assert {source._scene_of(turn) for turn in range(begin, begin + 3)} == {0, 1, 2}


def test_a_mixture_draws_by_weight():
    class Constant:
        def __init__(self, value):
            self.identity, self.value = str(value), value

        def pair(self, number):
            return self.value

    mixture = pairs.PairMixture([Constant(0), Constant(1)], [3.0, 1.0], seed=0)
    drawn = [mixture.pair(number) for number in range(400)]
    assert 0.18 < np.mean(drawn) < 0.32
    with pytest.raises(UserError, match="weights > 0"):
        pairs.PairMixture([Constant(0)], [0.0], seed=0)
    with pytest.raises(UserError, match="sources is empty"):
        pairs.PairMixture([], [], seed=0)


def test_photographs_are_found_and_their_absence_is_told(tmp_path):
    folder = world.photographs(tmp_path / "photos", 2)
    source = pairs.Photos(folder, 0)
    np.testing.assert_array_equal(source.pair(5).first, pairs.Photos(folder, 0).pair(5).first)
    with pytest.raises(UserError, match="no folder"):
        pairs.Photos(tmp_path / "nowhere", 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image in"):
        pairs.Photos(tmp_path / "empty", 0)
    (folder / "0.png").write_bytes(b"no image")
    (folder / "1.png").unlink()
    with pytest.raises(UserError, match="cannot read"):
        pairs.Photos(folder, 0).pair(0)


def test_partners_are_mutual_near_and_known():
    def of(uv, mask):
        return Keypoints(np.array(uv, float), np.array(mask), np.zeros((len(uv), 1)))

    one = of([[10, 10], [20, 20], [30, 30], [40, 40], [50, 50]], [1, 1, 1, 1, 0])
    two = of([[11, 10], [22.5, 20], [30, 31], [33, 30], [50, 50]], [1, 1, 1, 1, 1])
    one, two = (dataclasses.replace(each, mask=each.mask.astype(bool)) for each in (one, two))

    def locate(uv):
        return uv, np.array([True, True, True, False, True])

    partner, doubtful = partners(one, two, locate, within=2.0, doubt=4.0)
    assert partner.tolist() == [0, -1, 2, -1, -1]  # too far, unknown, masked
    assert np.argwhere(doubtful).tolist() == [[1, 1], [2, 3]]
