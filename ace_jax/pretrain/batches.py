"""Training batches: random patches of every scene, and the landmarks that each may attend to.

Everything is drawn from the step's key alone, for all scenes in one call: the same patches on one
device and on eight.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.pretrain.patches import ScenePatches, in_widths


@flax.struct.dataclass
class Targets:
    """N patches of each of S scenes.

    Attributes:
        features: (S, N, D) float32.
        xyz: (S, N, 3) true coordinates, metres.
        uv: (S, N, 2) image positions in image widths.
        mask: (S, N) bool.
        nearness: (S, N, J) rank of the mapping images by viewpoint, seen from the patch's image.
    """

    features: jax.Array
    xyz: jax.Array
    uv: jax.Array
    mask: jax.Array
    nearness: jax.Array


def draw(
    key: jax.Array, patches: ScenePatches, images: slice, count: int, together: bool = False
) -> Targets:
    """`count` patches of each scene, uniformly from these images; or, `together`, of one of them.

    Patches of one image are all different; there are at most as many as the image has.
    """
    scenes, _, per_image = patches.mask.shape
    rows = images.stop - images.start
    if together:
        count = min(count, per_image)
        of_image, of_patch = jax.random.split(key)
        image = images.start + jax.random.randint(of_image, (scenes, 1), 0, rows)
        image = jnp.broadcast_to(image, (scenes, count))
        keys = jax.random.split(of_patch, scenes)
        patch = jax.vmap(lambda k: jax.random.permutation(k, per_image)[:count])(keys)
    else:
        index = jax.random.randint(key, (scenes, count), 0, rows * per_image)
        image, patch = images.start + index // per_image, index % per_image

    def pick(scene: ScenePatches, image: jax.Array, patch: jax.Array) -> Targets:
        return Targets(
            features=scene.features[image, patch].astype(jnp.float32),
            xyz=scene.xyz[image, patch],
            uv=in_widths(scene.uv[image, patch][:, None], scene.intrinsics[image])[:, 0],
            mask=scene.mask[image, patch],
            nearness=scene.nearness[image],
        )

    return jax.vmap(pick)(patches, image, patch)


def drop_features(key: jax.Array, targets: Targets, rate: float) -> Targets:
    """Zeroes a share of the features' entries and rescales the rest."""
    if not rate:
        return targets
    keep = jax.random.bernoulli(key, 1.0 - rate, targets.features.shape)
    return targets.replace(features=jnp.where(keep, targets.features / (1.0 - rate), 0.0))


def seen_landmarks(
    targets: Targets, code_image: jax.Array, reach: jax.Array | int, hide_own: bool
) -> jax.Array:
    """Which landmarks a patch may see (S, N, M): those of the `reach` nearest mapping images.

    Local support at first, the whole scene later: finding a feature among its neighbours is easier
    than among everything, and is what the transformer learns first.

    Args:
        targets: the patches.
        code_image: (S, M) the mapping image of each landmark; < 0 is always seen.
        reach: number of mapping images.
        hide_own: hide landmarks of the patch's own image, in which it would find itself. Only for
            patches of mapping images.
    """

    def seen(nearness: jax.Array, image: jax.Array) -> jax.Array:
        rank = nearness[:, jnp.maximum(image, 0)]
        visible = (rank < reach) & (rank > 0) if hide_own else rank < reach
        return visible | (image < 0)

    return jax.vmap(seen)(targets.nearness, code_image)


def reach_at(step: jax.Array | int, mapping: int, first: int, steps: int) -> jax.Array:
    """Mapping images that a patch sees at a step: from `first` to all `mapping`, linearly."""
    share = jnp.clip(jnp.asarray(step, jnp.float32) / max(steps, 1), 0.0, 1.0)
    return jnp.round(first + share * (mapping - first)).astype(jnp.int32)


def sum_over_parts(function: Callable[[Targets], Any], targets: Targets, parts: int) -> Any:
    """The sum of `function` over parts of each scene's patches, one part after another.

    Where the function gives gradients this is gradient accumulation: memory for what lies between
    is that of one part. All scenes are in each part, so that all devices have work.

    Args:
        function: of a part's targets (S, N / parts, ...), a tree of arrays.
        targets: the patches.
        parts: a divisor of N.
    """
    if parts == 1:
        return function(targets)

    def cut(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], parts, -1, *x.shape[2:]), 1, 0)

    def add(total: Any, part: Targets) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    stacked = jax.tree.map(cut, targets)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], stacked))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, stacked)[0]
