"""XFeat weights, from the published PyTorch file or its ONNX export.

Batch normalization is folded into the convolutions in front of it, as in the export.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.models.xfeat import XFeat
from ace_jax.weights import layout
from ace_jax.weights.formats import WeightsFile

_BATCH_NORM_EPSILON = 1e-5


def recognises(file: WeightsFile) -> bool:
    """Whether the file looks like XFeat."""
    return any(name.endswith("block_fusion.2.weight") for name in file.tensors)


def convert(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The network's tensors under the origin's names; the network has no options."""
    tensors = dict(file.tensors)
    if file.format == "onnx":
        # The export calls a folded bias `<layer>.weight_bias`; `val_...` is shape arithmetic.
        tensors = {
            name.replace(".weight_bias", ".bias"): tensor
            for name, tensor in tensors.items()
            if not name.startswith("val_")
        }
    tensors = {name.removeprefix("net."): tensor for name, tensor in tensors.items()}
    # The matcher that the file also holds is no part of the extractor.
    tensors = {name: t for name, t in tensors.items() if not name.startswith("fine_matcher.")}
    return _fold_batch_norms(tensors), {}


def build(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[XFeat, layout.Params]:
    """The module and its parameters; strict."""
    del config
    module = XFeat()
    params = layout.to_flax(
        state, lambda: module.init(jax.random.key(0), jnp.zeros((1, 32, 32))), "XFeat"
    )
    return module, params


def _fold_batch_norms(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`X.layer.1` is the normalization (without weights of its own) of convolution `X.layer.0`."""
    state = {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    for name in list(state):
        layer, _, leaf = name.rpartition(".")
        convolution = layer.removesuffix(".1") + ".0"
        if leaf != "running_var" or f"{convolution}.weight" not in state:
            continue
        mean = state.pop(f"{layer}.running_mean", None)
        deviation = np.sqrt(state.pop(name).astype(np.float64) + _BATCH_NORM_EPSILON)
        if mean is None or mean.shape != deviation.shape:
            continue  # its absence is told by the strict loading
        weight = state[f"{convolution}.weight"]
        state[f"{convolution}.weight"] = (
            weight / deviation.reshape(-1, *[1] * (weight.ndim - 1))
        ).astype(np.float32)
        state[f"{convolution}.bias"] = (-mean / deviation).astype(np.float32)
    return state
