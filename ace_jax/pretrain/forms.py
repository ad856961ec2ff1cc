"""The two forms of a map code, and the transformer that reads each.

*random* is the paper's: a code of vectors from N(0, 0.01^2) that mean nothing until mapping has
optimised them, read by the map-code transformer. *observed* is ours: a code of landmarks taken from
the mapping images, read by the landmark transformer, which works before any training.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from ace_jax.errors import UserError
from ace_jax.models.landmark_transformer import EXTRA, LandmarkTransformer, code_of
from ace_jax.models.map_code_transformer import MapCodeTransformer
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.pretrain.patches import ScenePatches

NO_IMAGE = -1  # of a code's row that was not taken from an image
# Rates of a landmark's bias and point over its descriptor's.
_BIAS_RATE, _POINT_RATE = 10.0, 3.0


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of code with its transformer.

    Attributes:
        name: "random" or "observed".
        module: the transformer.
        dim: descriptor length D.
        size: rows M of a code.
        mapping: mapping images of a scene, from which an observed code is taken.
        least: rows of an observed code that are used at least; each code's own number is drawn
            between it and M, evenly in its logarithm.
    """

    name: str
    module: Any
    dim: int
    size: int
    mapping: int
    least: int

    @property
    def context(self) -> bool:
        """Whether the features of an image are answered together."""
        return bool(getattr(self.module, "context", 0))

    @property
    def width(self) -> int:
        """Columns C of a code."""
        if self.name == "observed":
            return self.dim + EXTRA
        return self.module.code_dim or self.module.dim

    def init_transformer(self, key: jax.Array) -> Any:
        """Parameters before training."""
        code = jnp.zeros((1, self.width))
        return self.module.init(key, jnp.zeros((1, self.dim)), code)["params"]

    def init_code(self, key: jax.Array, patches: ScenePatches) -> tuple[jax.Array, jax.Array]:
        """A fresh code (M, C) of one scene, and the mapping image (M,) that each row is from."""
        if self.name == "random":
            code = self.module.init_code(key, self.size)
            return code, jnp.full(self.size, NO_IMAGE, jnp.int32)
        features, xyz, mask = (
            x[: self.mapping] for x in (patches.features, patches.xyz, patches.mask)
        )
        per_image = mask.shape[1]
        # Valid patches first, in random order.
        order = jnp.argsort(jax.random.uniform(key, (mask.size,)) + ~mask.ravel())[: self.size]
        share = jax.random.uniform(jax.random.fold_in(key, 1))
        used = self.least * (self.size / self.least) ** share
        code = code_of(
            features.reshape(-1, self.dim)[order],
            xyz.reshape(-1, 3)[order],
            mask.ravel()[order] & (jnp.arange(self.size) < jnp.round(used)),
        )
        return code, (order // per_image).astype(jnp.int32)

    def apply(
        self,
        params: Any,
        features: jax.Array,
        code: jax.Array,
        allowed: jax.Array | None,
        uv: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> SceneCoordinates:
        """Scene coordinates of features (N, D) under a code (M, C).

        `allowed` (N, M) hides landmarks; rows of a random code come from no image, so it does not
        apply to them. With context the features are those of one image: `uv` (N, 2) in image
        widths, `mask` (N,) False for padding.
        """
        if self.name == "random":
            # Patches are relative to the mean mapping camera.
            scene = {"mean": jnp.zeros(3)}
            return self.module.apply({"params": params, "scene": scene}, features, code)
        return self.module.apply({"params": params}, features, code, allowed, uv, mask)

    def rate_factors(self) -> jax.Array:
        """Factors (C,) on the codes' learning rate, by column."""
        if self.name == "random":
            return jnp.ones(self.width)
        return jnp.array([1.0] * self.dim + [_BIAS_RATE] + [_POINT_RATE] * 3)


def create_form(config: ml_collections.ConfigDict, dim: int) -> Form:
    """The form that a configuration describes, for descriptors of length `dim`.

    Raises:
        UserError: no such form, or options that its transformer does not have.
    """
    modules = {"random": MapCodeTransformer, "observed": LandmarkTransformer}
    name = config.code.form
    if name not in modules:
        raise UserError(f"config.code.form is {name!r}; choose one of {', '.join(modules)}")
    options = config.transformer.to_dict()
    dtype = options.pop("dtype", "float32")
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.transformer.dtype is {dtype!r}; choose float32 or bfloat16")
    try:
        module = modules[name](**options, dtype=jnp.dtype(dtype).type)
    except TypeError as error:
        raise UserError(f"config.transformer: {error}") from None
    if name == "observed" and module.dim < dim:
        raise UserError(
            f"config.transformer.dim is {module.dim}; landmarks of {dim} channels need as many"
        )
    available = config.views.mapping * config.patches_per_image
    if name == "observed" and config.code.size > available:
        raise UserError(
            f"a code of {config.code.size} landmarks needs more than the {available} patches of "
            "the mapping images; lower config.code.size"
        )
    if getattr(module, "context", 0) and config.parts > 1:
        raise UserError(
            "with config.transformer.context an image's features are answered together: set "
            "config.parts to 1, and config.pool.scenes lower if memory is short"
        )
    size, least = config.code.size, config.code.least or config.code.size
    if not 0 < least <= size:
        raise UserError(f"config.code.least is {least}: a code has 1 to {size} rows")
    return Form(name, module, dim, size, config.views.mapping, least)
