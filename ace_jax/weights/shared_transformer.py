"""The scene-agnostic transformer that all map codes share: found, checked, described."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from ace_jax.errors import UserError
from ace_jax.models.landmark_transformer import LandmarkTransformer
from ace_jax.models.map_code_transformer import MapCodeTransformer
from ace_jax.weights import checkpoint

_FIELDS = {
    "map_code_transformer": (
        "dim", "blocks", "heads", "code_dim", "mlp_ratio", "final_layers", "final_ratio", "decode",
    ),
    "landmark_transformer": ("dim", "blocks", "mlp_ratio", "tau", "steady"),
}  # fmt: skip
# The head of a family of weights.
_HEADS = {"ace_g_head": "map_code_transformer", "landmark_transformer": "landmark_transformer"}


@dataclasses.dataclass(frozen=True)
class SharedTransformer:
    """A transformer with its weights.

    Attributes:
        head: its name in the registry of heads.
        module: the head.
        params: its parameters.
        checksum: identifies weights and constants; a code belongs to one transformer.
        dim_in: the feature length that it takes.
    """

    head: str
    module: MapCodeTransformer | LandmarkTransformer
    params: dict[str, Any]
    checksum: str
    dim_in: int

    def options(self) -> dict[str, Any]:
        """The head's options for a map file."""
        return {name: getattr(self.module, name) for name in _FIELDS[self.head]}


def load_transformer(weights: str, weights_dir: Path | str | None) -> SharedTransformer:
    """Loads a transformer.

    Args:
        weights: a file, or the name of published weights in the weights folder.
        weights_dir: see `weights.store.weights_folder`.

    Raises:
        UserError: not there, or not such a transformer.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        path = checkpoint.find(weights, "ace_g_head", weights_dir)
    loaded = checkpoint.load(path)
    if loaded.family not in _HEADS:
        title = checkpoint.FAMILIES[loaded.family].title
        raise UserError(f"{path} holds {title} weights, not those of a transformer for map codes")
    module, variables = loaded.build()
    if getattr(module, "context", 0):
        raise UserError(
            f"{path} answers an image's features together, which mapping and relocalization cannot "
            "do yet; pre-train with config.transformer.context=0"
        )
    head, params = _HEADS[loaded.family], variables["params"]
    first = (
        params["embed"] if head == "landmark_transformer" else params["in_mlp"]["fcs.0"]["kernel"]
    )
    return SharedTransformer(
        head, module, params, loaded.function_checksum, int(jnp.shape(first)[0])
    )
