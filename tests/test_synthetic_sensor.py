"""The sensor model: its statistics are those that it states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.geometry.camera import Camera
from ace_jax.synthetic.sensor import Sensor, motion_blur, sense, sense_depth

CAMERA = Camera(131.0, 131.0, 79.5, 59.5, 160, 120)
SHAPE = (120, 160)
CLEAN = Sensor(
    shutter=0.0, gain_swing=0.0, read_noise=0.0, shot_noise=0.0, depth_offset=0.0, depth_slope=0.0,
    disparity_step=0.0, edge_holes=0.0, blob_holes=1.0, grazing=0.0,
)  # fmt: skip
_depth = jax.jit(sense_depth)


@pytest.mark.parametrize("z", [0.8, 2.0, 4.0])
def test_depth_noise_grows_with_the_square_of_depth(z):
    sensor = CLEAN.replace(depth_offset=0.0012, depth_slope=0.0019)
    out = np.asarray(_depth(jnp.full(SHAPE, z), CAMERA, sensor, jax.random.key(0)))
    sigma = 0.0012 + 0.0019 * (z - 0.4) ** 2
    assert (out > 0).all()
    # millimetre rounding adds (1 mm)^2 / 12
    assert out.std() == pytest.approx(np.hypot(sigma, 0.001 / 12**0.5), rel=0.05)
    assert out.mean() == pytest.approx(z, abs=4 * sigma / out.size**0.5 + 2e-4)


def test_depth_is_quantised_in_disparity():
    ramp = jnp.broadcast_to(jnp.linspace(1.9, 2.1, 160), SHAPE)
    out = np.asarray(_depth(ramp, CAMERA, CLEAN.replace(disparity_step=0.125), jax.random.key(0)))
    levels = np.unique(out)
    step = 2.0**2 / 43.5 * 0.125
    np.testing.assert_allclose(np.diff(levels), step, atol=0.0025)
    assert np.abs(out - ramp).max() < 0.6 * step + 1e-3


def test_holes_at_edges_at_grazing_incidence_in_blobs_and_out_of_range():
    key = jax.random.key(3)
    step = jnp.where(jnp.arange(160) < 80, 1.0, 2.0) * jnp.ones(SHAPE)
    out = np.asarray(_depth(step, CAMERA, CLEAN.replace(edge_holes=0.7), key))
    lost = (out == 0).mean(0)
    assert lost[79:81].mean() == pytest.approx(0.7, abs=0.12)
    assert lost[:78].max() == lost[82:].max() == 0

    slope = 1.0 + jnp.broadcast_to(jnp.arange(160) * 0.03, SHAPE)  # tan = 0.03 * 131 / z
    out = np.asarray(_depth(slope, CAMERA, CLEAN.replace(grazing=0.7), key))
    assert (out[:, 20:90] == 0).all()
    assert (out[:, 100:159] > 0).all()

    blobs = np.asarray(_depth(jnp.full(SHAPE, 2.0), CAMERA, CLEAN.replace(blob_holes=0.62), key))
    assert 0.001 < (blobs == 0).mean() < 0.10

    for z in (0.3, 7.0):
        assert (np.asarray(_depth(jnp.full(SHAPE, z), CAMERA, CLEAN, key)) == 0).all()
    np.testing.assert_allclose(_depth(step, CAMERA, CLEAN, key), step, atol=6e-4)


def test_blur_follows_the_motion():
    stripes = (jnp.arange(160) // 8 % 2).astype(jnp.float32)
    rgb = jnp.broadcast_to(stripes[None, :, None], (*SHAPE, 3))
    depth = jnp.full(SHAPE, 2.0)
    pixel = 2.0 / 131.0  # metres that move the image by one pixel
    sideways = jnp.eye(4).at[0, 3].set(8 * pixel)
    upwards = jnp.eye(4).at[1, 3].set(8 * pixel)
    blur = jax.jit(motion_blur)
    np.testing.assert_allclose(blur(rgb, depth, jnp.eye(4), CAMERA, 1.0), rgb, atol=1e-4)
    np.testing.assert_allclose(blur(rgb, depth, upwards, CAMERA, 1.0), rgb, atol=1e-4)
    smeared = np.asarray(blur(rgb, depth, sideways, CAMERA, 1.0))
    assert smeared.std() < 0.75 * float(rgb.std())
    assert np.abs(np.asarray(blur(rgb, depth, sideways, CAMERA, 0.0)) - rgb).max() < 1e-4


def test_colour_noise_gain_and_seed():
    rgb, depth = jnp.full((*SHAPE, 3), 0.5), jnp.full(SHAPE, 2.0)
    run = jax.jit(sense)
    sensor = CLEAN.replace(read_noise=0.01, shot_noise=0.0002)
    args = (rgb, depth, jnp.eye(4), 1.0, CAMERA)
    color, _ = run(*args, sensor, jax.random.key(0))
    assert np.asarray(color).std() == pytest.approx((0.01**2 + 0.0002 * 0.5) ** 0.5, rel=0.05)
    again, _ = run(*args, sensor, jax.random.key(0))
    np.testing.assert_array_equal(color, again)
    other, _ = run(*args, sensor, jax.random.key(1))
    assert np.abs(np.asarray(color) - other).max() > 0.01
    drifting = CLEAN.replace(gain_swing=0.1)
    gains = [
        float(run(*args[:3], t, CAMERA, drifting, jax.random.key(0))[0].mean())
        for t in (0.0, 1.5, 4.0, 6.0)
    ]
    assert max(gains) / min(gains) > 1.05
    identity, same_depth = run(*args, CLEAN, jax.random.key(0))
    np.testing.assert_allclose(identity, rgb, atol=1e-4)
    np.testing.assert_allclose(same_depth, depth, atol=6e-4)
