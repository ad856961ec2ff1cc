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
BEST = "best.safetensors"  # of the validations so far, while a run goes on


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
        "context": module.context,
        "candidates": module.candidates,
    }


def export(
    path: Path, form: Form, transformer: Any, extractor: FeatureExtractor, **notes: str
) -> None:
    """Writes safetensors that `mapping` takes as `config.code.weights`; `notes` are metadata."""
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
        **notes,
    }
    safetensors_io.write(path, state, metadata)


class Best:
    """The transformer that was best in validation so far, in a file that a killed run leaves.

    Attributes:
        step: iterations after which it was; -1: there is none yet.
        score: see `validation.Answers.summary`.
        transformer: its parameters; None: there is none yet.
    """

    def __init__(
        self, path: Path, form: Form, extractor: FeatureExtractor, resumed: bool, writes: bool
    ):
        """Reads what an interrupted run has left.

        Args:
            path: of the file.
            form: of the transformer.
            extractor: of its features.
            resumed: whether a run goes on; otherwise an older file is of no interest.
            writes: whether this process is the one that writes.
        """
        self._path, self._form, self._extractor, self._writes = path, form, extractor, writes
        self.step, self.score, self.transformer = -1, -np.inf, None
        if resumed and path.is_file():
            metadata = safetensors_io.read(path)[1]
            self.step, self.score = int(metadata["step"]), float(metadata["score"])
            self.transformer = checkpoint.load(path).build()[1]["params"]

    def offer(self, step: int, score: float, transformer: Any) -> bool:
        """Keeps the transformer if no earlier one was as good; says whether it did."""
        if not score > self.score:
            return False
        self.step, self.score, self.transformer = step, score, transformer
        if self._writes:
            notes = {"step": str(step), "score": repr(score)}
            export(self._path, self._form, transformer, self._extractor, **notes)
        return True
