"""Settings and resumable runs shared by the pre-training benchmarks."""

import dataclasses
import json
import time
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import flags, logging

from ace_jax.pretrain import config as settings
from ace_jax.pretrain import presets
from ace_jax.pretrain.export import export
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.journal import Journal
from ace_jax.pretrain.run import Scenes, Trainer, open_scenes
from ace_jax.pretrain.validation import Validator
from ace_jax.training.checkpoints import Checkpoints
from ace_jax.training.mesh import SceneMesh
from ace_jax.weights import checkpoint

WORK = flags.DEFINE_string("work", "runs/pretraining", "where models and answers are kept")
DOCS = flags.DEFINE_string("docs", None, "a document whose tables are replaced")
WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with the weights of features that need some"
)
STEPS = flags.DEFINE_integer("steps", 250, "iterations of the ablation's runs")
GENERAL_STEPS = flags.DEFINE_integer("general_steps", 300, "iterations of the shortened `cpu`")
MINUTES = flags.DEFINE_float("minutes", 1e9, "start nothing new after so long")

TRAIN_SCENES, TEST_SCENES, FIRST_TEST = 88, 32, 800_000
GENERAL_SCENES, TUM = 76, "tum/rgbd_dataset_freiburg1_rpy"
GROUP = 8  # test scenes at once
_BEGAN = time.monotonic()


def small_config(**changes: object) -> ml_collections.ConfigDict:
    """The ablation's settings: `cpu`, scaled down to what minutes of a shared machine allow."""
    config = presets.get_config("cpu")
    rooms = settings.procedural(
        count=TRAIN_SCENES, difficulty=settings.HARD_QUERIES, keep_images=True
    )
    config.sources = ml_collections.ConfigDict({"rooms": rooms})
    config.loss = "student_t"
    config.code.update(size=1024, least=0)
    config.transformer.update(tau=160.0, steady=False)
    config.transformer_optimizer.rate_factors.pull = 1.0
    config.support.first = 4
    config.steps = STEPS.value
    config.pool.update(scenes=4, shortest_life=30, longest_life=90, ahead=2)
    config.mapping.patches, config.query.patches = 64, 192
    config.support.steps = round(0.32 * STEPS.value)
    config.codes_optimizer.learning_rate = 3e-4
    config.transformer_optimizer.warmup = 20
    config.validation.update(scenes=GROUP, every=10_000, steps=15)
    config.checkpoint_seconds = 60.0
    for name, value in changes.items():
        config[name].update(value) if isinstance(value, dict) else setattr(config, name, value)
    return config


def general_config(**changes: object) -> ml_collections.ConfigDict:
    """`cpu` for minutes, with a real recording among the rooms."""
    full = presets.get_config("cpu")
    config = small_config(**changes)
    config.steps = GENERAL_STEPS.value
    config.sources, config.loss, config.code = full.sources, full.loss, full.code
    config.sources.rooms.count = GENERAL_SCENES
    config.sources.tum = settings.recordings((TUM,), weight=0.1, frames=40)
    config.support, config.transformer = full.support, full.transformer
    config.transformer_optimizer.rate_factors = full.transformer_optimizer.rate_factors
    config.query.patches = 128
    config.validation.update(scenes=2, every=GENERAL_STEPS.value, steps=0)
    return config


def interval(differences: np.ndarray, draws: int = 10_000) -> str:
    """Mean and 95 % bootstrap interval of differences by scene."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(differences), (draws, len(differences)))
    low, high = np.quantile(differences[picks].mean(axis=1), [0.025, 0.975])
    sure = "**" if low > 0 or high < 0 else ""
    return f"{sure}{differences.mean():+.2f} [{low:+.2f}, {high:+.2f}]{sure}"


@dataclasses.dataclass
class Bench:
    """The data, opened once."""

    scenes: Scenes
    test: list
    work: Path

    def evaluate(self, name: str, config: ml_collections.ConfigDict, transformer: object) -> None:
        """Answers about all test scenes, kept as figures by scene."""
        path = self.work / f"{name}.json"
        figures: dict[str, list[float]] = {}
        form = create_form(config, self.scenes.extractor.dim)
        for start in range(0, len(self.test), GROUP):
            validator = Validator(config, form, self.test[start : start + GROUP])
            answers = validator(transformer)
            for key, values in answers.by_scene().items():
                figures.setdefault(key, []).extend(float(v) for v in values)
        path.write_text(json.dumps(figures))

    def train(self, name: str, config: ml_collections.ConfigDict) -> object:
        """The transformer of a configuration; a finished one is read from its file."""
        form = create_form(config, self.scenes.extractor.dim)
        folder = self.work / name
        file = folder / "transformer.safetensors"
        if file.is_file():
            return checkpoint.load(file).build()[1]["params"]
        folder.mkdir(parents=True, exist_ok=True)
        mesh = SceneMesh(config.pool.scenes)
        with Checkpoints(folder / "checkpoints", config.to_json_best_effort()) as checkpoints:
            trainer = Trainer(config, form, self.scenes, mesh, checkpoints)
            journal = Journal(folder, trainer.step, config.steps)
            try:
                trainer.train(journal)
            finally:
                journal.close()
                trainer.close()
        transformer = jax.tree.map(np.asarray, trainer.state.transformer)
        export(file, form, transformer, self.scenes.extractor)
        return transformer

    def has(self, name: str, suffix: str = ".json") -> bool:
        """Whether there is an answer, or no time left to make one."""
        there = (self.work / f"{name}{suffix}").is_file()
        if not there and time.monotonic() - _BEGAN > 60 * MINUTES.value:
            logging.warning("no time left for %s", name)
            return True
        return there

    def figures(self, name: str) -> dict[str, np.ndarray] | None:
        """Figures by scene."""
        path = self.work / f"{name}.json"
        if not path.is_file():
            return None
        return {k: np.array(v) for k, v in json.loads(path.read_text()).items()}


def open_bench() -> Bench:
    """Opens everything; scenes that were rendered before are read."""
    config = small_config()
    config.validation.source.first = FIRST_TEST
    config.validation.scenes = TEST_SCENES
    test = open_scenes(config, "data", WEIGHTS_DIR.value).validation
    scenes = open_scenes(small_config(), "data", WEIGHTS_DIR.value)
    work = Path(WORK.value)
    work.mkdir(parents=True, exist_ok=True)
    return Bench(scenes, test, work)
