"""Point-to-plane registration of depth images (Chen and Medioni, Image and Vision Computing 1992).

The planes of one image (`depth_planes`) are moved into the other; each should lie in the plane that
is seen there. r = n.(R p + t) - 1, divided by the length of n: metres.
"""

import flax.struct
import jax
import jax.numpy as jnp
import jaxlie

from ace_jax.geometry import se3
from ace_jax.geometry.camera import MIN_DEPTH, Camera, project, unproject
from ace_jax.geometry.depth_planes import grid_pixels, grid_uv
from ace_jax.precision import full_precision
from ace_jax.programs import program

# Tuned, unless stated otherwise, on synthetic rooms 3 and 4 and 7-Scenes redkitchen 0-499.
MIN_PLANES = 100  # that agree; with fewer there is no registration
MAX_DISTANCE = (0.02, 0.01)  # metres, and per metre of depth, between planes of one surface
MIN_ALIGNED = 0.95  # cosine between their normals
INDEPENDENT = 20.0  # planes' worth of information at most: a depth camera's errors are smooth
MAD_TO_SIGMA = 1.4826  # theory: sigma over the median absolute deviation of a normal distribution
MIN_SPREAD = 0.0005  # 1/m of inverse depth, 2 mm at 2 m: the least standard deviation assumed


@flax.struct.dataclass
class Registration:
    """How one depth image lies to B others.

    Attributes:
        other_from_camera: (B, 4, 4) motion of points from the one camera's axes to the others'.
        information: (B, 6, 6) inverse covariance of a left twist (translation, rotation) of it,
            1/m^2 and 1/rad^2; almost 0 along directions that the surfaces do not constrain.
        move: (B, 6) left twist from the start.
        success: (B,) bool, enough planes agree.
    """

    other_from_camera: jax.Array
    information: jax.Array
    move: jax.Array
    success: jax.Array


@program(static_argnames=("iterations",))
@full_precision
def register(
    planes: jax.Array,
    others: jax.Array,
    other_from_camera: jax.Array,
    camera: Camera,
    iterations: int = 4,
) -> Registration:
    """Registers a depth image to B others by Gauss-Newton with Cauchy weights.

    A plane's counterpart is the one in whose cell of the grid it falls. Distances count as errors
    of inverse depth, whose noise is the same near and far.

    Args:
        planes: (R, C, 3) of the one image, see `fit_planes`.
        others: (B, R, C, 3) of the others.
        other_from_camera: (B, 4, 4) where the search starts, right to some centimetres.
        camera: intrinsics of all.
        iterations: Gauss-Newton steps.
    """
    points, normals, known = surface(planes, camera)

    def one(other: jax.Array, start: jax.Array) -> Registration:
        def measure(pose):
            found = counterparts(points, normals, known, other, pose, camera)
            return found.pose_rows, found.error, found.used

        def normal_equations(rows, error, spread):
            weighed = rows.T * cauchy_weight(error, spread)
            return weighed @ rows, weighed @ error

        def step(_, pose):
            hessian, gradient = normal_equations(*measure(pose)[:2], spread)
            ridge = 1e-6 * jnp.trace(hessian) + 1e-9
            delta = -jax.scipy.linalg.solve(hessian + ridge * jnp.eye(6), gradient, assume_a="pos")
            delta = jnp.where(jnp.all(jnp.isfinite(delta)), delta, 0.0)
            return se3.exp(delta) @ pose

        spread = spread_of(*measure(start)[1:])
        pose = jax.lax.fori_loop(0, iterations, step, start)
        rows, error, used = measure(pose)
        spread = spread_of(error, used)
        count = jnp.sum(used)
        share = jnp.minimum(INDEPENDENT / jnp.maximum(count, 1), 1.0)
        moved = jaxlie.SE3.from_matrix(pose) @ jaxlie.SE3.from_matrix(start).inverse()
        return Registration(
            other_from_camera=pose,
            information=normal_equations(rows, error, spread)[0] * share / spread**2,
            move=moved.log(),
            success=count >= MIN_PLANES,
        )

    return jax.vmap(one)(others, other_from_camera)


def surface(planes: jax.Array, camera: Camera) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Centres (P, 3) and unit normals (P, 3) of a grid of planes, and which are known (P,)."""
    uv = jnp.asarray(grid_uv(camera).reshape(-1, 2), jnp.float32)
    rays = unproject(uv, jnp.ones(len(uv)), camera)
    planes = planes.reshape(-1, 3)
    inverse_depth = jnp.sum(rays * planes, axis=1)
    known = inverse_depth > 0
    points = rays / jnp.where(known, inverse_depth, 1.0)[:, None]
    length = jnp.linalg.norm(planes, axis=1, keepdims=True)
    return points, planes / jnp.where(known[:, None], length, 1.0), known


@flax.struct.dataclass
class Counterparts:
    """What P points of one image meet in another.

    Attributes:
        moved: (P, 3) the points in the other camera's axes.
        normal: (P, 3) unit normals of the planes that are there.
        error: (P,) how far the points are from the planes as an error of inverse depth, 1/m.
        pose_rows: (P, 6) its derivative with respect to a left twist of the pose.
        used: (P,) whether the two are one surface; error and rows are 0 where they are not.
    """

    moved: jax.Array
    normal: jax.Array
    error: jax.Array
    pose_rows: jax.Array
    used: jax.Array


@full_precision
def counterparts(
    points: jax.Array,
    normals: jax.Array,
    known: jax.Array,
    planes: jax.Array,
    pose: jax.Array,
    camera: Camera,
) -> Counterparts:
    """The planes of another image on which those of one should lie.

    Args:
        points, normals, known: of P planes, see `surface`.
        planes: (R, C, 3) of the other image.
        pose: (4, 4) other_from_camera.
        camera: intrinsics.
    """
    moved = points @ pose[:3, :3].T + pose[:3, 3]
    plane = _plane_at(planes, moved, camera)
    length = jnp.linalg.norm(plane, axis=1)
    inverse_length = 1.0 / jnp.where(length > 0, length, 1.0)
    normal = plane * inverse_length[:, None]
    distance = jnp.sum(normal * moved, axis=1) - inverse_length
    z = jnp.maximum(moved[:, 2], MIN_DEPTH)
    seen = known & (length > 0) & (moved[:, 2] > MIN_DEPTH)
    aligned = jnp.sum(normal * (normals @ pose[:3, :3].T), axis=1) > MIN_ALIGNED
    used = seen & aligned & (jnp.abs(distance) < MAX_DISTANCE[0] + MAX_DISTANCE[1] * z)
    weight = jnp.where(used, z**-2, 0.0)
    rows = jnp.concatenate([normal, jnp.cross(moved, normal)], axis=1)
    return Counterparts(
        moved=moved,
        normal=normal,
        error=jnp.where(used, distance / z**2, 0.0),
        pose_rows=rows * weight[:, None],
        used=used,
    )


def _plane_at(planes: jax.Array, points: jax.Array, camera: Camera) -> jax.Array:
    """(P, 3) the plane of the cell (R, C, 3) into which each point (P, 3) projects, or zeros."""
    v, u = grid_pixels(camera)
    uv = project(points, camera)
    column = jnp.rint((uv[:, 0] - u[0]) / (u[1] - u[0])).astype(jnp.int32)
    row = jnp.rint((uv[:, 1] - v[0]) / (v[1] - v[0])).astype(jnp.int32)
    inside = (column >= 0) & (column < len(u)) & (row >= 0) & (row < len(v))
    place = jnp.where(inside, row * len(u) + column, 0)
    return jnp.where(inside[:, None], planes.reshape(-1, 3)[place], 0.0)


def spread_of(error: jax.Array, used: jax.Array) -> jax.Array:
    """Standard deviation of the errors that are used, by their median, at least MIN_SPREAD."""
    median = jnp.nanmedian(jnp.where(used, jnp.abs(error), jnp.nan))
    return jnp.maximum(MAD_TO_SIGMA * jnp.nan_to_num(median), MIN_SPREAD)


def cauchy_weight(error: jax.Array, spread: jax.Array) -> jax.Array:
    """Weight of each error (P,): a half at two standard deviations."""
    return 1.0 / (1.0 + (error / (2.0 * spread)) ** 2)
