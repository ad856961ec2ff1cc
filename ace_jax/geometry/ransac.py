"""Parts that the robust solvers share: who may vote, drawing minimal sets, when to stop."""

import flax.struct
import jax
import jax.numpy as jnp

_MAX_RANKED = 256


@flax.struct.dataclass
class Sampler:
    """Draws minimal sets of valid points, with the confident ones first.

    Attributes:
        order: (N,) int32, the indices of the valid points first.
        count: () int32, number of valid points.
        ranked: (K,) int32, the K most confident points in descending order; or None.
        seed: (2,) uint32.
    """

    order: jax.Array
    count: jax.Array
    ranked: jax.Array | None
    seed: jax.Array


def valid_points(
    arrays: tuple[jax.Array, ...], mask: jax.Array | None, weights: jax.Array | None
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    """Removes what may not vote: masked, non-finite, and non-positive weight.

    Args:
        arrays: (N, D) each.
        mask: (N,) bool or None.
        weights: (N,) or None.

    Returns:
        The arrays with zeros in removed rows, valid (N,) bool, and weights (N,), zero if removed.
    """
    valid = jnp.ones(arrays[0].shape[0], bool) if mask is None else mask.astype(bool)
    for array in arrays:
        valid = valid & jnp.all(jnp.isfinite(array), axis=-1)
    if weights is None:
        weights = valid.astype(arrays[0].dtype)
    else:
        valid = valid & jnp.isfinite(weights) & (weights > 0.0)
        weights = jnp.where(valid, weights, 0.0).astype(arrays[0].dtype)
    return tuple(jnp.where(valid[:, None], array, 0.0) for array in arrays), valid, weights


def make_sampler(key: jax.Array, valid: jax.Array, confidence: jax.Array | None) -> Sampler:
    """A sampler of valid points (N,), guided by their confidence (N,) if that is not None."""
    size = valid.shape[0]
    position = jnp.where(valid, jnp.cumsum(valid, dtype=jnp.int32) - 1, size)
    order = (
        jnp.zeros(size, jnp.int32)
        .at[position]
        .set(jnp.arange(size, dtype=jnp.int32), mode="drop", unique_indices=True)
    )
    ranked = None
    if confidence is not None:
        _, ranked = jax.lax.top_k(jnp.where(valid, confidence, -jnp.inf), min(size, _MAX_RANKED))
    return Sampler(order, jnp.sum(valid, dtype=jnp.int32), ranked, _seed(key))


def draw_minimal_sets(
    sampler: Sampler, chunk: jax.Array, num_sets: int, size: int
) -> tuple[jax.Array, jax.Array]:
    """Draws index sets: uniformly, or every second one among the most confident points.

    The guided half follows PROSAC (Chum and Matas, CVPR 2005): the pool of the most confident
    points grows from set to set. The uniform half keeps a misleading confidence harmless.

    Args:
        sampler: from `make_sampler`.
        chunk: () int32, counts the calls; the same chunk gives the same sets.
        num_sets: number of sets (static).
        size: indices in a set (static).

    Returns:
        Indices (size, num_sets), and distinct (num_sets,): False where an index came up twice.
    """
    counter = jnp.arange(size * num_sets, dtype=jnp.uint32).reshape(size, num_sets)
    uniform = _hash_to_uniform(counter + chunk.astype(jnp.uint32) * (size * num_sets), sampler.seed)
    rank = jnp.minimum((uniform * sampler.count).astype(jnp.int32), sampler.count - 1)
    indices = sampler.order[jnp.maximum(rank, 0)]
    if sampler.ranked is not None:
        available = jnp.minimum(sampler.count, sampler.ranked.shape[0])
        growth = (jnp.arange(num_sets) + 1.0) / num_sets
        pool = jnp.minimum(available, 2.0 * size + growth * available)
        rank = jnp.minimum((uniform * pool).astype(jnp.int32), available - 1)
        guided = sampler.ranked[jnp.maximum(rank, 0)]
        indices = jnp.where(jnp.arange(num_sets) % 2 == 0, guided, indices)
    distinct = jnp.broadcast_to(sampler.count >= size, (num_sets,))
    for i in range(size):
        for j in range(i):
            distinct = distinct & (indices[i] != indices[j])
    return indices, distinct


def draw_subset(sampler: Sampler, size: int) -> tuple[jax.Array, jax.Array]:
    """Indices (size,) of valid points spread evenly over their order, each at most once; and used.

    Where there are fewer valid points than `size`, all of them, and `used` (size,) is False for
    the rest.
    """
    slot = jnp.arange(size, dtype=jnp.uint32)
    jitter = _hash_to_uniform(slot, sampler.seed[::-1])
    few = sampler.count <= size
    stride = jnp.where(few, 1.0, sampler.count / size)
    rank = ((slot + jnp.where(few, 0.0, jitter)) * stride).astype(jnp.int32)
    used = rank < sampler.count
    return sampler.order[jnp.where(used, rank, 0)], used


def required_samples(
    inlier_ratio: jax.Array, confidence: float | jax.Array, size: int
) -> jax.Array:
    """Samples after which an outlier-free one was drawn with the given confidence.

    Fischler and Bolles, CACM 1981: log(1 - confidence) / log(1 - ratio^size).
    """
    good = jnp.clip(inlier_ratio**size, 1e-7, 1.0 - 1e-7)
    return jnp.log1p(-jnp.asarray(confidence)) / jnp.log1p(-good)


def _seed(key: jax.Array) -> jax.Array:
    """Two words (2,) of a PRNG key, typed or raw."""
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return data[..., :2]


def _hash_to_uniform(counter: jax.Array, seed: jax.Array) -> jax.Array:
    """Uniform numbers in [0, 1) from counters and a seed (2,), all uint32.

    Two rounds of the 32-bit mixer of C. Wellons ("hash function prospector", lowbias32). The seed
    is the caller's key; this costs a fraction of a Threefry word each.
    """

    def mix(x: jax.Array) -> jax.Array:
        x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
        x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
        return x ^ (x >> 16)

    bits = mix(mix(counter + seed[0]) ^ seed[1])
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
