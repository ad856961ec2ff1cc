"""RANSAC for any minimal solver: sampling, preemptive scoring, local optimisation, stopping.

Hypotheses come in chunks under `lax.while_loop`, so that easy problems stop after the first and
hard ones get thousands. A chunk is scored on a small random subset of the points (preemption:
Nister, "Preemptive RANSAC for live structure and motion estimation", ICCV 2003) by the MSAC score
(Torr and Zisserman, CVIU 2000); a new best one is refined on all points (local optimisation: Chum
et al., "Locally optimized RANSAC", DAGM 2003), so that nothing is left to do at the end.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import se3
from ace_jax.geometry import small_linalg as la

SAMPLE_SIZE = 3  # points that determine a pose, up to a few solutions
SUBSET_SIZE = 256  # points that score a chunk's hypotheses (size)
_CHUNK_SIZE = 128  # minimal samples a chunk (size): more cost easy problems, fewer hard ones
_SOLUTIONS = 4.0  # theory: poses that P3P gives at most for a minimal sample
_LOG_FALSE_ALARMS = -4.6  # theory: log 0.01, accidental poses that are accepted in a search
_MAX_RANKED = 256  # most confident points, for guided sampling, at most (judged)
_RANKED_SHARE = 0.4  # likewise, of all valid points


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

    @property
    def num_ranked(self) -> jax.Array:
        """() int32, how many of the ranked points are drawn more often."""
        share = (_RANKED_SHARE * self.count).astype(jnp.int32)
        least = jnp.maximum(share, 2 * SAMPLE_SIZE)
        return jnp.minimum(jnp.minimum(least, self.count), self.ranked.shape[0])


def valid_points(
    arrays: tuple[jax.Array, ...], mask: jax.Array | None, weights: jax.Array | None
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    """Removes what may not vote: masked, non-finite, and non-positive weight.

    Args:
        arrays: (N, D) each.
        mask: (N,) bool or None.
        weights: (N,) or None.

    Returns:
        The arrays, float32, with zeros in removed rows; valid (N,) bool; and weights (N,) float32,
        zero where removed, one where `weights` is None.
    """
    arrays = tuple(jnp.asarray(array, jnp.float32) for array in arrays)
    valid = jnp.ones(arrays[0].shape[0], bool) if mask is None else jnp.asarray(mask, bool)
    for array in arrays:
        valid = valid & jnp.all(jnp.isfinite(array), axis=-1)
    if weights is None:
        weights = jnp.ones(valid.shape, jnp.float32)
    weights = jnp.asarray(weights, jnp.float32)
    valid = valid & jnp.isfinite(weights) & (weights > 0.0)
    arrays = tuple(jnp.where(valid[:, None], array, 0.0) for array in arrays)
    return arrays, valid, jnp.where(valid, weights, 0.0)


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


@flax.struct.dataclass
class Subset:
    """Points that vote on hypotheses.

    Attributes:
        indices: (S,) int32 into the points.
        valid: (S,) bool, False where there are fewer valid points than S.
        confident: (S,) bool, those among the sampler's most confident; None if it knows none.
    """

    indices: jax.Array
    valid: jax.Array
    confident: jax.Array | None


@flax.struct.dataclass
class Consensus:
    """Outcome of `search`.

    Attributes:
        pose: (4, 4) best pose after refinement; the identity if there is none.
        information: (6, 6) what the refinement returned with it.
        score: () MSAC score of the pose on the subset; 0 if there is none.
        needed: () minimal samples after which one without outliers was drawn with confidence.
        num_samples: () int32, minimal samples drawn.
    """

    pose: jax.Array
    information: jax.Array
    score: jax.Array
    needed: jax.Array
    num_samples: jax.Array


def search(
    sampler: Sampler,
    propose: Callable[[jax.Array], tuple[la.Matrix, jax.Array]],
    squared_ratio: Callable[[la.Matrix], jax.Array],
    refine: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    subset: Subset,
    confidence: float | jax.Array,
    max_hypotheses: int | jax.Array,
    initial_pose: jax.Array | None,
) -> Consensus:
    """The pose with the highest score.

    Args:
        sampler: from `make_sampler`.
        propose: indices (SAMPLE_SIZE, H) to poses, 3x4 components of any shape (*K), and which are
            valid (*K).
        squared_ratio: poses, 3x4 components (*K), to squared errors over the squared threshold
            (*K, S) on the subset.
        refine: a pose (4, 4) to a better one, its information (6, 6), and success ().
        subset: the S points that vote.
        confidence: probability of having drawn an outlier-free sample, at which to stop.
        max_hypotheses: minimal samples at most; at least one chunk is drawn.
        initial_pose: (4, 4) one more hypothesis, or None.
    """

    def score(rows: la.Matrix) -> jax.Array:
        """MSAC: the sum of 1 - (error / threshold)^2 over inliers."""
        votes = jnp.maximum(1.0 - squared_ratio(rows), 0.0)
        return jnp.sum(jnp.where(subset.valid, votes, 0.0), axis=-1)

    identity = jnp.eye(4, dtype=jnp.float32)
    if initial_pose is not None:
        prior_finite = jnp.all(jnp.isfinite(initial_pose))
        prior = jnp.where(prior_finite, initial_pose.astype(jnp.float32), identity)
        prior_score = jnp.where(prior_finite, score(la.unstack_matrix(prior[:3])), 0.0)

    def draw_chunk(state: tuple) -> tuple:
        chunk, best = state
        indices, distinct = draw_minimal_sets(sampler, chunk)
        rows, valid = propose(indices)
        scores = jnp.where(valid & distinct, score(rows), 0.0).reshape(-1)
        winner = jnp.argmax(scores)
        pose = jnp.stack([jnp.stack([c.reshape(-1)[winner] for c in row]) for row in rows])
        rotation = se3.orthonormalise(se3.orthonormalise(pose[:, :3]))
        pose, winning_score = se3.from_rotation_translation(rotation, pose[:, 3]), scores[winner]
        if initial_pose is not None:
            use_prior = (chunk == 0) & (prior_score >= winning_score)
            pose = jnp.where(use_prior, prior, pose)
            winning_score = jnp.where(use_prior, prior_score, winning_score)

        def improve(pose: jax.Array) -> tuple[jax.Array, ...]:
            pose, information, success = refine(pose)
            rows = la.unstack_matrix(pose[:3])
            inliers = squared_ratio(rows) < 1.0
            ratios = [
                jnp.sum(voters & inliers) / jnp.maximum(jnp.sum(voters), 1)
                for voters in (subset.valid, subset.confident)
                if voters is not None
            ]
            needed = required_samples(jnp.stack(ratios), confidence)
            return pose, information, jnp.where(success, score(rows), 0.0), needed

        # Most chunks bring nothing better and skip the refinement (not under vmap).
        candidate = jax.lax.cond(winning_score > best[2], improve, lambda _: best, pose)
        better = candidate[2] > best[2]
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), candidate, best)
        return chunk + 1, best

    def unfinished(state: tuple) -> jax.Array:
        chunk, (*_, needed) = state
        drawn = chunk * _CHUNK_SIZE
        return (drawn == 0) | ((drawn < max_hypotheses) & (drawn < needed))

    zero = jnp.zeros((), jnp.float32)
    best = (identity, jnp.zeros((6, 6), jnp.float32), zero, jnp.full((), jnp.inf, jnp.float32))
    chunks, best = jax.lax.while_loop(unfinished, draw_chunk, (jnp.int32(0), best))
    return Consensus(*best, num_samples=chunks * _CHUNK_SIZE)


def draw_minimal_sets(sampler: Sampler, chunk: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws index sets: uniformly, or every second one among the most confident points.

    The guided half follows PROSAC (Chum and Matas, CVPR 2005): the pool of the most confident
    points grows from set to set. The uniform half keeps a misleading confidence harmless.

    Args:
        sampler: from `make_sampler`.
        chunk: () int32, counts the calls; the same chunk gives the same sets.

    Returns:
        Indices (SAMPLE_SIZE, H), and distinct (H,): False where an index came up twice.
    """
    shape = (SAMPLE_SIZE, _CHUNK_SIZE)
    counter = jnp.arange(SAMPLE_SIZE * _CHUNK_SIZE, dtype=jnp.uint32).reshape(shape)
    offset = chunk.astype(jnp.uint32) * counter.size
    uniform = _hash_to_uniform(counter + offset, sampler.seed)
    rank = jnp.minimum((uniform * sampler.count).astype(jnp.int32), sampler.count - 1)
    indices = sampler.order[jnp.maximum(rank, 0)]
    if sampler.ranked is not None:
        available = sampler.num_ranked
        growth = (jnp.arange(_CHUNK_SIZE) + 1.0) / _CHUNK_SIZE
        pool = jnp.minimum(available, 2.0 * SAMPLE_SIZE + growth * available)
        rank = jnp.minimum((uniform * pool).astype(jnp.int32), available - 1)
        guided = sampler.ranked[jnp.maximum(rank, 0)]
        indices = jnp.where(jnp.arange(_CHUNK_SIZE) % 2 == 0, guided, indices)
    distinct = (sampler.count >= SAMPLE_SIZE) & (indices[0] != indices[1])
    distinct = distinct & (indices[0] != indices[2]) & (indices[1] != indices[2])
    return indices, distinct


def draw_subset(sampler: Sampler) -> Subset:
    """S = min(N, SUBSET_SIZE) points, spread evenly over the valid ones, each at most once."""
    points = sampler.order.shape[0]
    size = min(SUBSET_SIZE, points)
    slot = jnp.arange(size, dtype=jnp.uint32)
    jitter = _hash_to_uniform(slot, sampler.seed[::-1])
    few = sampler.count <= size
    stride = jnp.where(few, 1.0, sampler.count / size)
    rank = ((slot + jnp.where(few, 0.0, jitter)) * stride).astype(jnp.int32)
    valid = rank < sampler.count
    indices, confident = sampler.order[jnp.where(valid, rank, 0)], None
    if sampler.ranked is not None:
        ranked = jnp.arange(sampler.ranked.shape[0]) < sampler.num_ranked
        confident = valid & jnp.zeros(points, bool).at[sampler.ranked].set(ranked)[indices]
    return Subset(indices, valid, confident)


def required_samples(inlier_ratio: jax.Array, confidence: float | jax.Array) -> jax.Array:
    """Samples after which an outlier-free one was drawn with the given confidence.

    Fischler and Bolles, CACM 1981: log(1 - confidence) / log(1 - ratio^3).

    Args:
        inlier_ratio: (R,) of the points that the samples are drawn from, in turn.
        confidence: probability.
    """
    good = jnp.clip(inlier_ratio**SAMPLE_SIZE, 1e-7, 1.0 - 1e-7)
    return jnp.log1p(-jnp.asarray(confidence)) / jnp.mean(jnp.log1p(-good))


def is_significant(
    num_inliers: jax.Array, num_points: jax.Array, chance: jax.Array, num_samples: jax.Array
) -> jax.Array:
    """True where so many inliers are no accident among so many hypotheses.

    The number of false alarms of Moisan and Stival (IJCV 2004), that is the expected number of
    hypotheses on random correspondences that gain as many inliers beyond their own sample, with
    Chernoff's bound for the binomial tail.

    Args:
        num_inliers: () of the best hypothesis.
        num_points: () correspondences that could vote.
        chance: () probability that a wrong correspondence agrees with a wrong pose.
        num_samples: () minimal samples drawn.
    """
    others = jnp.maximum(num_points - SAMPLE_SIZE, 1).astype(jnp.float32)
    ratio = jnp.clip((num_inliers - SAMPLE_SIZE) / others, 1e-6, 1.0 - 1e-6)
    chance = jnp.clip(chance, 1e-6, 0.5)
    divergence = ratio * jnp.log(ratio / chance)
    divergence = divergence + (1.0 - ratio) * jnp.log((1.0 - ratio) / (1.0 - chance))
    log_false_alarms = jnp.log(_SOLUTIONS * num_samples + 1.0) - others * divergence
    return (ratio > chance) & (log_false_alarms < _LOG_FALSE_ALARMS)


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
