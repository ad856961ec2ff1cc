"""Noise model of a Kinect-like RGB-D camera, applied to rendered frames (pure, jittable)."""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry.camera import Camera, project, unproject
from ace_jax.precision import full_precision
from ace_jax.synthetic.noise import value_noise

BLUR_TAPS = 5


@flax.struct.dataclass
class Sensor:
    """Strengths of the defects; zeros switch them off.

    Attributes:
        shutter: exposure time as a share of the frame period; blurs what moves.
        gain_swing: amplitude of the exposure's drift, log units.
        read_noise: standard deviation at black, in units of full scale.
        shot_noise: variance per unit of brightness, in units of full scale.
        depth_offset: metres; sigma(z) = depth_offset + depth_slope (z - 0.4)^2, from Nguyen, Izadi
            and Lovell, "Modeling Kinect sensor noise", 3DIMPVT 2012, equation 2.
        depth_slope: 1/metres.
        disparity_step: pixels; depth is quantised in disparity, baseline x focal 43.5 m px.
        edge_holes: chance that a pixel at a depth edge has no depth.
        blob_holes: threshold in [0, 1] of the noise that cuts holes; 1 for none.
        grazing: cosine of incidence under which depth is lost.
        min_depth: metres.
        max_depth: metres.
    """

    shutter: float = 0.35
    gain_swing: float = 0.10
    read_noise: float = 0.006
    shot_noise: float = 0.00015
    depth_offset: float = 0.0012
    depth_slope: float = 0.0019
    disparity_step: float = 0.125
    edge_holes: float = 0.7
    blob_holes: float = 0.62
    grazing: float = 0.15
    min_depth: float = 0.4
    max_depth: float = 6.0


_FOCAL_BASELINE = 43.5  # pixels x metres: 580 px, 7.5 cm


def _bilinear(image: jax.Array, uv: jax.Array) -> jax.Array:
    """Image (H, W, 3) at pixels uv (..., 2), edges repeated."""
    h, w = image.shape[:2]
    x, y = jnp.clip(uv[..., 0], 0, w - 1.001), jnp.clip(uv[..., 1], 0, h - 1.001)
    i, j = jnp.floor(x).astype(jnp.int32), jnp.floor(y).astype(jnp.int32)
    fx, fy = (x - i)[..., None], (y - j)[..., None]
    top = image[j, i] * (1 - fx) + image[j, i + 1] * fx
    bottom = image[j + 1, i] * (1 - fx) + image[j + 1, i + 1] * fx
    return top * (1 - fy) + bottom * fy


@full_precision
def motion_blur(rgb, depth, motion, camera: Camera, shutter) -> jax.Array:
    """Averages the picture along each pixel's image motion during the exposure.

    Args:
        rgb: (H, W, 3).
        depth: (H, W) metres.
        motion: (4, 4) pose of the next camera in this one's frame.
        camera: intrinsics.
        shutter: share of the frame period.
    """
    v, u = jnp.mgrid[: camera.height, : camera.width].astype(jnp.float32)
    uv = jnp.stack([u, v], -1)
    points = unproject(uv, depth, camera)
    moved = (points - motion[:3, 3]) @ motion[:3, :3]
    flow = (project(moved, camera) - uv) * shutter
    # a bound keeps points that pass beside the camera from smearing everything
    flow = jnp.clip(flow, -30.0, 30.0)

    def tap(total, s):
        return total + _bilinear(rgb, uv + s * flow), None

    steps = jnp.linspace(-0.5, 0.5, BLUR_TAPS)
    return jax.lax.scan(tap, jnp.zeros_like(rgb), steps)[0] / BLUR_TAPS


def _shift(image, dy, dx):
    h, w = image.shape
    return jnp.pad(image, 1, mode="edge")[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]


def sense_depth(depth, camera: Camera, sensor: Sensor, key) -> jax.Array:
    """Depth (H, W) with noise, quantisation and holes (zeros), in whole millimetres."""
    k_noise, k_edge, k_blob = jax.random.split(key, 3)
    sigma = sensor.depth_offset + sensor.depth_slope * jnp.square(depth - 0.4)
    noisy = depth + sigma * jax.random.normal(k_noise, depth.shape)
    disparity = _FOCAL_BASELINE / jnp.maximum(noisy, 0.1)
    step = jnp.maximum(sensor.disparity_step, 1e-4)
    noisy = _FOCAL_BASELINE / jnp.maximum(jnp.round(disparity / step) * step, 1e-3)
    noisy = jnp.round(noisy * 1000) / 1000

    around = [_shift(depth, dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    spread = jnp.stack(around).max(0) - jnp.stack(around).min(0)
    # incidence from the slope of depth along the image: tan = (dz/du) f / z for a small field
    gx = 0.5 * (_shift(depth, 0, 1) - _shift(depth, 0, -1)) * camera.fx / depth
    gy = 0.5 * (_shift(depth, 1, 0) - _shift(depth, -1, 0)) * camera.fy / depth
    cosine = jax.lax.rsqrt(1.0 + gx * gx + gy * gy)
    edge = spread > 0.02 + 0.03 * depth
    lost = edge & (jax.random.uniform(k_edge, depth.shape) < sensor.edge_holes)
    lost |= ~edge & (cosine < sensor.grazing)
    v, u = jnp.mgrid[: depth.shape[0], : depth.shape[1]].astype(jnp.float32)
    seed = jax.random.bits(k_blob, dtype=jnp.uint32)
    blob = 0.75 * value_noise(u / 23, v / 23, seed) + 0.25 * value_noise(u / 5, v / 5, seed + 1)
    lost |= blob > sensor.blob_holes
    lost |= (depth < sensor.min_depth) | (depth > sensor.max_depth)
    return jnp.where(lost, 0.0, noisy)


def sense(
    rgb: jax.Array,
    depth: jax.Array,
    motion: jax.Array,
    time: jax.Array,
    camera: Camera,
    sensor: Sensor,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """A picture and its depth as a sensor would give them.

    Args:
        rgb: (H, W, 3) in [0, 1], gamma-encoded.
        depth: (H, W) metres, positive.
        motion: (4, 4) pose of the next camera in this one's frame.
        time: seconds; the exposure drifts slowly with it.
        camera: intrinsics.
        sensor: strengths.
        key: of this frame.

    Returns:
        rgb (H, W, 3) in [0, 1] and depth (H, W), 0 where unknown.
    """
    k_color, k_depth = jax.random.split(key)
    color = motion_blur(rgb, depth, motion, camera, sensor.shutter)
    drift = jnp.sin(2 * jnp.pi * time / 7.0) + 0.5 * jnp.sin(2 * jnp.pi * time / 2.9)
    # half-hearted automatic exposure towards a mean of 0.45
    auto = 0.5 * jnp.log(0.45 / jnp.maximum(color.mean(), 0.05))
    gain = jnp.exp(sensor.gain_swing * (drift + jnp.clip(auto, -1.0, 1.0)))
    color = color * gain
    sigma = jnp.sqrt(sensor.read_noise**2 + sensor.shot_noise * jnp.maximum(color, 0.0))
    color = color + sigma * jax.random.normal(k_color, color.shape)
    return jnp.clip(color, 0.0, 1.0), sense_depth(depth, camera, sensor, k_depth)
