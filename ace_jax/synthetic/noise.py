"""Hashes, smooth noise and anti-aliased steps, from which surface colours are made."""

import jax
import jax.numpy as jnp


def hash_uint(x: jax.Array, y: jax.Array, seed: jax.Array) -> jax.Array:
    """Integer hash of lattice points (int32, int32, uint32) to uint32."""
    x, y = x.astype(jnp.uint32), y.astype(jnp.uint32)
    h = x * jnp.uint32(0x8DA6B343) + y * jnp.uint32(0xD8163841) + seed * jnp.uint32(0xCB1AB31F)
    h = (h ^ (h >> 15)) * jnp.uint32(0x2C1B3C6D)
    h = (h ^ (h >> 12)) * jnp.uint32(0x297A2D39)
    return h ^ (h >> 15)


def hash_unit(x: jax.Array, y: jax.Array, seed: jax.Array) -> jax.Array:
    """Hash to [0, 1)."""
    return (hash_uint(x, y, seed) >> 8).astype(jnp.int32).astype(jnp.float32) * (1.0 / (1 << 24))


def hash_pair(x: jax.Array, y: jax.Array, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two 16-bit numbers in [0, 1) from one hash."""
    h = hash_uint(x, y, seed)
    low, high = (h & 0xFFFF).astype(jnp.int32), (h >> 16).astype(jnp.int32)
    return low.astype(jnp.float32) / 65536.0, high.astype(jnp.float32) / 65536.0


def fade(wavelength: jax.Array, footprint: jax.Array) -> jax.Array:
    """1 where a wavelength is resolved (3 pixels and more), 0 below 1.5 pixels."""
    return jnp.clip(wavelength / (1.5 * footprint) - 1.0, 0.0, 1.0)


def step(x: jax.Array, width: jax.Array) -> jax.Array:
    """Anti-aliased step at x = 0, `width` wide."""
    return jnp.clip(x / width + 0.5, 0.0, 1.0)


def wave(x: jax.Array) -> jax.Array:
    """A sine-like wave of period 1 in [-1, 1], from two parabolas (libm's sine is 20x slower)."""
    t = x - jnp.floor(x) - 0.5
    return -8.0 * t * (1.0 - 2.0 * jnp.abs(t))


def value_noise_1d(x: jax.Array, seed: jax.Array) -> jax.Array:
    """Smooth noise in [-1, 1] on a line with unit lattice."""
    x0 = jnp.floor(x)
    i = x0.astype(jnp.int32)
    a, b = hash_unit(i, i * 0, seed), hash_unit(i + 1, i * 0, seed)
    f = x - x0
    return 2 * (a + (b - a) * f * f * (3 - 2 * f)) - 1


def value_noise(x: jax.Array, y: jax.Array, seed: jax.Array) -> jax.Array:
    """Smooth noise in [-1, 1] with unit lattice."""
    x0, y0 = jnp.floor(x), jnp.floor(y)
    i, j = x0.astype(jnp.int32), y0.astype(jnp.int32)
    fx, fy = x - x0, y - y0
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    a, b = hash_unit(i, j, seed), hash_unit(i + 1, j, seed)
    c, d = hash_unit(i, j + 1, seed), hash_unit(i + 1, j + 1, seed)
    top, bottom = a + (b - a) * fx, c + (d - c) * fx
    return 2 * (top + (bottom - top) * fy) - 1


def fractal_noise(x, y, seed, footprint, octaves: int, gain: float) -> jax.Array:
    """Octaves of value noise, about [-1, 1]; x, y and footprint in units of the longest wave."""

    def octave(k, carry):
        total, x, y, wavelength, amplitude = carry
        resolved = fade(wavelength, footprint)
        total = total + amplitude * resolved * value_noise(x, y, seed + k.astype(jnp.uint32))
        # turned by 37 degrees so that the lattices do not line up
        x, y = 1.597 * x - 1.204 * y + 0.37, 1.204 * x + 1.597 * y + 0.71
        return total, x, y, wavelength * 0.5, amplitude * gain

    start = (jnp.zeros_like(x), x, y, jnp.float32(1.0), jnp.float32(1.0 - gain) * 1.6)
    return jax.lax.fori_loop(0, octaves, octave, start)[0]
