"""Perspective-three-point: the camera poses that three 2D-3D correspondences allow.

The unknowns are the distances lambda_i along the unit bearings y_i. Two ratios of the cosine-rule
equations |lambda_i y_i - lambda_j y_j|^2 = |x_i - x_j|^2 are conics in (lambda_1 : lambda_2 :
lambda_3); a member of their pencil that splits into two lines gives the intersections
(Persson and Nordberg, "Lambda Twist", ECCV 2018; Ding et al., "Revisiting the P3P problem",
CVPR 2023). The split is done without division (Richter-Gebert, "Perspectives on projective
geometry", 2011, ch. 11), and Newton steps on the three distance equations polish the roots, which
is what makes the solver accurate in float32.
"""

import jax
import jax.numpy as jnp

from ace_jax.geometry import se3
from ace_jax.geometry import small_linalg as la

_CUBIC_STEPS = 5  # numerics: Newton steps from a start beyond which the cubic is convex
_POLISH_STEPS = 3  # numerics: Newton steps on the three distances


def p3p(bearings: jax.Array, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Up to four poses of a camera that sees three points.

    Args:
        bearings: (..., 3, 3) unit vectors in camera axes, one row per correspondence.
        points: (..., 3, 3) points in the world, one row per correspondence.

    Returns:
        camera_from_world (..., 4, 4, 4) and valid (..., 4). Poses that are not valid (fewer real
        solutions, collinear or coincident points, not finite) are the identity.
    """
    rotation, translation, valid = p3p_components(
        la.unstack_matrix(bearings), la.unstack_matrix(points)
    )
    pose = se3.from_rotation_translation(la.stack_matrix(rotation), jnp.stack(translation, axis=-1))
    pose = jnp.where(valid[..., None, None], pose, jnp.eye(4, dtype=pose.dtype))
    return jnp.moveaxis(pose, 0, -3), jnp.moveaxis(valid, 0, -1)


def p3p_components(
    bearings: la.Matrix, points: la.Matrix
) -> tuple[la.Matrix, la.Components, jax.Array]:
    """`p3p` on components: three vectors of three arrays of shape S (any).

    Returns:
        Rotation and translation components of camera_from_world, each (4, *S), and valid (4, *S).
        The rotation is orthonormal up to the rounding of the distances: `se3.orthonormalise` it.
    """
    distances, valid = _distances(bearings, points)
    camera_points = tuple(
        tuple(distance * x for x in bearing)
        for distance, bearing in zip(distances, bearings, strict=True)
    )
    # The rotation takes two sides and the normal of the triangle from the world to the camera.
    dual = _dual_basis(*_sides_and_normal(points))
    sides = _sides_and_normal(camera_points)
    rotation = tuple(
        tuple(sum(side[i] * d[j] for side, d in zip(sides, dual, strict=True)) for j in range(3))
        for i in range(3)
    )
    translation = tuple(
        c - x for c, x in zip(camera_points[0], la.matvec(rotation, points[0]), strict=True)
    )
    return rotation, translation, valid


def _distances(bearings: la.Matrix, points: la.Matrix) -> tuple[la.Components, jax.Array]:
    """Distances (4, *S) of the three points from the camera, and valid (4, *S)."""
    pairs = ((0, 1), (0, 2), (1, 2))
    sides = tuple(
        la.dot(d, d)
        for d in (tuple(p - q for p, q in zip(points[i], points[j], strict=True)) for i, j in pairs)
    )
    perimeter = sides[0] + sides[1] + sides[2]
    usable = jnp.isfinite(perimeter) & (perimeter > 0.0)
    inverse = 1.0 / jnp.where(usable, perimeter, 1.0)
    a12, a13, a23 = (jnp.where(usable, side, 1.0) * inverse for side in sides)
    # 16 area^2 of the triangle (Heron): zero for collinear points.
    area = 4.0 * a12 * a13 - (a12 + a13 - a23) ** 2
    usable = usable & (area > 1e-6)
    # 2 - 2 cos of the angles between bearings, without the cancellation of 1 - cos.
    e12, e13, e23 = (
        sum((p - q) ** 2 for p, q in zip(bearings[i], bearings[j], strict=True)) for i, j in pairs
    )
    usable = usable & jnp.isfinite(e12 + e13 + e23)
    b12, b13, b23 = (1.0 - 0.5 * e for e in (e12, e13, e23))

    zero = jnp.zeros_like(a12)
    d1 = _symmetric(a23, a23 - a12, -a12, -a23 * b12, zero, a12 * b23)
    d2 = _symmetric(a23, -a13, a23 - a13, zero, -a23 * b13, a13 * b23)
    # det(d1 + gamma d2) = c0 + c1 gamma + c2 gamma^2 + c3 gamma^3
    adjugate1, adjugate2 = la.symmetric_adjugate_3x3(d1), la.symmetric_adjugate_3x3(d2)
    c0, c3 = la.dot(d1[0], adjugate1[0]), la.dot(d2[0], adjugate2[0])
    c1, c2 = _trace_product(adjugate1, d2), _trace_product(adjugate2, d1)
    # The pencil is symmetric in d1 and d2: take the order whose leading coefficient is larger.
    swap = jnp.abs(c0) > jnp.abs(c3)
    c0, c1, c2, c3 = (
        jnp.where(swap, c3, c0),
        jnp.where(swap, c2, c1),
        jnp.where(swap, c1, c2),
        jnp.where(swap, c0, c3),
    )
    inverse = 1.0 / jnp.where(c3 == 0.0, 1.0, c3)
    gamma = _cubic_root(c2 * inverse, c1 * inverse, c0 * inverse)
    weight1, weight2 = jnp.where(swap, gamma, 1.0), jnp.where(swap, 1.0, gamma)
    degenerate = tuple(
        tuple(weight1 * x + weight2 * y for x, y in zip(r1, r2, strict=True))
        for r1, r2 in zip(d1, d2, strict=True)
    )
    sign = jnp.array([1.0, -1.0], a12.dtype)
    lines, real = _split_conic(degenerate, sign.reshape(2, 1, *[1] * a12.ndim))
    direction, intersects = _intersect_line(d1, lines, sign.reshape(1, 2, *[1] * a12.ndim))

    def residuals(x: la.Components) -> la.Components:
        x1, x2, x3 = x
        return (
            (x1 - x2) ** 2 + e12 * x1 * x2 - a12,
            (x1 - x3) ** 2 + e13 * x1 * x3 - a13,
            (x2 - x3) ** 2 + e23 * x2 * x3 - a23,
        )

    r12, r13, r23 = residuals(direction)
    length = (r12 + a12) + (r13 + a13) + (r23 + a23)
    scale = jax.lax.rsqrt(jnp.where(length > 0.0, length, 1.0))
    scale = jnp.where(direction[0] + direction[1] + direction[2] < 0.0, -scale, scale)
    x = tuple(scale * c for c in direction)

    def newton(_: int, x: la.Components) -> la.Components:
        x1, x2, x3 = x
        r12, r13, r23 = residuals(x)
        # Derivatives 2 (x1 - cos x2), ...
        j11, j12 = 2.0 * (x1 - x2) + e12 * x2, 2.0 * (x2 - x1) + e12 * x1
        j21, j23 = 2.0 * (x1 - x3) + e13 * x3, 2.0 * (x3 - x1) + e13 * x1
        j32, j33 = 2.0 * (x2 - x3) + e23 * x3, 2.0 * (x3 - x2) + e23 * x2
        determinant = -j11 * j23 * j32 - j12 * j21 * j33
        singular = jnp.abs(determinant) < 1e-12
        inverse = jnp.where(singular, 0.0, 1.0 / jnp.where(singular, 1.0, determinant))
        return (
            x1 - inverse * (-j23 * j32 * r12 - j12 * j33 * r13 + j12 * j23 * r23),
            x2 - inverse * (-j21 * j33 * r12 + j11 * j33 * r13 - j11 * j23 * r23),
            x3 - inverse * (j21 * j32 * r12 - j11 * j32 * r13 - j12 * j21 * r23),
        )

    # A loop, not unrolled: XLA would otherwise fuse the whole solver into each of its outputs.
    x = jax.lax.fori_loop(0, _POLISH_STEPS, newton, x)
    r12, r13, r23 = residuals(x)
    error = jnp.abs(r12) + jnp.abs(r13) + jnp.abs(r23)
    in_front = (x[0] > 0.0) & (x[1] > 0.0) & (x[2] > 0.0)
    valid = usable & real & intersects & in_front & (error < 1e-3)
    valid = valid.reshape(4, *a12.shape)
    size = jnp.sqrt(jnp.where(usable, perimeter, 1.0))
    return tuple(c.reshape(valid.shape) * size for c in x), valid


def _symmetric(
    xx: jax.Array, yy: jax.Array, zz: jax.Array, xy: jax.Array, xz: jax.Array, yz: jax.Array
) -> la.Matrix:
    return ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))


def _trace_product(a: la.Matrix, b: la.Matrix) -> jax.Array:
    """trace(a b) of symmetric matrices."""
    return (
        a[0][0] * b[0][0]
        + a[1][1] * b[1][1]
        + a[2][2] * b[2][2]
        + 2.0 * (a[0][1] * b[0][1] + a[0][2] * b[0][2] + a[1][2] * b[1][2])
    )


def _cubic_root(b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    """The best separated real root of x^3 + b x^2 + c x + d, by Newton's method.

    The start is an upper bound of the root's distance from the stationary point next to it (from
    the inflection, if there is none). Beyond it the cubic is monotone and convex, so that the
    iteration neither leaves nor overshoots.
    """
    discriminant = b * b - 3.0 * c
    turning = discriminant > 0.0
    root = jnp.sqrt(jnp.where(turning, discriminant, 0.0))
    left, right = (-b - root) / 3.0, (-b + root) / 3.0
    value_left = ((left + b) * left + c) * left + d
    value_right = ((right + b) * right + c) * right + d
    use_left = value_left > -value_right
    # With g the distance and h the value at the stationary point: g^3 + root g^2 = h. Without
    # one, left = right is the inflection, and g^3 + slope g = h.
    height = jnp.maximum(jnp.where(use_left, value_left, -value_right), 0.0)
    slope = jnp.where(turning, 0.0, -discriminant / 3.0)
    linear = height / jnp.where(slope > 0.0, slope, 1.0)
    square = jnp.sqrt(height / jnp.where(root > 0.0, root, 1.0))
    gap = jnp.exp(jnp.log(jnp.maximum(height, 1e-30)) / 3.0)
    gap = jnp.where(slope > 0.0, jnp.minimum(gap, linear), gap)
    gap = jnp.where(root > 0.0, jnp.minimum(gap, square), gap)
    x = jnp.where(use_left, left - gap, right + gap)

    def newton(_: int, x: jax.Array) -> jax.Array:
        value = ((x + b) * x + c) * x + d
        slope = (3.0 * x + 2.0 * b) * x + c
        return x - value / jnp.where(jnp.abs(slope) < 1e-20, 1.0, slope)

    return jax.lax.fori_loop(0, _CUBIC_STEPS, newton, x)


def _split_conic(m: la.Matrix, sign: jax.Array) -> tuple[la.Components, jax.Array]:
    """The two lines l, one per sign, of a degenerate conic m = l k^T + k l^T.

    adj(m) = -p p^T with p = l x k, and m +- [p]x is 2 l k^T or its transpose.
    """
    adjugate = la.symmetric_adjugate_3x3(m)
    diagonal = tuple(-adjugate[i][i] for i in range(3))
    p = tuple(-x for x in adjugate[0])
    peak = diagonal[0]
    for i in (1, 2):
        larger = diagonal[i] > peak
        p = tuple(jnp.where(larger, -y, x) for x, y in zip(p, adjugate[i], strict=True))
        peak = jnp.where(larger, diagonal[i], peak)
    real = peak > 0.0
    scale = sign * jax.lax.rsqrt(jnp.where(real, peak, 1.0))
    p = tuple(scale * x for x in p)
    rows = (
        (m[0][0] + 0.0 * p[0], m[0][1] - p[2], m[0][2] + p[1]),
        (m[1][0] + p[2], m[1][1] + 0.0 * p[0], m[1][2] - p[0]),
        (m[2][0] - p[1], m[2][1] + p[0], m[2][2] + 0.0 * p[0]),
    )
    line, best = rows[0], la.dot(rows[0], rows[0])
    for row in rows[1:]:
        norm = la.dot(row, row)
        larger = norm > best
        line = tuple(jnp.where(larger, y, x) for x, y in zip(line, row, strict=True))
        best = jnp.where(larger, norm, best)
    scale = jax.lax.rsqrt(jnp.where(best > 0.0, best, 1.0))
    return tuple(scale * x for x in line), real & (best > 0.0)


def _intersect_line(
    conic: la.Matrix, line: la.Components, sign: jax.Array
) -> tuple[la.Components, jax.Array]:
    """The points, one per sign, where a line of unit length meets a conic (homogeneous)."""
    l1, l2, l3 = line
    # Two points that span the line: perpendicular to l, away from its smallest component.
    flat = jnp.abs(l3) > jnp.abs(l1)
    u = (
        jnp.where(flat, 0.0, l2),
        jnp.where(flat, l3, -l1),
        jnp.where(flat, -l2, 0.0),
    )
    v = la.cross(line, u)
    conic_u = la.matvec(conic, u)
    aa, bb, cc = la.dot(u, conic_u), la.dot(v, conic_u), la.dot(v, la.matvec(conic, v))
    discriminant = bb * bb - aa * cc
    # Slightly negative: a double root, split by rounding.
    real = discriminant > -1e-3 * (bb * bb + jnp.abs(aa * cc))
    root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
    q = -(bb + jnp.where(bb < 0.0, -root, root))
    alpha = jnp.where(sign > 0.0, q, cc)
    beta = jnp.where(sign > 0.0, aa, q)
    return tuple(alpha * x + beta * y for x, y in zip(u, v, strict=True)), real


def _sides_and_normal(points: la.Matrix) -> la.Matrix:
    """Two sides of a triangle and their cross product."""
    first = tuple(q - p for p, q in zip(points[0], points[1], strict=True))
    second = tuple(q - p for p, q in zip(points[0], points[2], strict=True))
    return (first, second, la.cross(first, second))


def _dual_basis(a: la.Components, b: la.Components, normal: la.Components) -> la.Matrix:
    """Rows of the inverse of the matrix with columns a, b, normal = a x b."""
    squared = la.dot(normal, normal)
    positive = squared > 0.0
    inverse = jnp.where(positive, 1.0 / jnp.where(positive, squared, 1.0), 0.0)
    normal = tuple(inverse * x for x in normal)
    return (la.cross(b, normal), la.cross(normal, a), normal)
