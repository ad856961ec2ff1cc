"""Writes the trained transformer as a weights file for mapping and relocalization."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ace_jax.features.base import FeatureExtractor
from ace_jax.pretrain.forms import Form
from ace_jax.weights import checkpoint, safetensors_io
from ace_jax.weights.layout import to_checkpoint

FILE = "transformer.safetensors"


def config_of(form: Form) -> dict[str, Any]:
    """What the shapes do not say, in the words of the family's published checkpoint."""
    module = form.module
    if form.name == "random":
        return {
            "dim_in": form.dim,
            "dim_emb": module.dim,
            "num_blocks": module.blocks,
            "num_attention_heads": module.heads,
            "dim_map_emb": module.code_dim,
            "mlp_ratio": module.mlp_ratio,
            "final_mlp_layers": module.final_layers,
            "final_mlp_ratio": module.final_ratio,
        }
    return {
        "dim_in": form.dim,
        "dim": module.dim,
        "blocks": module.blocks,
        "mlp_ratio": module.mlp_ratio,
        "tau": module.tau,
        "steady": module.steady,
    }


def export(path: Path, form: Form, transformer: Any, extractor: FeatureExtractor) -> None:
    """Writes safetensors that `mapping` takes as `config.code.weights`."""
    family = "ace_g_head" if form.name == "random" else "landmark_transformer"
    state = to_checkpoint(jax.tree.map(np.asarray, transformer))
    metadata = {
        "format": checkpoint.FORMAT,
        "family": family,
        "config": json.dumps(config_of(form)),
        "name": path.stem,
        "source": "python -m ace_jax.pretrain",
        "features": extractor.name,
        "feature_checksum": extractor.weights_checksum,
        "licence": "that of the data and of the features' weights",
        "checksum": checkpoint.store.checksum(state),
    }
    safetensors_io.write(path, state, metadata)
