"""Scene changes of adjustable strength: other lighting, moved furniture (pure functions)."""

import jax
import jax.numpy as jnp

from ace_jax.precision import full_precision
from ace_jax.synthetic.room import Illumination, Primitives, Room

MAX_GROUPS = 64  # pieces of furniture in a room, at most


def relight(illumination: Illumination, key: jax.Array, strength: jax.Array) -> Illumination:
    """Another time of day.

    Args:
        illumination: the light to change.
        key: random key.
        strength: 0 keeps it; 1 dims or brightens each lamp by up to a factor of about 4, tints
            it, and moves the lamp by decimetres.
    """
    k_gain, k_tint, k_move, k_ambient, k_exposure = jax.random.split(key, 5)
    gain = jnp.exp(strength * jax.random.uniform(k_gain, (2, 1), minval=-1.4, maxval=0.5))
    tint = jnp.exp(strength * 0.25 * jax.random.normal(k_tint, (2, 3)))
    ambient = jnp.exp(strength * jax.random.uniform(k_ambient, (3,), minval=-0.8, maxval=0.2))
    exposure = jnp.exp(strength * 0.3 * jax.random.normal(k_exposure))
    return illumination.replace(
        position=illumination.position + strength * 0.2 * jax.random.normal(k_move, (2, 3)),
        color=illumination.color * gain * tint,
        ambient=illumination.ambient * ambient,
        exposure=illumination.exposure * exposure,
    )


def evening(illumination: Illumination, by_lamp: bool) -> Illumination:
    """The same room after dusk.

    Args:
        illumination: by day: the window, then the lamp.
        by_lamp: the lamp is lit and warm, and nothing comes through the window; otherwise it is
            off, and a little comes through the window.
    """
    window, lamp = (0.01, (1.1, 0.9, 0.65)) if by_lamp else (0.08, (0.0, 0.0, 0.0))
    sky = (0.10, 0.08, 0.06) if by_lamp else (0.06, 0.07, 0.09)
    factors = jnp.stack([jnp.full(3, window), jnp.array(lamp)])
    return illumination.replace(
        color=illumination.color * factors, ambient=illumination.ambient * jnp.array(sky)
    )


def remove(room: Room, key: jax.Array, share: jax.Array) -> Room:
    """Takes whole pieces of furniture away; what is fixed to the walls stays.

    Args:
        room: one room.
        key: random key.
        share: chance that a piece is taken.
    """
    gone = jax.random.uniform(key, (MAX_GROUPS,)) < share

    def keep(kind: Primitives) -> Primitives:
        stays = (kind.group < 0) | ~gone[jnp.maximum(kind.group, 0)]
        return kind.replace(mask=kind.mask & stays)

    return room.replace(
        boxes=keep(room.boxes), cones=keep(room.cones), ellipsoids=keep(room.ellipsoids)
    )


def rearrange(
    room: Room, key: jax.Array, share: jax.Array, distance: jax.Array, angle: jax.Array
) -> Room:
    """Moves whole pieces of furniture; what is fixed to the walls stays.

    Pieces may come to stand in each other: check camera paths with `clearance` again.

    Args:
        room: one room (not stacked; vmap over rooms).
        key: random key.
        share: chance that a piece moves.
        distance: metres, standard deviation of the shift along each floor axis.
        angle: radians, standard deviation of the turn about the piece's centre.
    """
    k_who, k_shift, k_turn = jax.random.split(key, 3)
    moves = jax.random.uniform(k_who, (MAX_GROUPS,)) < share
    shift = jnp.where(moves[:, None], distance * jax.random.normal(k_shift, (MAX_GROUPS, 2)), 0.0)
    turn = jnp.where(moves, angle * jax.random.normal(k_turn, (MAX_GROUPS,)), 0.0)

    return move_groups(room, shift, turn)


@full_precision
def move_groups(room: Room, shift: jax.Array, turn: jax.Array) -> Room:
    """Moves whole pieces of furniture by given amounts.

    Args:
        room: one room (not stacked; vmap over rooms).
        shift: (MAX_GROUPS, 2) metres along the floor.
        turn: (MAX_GROUPS,) radians about the piece's centre, the mean of its primitives' centres.
    """
    kinds = (room.boxes, room.cones, room.ellipsoids)
    total, count = jnp.zeros((MAX_GROUPS, 2)), jnp.zeros(MAX_GROUPS)
    for kind in kinds:
        weight = (kind.mask & (kind.group >= 0)).astype(jnp.float32)
        total = total.at[kind.group].add(weight[:, None] * kind.center[:, :2])
        count = count.at[kind.group].add(weight)
    pivot = total / jnp.maximum(count, 1.0)[:, None]

    def move(kind: Primitives) -> Primitives:
        g = jnp.maximum(kind.group, 0)
        c, s = jnp.cos(turn[g]), jnp.sin(turn[g])
        zero, one = jnp.zeros_like(c), jnp.ones_like(c)
        spin = jnp.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).reshape(-1, 3, 3)
        flat = jnp.einsum("pij,pj->pi", spin[:, :2, :2], kind.center[:, :2] - pivot[g])
        center = jnp.concatenate([flat + pivot[g] + shift[g], kind.center[:, 2:]], -1)
        rotation = spin @ kind.rotation
        free = (kind.group >= 0) & kind.mask
        return kind.replace(
            center=jnp.where(free[:, None], center, kind.center),
            rotation=jnp.where(free[:, None, None], rotation, kind.rotation),
        )

    return room.replace(
        boxes=move(room.boxes), cones=move(room.cones), ellipsoids=move(room.ellipsoids)
    )
