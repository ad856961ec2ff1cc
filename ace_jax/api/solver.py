"""The pose solver alone, from arrays of any library."""

from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from ace_jax.data.inputs import as_seed, check_camera
from ace_jax.errors import UserError
from ace_jax.geometry import absolute_pose
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.pose_result import PoseResult
from ace_jax.programs import program

_solve = program(absolute_pose.estimate_absolute_pose)


def estimate_absolute_pose(
    points_2d: ArrayLike,
    points_3d: ArrayLike,
    camera: Camera,
    seed: SupportsIndex | jax.Array = 0,
    *,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    initial_pose: ArrayLike | None = None,
    depth: ArrayLike | None = None,
    **options: Any,
) -> PoseResult:
    """The camera pose that most 2D-3D correspondences agree with.

    `ace_jax.geometry.absolute_pose.estimate_absolute_pose`, compiled once for each N.

    Args:
        points_2d: (N, 2) pixels, undistorted.
        points_3d: (N, 3) points in the world, metres.
        camera: intrinsics, with the image's size: it tells what chance explains.
        seed: an integer, or a JAX key.
        mask: (N,) bool, False for padding.
        weights: (N,) relative confidence.
        initial_pose: (4, 4) camera_from_world, tried as well.
        depth: (N,) z-depth of the pixels, metres, 0 where unknown.
        **options: `threshold` (pixels), `confidence`, `max_hypotheses`, `inverse_depth_sigma`.

    Raises:
        UserError: shapes that do not fit; no pose is no error but `success` False.
    """
    if not isinstance(camera, Camera):
        raise UserError(
            "the solver needs the image's size, too: give an "
            "ace_jax.Camera(fx, fy, cx, cy, width, height)"
        )
    if not any(isinstance(value, Tracer) for value in camera.intrinsics):
        camera = Camera.of_floats(check_camera(camera))
    count = _shape(points_2d)[0] if _shape(points_2d) else 0
    for name, values, shape in (
        ("points_2d", points_2d, (count, 2)),
        ("points_3d", points_3d, (count, 3)),
        ("mask", mask, (count,)),
        ("weights", weights, (count,)),
        ("depth", depth, (count,)),
        ("initial_pose", initial_pose, (4, 4)),
    ):
        if values is not None and _shape(values) != shape:
            raise UserError(f"{name} has shape {_shape(values)}, not {shape}")
    if not (isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)):
        seed = jax.random.key(as_seed(seed))  # type: ignore[arg-type]
    given = {"mask": mask, "weights": weights, "initial_pose": initial_pose, "depth": depth}
    arrays = {k: None if x is None else jnp.asarray(x) for k, x in given.items()}
    return _solve(jnp.asarray(points_2d), jnp.asarray(points_3d), camera, seed, **arrays, **options)


def _shape(values: ArrayLike) -> tuple[int, ...]:
    return tuple(jnp.shape(values))
