"""Context for the landmark transformer: the other features of an image support or reject a match.

Alone, a feature knows which landmarks look like it. Its neighbours in the image know where they
are, or where they may be: landmarks that neighbours in the image match should be neighbours in
space, too. Each feature keeps its C likeliest landmarks as candidates with their probabilities, and
a candidate's support is what the neighbours' candidates think of it,

    support(i, c) = sum_j w_ij sum_d b_jd phi(|p_c - p_d|, |u_i - u_j|)

with b the neighbours' beliefs and p points, in pixels u divided by the image's width. The weights
w_ij are self-attention among the features with a bias for relative positions; phi begins as a
Gaussian of the distance in space, as wide as the distance in the image allows in a room, and learns
the rest. All is invariant to the scene's axes and to the camera's roll.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.models.scene_coordinates import SceneCoordinates

_KEY = 16  # channels of the self-attention among features
_HIDDEN = 16  # of what is learned of a pair of candidates
_NEAR = 0.05  # metres that two matches may be apart in one spot of the image
_SLOPE = 4.0  # metres, for each image width between them: depth over focal length, slanted
_FAR = 1e3  # image widths: of padding
_UNIT = 100.0  # of the support's weight: logits need tens, other parameters tenths


@flax.struct.dataclass
class Neighbours:
    """The K nearest features in the image of each of N.

    Attributes:
        index: (N, K) int32.
        apart: (N, K) distances in image widths.
        mask: (N, K) bool, False where there are fewer.
    """

    index: jax.Array
    apart: jax.Array
    mask: jax.Array


@flax.struct.dataclass
class Candidates:
    """The C likeliest landmarks of each of N features.

    Attributes:
        index: (N, C) int32 landmarks.
        belief: (N, C) probabilities, which sum to less than one.
    """

    index: jax.Array
    belief: jax.Array


def neighbours_of(uv: jax.Array, mask: jax.Array, count: int) -> Neighbours:
    """The `count` nearest other features of each feature, padding left out.

    Args:
        uv: (N, 2) pixels over the image's width.
        mask: (N,) bool.
        count: K; fewer if there are not so many features.
    """
    count = min(count, uv.shape[0])
    apart = jnp.linalg.norm(uv[:, None] - uv[None], axis=-1)
    apart = jnp.where(mask[None] & ~jnp.eye(uv.shape[0], dtype=bool), apart, _FAR)
    negative, index = jax.lax.top_k(-apart, count)
    return Neighbours(index, -negative, (-negative < 0.5 * _FAR) & mask[:, None])


def candidates_of(weights: jax.Array, total: jax.Array, count: int) -> Candidates:
    """The likeliest landmarks by attention weights (N, M), which sum to `total` (N, 1)."""
    _, index = jax.lax.top_k(jax.lax.stop_gradient(weights), min(count, weights.shape[1]))
    return Candidates(index, jnp.take_along_axis(weights, index, axis=1) / total)


class Agreement(nn.Module):
    """Support of candidates by the neighbours'; adds nothing before it is trained."""

    @nn.compact
    def __call__(
        self,
        state: jax.Array,
        answer: SceneCoordinates,
        points: jax.Array,
        candidates: Candidates,
        neighbours: Neighbours,
    ) -> tuple[jax.Array, jax.Array]:
        """What is to be added to the logits of the candidates.

        Args:
            state: (N, d) of the features.
            answer: theirs so far.
            points: (M, 3) of the landmarks, metres.
            candidates: theirs.
            neighbours: theirs.

        Returns:
            (N, C) logits, and (N, 2) statistics: support of the likeliest candidate, and of the
            candidate that has most.
        """
        index, apart = neighbours.index, neighbours.apart
        place = points[candidates.index]  # (N, C, 3)
        # Who is worth listening to: alike in what is known of them, near, sure.
        normed = nn.LayerNorm(name="norm")(state)
        query = nn.Dense(_KEY, kernel_init=nn.initializers.zeros, name="asked")(normed)
        key = nn.Dense(_KEY, name="heard")(normed)
        about = jnp.stack(
            [jnp.log(apart + 0.01), jnp.log(answer.scale)[index], jnp.square(apart)], axis=-1
        )
        bias = nn.Dense(1, kernel_init=nn.initializers.zeros, name="position")(about)[..., 0]
        logits = jnp.einsum("nk,njk->nj", query, key[index]) / _KEY**0.5 + bias
        weight = jax.nn.softmax(jnp.where(neighbours.mask, logits, -1e9), axis=-1)
        weight = jnp.where(neighbours.mask, weight, 0.0)

        theirs, belief = place[index], candidates.belief[index]  # (N, K, C, 3), (N, K, C)
        gap = place[:, None, :, None] - theirs[:, :, None]
        gap = jnp.sqrt(jnp.sum(jnp.square(gap), axis=-1) + 1e-8)  # (N, K, C, C)
        wide = (_NEAR + _SLOPE * apart)[:, :, None, None]
        near = jnp.exp(-0.5 * jnp.square(gap / wide))
        pair = jnp.stack(
            [near, jnp.log(gap + 0.02), jnp.broadcast_to(jnp.log(wide), gap.shape)], axis=-1
        )
        hidden = nn.gelu(nn.Dense(_HIDDEN, name="pair")(pair))
        learned = nn.Dense(1, kernel_init=nn.initializers.zeros, name="pair_out")(hidden)[..., 0]
        compatible = near + jnp.tanh(learned)
        support = jnp.einsum("nk,nkd,nkcd->nc", weight, belief, compatible)
        gain = _UNIT * self.param("support", nn.initializers.zeros, (1,))
        statistics = jnp.stack([support[:, 0], support.max(axis=1)], axis=1)
        return gain * support, statistics
