"""XFeat's weights, from the published ONNX file or a converted safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.models.xfeat import XFeat
from ace_jax.weights import layout, safetensors_io, store
from ace_jax.weights.onnx_reader import read_initializers


def from_onnx(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network's tensors under the origin's names, batch normalization folded.

    The export calls the folded bias of a layer `<layer>.weight_bias` and keeps its shape
    arithmetic in anonymous integers.
    """
    return {
        name.replace(".weight_bias", ".bias"): tensor
        for name, tensor in tensors.items()
        if not name.startswith("val_")
    }


def load_xfeat(weights_dir: Path | str | None = None) -> tuple[layout.Params, str]:
    """Flax parameters of `XFeat` and the checksum of the weights.

    Raises:
        UserError: the file is missing, unreadable, or of another model.
    """
    path = store.find(["xfeat.safetensors", "xfeat.onnx"], weights_dir)
    if path.suffix == ".onnx":
        state = from_onnx(read_initializers(path))
    else:
        state, _ = safetensors_io.read(path)
    params = layout.to_flax(
        state, lambda: XFeat().init(jax.random.key(0), jnp.zeros((1, 32, 32))), f"XFeat ({path})"
    )
    return params, store.checksum(state)
