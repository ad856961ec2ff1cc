"""The scene-agnostic transformer that all map codes share: found, checked, described."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from ace_jax.models.map_code_transformer import MapCodeTransformer
from ace_jax.weights import checkpoint

_FIELDS = ("dim", "blocks", "heads", "code_dim", "mlp_ratio", "final_layers", "final_ratio")


@dataclasses.dataclass(frozen=True)
class SharedTransformer:
    """A transformer with its weights.

    Attributes:
        module: the head.
        params: its parameters.
        checksum: identifies weights and constants; a code belongs to one transformer.
        dim_in: the feature length that it takes.
    """

    module: MapCodeTransformer
    params: dict[str, Any]
    checksum: str
    dim_in: int

    def options(self) -> dict[str, Any]:
        """The head's options for a map file."""
        decode = self.module.decode
        return {name: getattr(self.module, name) for name in _FIELDS} | {"decode": decode}


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
    loaded = checkpoint.load(path, "ace_g_head")
    module, variables = loaded.build()
    params = variables["params"]
    dim_in = jnp.shape(params["in_mlp"]["fcs.0"]["kernel"])[0]
    return SharedTransformer(module, params, loaded.function_checksum, int(dim_in))
