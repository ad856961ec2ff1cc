"""Products state their precision, and rounding as on accelerators does no harm to what matters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_scene import rotation
from depth_scene import CAMERA as DEPTH_CAMERA
from depth_scene import depth_image, views
from jax import lax
from products import MANTISSA, products, rounded

from ace_jax.features.base import Features
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.bundle_adjustment import BundleProblem, bundle_adjust
from ace_jax.geometry.camera import Camera, camera_rows
from ace_jax.geometry.depth_calibration import COEFFICIENTS, calibration_equations
from ace_jax.geometry.depth_planes import fit_planes
from ace_jax.geometry.kabsch import kabsch
from ace_jax.geometry.plane_registration import register
from ace_jax.geometry.pose_refinement import refine_pose_with_gating
from ace_jax.geometry.ransac_kabsch import estimate_rigid_transform
from ace_jax.geometry.relative_poses import RelativePoses
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.localization.landmarks import Landmarks
from ace_jax.localization.localize import QueryPose, guided_pose
from ace_jax.localization.settings import Settings
from ace_jax.mapping.plane_sweep import grid_row, inverse_depths, sweep
from ace_jax.mapping.triangulation import triangulate
from ace_jax.models.landmark_attention import attend, nearest
from ace_jax.precision import full_precision, network_precision
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.tracking.relocalization import relocalize
from ace_jax.training import losses

KEY = jax.random.key(0)
CAMERA = Camera(525.0, 515.0, 319.5, 239.5, 640, 480)
NOISE = NoiseModel(pixel_sigma=1.5, inverse_depth_sigma=0.0375)
FULL = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
KINDS = ("tf32", "bf16")


def _unit(rng: np.random.Generator, count: int, dim: int = 64) -> np.ndarray:
    x = rng.normal(size=(count, dim))
    return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


def _moved(rng: np.random.Generator, pose: np.ndarray, angle: float, distance: float):
    motion = np.eye(4)
    motion[:3, :3] = rotation(rng.normal(size=3) * angle)
    motion[:3, 3] = rng.normal(size=3) * distance
    return np.float32(motion @ pose)


def _view(seed: int = 0, count: int = 200, shift: float = 5.0):
    """A pose some metres from the origin, and points that it sees: uv, depth, world."""
    rng = np.random.default_rng(seed)
    pose = _moved(rng, np.eye(4), 0.5, shift)
    uv = rng.uniform([0, 0], [640, 480], (count, 2))
    z = rng.uniform(0.8, 4.0, count)
    ray = np.stack([(uv[:, 0] - CAMERA.cx) / CAMERA.fx, (uv[:, 1] - CAMERA.cy) / CAMERA.fy], 1)
    local = np.concatenate([ray, np.ones((count, 1))], 1) * z[:, None]
    world = (local - pose[:3, 3]) @ pose[:3, :3]
    return pose, *(np.float32(x) for x in (uv, z, local, world))


def _track():
    pose, uv, z, _, world = _view()
    start = _moved(np.random.default_rng(1), pose, 0.02, 0.03)
    return refine_pose_with_gating, (start, world, uv, z, np.ones(len(uv), bool), CAMERA, NOISE)


def _window(keyframes: int = 4, landmarks: int = 100):
    rng = np.random.default_rng(2)
    points = rng.uniform([-1.5, -1.0, 2.0], [1.5, 1.0, 4.0], (landmarks, 3))
    poses = np.stack([_moved(rng, np.eye(4), 0.06, 0.15) for _ in range(keyframes)])
    x, y, z = np.moveaxis(
        points @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3], 2, 0
    )
    uv = np.stack([CAMERA.fx * x / z + CAMERA.cx, CAMERA.fy * y / z + CAMERA.cy], -1)
    start = poses.copy()
    start[:2] = [_moved(rng, pose, 0.01, 0.02) for pose in poses[:2]]
    relative = RelativePoses(
        first=np.array([2], np.int32),
        second=np.array([3], np.int32),
        second_from_first=np.float32(poses[3] @ np.linalg.inv(poses[2]))[None],
        information=np.eye(6, dtype=np.float32)[None] * 1e4,
    )
    problem = BundleProblem(
        camera_from_world=start,
        free=np.ones(2, bool),
        points=np.float32(points + 0.03 * rng.normal(size=points.shape)),
        uv=np.float32(uv),
        depth=np.float32(z),
        observed=np.ones(z.shape, bool),
        relative=relative,
    )
    return bundle_adjust, (problem, CAMERA, NOISE)


def _depth_images():
    poses = views(3)
    planes = np.stack([fit_planes(depth_image(pose), DEPTH_CAMERA) for pose in poses])
    between = np.float32([pose @ np.linalg.inv(poses[0]) for pose in poses[1:]])
    return planes, between


def _register():
    planes, between = _depth_images()
    rng = np.random.default_rng(3)
    start = np.stack([_moved(rng, pose, 0.002, 0.004) for pose in between])
    return register, (planes[0], planes[1:], start, DEPTH_CAMERA)


def _bend():
    planes, between = _depth_images()
    bend = np.zeros(COEFFICIENTS, np.float32)
    return calibration_equations, (planes[0], planes[1:], between, DEPTH_CAMERA, bend)


def _kabsch():
    _, _, _, local, world = _view()
    return lambda a, b: kabsch(a, b)[0], (world, local)


def _gradient_of(solve):
    return jax.grad(lambda a, b: jnp.sum(jnp.sin(solve(a, b).camera_from_world)), argnums=(0, 1))


def _ransac_kabsch():
    _, _, _, local, world = _view()
    return _gradient_of(lambda a, b: estimate_rigid_transform(a, b, KEY)), (world, local)


def _ransac_pnp():
    _, uv, z, _, world = _view()
    solve = _gradient_of(lambda a, b: estimate_absolute_pose(a, b, CAMERA, KEY, depth=z))
    return solve, (uv, world)


def _features(seed: int = 0):
    pose, uv, z, _, world = _view(seed)
    descriptors = _unit(np.random.default_rng(seed), len(uv))
    ones = np.ones(len(uv), np.float32)
    return (
        pose,
        world,
        Features(uv=uv, descriptors=descriptors, scores=ones, depth=z, mask=ones > 0),
    )


def _relocalize():
    _, world, features = _features()
    valid = np.ones(len(world), bool)
    return lambda f: relocalize(
        f.descriptors, world, valid, f, CAMERA, 0, 0, 160.0, SlamConfig()
    ), (features,)


def _guided():
    pose, world, f = _features()
    unknown = np.full(len(world), np.nan, np.float32)
    views = np.ones(len(world), np.int32)
    arrays = world, f.descriptors[:, None], np.zeros_like(world), unknown, views
    landmarks = Landmarks(*map(jnp.asarray, arrays))
    settings, row = Settings(min_guided=4, guided_similarity=0.5), camera_rows([CAMERA])[0]

    def refined(p):
        start = QueryPose(p, jnp.array(True), jnp.array(64), jnp.eye(6))
        return guided_pose(landmarks, 64, settings, False, f, row, start).camera_from_world

    return refined, (pose,)


def _sweep():
    rng = np.random.default_rng(4)
    grid = (6, 8)
    uv = np.float32(np.stack(np.meshgrid(np.arange(8), np.arange(6)), -1).reshape(-1, 2) * 80 + 40)
    relative = np.stack([_moved(rng, np.eye(4), 0.02, 0.1) for _ in range(3)])
    descriptors = np.stack([_unit(rng, 48) for _ in range(4)])
    cameras = np.tile(camera_rows([CAMERA]).astype(np.float32), (3, 1))
    grids = np.tile(grid_row(uv, grid), (3, 1))
    everything, used = np.ones(len(uv), bool), np.ones(3, bool)
    levels = inverse_depths(0.5, 5.0, 8)
    return lambda d, r: sweep(
        d[0], uv, everything, CAMERA, d[1:], r, cameras, grids, used, levels
    ), (descriptors, relative)


def _triangulate():
    _, _, f = _features()
    relative = np.stack([_moved(np.random.default_rng(5), np.eye(4), 0.02, 0.1)])
    camera = camera_rows([CAMERA]).astype(np.float32)
    others = f.descriptors[None], f.uv[None], f.mask[None]
    return lambda r: triangulate(f.descriptors, f.uv, f.mask, CAMERA, *others, r, camera), (
        relative,
    )


def _loss():
    pose, uv, _, _, world = _view()
    scale = np.full(len(world), 0.1, np.float32)

    def loss(xyz):
        seen = losses.reproject(xyz, pose, CAMERA, uv)
        return jnp.sum(losses.reprojection_nll(seen, scale, CAMERA, uv))

    return jax.value_and_grad(loss), (world,)


def _attend(count: int = 1500):
    """Descriptors of landmarks ask for themselves: the answer is exact, its scale the floor."""
    rng = np.random.default_rng(6)
    points = np.float32(rng.uniform(-4, 4, (count, 3)) + np.array([50, 0, -20]))
    descriptors = _unit(rng, count)
    return lambda q, k, p: attend(q, k, p, 160.0), (descriptors[:200], descriptors, points)


def _nearest():
    _, (queries, keys, _) = _attend(300)
    return nearest, (queries, keys)


GEOMETRY = {
    "motion-only pose": _track,
    "bundle adjustment": _window,
    "depth registration": _register,
    "depth bend": _bend,
    "Kabsch": _kabsch,
    "RANSAC-Kabsch and its gradient": _ransac_kabsch,
    "RANSAC-PnP and its gradient": _ransac_pnp,
    "relocalization while tracking": _relocalize,
    "guided pose of the relocalizer": _guided,
    "plane sweep": _sweep,
    "triangulation": _triangulate,
    "reprojection and its gradient": _loss,
    "landmark attention": _attend,
    "nearest landmark": _nearest,
}


def _product(x):
    return x @ x


PROGRAMS = {
    "nothing": _product,
    "jit": jax.jit(_product),
    "checkpoint": jax.checkpoint(_product),
    "custom derivative": lambda x: jax.nn.relu6(_product(x) / 100) * 100,
    "scan": lambda x: lax.scan(lambda y, _: (_product(y), None), x, None, length=1)[0],
    "while": lambda x: lax.while_loop(lambda s: s[1], lambda s: (_product(s[0]), False), (x, True))[
        0
    ],
    "cond": lambda x: lax.cond(x[0, 0] > 0, _product, jnp.cos, x),
    "vmap": lambda x: jax.vmap(_product)(x[None])[0],
    "network precision": network_precision(_product),
    "full precision": full_precision(network_precision(_product)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_rounding_reaches_the_products_inside(name, kind):
    x = np.float32(np.random.default_rng(0).uniform(1, 2, (5, 5)))
    bits = {"full precision": 23, "network precision": 10}.get(name, MANTISSA[kind])
    operand = np.float64(lax.reduce_precision(x, 8, bits))
    found = rounded(PROGRAMS[name], kind)(x)
    np.testing.assert_allclose(found, operand @ operand, rtol=1e-6)
    assert (np.abs(found - np.float64(x) @ x).max() > 1e-4) == (bits < 23)


def test_a_product_of_the_library_without_a_precision_is_refused():
    library = {"__name__": "ace_jax.some_module"}
    exec("def product(x):\n    return x @ x", library)
    x = jnp.ones((2, 2))
    with pytest.raises(AssertionError, match="without a precision"):
        jax.jit(library["product"])(x)
    for state in (full_precision, network_precision):
        jax.jit(state(library["product"]))(x)
        jax.grad(state(lambda x: library["product"](x).sum()))(x)


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_and_attention_to_landmarks_compute_in_full(name):
    """So rounding, which leaves such products alone (above), moves no pose and no answer."""
    function, args = GEOMETRY[name]()
    found = products(function, *args)
    assert found
    assert [text for text, precision in found if precision != FULL] == []
