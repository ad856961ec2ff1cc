"""Checkpoints of known models: recognised by content, converted to one layout, loaded strictly.

A `Checkpoint` has the origin's names, layouts and number formats whatever file it came from; saved
as safetensors it also says in its metadata what it is, where it came from, and on what terms.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from ace_jax import downloads
from ace_jax.errors import UserError
from ace_jax.weights import (
    ace,
    catalogue,
    dinov2,
    formats,
    landmark_transformer,
    limits,
    patch_descriptor,
    safetensors_io,
    store,
    superpoint,
    xfeat,
)
from ace_jax.weights.download import download
from ace_jax.weights.formats import WeightsFile

FORMAT = "ace_jax_weights/1"
# What Python, JAX and Flax say to the configuration of a stranger's file, which is checked by
# building what it asks for.
_NO_CONFIGURATION = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, FlaxError)


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of model.

    Attributes:
        title: for messages.
        recognises: whether a file looks like it.
        convert: a file's tensors to the origin's names, and the model's configuration.
        build: tensors and configuration to (module, parameters); strict.
    """

    title: str
    recognises: Callable[[WeightsFile], bool]
    convert: Callable[[WeightsFile], tuple[dict[str, np.ndarray], dict[str, Any]]]
    build: Callable[..., tuple[Any, Any]]


FAMILIES: dict[str, Family] = {
    "dinov2": Family("DINOv2", dinov2.recognises, dinov2.convert, dinov2.build),
    "xfeat": Family("XFeat", xfeat.recognises, xfeat.convert, xfeat.build),
    "superpoint": Family("SuperPoint", superpoint.recognises, superpoint.convert, superpoint.build),
    "ace_encoder": Family(
        "ACE encoder", ace.recognises_encoder, ace.convert_encoder, ace.build_encoder
    ),
    "ace_head": Family("ACE head", ace.recognises_head, ace.convert_head, ace.build_head),
    "ace_g_head": Family(
        "ACE-G head", ace.recognises_transformer, ace.convert_transformer, ace.build_transformer
    ),
    "landmark_transformer": Family(
        "landmark transformer",
        landmark_transformer.recognises,
        landmark_transformer.convert,
        landmark_transformer.build,
    ),
    "patch_descriptor": Family(
        "descriptor network",
        patch_descriptor.recognises,
        patch_descriptor.convert,
        patch_descriptor.build,
    ),
    "ace_g_map": Family("ACE-G map", ace.recognises_map, ace.convert_map, ace.build_map),
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model's weights, whatever file they came from.

    Attributes:
        family: a key of `FAMILIES`.
        state: the origin's names to tensors, in the file's number formats.
        config: what the shapes do not say; JSON values.
        path: the file.
        metadata: of a file that we converted: name, source, source_sha256, licence, checksum.
    """

    family: str
    state: dict[str, np.ndarray]
    config: dict[str, Any]
    path: Path
    metadata: dict[str, str]

    @property
    def checksum(self) -> str:
        """Identifies the weights in any file format."""
        return store.checksum(self.state)

    @property
    def function_checksum(self) -> str:
        """Identifies the function: one set of weights may be several (see `dinov2`)."""
        if not self.config:
            return self.checksum
        described = self.checksum + json.dumps(self.config, sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def build(self) -> tuple[Any, Any]:
        """The Flax module and its parameters.

        Raises:
            UserError: a name or shape does not match, in either direction; all are listed. Or a
                value is not finite, which every feature would be then.
        """
        for name, tensor in self.state.items():
            real = jnp.issubdtype(tensor.dtype, jnp.floating)
            if real and not np.isfinite(tensor).all():
                raise UserError(
                    f"{self.path}: {name} holds values that are not finite; get the file again"
                )
        try:
            limits.check_options(self.config)
            return FAMILIES[self.family].build(self.state, self.config)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error
        except _NO_CONFIGURATION as error:
            raise UserError(f"{self.path}: no model is like this ({error})") from error


def load(path: Path | str, family: str | None = None) -> Checkpoint:
    """Reads any file of weights.

    Args:
        path: a file, or the folder of a Hugging Face model.
        family: what it should be; None for whatever it is.

    Raises:
        UserError: it cannot be read, is of another family or of no known one.
    """
    file = formats.read(path)
    found = _family_of(file)
    if found is None and family is None:
        example = ", ".join(sorted(file.tensors)[:3]) or "nothing"
        titles = ", ".join(known.title for known in FAMILIES.values())
        raise UserError(f"{path} is of no known model ({titles}): it holds {example}, ...")
    if family is not None and found not in (family, None):
        raise UserError(
            f"{path} holds {FAMILIES[found].title} weights, not {FAMILIES[family].title}'s"
        )
    family = family or found
    assert family is not None  # else refused above
    if file.metadata.get("format") != FORMAT:
        state, config = FAMILIES[family].convert(file)
        return Checkpoint(family, state, config, file.path, {})
    try:
        config = json.loads(file.metadata.get("config", ""))
        if not isinstance(config, dict):
            raise ValueError("it is no table")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} has an unreadable configuration: {error}") from error
    return Checkpoint(family, file.tensors, config, file.path, file.metadata)


def _family_of(file: WeightsFile) -> str | None:
    if file.metadata.get("format") == FORMAT:
        named = file.metadata.get("family")
        return named if named in FAMILIES else None
    return next((name for name, known in FAMILIES.items() if known.recognises(file)), None)


def find(name: str, family: str, weights_dir: Path | str | None, also: Sequence[str] = ()) -> Path:
    """The file of a published checkpoint in the weights folder, converted or as published.

    One that is not there is fetched now, if its checksum is known and the user has not said no: by
    a folder of his own (`weights_dir`) or by $ACE_JAX_OFFLINE.

    Args:
        name: of the catalogue's entry; `name.safetensors` is looked for first.
        family: for the message.
        weights_dir: see `store.weights_folder`; may be the file itself.
        also: further file names.

    Raises:
        UserError: it is not there and cannot be fetched; the line says how to get it.
    """
    entry = catalogue.ENTRIES.get(name)
    converted, *published = entry.files if entry else (f"{name}.safetensors",)
    files = [converted, *also, *published]
    wanted = entry is not None and entry.sha256 and weights_dir is None
    if entry and wanted and not downloads.offline():
        folder = store.weights_folder()
        return store.present(files, folder) or download(entry, folder)
    remedy = f"get it by `python -m ace_jax.weights download {name}`" if entry else ""
    if entry and not entry.commercial:
        remedy += f" ({entry.licence})"
    if wanted:
        remedy = f"as {downloads.OFFLINE_ENV} is set, it is not fetched; {remedy}"
    return store.find(files, weights_dir, remedy or f"put {FAMILIES[family].title} weights there")


def save(checkpoint: Checkpoint, out: Path | str) -> dict[str, str]:
    """Writes safetensors with metadata, after building the model, so that only what loads is kept.

    Returns:
        The metadata.

    Raises:
        UserError: the weights do not fit their model, or `out` cannot be written.
    """
    checkpoint.build()
    metadata = describe(checkpoint)
    safetensors_io.write(out, checkpoint.state, metadata)
    return metadata


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """The metadata with which the checkpoint is saved; kept from an earlier conversion."""
    if checkpoint.metadata.get("format") == FORMAT:
        return dict(checkpoint.metadata)
    source = checkpoint.path
    digest = file_sha256(source / "model.safetensors" if source.is_dir() else source)
    entry = catalogue.by_sha256(digest)
    if entry is None:
        named = [e for e in catalogue.ENTRIES.values() if e.file == source.name and not e.sha256]
        entry = named[0] if named else None
    return {
        "format": FORMAT,
        "family": checkpoint.family,
        "config": json.dumps(checkpoint.config),
        "name": entry.name if entry else source.stem,
        "source": entry.url if entry and entry.file == source.name else source.name,
        "source_sha256": digest,
        "licence": entry.licence if entry else "unknown: that of its source",
        "checksum": checkpoint.checksum,
    }


def file_sha256(path: Path | str) -> str:
    """sha256 of a file's bytes.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def verify(path: Path | str) -> str:
    """Checks a file against its model and against what is known of its bytes.

    Returns:
        One line that says what was checked.

    Raises:
        UserError: a check failed.
    """
    checkpoint = load(path)
    checkpoint.build()
    title = FAMILIES[checkpoint.family].title
    recorded = checkpoint.metadata.get("checksum")
    if recorded is not None:
        if recorded != checkpoint.checksum:
            raise UserError(f"{path}: its tensors are not those that were converted; convert again")
        return f"{title}: every tensor fits, and they are those that were converted"
    if checkpoint.path.is_dir():
        return f"{title}: every tensor fits"
    known = [e for e in catalogue.ENTRIES.values() if e.file == checkpoint.path.name and e.sha256]
    if known and file_sha256(path) != known[0].sha256:
        raise UserError(
            f"{path}: its sha256 is not that of the published {known[0].name}; download it again"
        )
    entry = known[0] if known else catalogue.by_sha256(file_sha256(path))
    if entry:
        return f"{title}: every tensor fits, and the file is the published {entry.name}"
    return f"{title}: every tensor fits (no published checksum is known for this file)"
