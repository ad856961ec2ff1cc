import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pretrain_world as world
import pytest
from ml_collections import ConfigDict
from slam_scene import RoomSource

from ace_jax.data.frame import Frame
from ace_jax.errors import UserError
from ace_jax.features.base import Features
from ace_jax.features.sift import Sift
from ace_jax.geometry.camera import Camera
from ace_jax.pretrain import presets, procedural
from ace_jax.pretrain.conditions import HARD, Conditions, Difficulty, photograph
from ace_jax.pretrain.kept_images import KeptImages
from ace_jax.pretrain.patches import PatchCache, patches_of
from ace_jax.pretrain.procedural import ProceduralScenes
from ace_jax.pretrain.recordings import RecordingScenes, open_recordings
from ace_jax.pretrain.scenes import Mixture, Views
from ace_jax.pretrain.sources import create_source
from ace_jax.pretrain.tfds import gather
from ace_jax.synthetic.room import clearance

VIEWS = Views(5, 2, 3)


@pytest.fixture
def rendered(monkeypatch):
    """What the renderer was asked for; it gives grey pictures at once."""
    asked = []

    def render(room, pose, camera, light, tiles):
        asked.append((room, np.asarray(pose), light))
        return jnp.full((camera.height, camera.width, 3), 0.5), jnp.ones(
            (camera.height, camera.width)
        )

    monkeypatch.setattr(procedural, "render", render)
    return asked


def test_the_same_room_comes_again_and_queries_differ_by_the_dial(rendered):
    hard = ProceduralScenes(first=3, image_size=(64, 48))
    frames = hard.images(1, VIEWS)
    assert len(frames) == VIEWS.total
    again = hard.images(1, VIEWS)
    for a, b in zip(frames, again, strict=True):
        np.testing.assert_array_equal(a.world_from_camera, b.world_from_camera)
    rooms, _, lights = zip(*rendered[:10], strict=True)
    passed, asked = range(7), range(7, 10)
    assert len({float(lights[i].exposure) for i in passed}) == 1
    assert len({float(lights[i].exposure) for i in asked}) == 3
    assert not np.allclose(lights[0].color, lights[9].color)
    moved = np.any(rooms[0].boxes.center != rooms[9].boxes.center, axis=1)
    assert 0 < moved.sum() < rooms[0].boxes.mask.sum()
    for i in asked:
        assert clearance(rooms[i], rendered[i][1][None, :3, 3])[0] > 0.2
    del rendered[:]
    easy = ProceduralScenes(3, 10, (64, 48), Difficulty(0.0, 0.0, 0.0, 0.0, 0.0))
    on_path = easy.images(1, VIEWS)
    same = rendered[0][0].boxes.center, rendered[9][0].boxes.center
    np.testing.assert_allclose(*same, atol=1e-6)
    np.testing.assert_array_equal(rendered[0][2].color, rendered[9][2].color)
    same = [a.world_from_camera for a in on_path[:7]], [a.world_from_camera for a in frames[:7]]
    np.testing.assert_array_equal(*same)  # the mapping pass does not depend on the dial
    assert hard.identity != easy.identity


def test_cameras_have_defects_and_scenes_cover_parts_of_the_path(rendered):
    whole = ProceduralScenes(3, 10, (64, 48)).images(1, VIEWS)
    varied = ProceduralScenes(3, 10, (64, 48), Difficulty(noise=3.0, span=0.3)).images(1, VIEWS)
    assert {float(frame.depth.min()) for frame in whole} == {1.0}
    for frame in varied:  # of a grey wall at 1 m
        assert frame.rgb.std() > 0.5
        known = frame.depth[frame.depth > 0]
        assert 1e-4 < known.std() < 0.05
    assert any((frame.depth == 0).any() for frame in varied)

    def turned(frames):  # largest angle between two viewing directions
        forward = np.stack([frame.world_from_camera[:3, 2] for frame in frames[:7]])
        return np.arccos(np.clip(forward @ forward.T, -1.0, 1.0)).max()

    assert turned(varied) < 0.9 * turned(whole)


def test_held_out_images_lie_between_mapping_images(rendered):
    frames = ProceduralScenes(image_size=(64, 48)).images(0, Views(6, 2, 0))
    centres = np.stack([frame.world_from_camera[:3, 3] for frame in frames])
    for held_out in centres[6:]:
        assert 0 < np.linalg.norm(centres[:6] - held_out, axis=1).min() < 0.7


def test_a_mixture_draws_by_weight_and_always_the_same():
    class Source:
        def __init__(self, name):
            self.name = name

        def __len__(self):
            return 10

    mixture = Mixture([Source("a"), Source("b")], [3.0, 1.0], seed=5)
    drawn = [mixture.draw(number) for number in range(400)]
    share = np.mean([source.name == "a" for source, _ in drawn])
    assert 0.68 < share < 0.82
    assert {number for _, number in drawn} == set(range(10))
    twin = Mixture(mixture.sources, [3.0, 1.0], seed=5)
    assert [twin.draw(n)[1] for n in range(9)] == [number for _, number in drawn[:9]]
    with pytest.raises(UserError, match="weights > 0"):
        Mixture([Source("a")], [0.0], 0)
    with pytest.raises(UserError, match="sources is empty"):
        Mixture([], [], 0)


def _recording(frames=30, count=24):
    return RecordingScenes("toy", [lambda: RoomSource(count)], [count], frames, "toy", (160, 120))


def test_a_recording_is_mapped_first_and_asked_last():
    scenes = _recording()
    assert len(scenes) == 1
    frames = scenes.images(0, VIEWS)
    indices = [frame.index for frame in frames]
    assert max(indices[:7]) < min(indices[7:])
    assert (frames[0].camera.width, frames[0].rgb.shape) == (160, (120, 160, 3))
    original = RoomSource(24)[indices[7]]
    assert np.abs(original.rgb.mean() - frames[7].rgb.mean()) > 0.5  # another exposure
    with pytest.raises(UserError, match=r"lower config\.views"):
        scenes.images(0, Views(40, 0, 3))
    blind = RecordingScenes("toy", [lambda: RoomSource(9, has_depth=False)], [9], 9, "", None)
    with pytest.raises(UserError, match="lacks depth"):
        blind.images(0, Views(2, 0, 1))
    lost = RecordingScenes("toy", [lambda: RoomSource(9, truth="none")], [9], 9, "", None)
    with pytest.raises(UserError, match="lacks poses"):
        lost.images(0, Views(2, 0, 1))
    with pytest.raises(UserError, match="not found"):
        open_recordings(["tum/nowhere"], "/nowhere", 10, None)


def test_patches_have_true_coordinates_and_are_computed_once(tmp_path):
    extractor = Sift(image_size=None, max_features=200)
    options = {"max_features": 200}
    cache = PatchCache(extractor, options, VIEWS, 40, tmp_path)
    scenes = _recording()
    patches = cache.load(scenes, 0)
    assert patches.features.shape == (10, 40, 128)
    assert patches.mask[:, :10].all()
    for image in range(10):
        seen = patches.mask[image]
        local = patches.xyz[image][seen] @ patches.camera_from_world[image, :3, :3].T
        local += patches.camera_from_world[image, :3, 3]
        fx, fy, cx, cy = patches.intrinsics[image]
        uv = local[:, :2] / local[:, 2:] * [fx, fy] + [cx, cy]
        np.testing.assert_allclose(uv, patches.uv[image][seen], atol=0.01)
    own = np.diagonal(patches.nearness[:5])
    assert (own == 0).all()
    assert (np.sort(patches.nearness, axis=1) == np.arange(5)).all()
    centres = np.linalg.inv(patches.camera_from_world)[:5, :3, 3]
    np.testing.assert_allclose(centres.mean(axis=0), 0.0, atol=1e-5)

    scenes.images = None  # from now on everything comes from the disk
    np.testing.assert_array_equal(cache.load(scenes, 0).xyz, patches.xyz)
    assert cache.thumbnails(scenes, 0).shape == (10, 60, 80, 3)
    other = PatchCache(extractor, {"max_features": 100}, VIEWS, 40, tmp_path)
    with pytest.raises(TypeError):
        other.load(scenes, 0)  # other options of the encoder are another place


class _Pictures:
    """A source of given pictures of a slanted wall."""

    name, identity = "pictures", "pictures"

    def __init__(self, pictures, depth):
        self._pictures, self._depth = pictures, depth

    def __len__(self):
        return 1

    def images(self, number, views):
        height, width = self._depth.shape
        camera = Camera(200.0, 200.0, (width - 1) / 2, (height - 1) / 2, width, height)
        return [
            Frame(i, str(i), float(i), rgb, self._depth, camera, np.eye(4))
            for i, rgb in enumerate(self._pictures)
        ]


def _speckles(seed, shape=(120, 160)):
    rng = np.random.default_rng(seed)
    grey = cv2.GaussianBlur(rng.uniform(0, 255, shape).astype(np.float32), (0, 0), 2.0)
    grey = cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_patches_are_the_strongest_keypoints_at_their_sub_pixel_depth(tmp_path):
    v, u = np.mgrid[:120, :160].astype(np.float64)
    inverse = 0.2 + 0.001 * u + 0.0015 * v  # a plane
    source = _Pictures([_speckles(0), _speckles(1)], (1.0 / inverse).astype(np.float32))
    extractor = Sift(image_size=None, max_features=200)
    patches = PatchCache(extractor, {}, Views(1, 0, 1), 40, tmp_path).load(source, 0)
    uv = patches.uv[0].astype(np.float64)
    assert np.abs(uv - np.rint(uv)).mean() > 0.1  # sub-pixel
    true = 1.0 / (0.2 + 0.001 * uv[:, 0] + 0.0015 * uv[:, 1])
    error = np.abs(patches.xyz[0, :, 2] / true - 1.0)
    assert error.max() < 1e-5  # 2e-3 at the nearest pixel
    found = extractor.extract(source.images(0, None)[0].rgb)
    scores = {
        tuple(p): s for p, s in zip(np.asarray(found.uv), np.asarray(found.scores), strict=True)
    }
    taken = [scores[tuple(p)] for p in patches.uv[0]]
    assert (np.diff(taken) <= 0).all()
    left = [s for p, s in scores.items() if p not in set(map(tuple, patches.uv[0]))]
    assert max(taken) == max(scores.values())
    inner = np.asarray(found.mask).sum() - len(taken)  # some of which lie on the border
    assert np.sort(left)[::-1][inner // 2] <= min(taken)


def test_images_without_keypoints_or_without_depth_are_padding(tmp_path):
    flat = np.full((120, 160, 3), 128, np.uint8)
    pictures = [_speckles(0), flat, _speckles(1), flat]
    extractor = Sift(image_size=None, max_features=100)
    wall = np.full((120, 160), 2.0, np.float32)
    patches = PatchCache(extractor, {}, Views(2, 0, 2), 30, tmp_path).load(
        _Pictures(pictures, wall), 0
    )
    np.testing.assert_array_equal(patches.mask.any(axis=1), [True, False, True, False])
    blind = patches_of(_Pictures(pictures, 0 * wall).images(0, None), Views(2, 0, 2), extractor, 30)
    assert not blind.mask.any()
    for some in (patches, blind):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(some))


def test_cells_that_are_all_equal_are_taken_from_all_over_the_image():
    class Cells:
        name, dim, max_features, weights_checksum = "cells", 4, 300, "none"

        def extract(self, rgb):
            v, u = np.mgrid[:15, :20].reshape(2, -1) * 8 + 3.5
            ones = np.ones(300, np.float32)
            uv = np.stack([u, v], axis=1).astype(np.float32)
            return Features(uv, np.ones((300, 4), np.float32), ones, ones > 0, 0 * ones)

    frames = _Pictures([_speckles(0)], np.ones((120, 160), np.float32)).images(0, None)
    patches = patches_of(frames, Views(1, 0, 0), Cells(), 64)
    counts, _, _ = np.histogram2d(*patches.uv[0].T, bins=4, range=[[0, 160], [0, 120]])
    assert counts.min() >= 2
    assert counts.max() <= 6


def test_images_are_kept_as_they_are_read(tmp_path, rendered):
    source = ProceduralScenes(3, 10, (64, 48), HARD)
    kept = KeptImages(source, tmp_path)
    assert (kept.name, kept.identity, len(kept)) == (source.name, source.identity, 10)
    made = kept.images(1, VIEWS)
    count = len(rendered)
    read = KeptImages(source, tmp_path).images(1, VIEWS)
    assert len(rendered) == count  # nothing was rendered again
    for a, b, original in zip(made, read, source.images(1, VIEWS), strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.rgb, original.rgb)
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_allclose(a.depth, original.depth, atol=1.1e-4)
        np.testing.assert_array_equal(b.world_from_camera, original.world_from_camera)
        assert b.camera == original.camera
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:500])
    np.testing.assert_array_equal(kept.images(1, VIEWS)[9].rgb, read[9].rgb)


def test_hard_queries_are_turned_dark_blurred_and_noisy(rendered):
    off = dict.fromkeys(Difficulty.__dataclass_fields__, 0.0) | {"span": 1.0, "least": 1.0}

    def queries(**changes):
        del rendered[:]
        frames = ProceduralScenes(3, 10, (64, 48), Difficulty(**off | changes)).images(
            1, Views(5, 0, 6)
        )
        return frames[5:], rendered[5:]

    plain, before = queries()
    for i in range(6):
        np.testing.assert_array_equal(plain[i].rgb, 128)
    rolled, _ = queries(roll=30.0)
    turned = [
        a.world_from_camera[:3, :3].T @ b.world_from_camera[:3, :3]
        for a, b in zip(plain, rolled, strict=True)
    ]
    np.testing.assert_allclose([t[2, 2] for t in turned], 1.0, atol=1e-9)  # the axis stays
    assert np.std([np.arctan2(t[1, 0], t[0, 0]) for t in turned]) > 0.2
    stepped, _ = queries(approach=0.3)
    steps = [
        a.world_from_camera[:3, :3].T @ (b.world_from_camera - a.world_from_camera)[:3, 3]
        for a, b in zip(plain, stepped, strict=True)
    ]
    np.testing.assert_allclose(np.array(steps)[:, :2], 0.0, atol=1e-9)
    assert np.abs(np.array(steps)[:, 2]).max() > 0.1
    _, night = queries(dark=1.0)
    for (_, _, day), (_, _, late) in zip(before, night, strict=True):
        assert np.sum(late.color) < 0.6 * np.sum(day.color)
        assert day.exposure < late.exposure <= 8.0 * day.exposure
    _, emptied = queries(removed=0.5)
    left = [int(room.boxes.mask.sum()) for room, _, _ in (before[0], emptied[0])]
    assert 0 < left[1] < left[0]
    noisy, _ = queries(grain=0.05)
    spread = [float(frame.rgb.std()) for frame in noisy]
    assert max(spread) > 3.0 > 0.5 * min(spread)
    again, _ = queries(grain=0.05)
    for a, b in zip(noisy, again, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)


def test_defocus_and_motion_blur_soften_a_picture():
    camera = Camera(200.0, 200.0, 79.5, 59.5, 160, 120)
    rgb, depth = _speckles(0).astype(np.float32) / 255.0, np.full((120, 160), 2.0, np.float32)
    sharp = Conditions(0.0, 0.0, False, False, 0.0, np.eye(4), 0.0, 0)
    np.testing.assert_array_equal(photograph(rgb, depth, camera, sharp, 1.0), rgb)
    soft = photograph(rgb, depth, camera, dataclasses.replace(sharp, defocus=8.0), 1.0)
    assert soft.std() < 0.8 * rgb.std()
    aside = np.eye(4)
    aside[0, 3] = 0.1  # metres to the right: 5 pixels in half a frame
    moved = photograph(rgb, depth, camera, dataclasses.replace(sharp, motion=aside), 1.0)

    def along(image, axis):
        return np.abs(np.diff(image, axis=axis)).mean()

    assert along(moved, 1) < 0.7 * along(rgb, 1)
    assert along(moved, 1) < 0.9 * along(moved, 0)
    longer = photograph(rgb, depth, camera, dataclasses.replace(sharp, motion=aside), 8.0)
    assert along(longer, 1) < 0.8 * along(moved, 1)


def test_a_damaged_cache_is_made_again(tmp_path):
    cache = PatchCache(Sift(image_size=None, max_features=50), {}, Views(2, 0, 1), 16, tmp_path)
    first = cache.load(_recording(), 0)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(cache.load(_recording(), 0).xyz, first.xyz)


def test_stored_examples_are_gathered_by_recording_and_time():
    pytest.importorskip("grain", reason="the pipeline is grain's (extra pretrain)")
    source, stored = RoomSource(6), []
    for index in (4, 1, 5, 0, 2, 3):
        frame = source[index]
        stored.append(
            {
                "rgb": frame.rgb,
                "depth": np.rint(frame.depth * 5000).astype(np.uint16)[:, :, None],
                "intrinsics": np.array(
                    [frame.camera.fx, frame.camera.fy, frame.camera.cx, frame.camera.cy]
                ),
                "world_from_camera": frame.world_from_camera,
                "timestamp": frame.timestamp,
                "recording": b"b" if index > 3 else b"a",
                "name": frame.name,
            }
        )
    first, second = gather(stored)
    assert (first.name, len(first), len(second)) == ("a", 4, 2)
    for index in range(4):
        frame = first[index]
        assert frame.name == f"{index:06d}"
        np.testing.assert_allclose(frame.depth, source[index].depth, atol=1.1e-4)
        np.testing.assert_array_equal(first.poses()[index], source[index].world_from_camera)


def test_every_variant_is_complete():
    for variant in ("paper", "small", "cpu", "smoke"):
        config = presets.get_config(variant)
        assert config.validation.source.first >= 800_000 > 0
        for source in config.sources.values():
            if source.kind == "procedural":
                assert source.first + source.count <= 800_000  # never a validation room
                assert len(create_source(source, "data", None)) == source.count
    with pytest.raises(UserError, match="no variant 'huge'"):
        presets.get_config("huge")
    config = world.config()
    with config.sources.rooms.unlocked():
        config.sources.rooms.kind = "films"
    with pytest.raises(UserError, match="films"):
        create_source(config.sources.rooms, "data", None)


def test_configurations_of_earlier_versions_still_open():
    old = ConfigDict(
        {
            "kind": "procedural",
            "weight": 1.0,
            "first": 0,
            "count": 9,
            "image_size": (320, 240),
            "difficulty": {"shift": 0.3, "least": 0.0, "noise": 1.5, "span": 0.3},
        }
    )
    assert len(create_source(old, "data", None, "/nowhere")) == 9
    with old.difficulty.unlocked():
        old.difficulty.fog = 1.0
    with pytest.raises(UserError, match=r"no fog; there are shift, .*grain"):
        create_source(old, "data", None)
