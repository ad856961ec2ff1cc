"""Dense alignment of two RGB-D images: photometric and point-to-plane residuals of all pixels.

The motion between two views is found from coarse to fine by iteratively reweighted Gauss-Newton.
Each pixel of one image with depth contributes two residuals: the difference of brightness where it
is seen in the other image (Steinbruecker et al., ICCV Workshops 2011) and its distance from the
surface there (Newcombe et al., KinectFusion, ISMAR 2011), jointly as in Park et al. (ICCV 2017).
Both are weighted by Student's t-distribution, whose scale is estimated from the residuals (Kerl et
al., IROS 2013), and the other image may be brighter and of other contrast (Engel et al., DSO,
PAMI 2018), as auto exposure makes it. Matched keypoints may give residuals as well: a few in one
corner of the image leave the motion uncertain, where all pixels determine it; many are more precise
than the pixels of small images.
"""

import cv2
import flax.struct
import jax
import jax.numpy as jnp
import jaxlie
import numpy as np

from ace_jax.geometry.camera import MIN_DEPTH, Camera, unproject
from ace_jax.geometry.interpolation import sample_bilinear
from ace_jax.geometry.pose_refinement import normal_equations
from ace_jax.geometry.reprojection import CHI2_PIXEL_DEPTH, NoiseModel, Observations
from ace_jax.geometry.robust_loss import cauchy
from ace_jax.precision import full_precision
from ace_jax.programs import program

WIDTH = 160  # pixels of the finest level; finer ones cost more than they add to a prediction
LEVELS = 4  # each half as wide as the next: 20, 40, 80 and 160 pixels
ITERATIONS = (12, 10, 8, 5)  # from coarse to fine
FREEDOM = 5.0  # degrees of freedom of the t-distribution (Kerl et al.)
MIN_BRIGHTNESS_SIGMA = 0.01  # of the range 0 to 1; the lower bound of the estimate
MIN_DEPTH_SIGMA = 0.002  # 1/m, of inverse depth: a depth camera's noise
MAX_JUMP = 0.05  # of the depth, between neighbouring pixels of one surface, at the finest level
# A pixel agrees if its brightness (range 0 to 1) and its inverse depth (1/m) differ by less.
MAX_BRIGHTNESS, MAX_INVERSE_DEPTH = 0.1, 0.02
MIN_CONTRAST = 0.02  # standard deviation of brightness; an image with less is dark or blank
INDEPENDENT = 200.0  # residuals' worth of information at most: neighbours' errors are alike


@flax.struct.dataclass
class DenseImage:
    """An RGB-D image made small for alignment.

    Attributes:
        brightness: (h, w) 0 to 1.
        depth: (h, w) metres, 0 where unknown.
    """

    brightness: jax.Array
    depth: jax.Array


@flax.struct.dataclass
class DenseAlignment:
    """How one image lies to another.

    Attributes:
        pose: (4, 4) image_from_template, motion of points from the one camera's axes to the
            other's.
        deviation: (2,) largest standard deviation along any direction, of the translation in metres
            and of the rotation in radians.
        overlap: share of the template's pixels with depth that the other image shows with depth.
        agreement: share of these that have the same brightness and lie on the same surface.
    """

    pose: jax.Array
    deviation: jax.Array
    overlap: jax.Array
    agreement: jax.Array


def dense_image(rgb: np.ndarray, depth: np.ndarray, camera: Camera) -> DenseImage:
    """Makes an image small.

    Args:
        rgb: (H, W, 3) uint8.
        depth: (H, W) metres; 0, NaN and inf mean unknown.
        camera: its intrinsics.
    """
    width, height = small_size(camera)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    known = np.where(np.isfinite(depth) & (depth > 0), depth, 0.0).astype(np.float32)
    small = cv2.resize(known, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return DenseImage(grey.astype(np.float32) / 255.0, small)


def small_size(camera: Camera) -> tuple[int, int]:
    """Width and height of a `DenseImage`, multiples of the coarsest level's pixel."""
    unit = 2 ** (LEVELS - 1)
    height = max(round(camera.height * WIDTH / camera.width / unit), 2) * unit
    return WIDTH, height


@flax.struct.dataclass
class _Level:
    """One level of a pyramid: N pixels, row by row."""

    tones: jax.Array  # (h, w, 3) brightness and its gradient by pixel
    points: jax.Array  # (N, 3) camera axes, metres
    normals: jax.Array  # (N, 3), zero where the surface is not smooth
    known: jax.Array  # (N,) depth


def _pyramid(image: DenseImage) -> list[DenseImage]:
    """The image and its halves, the coarsest first."""
    levels = [image]
    for _ in range(LEVELS - 1):
        fine = levels[0]
        h, w = fine.brightness.shape[0] // 2, fine.brightness.shape[1] // 2

        def blocks(x, h=h, w=w):
            return x.reshape(h, 2, w, 2).transpose(0, 2, 1, 3).reshape(h, w, 4)

        brightness = blocks(fine.brightness).mean(-1)
        depth = blocks(fine.depth)
        # The nearer surface of a block: means of two surfaces are points in the air.
        nearest = jnp.min(jnp.where(depth > 0, depth, jnp.inf), -1)
        levels.insert(0, DenseImage(brightness, jnp.where(jnp.isfinite(nearest), nearest, 0.0)))
    return levels


def _level(image: DenseImage, camera: Camera, jump: float) -> _Level:
    h, w = image.brightness.shape
    v, u = jnp.mgrid[0:h, 0:w].astype(jnp.float32)
    z = image.depth
    points = unproject(jnp.stack([u, v], axis=-1), z, camera)
    known = z > 0

    def around(x):
        padded = jnp.pad(x, ((1, 1), (1, 1)) + ((0, 0),) * (x.ndim - 2), mode="edge")
        return padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]

    right, left, below, above = around(image.brightness)
    tones = jnp.stack([image.brightness, (right - left) / 2, (below - above) / 2], axis=-1)
    east, west, south, north = around(points)
    normal = jnp.cross(south - north, east - west)
    length = jnp.linalg.norm(normal, axis=-1, keepdims=True)
    depths = jnp.stack(around(z))
    smooth = jnp.all(jnp.abs(depths - z) < jump * z, axis=0) & known & (length[..., 0] > 1e-9)
    normal = jnp.where(smooth[..., None], normal / jnp.maximum(length, 1e-9), 0.0)
    return _Level(
        tones=tones,
        points=points.reshape(-1, 3),
        normals=normal.reshape(-1, 3),
        known=known.reshape(-1),
    )


@flax.struct.dataclass
class _Residuals:
    """Both residuals of N pixels and their derivatives by a left twist, gain and offset."""

    brightness: jax.Array  # (N,)
    brightness_rows: jax.Array  # (N, 8)
    seen: jax.Array  # (N,)
    depth: jax.Array  # (N,) 1/m
    depth_rows: jax.Array  # (N, 6)
    on_surface: jax.Array  # (N,) there is a smooth surface to compare with
    shown: jax.Array  # (N,) in the image and with depth there


def _residuals(
    template: _Level,
    image: _Level,
    camera: Camera,
    pose: jax.Array,
    tone: jax.Array,
    lit: jax.Array,
) -> _Residuals:
    h, w, _ = image.tones.shape
    brightness = template.tones[..., 0].reshape(-1)
    moved = template.points @ pose[:3, :3].T + pose[:3, 3]
    x, y = moved[:, 0], moved[:, 1]
    z = jnp.maximum(moved[:, 2], MIN_DEPTH)
    u, v = camera.pixels(x / z, y / z)
    inside = (u >= 0) & (u <= w - 1) & (v >= 0) & (v <= h - 1) & (moved[:, 2] > MIN_DEPTH)
    seen = template.known & inside
    uv = jnp.where(seen[:, None], jnp.stack([u, v], -1), 0.0)
    value, along_u, along_v = sample_bilinear(image.tones, uv).T
    error = value - (tone[0] * brightness + tone[1])
    gx, gy = along_u * camera.fx / z, along_v * camera.fy / z
    by_point = jnp.stack([gx, gy, -(gx * x + gy * y) / z], axis=-1)
    rows = jnp.concatenate(
        [
            by_point,
            jnp.cross(moved, by_point),
            -brightness[:, None],
            -jnp.ones_like(error)[:, None],
        ],
        axis=1,
    )
    nearest = jnp.rint(uv).astype(jnp.int32)
    place = nearest[:, 1] * w + nearest[:, 0]
    normal, there = image.normals[place], image.points[place]
    distance = jnp.sum(normal * (moved - there), axis=1) / z**2
    depth_rows = jnp.concatenate([normal, jnp.cross(moved, normal)], axis=1) / (z**2)[:, None]
    on_surface = seen & jnp.any(normal != 0, axis=1)
    return _Residuals(
        brightness=jnp.where(seen & lit, error, 0.0),
        brightness_rows=jnp.where((seen & lit)[:, None], rows, 0.0),
        seen=seen,
        depth=jnp.where(on_surface, distance, 0.0),
        depth_rows=jnp.where(on_surface[:, None], depth_rows, 0.0),
        on_surface=on_surface,
        shown=seen & image.known[place],
    )


def _t_scale(error: jax.Array, used: jax.Array, least: float) -> jax.Array:
    """Scale of a t-distribution by fixed-point iteration (Kerl et al., eq. 15)."""
    count = jnp.maximum(jnp.sum(used), 1)

    def step(_, variance):
        weight = (FREEDOM + 1) / (FREEDOM + error**2 / variance)
        return jnp.maximum(jnp.sum(used * weight * error**2) / count, least**2)

    start = jnp.maximum(jnp.sum(used * error**2) / count, least**2)
    return jnp.sqrt(jax.lax.fori_loop(0, 5, step, start))


def _weights(error: jax.Array, scale: jax.Array) -> jax.Array:
    return (FREEDOM + 1) / (FREEDOM + (error / scale) ** 2) / scale**2


def _dense_equations(found: _Residuals, scales: tuple[jax.Array, jax.Array]):
    """Hessian (8, 8) and gradient (8,)."""
    photometric = (
        found.brightness_rows * (_weights(found.brightness, scales[0]) * found.seen)[:, None]
    )
    hessian = photometric.T @ found.brightness_rows
    gradient = photometric.T @ found.brightness
    geometric = found.depth_rows * (_weights(found.depth, scales[1]) * found.on_surface)[:, None]
    hessian = hessian.at[:6, :6].add(geometric.T @ found.depth_rows)
    return hessian, gradient.at[:6].add(geometric.T @ found.depth)


def _scales(found: _Residuals) -> tuple[jax.Array, jax.Array]:
    return (
        _t_scale(found.brightness, found.seen, MIN_BRIGHTNESS_SIGMA),
        _t_scale(found.depth, found.on_surface, MIN_DEPTH_SIGMA),
    )


def _independent(found: _Residuals) -> jax.Array:
    """Share () of the residuals' information that counts."""
    count = jnp.sum(found.seen) + jnp.sum(found.on_surface)
    return jnp.minimum(INDEPENDENT / jnp.maximum(count, 1), 1.0)


def _deviation(hessian: jax.Array, found: _Residuals) -> jax.Array:
    """Largest standard deviations (2,) of translation and rotation, gain and offset unknown."""
    information = hessian * _independent(found) + jnp.diag(jnp.array([1e-3] * 6 + [1.0] * 2))
    covariance = jnp.linalg.inv(information)
    largest = [jnp.linalg.eigvalsh(covariance[i : i + 3, i : i + 3])[-1] for i in (0, 3)]
    return jnp.sqrt(jnp.stack(largest))


@program
@full_precision
def align(
    template: DenseImage,
    image: DenseImage,
    camera: Camera,
    start: jax.Array,
    observations: Observations | None = None,
    noise: NoiseModel | None = None,
) -> DenseAlignment:
    """Aligns an image with a template.

    Args:
        template: whose pixels are looked for,
        image: in this one.
        camera: intrinsics of both images in their original size.
        start: (4, 4) image_from_template, right to about a tenth of the view.
        observations: keypoints of the template (camera axes, metres) where they are in the image,
            which determine the motion too; None: there are none.
        noise: standard deviations of these.

    Returns:
        The alignment; whether it is right is for the caller to judge by `overlap`, `agreement` and
        `deviation`.
    """
    # Where the light is off in one of them, depth alone tells.
    contrasts = jnp.stack([jnp.std(x.brightness) for x in (template, image)])
    lit = jnp.all(contrasts > MIN_CONTRAST)
    templates, images = _pyramid(template), _pyramid(image)
    pose, tone = start.astype(jnp.float32), jnp.array([1.0, 0.0], jnp.float32)

    observations = None if observations is None else observations.cleaned()

    def equations(found: _Residuals, pose: jax.Array) -> tuple[jax.Array, jax.Array]:
        hessian, gradient = _dense_equations(found, _scales(found))
        if observations is None:
            return hessian, gradient
        scale = CHI2_PIXEL_DEPTH**0.5
        sparse, _ = normal_equations(pose, observations, camera, noise, scale, cauchy)
        sparse /= _independent(found)
        return hessian.at[:6, :6].add(sparse[:6, :6]), gradient.at[:6].add(sparse[:6, 6])

    for index in range(LEVELS):
        height, width = templates[index].brightness.shape
        small = camera.resized(width, height)
        jump = MAX_JUMP * 2.0 ** (LEVELS - 1 - index)
        of, to = (_level(x[index], small, jump) for x in (templates, images))

        def step(_, state, of=of, to=to, small=small):
            pose, tone = state
            found = _residuals(of, to, small, pose, tone, lit)
            hessian, gradient = equations(found, pose)
            # A weak prior on gain and offset alone, and a ridge that only dead directions feel.
            ridge = jnp.diag(jnp.concatenate([1e-6 * jnp.diag(hessian)[:6] + 1e-3, jnp.ones(2)]))
            delta = -jnp.linalg.solve(hessian + ridge, gradient)
            delta = jnp.where(jnp.all(jnp.isfinite(delta)), delta, 0.0)
            return jaxlie.SE3.exp(delta[:6]).as_matrix() @ pose, tone + delta[6:]

        pose, tone = jax.lax.fori_loop(0, ITERATIONS[index], step, (pose, tone))
    found = _residuals(of, to, small, pose, tone, lit)
    hessian, _ = equations(found, pose)
    shown = jnp.sum(found.shown)
    alike = jnp.abs(found.brightness) < MAX_BRIGHTNESS
    close = ~found.on_surface | (jnp.abs(found.depth) < MAX_INVERSE_DEPTH)
    return DenseAlignment(
        pose=pose,
        deviation=_deviation(hessian, found),
        overlap=shown / jnp.maximum(jnp.sum(of.known), 1),
        agreement=jnp.sum(found.shown & alike & close) / jnp.maximum(shown, 1),
    )
