"""Rendered sequences: geometry, pictures, cache. One picture size, so that one compile serves."""

import os

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import run_python

from ace_jax.data.frame import BadFrame
from ace_jax.errors import UserError
from ace_jax.synthetic import scene as scenes
from ace_jax.synthetic import source as sources
from ace_jax.synthetic.furnished_rooms import make_room
from ace_jax.synthetic.ray_casting import cast_rays, tiles_of, untile
from ace_jax.synthetic.render import render
from ace_jax.synthetic.room import SHELL_FACES
from ace_jax.synthetic.sequences import CAMERA, open_synthetic
from ace_jax.synthetic.source import DEPTH_SCALE
from ace_jax.synthetic.surfaces import find_surfaces

pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic-cache")
    before = os.environ.get("ACE_JAX_CACHE")
    os.environ["ACE_JAX_CACHE"] = str(folder)
    yield folder
    os.environ.pop("ACE_JAX_CACHE")
    if before is not None:
        os.environ["ACE_JAX_CACHE"] = before


@pytest.fixture(scope="module")
def room0(cache):
    return open_synthetic("room0")


def _frame(source, index):
    source.render_frames([index])  # this frame alone, not a chunk
    return source[index]


def _camera_rays():
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float64)
    x, y = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    return np.stack([x, y, np.ones_like(x)], -1)


def test_depth_of_walls_and_of_one_solid_of_each_kind():
    room = make_room(0, furniture=0.0, decoration=0.0)
    keep = {
        kind: getattr(room, kind).replace(mask=np.zeros_like(getattr(room, kind).mask))
        for kind in ("boxes", "cones", "ellipsoids")
    }
    empty = room.replace(**keep, size=np.array([4.0, 4.0, 2.5], np.float32))
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # along +x
    pose[:3, 3] = 1.0, 2.0, 1.25
    columns = tiles_of(CAMERA, 0.0)[2]

    def depth_of(room):
        room, at = jax.device_put(room), jnp.asarray(pose)
        hits = cast_rays(room, at, CAMERA)
        surface, _ = find_surfaces(room, at, CAMERA, hits)
        return [np.asarray(untile(a, columns, CAMERA)) for a in (surface.depth, hits.id)]

    rays = _camera_rays()
    depth, ids = depth_of(empty)
    down = np.where(rays[..., 1] > 0, 1.25 / np.maximum(rays[..., 1], 1e-9), np.inf)
    up = np.where(rays[..., 1] < 0, 1.25 / np.maximum(-rays[..., 1], 1e-9), np.inf)
    expected = np.minimum(3.0, np.minimum(down, up))
    np.testing.assert_allclose(depth, expected, rtol=1e-5)
    assert ids[240, 320] == 1
    assert ids[479, 320] == 4

    def with_one(kind, size):
        solids = getattr(empty, kind)
        solids.center[0], solids.size[0], solids.rotation[0] = (3.0, 2.0, 1.25), size, np.eye(3)
        mask = np.zeros_like(solids.mask)
        mask[0] = True
        return empty.replace(**{kind: solids.replace(mask=mask)})

    depth, ids = depth_of(with_one("boxes", (0.3, 0.2, 0.2)))
    box = (np.abs(rays[..., 0]) < 0.2 / 1.7) & (np.abs(rays[..., 1]) < 0.2 / 1.7)
    np.testing.assert_allclose(depth[box], 1.7, rtol=1e-5)
    assert (ids[box] == SHELL_FACES).all()

    depth, _ = depth_of(with_one("ellipsoids", (0.3, 0.3, 0.3)))
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    along = 2.0 * unit[..., 2]
    inside = 0.3**2 - (4.0 - along**2)
    ball = inside > 1e-3
    expected = (along - np.sqrt(np.maximum(inside, 0)))[ball] * unit[..., 2][ball]
    np.testing.assert_allclose(depth[ball], expected, rtol=2e-4)

    depth, _ = depth_of(with_one("cones", (0.3, 0.3, 0.4)))
    flat = np.hypot(rays[..., 0], rays[..., 2])
    along = 2.0 / flat
    inside = 0.3**2 - (4.0 - along**2)
    expected = (along - np.sqrt(np.maximum(inside, 0))) / flat
    side = (inside > 1e-3) & (np.abs(expected * rays[..., 1]) < 0.39)
    np.testing.assert_allclose(depth[side], expected[side], rtol=2e-4)


def _warp(a, b, world_from_b):
    """Pixels of frame a seen in frame b: error of depth and of colour where both see the same."""
    points = _camera_rays() * a.depth[..., None]
    b_from_a = np.linalg.inv(world_from_b) @ a.world_from_camera
    points = points @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    z = points[..., 2]
    u = CAMERA.fx * points[..., 0] / z + CAMERA.cx
    v = CAMERA.fy * points[..., 1] / z + CAMERA.cy
    inside = (z > 0.1) & (u > 1) & (v > 1) & (u < CAMERA.width - 2) & (v < CAMERA.height - 2)
    uv = u.astype(np.float32), v.astype(np.float32)
    depth = cv2.remap(b.depth, *uv, cv2.INTER_LINEAR)
    color = cv2.remap(b.rgb.astype(np.float32), *uv, cv2.INTER_LINEAR)
    close = inside & (np.abs(depth - z) < 0.02)
    return (
        close.sum() / inside.sum(),
        np.median(np.abs(depth - z)[close]),
        np.median(np.abs(color - a.rgb)[close]),
    )


def test_frames_agree_with_poses_in_depth_and_colour(room0):
    a, b = _frame(room0, 60), _frame(room0, 75)
    share, depth_error, color_error = _warp(a, b, b.world_from_camera)
    assert share > 0.85
    assert depth_error < 0.0005
    assert color_error < 3.0  # of 255
    wrong = b.world_from_camera.copy()
    turn = cv2.Rodrigues(np.array([0.0, np.deg2rad(1.0), 0.0]))[0]
    wrong[:3, :3] = wrong[:3, :3] @ turn
    worse = _warp(a, b, wrong)
    assert worse[2] > 2 * color_error, "the check cannot tell a pose that is off by one degree"


@pytest.mark.parametrize("name", ["room0", "room1", "room2"])
def test_pictures_have_texture_light_and_range(cache, name):
    source = open_synthetic(name)
    for index in range(0, 300, 75):
        frame = _frame(source, index)
        assert frame.rgb.shape == (480, 640, 3)
        assert frame.rgb.dtype == np.uint8
        assert frame.depth.dtype == np.float32
        assert (frame.depth > 0.3).all()
        assert 0.7 < np.median(frame.depth) < 4.0
        assert 50 < frame.rgb.mean() < 210
        grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
        assert len(cv2.SIFT_create().detect(grey)) > 300, f"frame {index} is bare"


def test_the_cache_is_used_and_is_deterministic(cache, room0, monkeypatch):
    first = _frame(room0, 60)
    monkeypatch.setattr(scenes, "render", lambda *_: pytest.fail("rendered again"))
    again = open_synthetic("room0")[60]
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.depth, again.depth)
    monkeypatch.undo()
    color, depth = room0._paths(60)
    color.unlink()
    depth.unlink()
    fresh = _frame(open_synthetic("room0"), 60)
    np.testing.assert_array_equal(first.rgb, fresh.rgb)
    np.testing.assert_array_equal(first.depth, fresh.depth)
    assert not list(cache.rglob(".*"))


def test_frames_are_rendered_in_chunks_on_demand(cache):
    source = open_synthetic("room0", frames=120)
    assert source.folder == open_synthetic("room0").folder
    assert source[-20].index == 100
    cached = [i for i in range(100, 120) if source._is_cached(i)]
    assert cached == list(range(100, 100 + sources.CHUNK))
    with pytest.raises(IndexError):
        source[120]


def test_stored_depth_is_within_half_a_step(room0):
    pose = jnp.asarray(room0.poses()[60], jnp.float32)
    _, depth = render(jax.device_put(room0.scene.room), pose, CAMERA)
    stored = _frame(room0, 60).depth
    assert np.abs(stored - np.asarray(depth)).max() <= 0.5 / DEPTH_SCALE + 1e-6


def test_a_broken_file_is_a_bad_frame(cache):
    source = open_synthetic("room0", frames=3)
    source.render_frames([2])
    color, _ = source._paths(2)
    whole = color.read_bytes()
    color.write_bytes(b"")
    with pytest.raises(BadFrame, match="delete it"):
        source[2]
    color.write_bytes(whole)


def test_a_cache_that_cannot_be_written_is_a_user_error(tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    monkeypatch.setenv("ACE_JAX_CACHE", str(blocker))
    with pytest.raises(UserError, match="ACE_JAX_CACHE"):
        open_synthetic("room0")[0]


def test_the_noisy_twin_has_the_same_path_and_worse_frames(cache, room0):
    noisy = open_synthetic("room0-noisy")
    np.testing.assert_array_equal(noisy.poses(), room0.poses())
    assert noisy.folder != room0.folder
    clean, bad = _frame(room0, 60), _frame(noisy, 60)
    holes = (bad.depth == 0).mean()
    assert 0.005 < holes < 0.25
    error = (bad.depth - clean.depth)[bad.depth > 0]
    assert 0.002 < np.median(np.abs(error)) < 0.03
    assert np.abs(bad.rgb.astype(int) - clean.rgb).mean() > 1.5


def test_light_changes_pictures_and_not_depth(room0):
    room = jax.device_put(room0.scene.room)
    pose = jnp.asarray(room0.poses()[60], jnp.float32)
    dark = room.illumination.replace(color=room.illumination.color * 0.3)
    day, depth = render(room, pose, CAMERA)
    night, same = render(room, pose, CAMERA, dark)
    np.testing.assert_array_equal(depth, same)
    assert float(night.mean()) < 0.9 * float(day.mean())
    assert bool(jnp.isfinite(day).all())


def test_rays_of_many_rooms_at_once_are_those_of_each():
    rooms = [make_room(seed) for seed in (1, 2)]
    pose = jnp.asarray(open_synthetic("room0").poses()[0], jnp.float32)
    pose = pose.at[:3, 3].set(jnp.array([1.9, 1.9, 1.4]))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *rooms)
    together = jax.jit(jax.vmap(lambda room: cast_rays(room, pose, CAMERA)))(stacked)
    for k, room in enumerate(rooms):
        alone = cast_rays(jax.device_put(room), pose, CAMERA)
        np.testing.assert_allclose(together.depth[k], alone.depth, rtol=2e-4)
        assert (np.asarray(together.id[k]) == alone.id).mean() > 0.999


def test_command_line_tells_what_is_wrong(cache):
    result = run_python("-m", "ace_jax.synthetic", "--room", "attic", "--out", "unused")
    assert result.returncode == 2
    assert "room0, room1, room2" in result.stderr
    assert "Traceback" not in result.stderr
