"""Cost model of pre-training: bytes of a scene, FLOPs of a step, matrix throughput of a device.

Used by pretraining_cost.py and docs/scaling.md.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ace_jax.pretrain.forms import Form


@dataclasses.dataclass(frozen=True)
class SceneBytes:
    """Memory of one scene in the pool, bytes.

    Attributes:
        patches: features, pixels, coordinates and masks of its images.
        code: the map code.
        optimizer: two moments of the code.
        gradient: of the code, while a mapping step runs.
    """

    patches: int
    code: int
    optimizer: int
    gradient: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.patches + self.code + self.optimizer + self.gradient


def scene_bytes(config: ml_collections.ConfigDict, form: Form) -> SceneBytes:
    """What one scene occupies on a device."""
    images = sum(config.views.values())
    per_patch = 2 * form.dim + 8 + 12 + 1  # features in 16 bits, pixel, coordinates, mask
    code = 4 * form.size * form.width
    return SceneBytes(images * config.patches_per_image * per_patch, code, 2 * code, code)


def step_flops(config: ml_collections.ConfigDict, form: Form, patches: int, both: bool) -> float:
    """Multiplications and additions in the matrix products of a step, over all scenes.

    Forward, gradient with respect to activations, and with respect to parameters where they are
    trained; the recomputation of attention in the gradient is not counted.

    Args:
        config: of the run.
        form: of code and transformer.
        patches: of each scene.
        both: whether the transformer's parameters get a gradient.
    """
    module, rows = form.module, form.size
    if form.name == "random":
        d = module.dim
        hidden = int(form.dim * module.mlp_ratio)
        of_patch = form.dim * hidden + hidden * d + d * d + 5 * d
        of_patch += module.blocks * (2 * d * d + 2 * int(d * module.mlp_ratio) * d + 2 * rows * d)
        of_code = module.blocks * 2 * rows * form.width * d
    else:
        d = module.dim
        of_patch = form.dim * d + module.blocks * (
            d * form.dim + rows * (2 * form.dim + 8) + (form.dim + 3) * d
        )
        of_patch += (module.blocks + 1) * 2 * int(d * module.mlp_ratio) * d
        of_code = 0
    forward = 2.0 * config.pool.scenes * (patches * of_patch + of_code)
    return forward * (3.0 if both else 2.0)


def matmul_peak(size: int = 2048, dtype: str = "float32", repeats: int = 5) -> float:
    """Multiplications and additions a second of a large square product on the first device."""
    import time

    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), dtype)
    product = jax.jit(
        lambda x: jnp.matmul(x, x, precision="default", preferred_element_type=jnp.float32)
    )
    product(a).block_until_ready()
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
