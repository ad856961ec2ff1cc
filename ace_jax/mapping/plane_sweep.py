"""Depth of a feature grid from posed neighbours: a plane sweep over descriptor similarity.

For every cell of a reference image and every one of a set of inverse depths, the cell's point is
projected into the neighbours, and the similarity of the descriptors there is averaged over the
neighbours that see it. The best inverse depth is kept where the neighbours agree and the peak
stands out. No depth camera is needed; poses and intrinsics must be known.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.geometry.camera import MIN_DEPTH, Camera, camera_of, project, unproject
from ace_jax.precision import full_precision


@flax.struct.dataclass
class SweptDepth:
    """Result for the N cells of one reference image.

    Attributes:
        depth: (N,) z-depth in metres; finite everywhere, meaningful where `valid`.
        peak: (N,) mean similarity at that depth.
        agreement: (N,) number of neighbours whose own best depth agrees.
        valid: (N,) bool.
    """

    depth: jax.Array
    peak: jax.Array
    agreement: jax.Array
    valid: jax.Array


def inverse_depths(near: float, far: float, count: int = 96) -> jax.Array:
    """(count,) uniform inverse depths from far to near, 1/m."""
    return jnp.linspace(1.0 / far, 1.0 / near, count)


def grid_row(uv: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """A regular grid of pixels as an array (6,): u and v of its first cell, steps, columns, rows.

    Args:
        uv: (N, 2) pixels of its cells, row by row, at least rows * columns.
        grid: (rows, columns).
    """
    rows, columns = grid
    first, last = uv[0], uv[rows * columns - 1]
    step = np.maximum((last - first) / [columns - 1, rows - 1], 1e-6)
    return np.array([*first, *step, columns, rows], np.float32)


@full_precision
def sweep(
    reference: jax.Array,
    uv: jax.Array,
    mask: jax.Array,
    camera: Camera,
    neighbours: jax.Array,
    neighbours_from_reference: jax.Array,
    neighbours_cameras: jax.Array,
    neighbours_grids: jax.Array,
    neighbours_used: jax.Array,
    levels: jax.Array,
    min_agreement: int = 3,
    tolerance: float = 0.05,
    min_prominence: float = 0.03,
) -> SweptDepth:
    """Sweeps one reference image.

    Args:
        reference: (N, D) unit descriptors of the reference's features.
        uv: (N, 2) their pixels.
        mask: (N,) bool.
        camera: intrinsics of the reference.
        neighbours: (K, N', D) descriptors of the neighbours' cells, row by row.
        neighbours_from_reference: (K, 4, 4) neighbour camera from reference camera.
        neighbours_cameras: (K, 6) their intrinsics, see `camera_rows`.
        neighbours_grids: (K, 6) places of their cells, see `grid_row`.
        neighbours_used: (K,) bool, False for padding.
        levels: (B,) ascending, equally spaced inverse depths, 1/m.
        min_agreement: neighbours whose own best depth must agree with the common one.
        tolerance: relative difference of inverse depth that counts as agreement.
        min_prominence: how far the peak must be above the best similarity elsewhere.
    """
    count = levels.shape[0]
    rays = unproject(uv, jnp.ones(uv.shape[0]), camera)

    def neighbour(
        carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        total, views = carry
        descriptors, pose, intrinsics, grid, used = inputs
        beside = camera_of(intrinsics)
        left, top, right_step, down_step, columns, rows = grid
        turned = rays @ pose[:3, :3].T
        point = turned[:, None, :] / levels[None, :, None] + pose[:3, 3]
        depth = point[..., 2]
        expected = project(point, beside)
        column = (expected[..., 0] - left) / right_step
        row = (expected[..., 1] - top) / down_step
        inside = (column >= 0) & (column <= columns - 1) & (row >= 0) & (row <= rows - 1)
        seen = inside & (depth > MIN_DEPTH) & used
        similarity = _sample(reference @ descriptors.T, column, row, columns, rows)
        similarity = jnp.where(seen, similarity, 0.0)
        own = jnp.argmax(jnp.where(seen, similarity, -jnp.inf), axis=1)
        own = jnp.where(seen.any(axis=1), own, -1)
        return (total + similarity, views + seen), own

    zeros = jnp.zeros((uv.shape[0], count))
    inputs = (
        neighbours,
        neighbours_from_reference,
        neighbours_cameras,
        neighbours_grids,
        neighbours_used,
    )
    (total, views), own = jax.lax.scan(neighbour, (zeros, zeros), inputs)
    # A depth that only few neighbours see would win by luck.
    curve = jnp.where(views >= min_agreement, total / jnp.maximum(views, 1.0), -1.0)
    best = jnp.argmax(curve, axis=1)
    peak = jnp.take_along_axis(curve, best[:, None], axis=1)[:, 0]
    inverse = _parabola(curve, best, levels)
    own_inverse = levels[jnp.maximum(own, 0)]
    agrees = (own >= 0) & (jnp.abs(own_inverse - inverse) < tolerance * inverse)
    agreement = agrees.sum(axis=0)
    # The peak's own flanks are not rivals: leave out what is within twice the tolerance.
    flank = jnp.abs(levels[None] - inverse[:, None]) < 2 * tolerance * inverse[:, None]
    rival = jnp.where(flank, -1.0, curve).max(axis=1)
    interior = (best > 0) & (best < count - 1)
    valid = mask & interior & (agreement >= min_agreement) & (peak - rival > min_prominence)
    return SweptDepth(depth=1.0 / inverse, peak=peak, agreement=agreement, valid=valid)


def _sample(
    similarity: jax.Array, column: jax.Array, row: jax.Array, columns: jax.Array, rows: jax.Array
) -> jax.Array:
    """Bilinear values (N, B) of each cell's similarity map (N, rows * columns) at (N, B) places."""
    columns, rows = columns.astype(jnp.int32), rows.astype(jnp.int32)
    column, row = jnp.clip(column, 0, columns - 1), jnp.clip(row, 0, rows - 1)
    x = jnp.minimum(jnp.floor(column).astype(jnp.int32), columns - 2)
    y = jnp.minimum(jnp.floor(row).astype(jnp.int32), rows - 2)
    fx, fy = column - x, row - y
    index = y * columns + x

    def at(offset: jax.Array | int) -> jax.Array:
        return jnp.take_along_axis(similarity, index + offset, axis=1)

    top = at(0) * (1 - fx) + at(1) * fx
    bottom = at(columns) * (1 - fx) + at(columns + 1) * fx
    return top * (1 - fy) + bottom * fy


def _parabola(curve: jax.Array, best: jax.Array, levels: jax.Array) -> jax.Array:
    """Inverse depth (N,) at the top of the parabola through the best level and its neighbours."""
    last = levels.shape[0] - 1

    def value(index: jax.Array) -> jax.Array:
        return jnp.take_along_axis(curve, jnp.clip(index, 0, last)[:, None], axis=1)[:, 0]

    before, top, after = value(best - 1), value(best), value(best + 1)
    bend = before - 2 * top + after
    shift = jnp.where(bend < -1e-9, 0.5 * (before - after) / jnp.minimum(bend, -1e-9), 0.0)
    return levels[best] + jnp.clip(shift, -0.5, 0.5) * (levels[1] - levels[0])
