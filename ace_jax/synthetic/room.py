"""A room as arrays: a shell (the inside of a box) and padded lists of convex primitives.

Everything is a pytree of fixed shapes, so rooms can be stacked and vmapped. World axes: z up, the
floor at z = 0, the room spans [0, size]. Metres; colours are linear RGB.
"""

import dataclasses
import enum

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

SHELL_FACES = 6  # -x, +x, -y, +y, floor, ceiling: the first rows of the material table


class Pattern(enum.IntEnum):
    """What a material's surface looks like; see `textures.albedo`."""

    NOISE = 0
    WOOD = 1
    TILES = 2
    PRINT = 3
    KILIM = 4
    SPINE = 5
    PICTURE = 6
    WALLPAPER = 7
    PLAID = 8


@flax.struct.dataclass
class Primitives:
    """P convex solids of one kind, padded.

    Attributes:
        center: (P, 3) world position.
        rotation: (P, 3, 3) world_from_local.
        size: (P, 3). Boxes: half extents. Cones (capped, axis z): radius at the bottom, radius
            at the top, half height. Ellipsoids: semi-axes.
        casts_shadow: (P,) bool; lamps do not.
        group: (P,) int32 piece of furniture it belongs to; -1 is fixed to the room.
        mask: (P,) bool, False for padding.
    """

    center: jax.Array
    rotation: jax.Array
    size: jax.Array
    casts_shadow: jax.Array
    group: jax.Array
    mask: jax.Array


@flax.struct.dataclass
class Materials:
    """One row per shell face, box, cone and ellipsoid, in this order.

    Attributes:
        pattern: (N,) int32, a `Pattern`.
        seed: (N,) uint32, decorrelates surfaces of equal pattern.
        colors: (N, 3, 3) palette, linear RGB.
        scale: (N, 2) metres; the pattern's cell size, or its longest wavelength.
        aux: (N,) pattern's own number (shift of brick rows, size of print).
        contrast: (N,) amplitude of the noise, about 0-1.
        gloss: (N,) strength of the lamp's reflection.
        emission: (N,) radiance added, as a multiple of the albedo.
    """

    pattern: jax.Array
    seed: jax.Array
    colors: jax.Array
    scale: jax.Array
    aux: jax.Array
    contrast: jax.Array
    gloss: jax.Array
    emission: jax.Array


@flax.struct.dataclass
class Illumination:
    """Two soft lights and a sky that fills the shadows.

    Attributes:
        position: (2, 3) metres: the window and the lamp.
        color: (2, 3) intensity at 1 m, linear RGB.
        radius: (2,) metres, how soft the shadows are.
        ambient: (3,) linear RGB.
        exposure: scalar gain before tone mapping.
    """

    position: jax.Array
    color: jax.Array
    radius: jax.Array
    ambient: jax.Array
    exposure: jax.Array


@flax.struct.dataclass
class Room:
    """Geometry, surfaces and the light that the room was made for.

    Attributes:
        size: (3,) metres.
        boxes: oriented boxes.
        cones: truncated cones and cylinders.
        ellipsoids: ellipsoids and spheres.
        materials: rows for the shell and all primitives.
        illumination: the room's own light.
    """

    size: jax.Array
    boxes: Primitives
    cones: Primitives
    ellipsoids: Primitives
    materials: Materials
    illumination: Illumination


@dataclasses.dataclass(frozen=True)
class Doorway:
    """An opening in a wall of a room, from the floor up.

    Attributes:
        face: of the shell: 0 to 3 for -x, +x, -y, +y.
        center: metres along the wall: y on the x walls, x on the y walls.
        width: metres.
        height: metres.
    """

    face: int
    center: float
    width: float = 0.9
    height: float = 2.05


def bounding_boxes(room: Room) -> Primitives:
    """All primitives as oriented boxes (center, rotation, half extents) in material order."""
    cones = room.cones
    radius = jnp.maximum(cones.size[:, 0], cones.size[:, 1])
    cones = cones.replace(size=jnp.stack([radius, radius, cones.size[:, 2]], -1))
    return jax.tree.map(lambda *x: jnp.concatenate(x), room.boxes, cones, room.ellipsoids)


def clearance(room: Room, points: np.ndarray, walls: bool = True) -> np.ndarray:
    """Distance (N,) from world points (N, 3) to the nearest bounding box or wall.

    Negative inside a box or outside the room. Without `walls`, boxes only. Host code, float64.
    """
    boxes = jax.tree.map(np.asarray, bounding_boxes(room))
    points = np.asarray(points, np.float64)
    size = np.asarray(room.size, np.float64)
    nearest = np.minimum(points, size - points).min(-1) if walls else np.full(len(points), np.inf)
    for i in np.flatnonzero(boxes.mask):
        q = np.abs((points - boxes.center[i]) @ boxes.rotation[i]) - boxes.size[i]
        outside = np.linalg.norm(np.maximum(q, 0.0), axis=-1)
        nearest = np.minimum(nearest, outside + np.minimum(q.max(-1), 0.0))
    return nearest
