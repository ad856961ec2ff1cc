"""The training loop of a descriptor: resumable, logged and reported."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from ace_jax.encoder import report
from ace_jax.encoder.batches import Batches
from ace_jax.encoder.export import BEST, Best, export
from ace_jax.encoder.sources import create_dial, create_network, open_mixture, open_pairs
from ace_jax.encoder.steps import create_step, init
from ace_jax.encoder.validation import Validator, score
from ace_jax.errors import UserError
from ace_jax.features.learned_blobs import FILE
from ace_jax.models.patch_descriptor import multiply_adds
from ace_jax.pretrain.journal import Journal
from ace_jax.pretrain.pool import Ahead
from ace_jax.runtime import cache_dir
from ace_jax.training.checkpoints import Checkpoints

REPORT = "encoder_report.html"
# What may differ between a run and its continuation.
_FREE = ("log_every", "checkpoint_seconds", "tensorboard", "cache", "ahead")
_FIGURES = ("info_nce", "hard", "nearest", "scale")


def run(
    config: ml_collections.ConfigDict, workdir: Path | str, data_root: Path | str = "data"
) -> str:
    """Trains; a run that was interrupted in this folder is continued.

    Returns:
        Lines for the terminal.

    Raises:
        UserError: the configuration makes no sense, a source has nothing, the folder holds another
            run, or training diverged.
    """
    _check(config)
    folder = Path(workdir)
    images = (Path(config.cache) if config.cache else cache_dir() / "pretrain") / "images"
    module = create_network(config)
    size = (int(config.image_size[0]), int(config.image_size[1]))
    source = open_mixture(config, data_root, images)
    batches = Batches(
        source,
        module,
        create_dial(config),
        size,
        config.pairs,
        config.points,
        config.within,
        config.doubt,
        config.seed,
    )
    judging = open_pairs(config.validation.source, data_root, images, 0)
    identity = _identity(config, source.identity, judging.identity)
    with Checkpoints(folder / "checkpoints", identity) as checkpoints:
        validator = Validator(
            module, judging, config.validation.pairs, size, config.validation.points
        )
        trainer = Trainer(config, module, batches, validator, checkpoints)
        journal = Journal(folder, trainer.step, config.steps, config.tensorboard)
        best = Best(folder / BEST, module, trainer.step > 0)
        try:
            trainer.train(journal, best)
        finally:
            journal.close()
            trainer.close()
    control, figures = validator.control(), validator(best.network)
    notes = {"step": str(best.step), "score": repr(best.score), "validation": repr(figures)}
    export(folder / FILE, module, best.network, **notes)
    report.write_report(
        folder / REPORT, folder, config, module, validator, best.network, figures, control
    )
    return "\n".join(
        [
            f"{folder / FILE}, of step {best.step}: {multiply_adds(module) / 1e6:.2f} million "
            f"multiply-adds a keypoint, {best.score:.3f} times the right matches of RootSIFT",
            *report.lines(figures, control),
            f"{folder / REPORT}: curves and pictures",
        ]
    )


class Trainer:
    """The loop.

    Attributes:
        step: steps done.
        state: see `steps.EncoderState`.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        module: Any,
        batches: Batches,
        validator: Validator,
        checkpoints: Checkpoints,
    ) -> None:
        """Sets up, or restores the newest checkpoint."""
        self._config, self._validator, self._checkpoints = config, validator, checkpoints
        self._control = validator.control()
        self._step = create_step(config, module)
        self.step, self.state = 0, jax.jit(lambda: init(config, module))()
        found = checkpoints.restore(self.state)
        if found is not None:
            self.step, self.state = found
            logging.warning("an interrupted run continues after step %d", self.step)
        self._ahead = Ahead(batches.load, max(config.ahead, 1))

    def train(self, journal: Journal, best: Best) -> None:
        """Trains to the last step; `best` is offered what each validation judges."""
        config = self._config
        if self.step == 0:
            self._judge(journal, best)
        pending: list[dict[str, jax.Array]] = []
        saved_at = journal.seconds
        while self.step < config.steps:
            pending.append(self.advance())
            last = self.step == config.steps
            if self.step % config.log_every == 0 or last:
                figures = {
                    name: float(np.mean([float(each[name]) for each in pending]))
                    for name in _FIGURES
                }
                pending.clear()
                journal.write(self.step, **figures)
                journal.show(self.step, **figures)
                if not np.isfinite(figures["info_nce"] + figures["hard"]):
                    raise UserError(
                        "training diverged; lower config.optimizer.learning_rate, and choose "
                        "another --workdir"
                    )
            if self.step % config.validation.every == 0 or last:
                self._judge(journal, best)
            if journal.seconds - saved_at > config.checkpoint_seconds or last:
                self.save()
                saved_at = journal.seconds
        if best.network is None:  # its file was taken away
            self._judge(journal, best)
        self._checkpoints.wait()

    def advance(self) -> dict[str, jax.Array]:
        """One step; its figures stay on the device."""
        self._ahead.prepare(self.step)
        batch = self._ahead.get(self.step)
        self.state, figures = self._step(self.state, batch)
        self.step += 1
        return figures

    def _judge(self, journal: Journal, best: Best) -> None:
        """Asks about the validation pairs."""
        network = jax.tree.map(np.asarray, self.state.params["network"])
        figures = self._validator(network)
        reached = score(figures, self._control)
        journal.write(self.step, validation=figures, score=reached)
        best.offer(self.step, reached, network)

    def save(self) -> None:
        """Starts to write a checkpoint."""
        self._checkpoints.save(self.step, self.state)

    def close(self) -> None:
        """Stops preparing batches."""
        self._ahead.close()


def _check(config: ml_collections.ConfigDict) -> None:
    """Refuses sizes that make no sense.

    Raises:
        UserError: one of them does not.
    """
    width, height = config.image_size
    if width % 8 or height % 8 or min(width, height) < 64:
        raise UserError(
            f"config.image_size is {width}x{height}: both must be multiples of 8, and at least 64"
        )
    for name in ("steps", "points", "pairs"):
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}: it must be at least 1")
    if config.augmentation.scale < 1.0:
        raise UserError("config.augmentation.scale is a factor either way: at least 1")


def _identity(config: ml_collections.ConfigDict, *sources: str) -> str:
    """A digest of what a continued run must share with the interrupted one."""
    settings = ml_collections.ConfigDict(config.to_dict())
    for name in _FREE:
        del settings[name]
    text = settings.to_json_best_effort(sort_keys=True) + "".join(sources)
    return hashlib.sha256(text.encode()).hexdigest()
