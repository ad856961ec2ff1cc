"""Writes the trained network as a weights file, and keeps the best one of a run."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ace_jax.models.patch_descriptor import PatchDescriptor
from ace_jax.weights import checkpoint, safetensors_io, store
from ace_jax.weights.layout import to_checkpoint
from ace_jax.weights.patch_descriptor import config_of

BEST = "best.safetensors"  # of the validations so far, while a run goes on


def export(path: Path, module: PatchDescriptor, network: Any, **notes: str) -> None:
    """Writes safetensors that features `learned_blobs` take; `notes` are metadata."""
    state = to_checkpoint(jax.tree.map(np.asarray, network))
    metadata = {
        "format": checkpoint.FORMAT,
        "family": "patch_descriptor",
        "config": json.dumps(config_of(module)),
        "name": path.stem,
        "source": "python -m ace_jax.encoder",
        "licence": "that of the images; procedural rooms: Apache-2.0",
        "checksum": store.checksum(state),
        **notes,
    }
    safetensors_io.write(path, state, metadata)


class Best:
    """The network that was best in validation so far, in a file that a killed run leaves.

    Attributes:
        step: steps after which it was; -1: there is none yet.
        score: see `validation.score`.
        network: its parameters; None: there is none yet.
    """

    def __init__(self, path: Path, module: PatchDescriptor, resumed: bool) -> None:
        """Reads what an interrupted run has left; a new run does not."""
        self._path, self._module = path, module
        self.step, self.score, self.network = -1, -np.inf, None
        if resumed and path.is_file():
            found = checkpoint.load(path, "patch_descriptor")
            self.step, self.score = int(found.metadata["step"]), float(found.metadata["score"])
            self.network = found.build()[1]

    def offer(self, step: int, score: float, network: Any) -> None:
        """Keeps the network if no earlier one was as good."""
        if score > self.score:
            self.step, self.score, self.network = step, score, network
            notes = {"step": str(step), "score": repr(score)}
            export(self._path, self._module, network, **notes)
