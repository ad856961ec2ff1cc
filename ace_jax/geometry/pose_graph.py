"""Pose-graph optimisation on SE(3) with loop edges that may be false.

Nodes are poses T = camera_from_world, an edge (i, j) measures Z = j_from_i, and the error is
r = log(T_j T_i^-1 Z^-1) in the axes of camera j (Kuemmerle et al., g2o, ICRA 2011). Levenberg-
Marquardt on sparse normal equations, on the host: the graph grows, so nothing here is compiled.

Loop edges may be false. Those that cannot be satisfied together with the others are switched off,
as in Suenderhauf and Protzel (IROS 2012), by graduated non-convexity with the truncated
least-squares cost (Yang et al., RA-L 2020): the cost starts convex, so the order in which edges are
doubted does not depend on how far the start is off.
"""

import dataclasses

import numpy as np

from ace_jax.geometry.rigid import invert

CHI2_LOOP = 16.8  # theory: 99 % quantile of chi-square, 6 degrees of freedom; beyond: false
_SMALL_ANGLE = 1e-2  # radians; below, series replace quotients that lose all digits
_SWITCH_GROWTH = 4.0  # of the non-convexity between two rounds (judged; Yang et al. take 1.4)
_MAX_ROUNDS = 40  # at most: the growth decides every edge long before
_MAX_DAMPING = 1e8  # relative; a step that small changes nothing in float64
_SOLUTION_TOLERANCE = 1e-6  # of the linear systems, relative
_MAX_PRODUCTS = 30  # conjugate gradient iterations before a new factorisation pays (judged)


@dataclasses.dataclass(frozen=True)
class PoseGraph:
    """K poses and E measured relative poses.

    Attributes:
        camera_from_world: (K, 4, 4) float64 start.
        first: (E,) node i.
        second: (E,) node j.
        second_from_first: (E, 4, 4) measured j_from_i.
        information: (E, 6, 6) inverse covariance of the error (translation, rotation), 1/m^2,
            1/rad^2.
        is_loop: (E,) bool, edges that may be false.
        fixed: (K,) bool, at least one: the gauge.
    """

    camera_from_world: np.ndarray
    first: np.ndarray
    second: np.ndarray
    second_from_first: np.ndarray
    information: np.ndarray
    is_loop: np.ndarray
    fixed: np.ndarray


@dataclasses.dataclass(frozen=True)
class PoseGraphResult:
    """The optimised graph.

    Attributes:
        camera_from_world: (K, 4, 4); on failure the start.
        weights: (E,) 1 for edges that count, 0 for loop edges that were switched off.
        chi_square: (E,) squared error of each edge in units of its covariance.
        iterations: linear systems solved.
        success: the cost fell (or was least already) and everything is finite.
    """

    camera_from_world: np.ndarray
    weights: np.ndarray
    chi_square: np.ndarray
    iterations: int
    success: bool


def optimize_pose_graph(
    graph: PoseGraph, max_iterations: int = 15, tolerance: float = 1e-6
) -> PoseGraphResult:
    """Poses that agree best with the edges, without those loop edges that contradict the rest.

    Args:
        graph: start and measurements; every node should be connected to a fixed one.
        max_iterations: linear systems of one round.
        tolerance: largest entry of a step (metres, radians) at which to stop.
    """
    weights = np.ones(len(graph.first))
    numbers = (graph.camera_from_world, graph.second_from_first, graph.information)
    if not all(np.isfinite(values).all() for values in numbers):
        unknown = np.full(len(graph.first), np.inf)
        return PoseGraphResult(graph.camera_from_world, weights, unknown, 0, False)
    solver = _Solver(graph)
    poses = solver.minimize(graph.camera_from_world, weights, max_iterations, tolerance)
    loops = np.flatnonzero(graph.is_loop)
    chi_square = solver.chi_square(poses)
    if len(loops) and np.max(chi_square[loops]) > CHI2_LOOP:
        poses, weights = _switch_loops(solver, poses, loops, tolerance)
        chi_square = solver.chi_square(poses)
    before = solver.chi_square(graph.camera_from_world)
    finite = bool(np.isfinite(poses).all() and np.isfinite(chi_square).all())
    success = finite and float(weights @ chi_square) <= float(weights @ before) * (1 + 1e-9) + 1e-12
    return PoseGraphResult(
        camera_from_world=poses if success else graph.camera_from_world,
        weights=weights,
        chi_square=chi_square if success else before,
        iterations=solver.iterations,
        success=success,
    )


def _switch_loops(
    solver: "_Solver", poses: np.ndarray, loops: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Graduated non-convexity over the loop edges (Yang et al. 2020, eq. 12-14)."""
    weights = np.ones(len(solver.graph.first))
    chi_square = solver.chi_square(poses)[loops]
    shape = CHI2_LOOP / max(2 * float(np.max(chi_square)) - CHI2_LOOP, CHI2_LOOP)
    for _ in range(_MAX_ROUNDS):
        error = np.sqrt(np.maximum(chi_square, 1e-12))
        between = np.sqrt(CHI2_LOOP * shape * (shape + 1)) / error - shape
        weights[loops] = np.clip(between, 0.0, 1.0)
        poses = solver.minimize(poses, weights, 1, tolerance)
        chi_square = solver.chi_square(poses)[loops]
        decided = np.minimum(weights[loops], 1 - weights[loops]) < 1e-3
        if np.all(decided) and shape > 1.0:
            break
        shape *= _SWITCH_GROWTH
    weights[loops] = chi_square <= CHI2_LOOP
    return solver.minimize(poses, weights, 10, tolerance), weights


class _Solver:
    """Levenberg-Marquardt with a sparsity pattern that is found once."""

    def __init__(self, graph: PoseGraph):
        self.graph = graph
        self.iterations = 0
        self._inverse_measured = invert(graph.second_from_first)
        self._adjoint = adjoint(graph.second_from_first)
        self._free = np.flatnonzero(~graph.fixed)
        place = np.full(len(graph.fixed), -1)
        place[self._free] = np.arange(len(self._free))
        first, second = place[graph.first], place[graph.second]
        rows = np.concatenate([first, first, second, second])
        columns = np.concatenate([first, second, first, second])
        self._kept = np.flatnonzero((rows >= 0) & (columns >= 0))
        # The diagonal is appended, so that no block row is empty and damping has its place.
        rows = np.concatenate([rows[self._kept], np.arange(len(self._free))])
        columns = np.concatenate([columns[self._kept], np.arange(len(self._free))])
        flat = rows * max(len(self._free), 1) + columns
        self._order = np.argsort(flat, kind="stable")
        flat, self._starts = np.unique(flat[self._order], return_index=True)
        block_rows, self._block_columns = np.divmod(flat, max(len(self._free), 1))
        self._indptr = np.searchsorted(block_rows, np.arange(len(self._free) + 1))
        self._diagonal = np.flatnonzero(block_rows == self._block_columns)
        self._into_free = first, second
        self._factors = None

    def chi_square(self, poses: np.ndarray) -> np.ndarray:
        """(E,) squared errors."""
        error = self._error(poses)
        return np.einsum("ei,eij,ej->e", error, self.graph.information, error)

    def minimize(
        self, poses: np.ndarray, weights: np.ndarray, max_iterations: int, tolerance: float
    ) -> np.ndarray:
        """Levenberg-Marquardt from `poses` with fixed edge weights (E,)."""
        if len(self._free) == 0:
            return poses
        cost = float(weights @ self.chi_square(poses))
        damping = 1e-8
        system = self._normal_equations(poses, weights)
        for _ in range(max_iterations):
            step = self._solve(*system, damping)
            self.iterations += 1
            moved = poses.copy()
            moved[self._free] = exp(step) @ poses[self._free]
            moved_cost = float(weights @ self.chi_square(moved))
            if not np.isfinite(moved_cost) or moved_cost > cost:
                if np.max(np.abs(step), initial=0.0) < tolerance:
                    return poses
                damping *= 100.0
                if damping > _MAX_DAMPING:
                    return poses
                continue
            poses, cost, damping = moved, moved_cost, max(damping * 0.1, 1e-10)
            if np.max(np.abs(step)) < tolerance:
                return poses
            system = self._normal_equations(poses, weights)
        return poses

    def _error(self, poses: np.ndarray) -> np.ndarray:
        """(E, 6) log(T_j T_i^-1 Z^-1)."""
        graph = self.graph
        relative = poses[graph.second] @ invert(poses)[graph.first]
        return log(relative @ self._inverse_measured)

    def _normal_equations(self, poses, weights):
        """Blocks (B, 6, 6) of J^T W J in block-row order, and the gradient (F, 6)."""
        error = self._error(poses)
        first, second = edge_jacobians(error, self._adjoint)
        information = self.graph.information * weights[:, None, None]
        first_t = np.swapaxes(first, 1, 2) @ information
        second_t = np.swapaxes(second, 1, 2) @ information
        mixed = first_t @ second
        values = np.concatenate(
            [first_t @ first, mixed, np.swapaxes(mixed, 1, 2), second_t @ second]
        )
        values = np.concatenate([values[self._kept], np.zeros((len(self._free), 6, 6))])
        blocks = np.add.reduceat(values[self._order].reshape(-1, 36), self._starts, axis=0)
        gradient = np.zeros((len(self._free), 6))
        for into, transposed in zip(self._into_free, (first_t, second_t), strict=True):
            terms = (transposed @ error[..., None])[..., 0]
            for axis in range(6):
                gradient[:, axis] += np.bincount(
                    into[into >= 0], terms[into >= 0, axis], len(self._free)
                )
        return blocks.reshape(-1, 6, 6), gradient

    def _solve(self, blocks: np.ndarray, gradient: np.ndarray, damping: float) -> np.ndarray:
        """(F, 6) step."""
        import scipy.sparse.linalg

        blocks = blocks.copy()
        axis = np.arange(6)
        diagonal = blocks[self._diagonal][:, axis, axis]
        # An unconnected node has an empty block: the constant keeps the system solvable.
        blocks[self._diagonal[:, None], axis, axis] += damping * diagonal + 1e-9
        size = 6 * len(self._free)
        matrix = scipy.sparse.bsr_array(
            (blocks, self._block_columns, self._indptr), shape=(size, size)
        ).tocsc()
        # Between iterations the matrix hardly changes, and loop edges change it in few directions:
        # an old factorisation makes conjugate gradients exact after a few products.
        target = -gradient.reshape(-1)
        if self._factors is not None:
            step, failed = scipy.sparse.linalg.cg(
                matrix,
                target,
                rtol=_SOLUTION_TOLERANCE,
                maxiter=_MAX_PRODUCTS,
                M=scipy.sparse.linalg.LinearOperator(matrix.shape, self._factors.solve),
            )
            if not failed and np.isfinite(step).all():
                return step.reshape(-1, 6)
        self._factors = scipy.sparse.linalg.splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",  # the matrix is symmetric
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        return self._factors.solve(target).reshape(-1, 6)


def edge_jacobians(error: np.ndarray, adjoint_measured: np.ndarray):
    """Derivatives of the errors (E, 6) by left twists of both poses: (E, 6, 6) for i and for j.

    exp(d_j) T_j (exp(d_i) T_i)^-1 Z^-1 = exp(d_j) exp(r) exp(-Ad_Z d_i), so dr/dd_j = J_l^-1(r)
    and dr/dd_i = -J_r^-1(r) Ad_Z, with J_r(r) = J_l(-r).
    """
    return -left_jacobian_inverse(-error) @ adjoint_measured, left_jacobian_inverse(error)


def exp(twist: np.ndarray) -> np.ndarray:
    """Rigid motions (M, 4, 4) of twists (M, 6): translation part, then rotation vector."""
    from scipy.spatial.transform import Rotation

    rotation_vector = twist[:, 3:]
    versine, cubic, _, _ = _coefficients(rotation_vector)
    cross = skew(rotation_vector)
    left = np.eye(3) + versine * cross + cubic * (cross @ cross)
    result = np.zeros((len(twist), 4, 4))
    result[:, :3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    result[:, :3, 3] = (left @ twist[:, :3, None])[..., 0]
    result[:, 3, 3] = 1.0
    return result


def log(matrix: np.ndarray) -> np.ndarray:
    """Twists (M, 6) of rigid motions (M, 4, 4)."""
    from scipy.spatial.transform import Rotation

    rotation_vector = Rotation.from_matrix(matrix[:, :3, :3]).as_rotvec()
    translation = (_left_inverse_so3(rotation_vector) @ matrix[:, :3, 3:])[..., 0]
    return np.concatenate([translation, rotation_vector], axis=1)


def adjoint(matrix: np.ndarray) -> np.ndarray:
    """(M, 6, 6) with T exp(x) T^-1 = exp(Ad_T x)."""
    rotation = matrix[:, :3, :3]
    result = np.zeros((len(matrix), 6, 6))
    result[:, :3, :3] = result[:, 3:, 3:] = rotation
    result[:, :3, 3:] = skew(matrix[:, :3, 3]) @ rotation
    return result


def left_jacobian_inverse(twist: np.ndarray) -> np.ndarray:
    """(M, 6, 6) J_l^-1: log(exp(d) exp(x)) = x + J_l^-1(x) d + O(d^2).

    Barfoot, State Estimation for Robotics (2017), eq. 7.83-7.95.
    """
    moved, turned = skew(twist[:, :3]), skew(twist[:, 3:])
    _, first, second, third = _coefficients(twist[:, 3:])
    turned2 = turned @ turned
    both = turned @ moved @ turned
    q = (
        0.5 * moved
        + first * (turned @ moved + moved @ turned + both)
        + second * (turned2 @ moved + moved @ turned2 - 3 * both)
        + third * (both @ turned + turned @ both)
    )
    rotation = _left_inverse_so3(twist[:, 3:])
    result = np.zeros((len(twist), 6, 6))
    result[:, :3, :3] = result[:, 3:, 3:] = rotation
    result[:, :3, 3:] = -rotation @ q @ rotation
    return result


def skew(vector: np.ndarray) -> np.ndarray:
    """(M, 3, 3) with skew(a) b = a x b."""
    x, y, z = vector[:, 0], vector[:, 1], vector[:, 2]
    result = np.zeros((len(vector), 3, 3))
    result[:, 0, 1], result[:, 0, 2], result[:, 1, 2] = -z, y, -x
    result[:, 1, 0], result[:, 2, 0], result[:, 2, 1] = z, -y, x
    return result


def _left_inverse_so3(rotation_vector: np.ndarray) -> np.ndarray:
    """(M, 3, 3) inverse of the left Jacobian of SO(3)."""
    angle = np.linalg.norm(rotation_vector, axis=1)[:, None, None]
    safe = np.maximum(angle, _SMALL_ANGLE)
    half = 0.5 * safe
    factor = (1.0 - half / np.tan(half)) / safe**2
    factor = np.where(angle < _SMALL_ANGLE, 1 / 12 + angle**2 / 720, factor)
    cross = skew(rotation_vector)
    return np.eye(3) - 0.5 * cross + factor * (cross @ cross)


def _coefficients(rotation_vector: np.ndarray) -> tuple[np.ndarray, ...]:
    """Functions of the angle t, (M, 1, 1) each: (1 - cos t) / t^2, (t - sin t) / t^3,
    (t^2 + 2 cos t - 2) / (2 t^4), (2 t + t cos t - 3 sin t) / (2 t^5).
    """
    angle2 = np.sum(rotation_vector**2, axis=1)[:, None, None]
    t = np.sqrt(angle2)
    small = t < 10 * _SMALL_ANGLE  # the last one divides a difference of order t^5
    t = np.where(small, 1.0, t)
    sine, cosine = np.sin(t), np.cos(t)
    exact = (
        (1 - cosine) / t**2,
        (t - sine) / t**3,
        (t**2 + 2 * cosine - 2) / (2 * t**4),
        (2 * t + t * cosine - 3 * sine) / (2 * t**5),
    )
    series = ((2, 24, 720), (6, 120, 5040), (24, 720, 40320), (120, 2520, 120960))
    return tuple(
        np.where(small, 1 / a - angle2 / b + angle2**2 / c, e)
        for (a, b, c), e in zip(series, exact, strict=True)
    )
