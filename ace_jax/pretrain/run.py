"""The pre-training loop: resumable, on any number of devices and hosts."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from ace_jax.errors import UserError
from ace_jax.features import registry
from ace_jax.features.base import FeatureExtractor
from ace_jax.pretrain import report
from ace_jax.pretrain.export import BEST, FILE, Best, export
from ace_jax.pretrain.forms import Form, create_form
from ace_jax.pretrain.journal import Journal
from ace_jax.pretrain.patches import PatchCache, ScenePatches
from ace_jax.pretrain.pool import Ahead, Pool
from ace_jax.pretrain.scenes import Views
from ace_jax.pretrain.sources import create_mixture, create_source, image_size
from ace_jax.pretrain.steps import PretrainState, Steps, create_steps
from ace_jax.pretrain.validation import Answers, Validator
from ace_jax.runtime import cache_dir
from ace_jax.training.checkpoints import Checkpoints
from ace_jax.training.mesh import SceneMesh

REPORT = "pretrain_report.html"
_INIT, _ENTER, _STEP = range(3)  # streams of the seed's key
# What may differ between a run and its continuation.
_FREE = ("log_every", "checkpoint_seconds", "tensorboard", "cache")


@dataclasses.dataclass
class Scenes:
    """Everything that gives patches.

    Attributes:
        extractor: of the features.
        load: the patches of a training run's scene by its number; called from a thread.
        validation: patches of the validation scenes.
        thumbnails: small images (I, 60, 80, 3) uint8 of a validation scene, for people.
    """

    extractor: FeatureExtractor
    load: Callable[[int], ScenePatches]
    validation: list[ScenePatches]
    thumbnails: Callable[[int], np.ndarray]


def open_scenes(
    config: ml_collections.ConfigDict, data_root: Path | str, weights_dir: Path | str | None
) -> Scenes:
    """Opens encoder and sources, and makes the validation scenes' patches.

    Raises:
        UserError: weights or recordings are missing, or the configuration makes no sense.
    """
    options = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in config.features.options.to_dict().items()
    }
    extractor = registry.create(config.features.name, weights_dir=weights_dir, **options)
    folder = Path(config.cache) if config.cache else cache_dir() / "pretrain"
    cache = PatchCache(extractor, options, Views(**config.views), config.patches_per_image, folder)
    mixture = create_mixture(config, data_root, folder / "images")
    source = create_source(
        config.validation.source, data_root, image_size(config), folder / "images"
    )
    if config.validation.scenes > len(source):
        raise UserError(
            f"{config.validation.scenes} validation scenes of a source that has {len(source)}"
        )
    return Scenes(
        extractor=extractor,
        load=lambda number: cache.load(*mixture.draw(number)),
        validation=[cache.load(source, n) for n in range(config.validation.scenes)],
        thumbnails=lambda number: cache.thumbnails(source, number),
    )


def run(
    config: ml_collections.ConfigDict,
    workdir: Path | str,
    data_root: Path | str = "data",
    weights_dir: Path | str | None = None,
    devices: list[jax.Device] | None = None,
) -> str:
    """Opens the scenes and pre-trains; see `open_scenes` and `pretrain`."""
    return pretrain(config, open_scenes(config, data_root, weights_dir), workdir, devices)


def pretrain(
    config: ml_collections.ConfigDict,
    scenes: Scenes,
    workdir: Path | str,
    devices: list[jax.Device] | None = None,
) -> str:
    """Pre-trains; a run that was interrupted in this folder is continued.

    Returns:
        Lines for the terminal.

    Raises:
        UserError: the folder holds another run, the scenes cannot be spread over the devices, or
            training diverged.
    """
    folder = Path(workdir)
    form = create_form(config, scenes.extractor.dim)
    mesh = SceneMesh(config.pool.scenes, devices)
    identity = _identity(config, scenes.extractor)
    first = jax.process_index() == 0
    with Checkpoints(folder / "checkpoints", identity) as checkpoints:
        trainer = Trainer(config, form, scenes, mesh, checkpoints)
        journal = Journal(folder, trainer.step, config.steps, config.tensorboard, first)
        best = Best(folder / BEST, form, scenes.extractor, trainer.step > 0, first)
        try:
            trainer.train(journal, best)
        finally:
            journal.close()
            trainer.close()
    answers = trainer.best_answers or trainer.validator(best.transformer)
    figures = answers.summary()
    if first:
        export(folder / FILE, form, best.transformer, scenes.extractor, step=str(best.step))
        report.write_report(folder / REPORT, folder, config, answers, scenes, trainer.validator)
    return (
        f"{folder / FILE}, of step {best.step}: "
        f"{figures['pose_5cm_5deg']:.1f} % of the poses in unseen scenes within 5 cm/5 deg, "
        f"{figures['right']:.1f} % of the coordinates within 10 cm, "
        f"{figures['surest_right']:.1f} % of the surest tenth\n"
        f"{folder / REPORT}: curves and pictures"
    )


class Trainer:
    """The loop: mapping steps, a query step, scenes that come and go."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        form: Form,
        scenes: Scenes,
        mesh: SceneMesh,
        checkpoints: Checkpoints | None = None,
    ):
        """Sets up, or restores the newest checkpoint."""
        self.config, self.scenes, self._mesh = config, scenes, mesh
        self._checkpoints = checkpoints
        self._steps: Steps = create_steps(config, form)
        self._key = jax.random.key(config.seed)
        pool = config.pool
        self._pool = Pool(pool.scenes, pool.shortest_life, pool.longest_life, config.seed)
        self._ahead = Ahead(scenes.load, pool.ahead)
        self.validator = Validator(config, form, scenes.validation)
        self.best_answers: Answers | None = None
        self.step, self.state, self._patches = 0, None, None
        self._start()

    def _start(self) -> None:
        key = jax.random.fold_in(self._key, _INIT)
        template = self._abstract_state(key)
        found = None
        if self._checkpoints is not None:
            found = self._checkpoints.restore({"state": template, "pool": self._pool.state()})
        if found is not None:
            self.step, saved = found
            self._pool.restore(saved["pool"])
            logging.warning("an interrupted run continues after step %d", self.step)
        self._patches = self._mesh.stack(lambda slot: self.scenes.load(int(self._pool.scene[slot])))
        self._ahead.prepare(self._pool.entered)
        if found is None:
            self.state = self._placed(self._steps.init(key, self._patches))
        else:
            self.state = saved["state"]

    def _abstract_state(self, key: jax.Array) -> PretrainState:
        """Shapes, types and places of the state; nothing is computed."""
        some = self.scenes.validation[0]
        slots = self._mesh.slots
        patches = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((slots, *np.shape(x)), np.asarray(x).dtype), some
        )
        shapes = jax.eval_shape(self._steps.init, key, patches)
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            shapes,
            self._places(shapes),
        )

    def _places(self, state: PretrainState) -> PretrainState:
        """The sharding of each leaf: codes by scene, the transformer everywhere."""
        whole = jax.tree.map(lambda _: self._mesh.everywhere, state)
        by_scene = jax.tree.map(lambda _: self._mesh.split, state)
        return whole.replace(
            codes=by_scene.codes,
            codes_optimizer=by_scene.codes_optimizer,
            code_image=by_scene.code_image,
        )

    def _placed(self, state: PretrainState) -> PretrainState:
        return jax.jit(lambda x: x, out_shardings=self._places(state))(state)

    def train(self, journal: Journal, best: Best | None = None) -> None:
        """Trains to the last step; `best` is offered what each validation judges.

        The untrained transformer is judged, too: what comes out is never worse in validation.
        """
        config = self.config
        if self.step == 0 and best is not None:
            self._judge(journal, best)
        pending: list[tuple[int, jax.Array, jax.Array]] = []
        saved_at = journal.seconds
        while self.step < config.steps:
            entered = self._pool.entered
            pending.append((self.step + 1, *self.iterate()))
            if self.step % config.log_every == 0 or self.step == config.steps:
                mapping, query = (np.mean([float(p[i]) for p in pending]) for i in (1, 2))
                pending.clear()
                figures = {"mapping_loss": float(mapping), "query_loss": float(query)}
                journal.write(self.step, **figures, scenes=self._pool.entered)
                per_second = self._pool.entered / max(journal.seconds, 1e-9)
                journal.show(self.step, **figures, scenes_per_s=per_second)
                if not np.isfinite(mapping + query):
                    raise UserError(
                        "pre-training diverged; lower config.transformer_optimizer.learning_rate "
                        "or config.codes_optimizer.learning_rate, and choose another --workdir"
                    )
            if self._pool.entered != entered:
                self._ahead.prepare(self._pool.entered)
            if self.step % config.validation.every == 0 or self.step == config.steps:
                self._judge(journal, best)
            if self._time_to_save(journal.seconds - saved_at):
                self.save()
                saved_at = journal.seconds
        if best is not None and best.transformer is None:  # its file was taken away
            self._judge(journal, best)
        if self._checkpoints is not None:
            self.save()
            self._checkpoints.wait()

    def iterate(self) -> tuple[jax.Array, jax.Array]:
        """One iteration; the losses of its mapping and query steps stay on the device."""
        config, key = self.config, jax.random.fold_in(self._key, _STEP)
        key = jax.random.fold_in(key, self.step)
        every = config.mapping.transformer_every
        mapping = jnp.float32(0.0)
        for turn in range(config.mapping.steps):
            both = every and turn == 0 and self.step % every == 0
            step = self._steps.map_both if both else self._steps.map
            self.state, mapping = step(self.state, self._patches, jax.random.fold_in(key, turn))
        self.state, query = self._steps.query(self.state, self._patches, key)
        self.step += 1
        self._renew(self._pool.advance())
        return mapping, query

    def _renew(self, slots: list[int]) -> None:
        """Gives the slots their new scenes, with fresh codes."""
        if not slots:
            return
        mine = set(self._mesh.local_slots)
        for slot in slots:
            number = int(self._pool.scene[slot])
            some = self.scenes.validation[0]  # of the right shapes, where the scene is not needed
            row = self._ahead.get(number) if slot in mine else some
            self._patches = self._mesh.with_row(self._patches, slot, row)
        entered = np.zeros(self._mesh.slots, bool)
        entered[slots] = True
        key = jax.random.fold_in(jax.random.fold_in(self._key, _ENTER), self.step)
        self.state = self._steps.renew(self.state, self._patches, entered, key)

    def _judge(self, journal: Journal, best: Best | None) -> None:
        """Asks about the validation scenes."""
        transformer = jax.tree.map(np.asarray, self.state.transformer)
        answers = self.validator(transformer)
        summary = answers.summary()
        journal.write(self.step, validation=summary)
        if best is not None and best.offer(self.step, summary["score"], transformer):
            self.best_answers = answers

    def _time_to_save(self, seconds: float) -> bool:
        if self._checkpoints is None:
            return False
        due = np.float32(seconds > self.config.checkpoint_seconds)
        if jax.process_count() > 1:  # all or none: saving is a joint act
            from jax.experimental import multihost_utils

            due = multihost_utils.broadcast_one_to_all(due)
        return bool(due)

    def save(self) -> None:
        """Starts to write a checkpoint."""
        self._checkpoints.save(self.step, {"state": self.state, "pool": self._pool.state()})

    def close(self) -> None:
        """Stops preparing scenes."""
        self._ahead.close()


def _identity(config: ml_collections.ConfigDict, extractor: FeatureExtractor) -> str:
    """A digest of what a continued run must share with the interrupted one."""
    settings = ml_collections.ConfigDict(config.to_dict())
    for name in _FREE:
        del settings[name]
    text = settings.to_json_best_effort(sort_keys=True) + extractor.weights_checksum
    return hashlib.sha256(text.encode()).hexdigest()
