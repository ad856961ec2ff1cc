"""Procedural surface colour as a function of surface coordinates, band-limited by the footprint.

Every pattern is computed for every pixel and selected: cheaper on vector units than branching.
Detail finer than the pixel's footprint fades to its mean, so that textures do not shimmer.
"""

import jax
import jax.numpy as jnp

from ace_jax.geometry.batch import where_asked
from ace_jax.synthetic.noise import (
    fade,
    fractal_noise,
    hash_pair,
    hash_unit,
    step,
    value_noise,
    value_noise_1d,
    wave,
)
from ace_jax.synthetic.ray_casting import stage
from ace_jax.synthetic.room import Pattern

OCTAVES = 7
SHAPES = 7  # shapes in a print
LUMA = (0.2126, 0.7152, 0.0722)


def _mix(a, b, w):
    return [x + (y - x) * w for x, y in zip(a, b, strict=True)]


def _select(mask, a, b):
    return [jnp.where(mask, x, y) for x, y in zip(a, b, strict=True)]


def _tint(k, seed, palette):
    """A colour per integer: a palette colour (or the mean of two), lightened or darkened."""
    zero = jnp.zeros_like(k)
    a, b = hash_pair(k, zero + 11, seed)
    pick = _select(a < 0.4, palette[1], _select(a < 0.8, palette[2], palette[0]))
    gain = 0.35 + 1.1 * b
    return [jnp.clip(c * gain + 0.25 * (b - 0.6) ** 2, 0.01, 0.95) for c in pick]


def _text(u, v, height, seed, footprint):
    """Ink coverage in [0, 1] of rows of letter-like glyphs on a 4 x 5 dot matrix."""
    row_height, letter = 1.7 * height, 0.75 * height
    row = jnp.floor(v / row_height)
    col = jnp.floor(u / letter)
    r, c = row.astype(jnp.int32), col.astype(jnp.int32)
    y, x = (v - row * row_height) / height, (u - col * letter) / letter
    gi, gj = jnp.floor(5 * y).astype(jnp.int32), jnp.floor(4 * x).astype(jnp.int32)
    # an alphabet of 24 glyphs: letters repeat as in print
    glyph = (hash_unit(c, r, seed) * 24).astype(jnp.int32)
    dot = hash_unit(gi * 4 + gj, glyph, jnp.uint32(77)) < 0.55
    word = hash_unit(c, r, seed + 1) > 0.17
    inside = (y > 0) & (y < 1) & (gj < 3) & word
    sharp = (inside & dot).astype(jnp.float32)
    w = fade(0.5 * height, footprint)
    grey = jnp.where((y > 0) & (y < 1), 0.36, 0.0) * fade(1.7 * height, footprint) + 0.0
    grey = grey + 0.21 * (1 - fade(1.7 * height, footprint))
    return sharp * w + grey * (1 - w)


def _cells(u, v, cu, cv, shift, seed, footprint, gap):
    """Running-bond grid: cell hash, hash of the cell's second number, and 1 off the joint."""
    row = jnp.floor(v / cv)
    r = row.astype(jnp.int32)
    # shift < 0: each row starts at random (planks)
    offset = jnp.where(shift < 0, hash_unit(r, r * 0 + 5, seed), row * shift)
    x = u / cu + offset
    col = jnp.floor(x)
    c = col.astype(jnp.int32)
    fu, fv = (x - col) * cu, v - row * cv
    edge = jnp.minimum(jnp.minimum(fu, cu - fu), jnp.minimum(fv, cv - fv))
    # joints thinner than a pixel get fainter, not jagged
    joint = (1 - step(edge - 0.5 * gap, footprint)) * jnp.minimum(gap / footprint, 1.0)
    return hash_unit(c, r, seed + 2), hash_unit(c, r, seed + 3), 1 - joint


_OFFSETS = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))


def _supersample(function, u, v, footprint):
    """Mean of `function(u, v)` (one array) over four points of the pixel (rotated grid)."""

    def sample(k, total):
        du, dv = jnp.array(_OFFSETS)[k]
        return total + 0.25 * function(u + du * footprint, v + dv * footprint)

    return jax.lax.fori_loop(0, 4, sample, jnp.zeros_like(u))


def _pack_layer(top, index, coverage):
    """Puts layer `index` on a packed stack of (second 8 bits, top 8 bits, coverage 16 bits).

    One carried integer instead of three colours: XLA fuses per output, so three outputs would
    compute every shape three times.
    """
    level = (coverage * 65535.0).astype(jnp.uint32)
    below = jnp.where((top & 0xFFFF) > 32767, (top >> 16) & 0xFF, top >> 24)
    return jnp.where(level > 0, (below << 24) | (index.astype(jnp.uint32) << 16) | level, top)


def _unpack_layers(stack):
    """Second layer, top layer (int32) and the top's coverage in [0, 1]."""
    coverage = (stack & 0xFFFF).astype(jnp.int32).astype(jnp.float32) / 65535.0
    return (stack >> 24).astype(jnp.int32), ((stack >> 16) & 0xFF).astype(jnp.int32), coverage


def _print(u, v, eu, ev, text_height, seed, palette, footprint):
    """A poster: overlapping shapes on a ground, a title and a few lines of text."""
    zero = jnp.zeros_like(u, dtype=jnp.int32)
    small = jnp.minimum(eu, ev)

    def shape(k, stack):
        kk = zero + k
        rnd = [r for j in range(3) for r in hash_pair(kk, zero + j, seed)]
        x, y = u - eu * rnd[0], v - ev * (0.25 + 0.75 * rnd[1])
        size = small * (0.05 + 0.30 * rnd[2] * (1 - 0.08 * k))
        disc = size - jnp.sqrt(x * x + y * y)
        ring = 0.25 * size - jnp.abs(disc - 0.3 * size)
        c = 2 * rnd[3] - 1  # a direction
        s = jnp.sqrt(1 - c * c)
        p, q = c * x + s * y, c * y - s * x
        bar = jnp.minimum(size * (0.6 + rnd[4]) - jnp.abs(p), 0.6 * size - jnp.abs(q))
        stripes = jnp.minimum(bar, 0.1 * size - jnp.abs(q - 0.4 * size * jnp.round(q / size / 0.4)))
        kind = rnd[5]
        distance = jnp.where(
            kind < 0.3, disc, jnp.where(kind < 0.5, ring, jnp.where(kind < 0.8, bar, stripes))
        )
        return _pack_layer(stack, k + 1, step(distance, footprint))

    stack = jax.lax.fori_loop(0, SHAPES, shape, jnp.full(u.shape, 0xFFFF, jnp.uint32))
    below, top, coverage = _unpack_layers(stack)
    under = _select(below == 0, palette[0], _tint(below - 1, seed, palette))
    over = _select(top == 0, palette[0], _tint(top - 1, seed, palette))
    color = _mix(under, over, coverage)

    big = text_height * 2.5
    margin = 0.07 * small
    in_width = (u > margin) & (u < eu - margin)
    lines = in_width & (v > margin) & (v < jnp.maximum(0.28 * ev, margin + 2 * text_height))
    title = in_width & (v > 0.84 * ev - 0.5 * big) & (v < 0.84 * ev + 0.9 * big)
    base = jnp.where(title, 0.84 * ev, margin)
    height = jnp.where(title, big, text_height)
    text = _supersample(lambda u, v: _text(u, v - base, height, seed, footprint), u, v, footprint)
    luma = sum(w * c for w, c in zip(LUMA, palette[0], strict=True))
    ink = jnp.where(luma > 0.25, 0.03, 0.9)
    return _mix(color, [ink] * 3, 0.9 * jnp.where(title | lines, text, 0.0))


def _kilim(u, v, eu, ev, cell, seed, palette, footprint):
    """A mirrored woven pattern of stepped diamonds with a border."""

    def knot(u, v):
        """Which yarn: 0-2 the palette, 3-5 its darker half."""
        x, y = jnp.abs(u - 0.5 * eu), jnp.abs(v - 0.5 * ev)
        i, j = jnp.floor(x / cell).astype(jnp.int32), jnp.floor(y / cell).astype(jnp.int32)
        band = (i + j) >> 2
        inner = hash_unit(band, (i - j) & 7, seed)  # powers of two: integer division is slow
        fine = hash_unit(i & 3, (j & 3) + 10 * band, seed + 1) < 0.3
        yarn = jnp.where(inner < 0.35, 0, jnp.where(inner < 0.7, 1, 2)) + jnp.where(fine, 3, 0)
        to_u, to_v = 0.5 * eu - x, 0.5 * ev - y
        ring = jnp.floor(jnp.minimum(to_u, to_v) / cell).astype(jnp.int32)
        along = jnp.where(to_u < to_v, j, i)
        border = jnp.where(hash_unit(ring, along & 3, seed + 2) < 0.5, 2, 1)
        border = jnp.where((ring & 3) == 0, 3, border)
        return jnp.where(ring < jnp.where(jnp.minimum(eu, ev) > 20 * cell, 6, 2), border, yarn)

    def vote(k, votes):
        # how many of four samples see each yarn, 4 bits a yarn: one carried value (see above)
        du, dv = jnp.array(_OFFSETS)[k]
        yarn = knot(u + du * footprint, v + dv * footprint)
        return votes + (1 << (4 * yarn))

    votes = jax.lax.fori_loop(0, 4, vote, jnp.zeros_like(u, dtype=jnp.int32))
    weights = [((votes >> (4 * k)) & 15).astype(jnp.float32) * 0.25 for k in range(6)]
    color = [
        sum((weights[k] + 0.5 * weights[k + 3]) * palette[k][c] for k in range(3)) for c in range(3)
    ]
    mean = [(a + b + c) / 3 * 0.85 for a, b, c in zip(*palette, strict=True)]
    return _mix(mean, color, fade(2 * cell, footprint))


def _picture(u, v, eu, ev, seed, palette, noise, footprint):
    """A painted landscape: sky, a sun, three ridges, a mottled foreground."""
    x, y = u / ev, v / ev
    soft = footprint / ev
    sky = _mix(palette[1], palette[0], jnp.clip(1.3 * (y - 0.3) + 0.25 * noise, 0, 1))
    zero = jnp.zeros_like(u, dtype=jnp.int32)
    sun_x = hash_unit(zero, zero + 21, seed) * eu / ev
    sun_y = 0.6 + 0.3 * hash_unit(zero, zero + 22, seed)
    sun = 0.07 - jnp.sqrt((x - sun_x) ** 2 + (y - sun_y) ** 2)
    color = _mix(sky, [0.95 + 0 * c for c in sky], step(sun, soft))

    def ridge(k, stack):
        s = seed + 31 * (k + 1).astype(jnp.uint32)
        kf = k.astype(jnp.float32)
        f = 3.0 + 2.0 * kf
        height = 0.62 - 0.17 * kf + 0.12 * value_noise_1d(f * x, s)
        height = height + 0.045 * value_noise_1d(3.7 * f * x, s + 4)
        height = height + 0.015 * value_noise_1d(15 * f * x, s + 9) * fade(0.07 / f, soft)
        return _pack_layer(stack, k + 1, step(height - y, soft))

    def land(layer):
        kf = layer.astype(jnp.float32) - 1
        shade = (0.75 - 0.2 * kf) * (1 + 0.9 * noise)
        haze = 0.08 * (2 - kf)
        ground = zip(palette[2], palette[1], strict=True)
        return _select(
            layer == 0, color, [jnp.clip(c * shade + haze * b, 0.01, 0.95) for c, b in ground]
        )

    stack = jax.lax.fori_loop(0, 3, ridge, jnp.full(u.shape, 0xFFFF, jnp.uint32))
    below, top, coverage = _unpack_layers(stack)
    return _mix(land(below), land(top), coverage)


def albedo(material, u, v, extent_u, extent_v, face, footprint) -> list[jax.Array]:
    """Diffuse colour of surface points.

    Args:
        material: `Materials` with per-point leaves (colors as a list of 3 lists of 3 arrays,
            scale as a list of 2).
        u: (N,) metres along the face, from its corner.
        v: (N,) metres across the face, upwards on walls.
        extent_u: (N,) metres, size of the face.
        extent_v: (N,) metres.
        face: (N,) int32, which face of the primitive.
        footprint: (N,) metres covered by a pixel.

    Returns:
        Three arrays (N,), linear RGB in [0, 1].
    """
    kind = material.pattern
    palette = material.colors
    c0, c1, c2 = palette
    su, sv = material.scale
    seed = material.seed + face.astype(jnp.uint32) * jnp.uint32(7919)
    wood, spine, tiles = kind == Pattern.WOOD, kind == Pattern.SPINE, kind == Pattern.TILES
    picture = kind == Pattern.PICTURE

    swap = (wood | spine) & (extent_v > extent_u)  # grain and spines run along the face
    u, v = jnp.where(swap, v, u), jnp.where(swap, u, v)
    extent_u, extent_v = (
        jnp.where(swap, extent_v, extent_u),
        jnp.where(swap, extent_u, extent_v),
    )

    gap = jnp.where(tiles, 0.006, 0.0025)
    cell_a, cell_b, off_joint = stage(_cells, u, v, su, sv, material.aux, seed, footprint, gap)
    cell_a, cell_b = jnp.where(wood | tiles, cell_a, 0.5), jnp.where(wood | tiles, cell_b, 0.5)

    def where_present(pattern, function, *arguments):
        # costly patterns cover few tiles; under vmap this becomes a plain select
        asked = jnp.any(kind == pattern)
        return where_asked(lambda *a: list(function(*a)), asked, *arguments)

    # one noise for all patterns, in coordinates that suit the pattern
    length = jnp.where(wood, 0.09, jnp.where(tiles, 0.12, jnp.where(picture, 0.25, su)))
    length = jnp.where((kind == Pattern.NOISE) | wood | tiles | picture, length, 0.06)
    nx = jnp.where(wood, u / (14.0 * length) + 37.0 * cell_a, u / length + 17.0 * cell_a)
    ny = v / length + 29.0 * cell_b
    noise = fractal_noise(nx, ny, seed, footprint / length, OCTAVES, 0.72)

    # wood: bent rings, fibres, a tone per plank
    def rings(nx, ny, seed, length, footprint):
        bend = value_noise(0.9 * nx, 0.7 * ny, seed + 50)
        bend = bend + 0.5 * value_noise(2 * nx, 2 * ny, seed + 51)
        return [wave(ny * 1.6 + 1.6 * bend) * fade(length / 1.6, footprint)]

    (years,) = where_present(Pattern.WOOD, rings, nx, ny, seed, length, footprint)
    grain = jnp.clip(0.5 + 0.22 * years + 0.6 * material.contrast * noise, 0, 1)
    tone = (0.72 + 0.56 * cell_b) * (0.35 + 0.65 * off_joint)
    wooden = [c * tone for c in _mix(c0, c1, grain)]

    # tiles and bricks: a tone per cell, speckles, joints in the third colour
    speckle = jnp.clip(0.5 + 0.9 * material.contrast * noise, 0, 1)
    tone = 0.75 + 0.5 * cell_a
    tiled = _mix(c2, [c * tone for c in _mix(c0, c1, speckle)], off_joint)

    plain = _mix(c0, c1, jnp.clip(0.5 + material.contrast * noise, 0, 1))

    paper = where_present(
        Pattern.PRINT, _print, u, v, extent_u, extent_v, material.aux, seed, palette, footprint
    )
    rug = where_present(
        Pattern.KILIM, _kilim, u, v, extent_u, extent_v, su, seed, palette, footprint
    )
    rug = [c * (1 + 0.35 * noise) for c in rug]

    # book spines: two bands and a line of lettering
    def lettered(u, v, extent_u, extent_v, seed, footprint):
        middle = (jnp.abs(v - 0.5 * extent_v) < 0.30 * extent_v) & (u > 0.22 * extent_u)
        middle = middle & (u < 0.78 * extent_u)
        lettering = 0.52 * extent_v
        letters = _supersample(
            lambda u, v: _text(u, v - 0.24 * extent_v, lettering, seed, footprint), u, v, footprint
        )
        stripe = hash_unit(jnp.floor(u / (0.09 * extent_u)).astype(jnp.int32), 0 * face, seed)
        return stripe, jnp.where(middle, letters, 0.0)

    stripe, letters = where_present(
        Pattern.SPINE, lettered, u, v, extent_u, extent_v, seed, footprint
    )
    cover = _select(stripe < 0.25, c1, c0)
    cover = _mix(cover, c2, 0.9 * letters)

    painted = where_present(
        Pattern.PICTURE, _picture, u, v, extent_u, extent_v, seed, palette, noise, footprint
    )

    # wallpaper: stripes of two tones with a motif in the third
    def papered(u, v, su, sv, aux, footprint):
        stripe = wave(u / su) * fade(su, footprint)
        mu, mv = u / su - jnp.floor(u / su) - 0.5, v / sv - jnp.floor(v / sv) - 0.5
        mv = mv * sv / su
        radius = jnp.sqrt(mu * mu + mv * mv)
        c = mu / (radius + 1e-6)
        star = 0.24 + 0.12 * (16 * c**5 - 20 * c**3 + 5 * c) - radius  # cos of five times the angle
        diamond = 0.09 - jnp.abs(jnp.abs(mu) + jnp.abs(mv) - 0.32)
        rings = 0.05 - jnp.abs(jnp.abs(radius - 0.22) - 0.12)
        petals = jnp.where(aux < 0.5, star, jnp.where(aux < 1.5, diamond, rings))
        return stripe, step(petals * su, footprint) * fade(0.3 * su, footprint)

    stripe, motif = where_present(Pattern.WALLPAPER, papered, u, v, su, sv, material.aux, footprint)
    wall = _mix(_mix(c0, c1, 0.5 + 0.5 * stripe), c2, 0.55 * motif)
    wall = [c * (1 + 0.6 * material.contrast * noise) for c in wall]

    # plaid: crossing stripes of a woven cloth
    def stripes(x, su, seed, footprint, salt):
        edge = x / su * 8
        k = jnp.round(edge).astype(jnp.int32)
        blend = step((edge - k) * su / 8, footprint)
        before = hash_unit((k - 1) & 7, 0 * k, seed + salt) > 0.57
        after = hash_unit(k & 7, 0 * k, seed + salt) > 0.57
        return jnp.where(before, 1 - blend, 0.0) + jnp.where(after, blend, 0.0)

    def woven(u, v, *known):
        return stripes(u, *known, 0), stripes(v, *known, 3)

    along, across = where_present(Pattern.PLAID, woven, u, v, su, seed, footprint)
    cloth = _mix(_mix(c0, c1, 0.7 * along), c2, 0.5 * across)
    mean = _mix(_mix(c0, c1, 0.31), c2, 0.2)
    cloth = _mix(mean, cloth, fade(su / 4, footprint))
    cloth = [c * (1 + 0.5 * material.contrast * noise) for c in cloth]

    color = plain
    for pattern, value in (
        (Pattern.WOOD, wooden),
        (Pattern.TILES, tiled),
        (Pattern.PRINT, [c * (1 + 0.06 * noise) for c in paper]),
        (Pattern.KILIM, rug),
        (Pattern.SPINE, [c * (1 + 0.25 * noise) for c in cover]),
        (Pattern.PICTURE, painted),
        (Pattern.WALLPAPER, wall),
        (Pattern.PLAID, cloth),
    ):
        color = _select(kind == pattern, value, color)
    return [jnp.clip(c, 0.0, 1.0) for c in color]
