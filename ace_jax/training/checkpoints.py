"""Checkpoints of training state (Orbax): written asynchronously and atomically.

A run that is killed at any moment finds its newest whole checkpoint; one that cannot be read is
passed over, with a message, for the one before it.
"""

import logging as standard_logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from ace_jax.errors import UserError
from ace_jax.files import replacing


def _not_of_orbax(record: standard_logging.LogRecord) -> bool:
    """Whether a record is to be shown: Orbax logs one failure five times, with tracebacks."""
    return "orbax" not in record.pathname or record.levelno < standard_logging.ERROR


def _copy(x: Any) -> Any:
    """A copy on the host, or where this process does not hold it all, on the devices."""
    whole = not isinstance(x, jax.Array) or x.is_fully_addressable
    return np.array(x) if whole else jnp.copy(x)


def _shape(x: Any) -> Any:
    known = isinstance(x, jax.ShapeDtypeStruct)
    return x if known else ocp.utils.to_shape_dtype_struct(np.asarray(x))


def _array(x: Any) -> jax.Array:
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


class Checkpoints:
    """Checkpoints of one run in a folder.

    A full disk costs a checkpoint and a warning, not the run, nor the checkpoints before.

    Use as a context manager, or call `close`: saving is asynchronous.
    """

    def __init__(self, folder: Path | str, identity: str, keep: int = 2):
        """Opens the folder (created if absent).

        Args:
            folder: of this run alone.
            identity: a digest of what must not change between the run and its continuation
                (configuration, data).
            keep: how many checkpoints to keep; at least 2, or a damaged one has no predecessor.

        Raises:
            UserError: the folder cannot be written, or holds the state of another run.
        """
        self._folder = Path(folder).resolve()
        marker = self._folder / "identity"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            known = marker.read_text() if marker.exists() else ""
            if not known:
                with replacing(marker) as temporary:
                    temporary.write_text(identity)
        except OSError as error:
            raise UserError(f"cannot write checkpoints to {folder}: {error.strerror}") from error
        if known not in ("", identity):
            raise UserError(
                f"{folder} holds the unfinished run of another configuration; continue with that "
                "one, choose another folder, or delete this one"
            )
        options = ocp.CheckpointManagerOptions(max_to_keep=max(keep, 2), create=True)
        logging.get_absl_logger().addFilter(_not_of_orbax)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: Any) -> None:
        """Starts to save a tree of arrays as the state after `step` steps.

        The arrays are copied first, so the next step may reuse their memory.
        """
        if step not in self._manager.all_steps():
            copied = jax.tree.map(_copy, state)
            self._writing(lambda: self._manager.save(step, args=ocp.args.StandardSave(copied)))

    def restore(self, template: Any) -> tuple[int, Any] | None:
        """The newest readable state.

        Args:
            template: a tree of arrays with the state's structure, shapes and types; a
                `jax.ShapeDtypeStruct` with a sharding is restored to those devices, whatever
                devices it was saved from.

        Returns:
            Step and state, or None if there is no readable checkpoint.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        shapes = jax.tree.map(_shape, template)
        for step in steps:
            try:
                state = self._manager.restore(step, args=ocp.args.StandardRestore(shapes))
            # Orbax and TensorStore raise many kinds for a damaged file; all mean the same here.
            except Exception as error:
                reason = (str(error).strip().splitlines() or ["unreadable"])[0]
                logging.warning("checkpoint %d in %s is skipped: %s", step, self._folder, reason)
                # Out of Orbax's sight, so that the continued run can save this step anew.
                aside = self._folder / f"damaged-{step}"
                if jax.process_index() == 0:
                    shutil.rmtree(aside, ignore_errors=True)
                    (self._folder / str(step)).rename(aside)
                if jax.process_count() > 1:
                    multihost_utils.sync_global_devices(f"damaged-{step}")
                self._manager.reload()
                continue
            return step, jax.tree.map(_array, state)
        return None

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    @property
    def newest(self) -> int | None:
        """Steps of the newest checkpoint, None without any."""
        return self._manager.latest_step()

    def wait(self) -> None:
        """Waits until what was saved is on disk."""
        self._writing(self._manager.wait_until_finished)

    def _writing(self, action: Callable[[], object]) -> None:
        try:
            action()
        # A full disk is a `ValueError` of TensorStore or an `OSError`, now or at the next call.
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["unknown"])[0]
            logging.warning(
                "a checkpoint cannot be written to %s, the run goes on without it: %s",
                self._folder,
                reason[-200:],
            )
            for half in self._folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(half, ignore_errors=True)

    def remove(self) -> None:
        """Deletes the folder: the run is finished."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Waits, and lets go of the folder."""
        self.wait()
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
