"""Pre-training's tables: the ablation, what untrained heads do, the paper's form, speed, memory.

  python benchmarks/pretraining.py --work runs/pretraining --steps 750 [--tables ablation,...]
  python benchmarks/pretraining.py --work runs/pretraining --docs docs/pretraining.md

Every trained model and every answer is kept in --work as soon as it is there; run again, the script
goes on with what is missing, and prints the tables of what there is.

Protocol: three arms that differ only in the images whose patches the transformer is trained to
answer: the mapping images themselves, held-out images of the same pass, query images (other
viewpoints, light, exposure, moved furniture). Same scenes, codes, steps, batches and seeds. Test
scenes (seeds from 800,000) were looked at for nothing but the tables; settings were chosen on
validation scenes (from 900,000). Intervals are paired bootstraps over test scenes: means over seeds
first, then scenes resampled.
"""

import dataclasses
import datetime
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import flags, logging
from machine import processor, revision
from markdown import put_into, table

from ace_jax import errors
from ace_jax.pretrain import presets
from ace_jax.pretrain.export import export
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.journal import Journal
from ace_jax.pretrain.run import Scenes, Trainer, open_scenes
from ace_jax.pretrain.validation import Validator
from ace_jax.runtime import enable_compilation_cache
from ace_jax.training.checkpoints import Checkpoints
from ace_jax.training.mesh import SceneMesh
from ace_jax.weights import checkpoint

_WORK = flags.DEFINE_string("work", "runs/pretraining", "where models and answers are kept")
_TABLES = flags.DEFINE_list("tables", ["ablation"], "of ablation, forms, speed, memory")
_DOCS = flags.DEFINE_string("docs", None, "a document whose tables are replaced")
_WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "folder with XFeat's weights")
_SEEDS = flags.DEFINE_integer("seeds", 3, "of the ablation")
_STEPS = flags.DEFINE_integer("steps", 250, "iterations of the ablation's runs")
_MINUTES = flags.DEFINE_float("minutes", 1e9, "start nothing new after so long")

ARMS = ("mapping", "held_out", "query")
TRAIN_SCENES, TEST_SCENES, FIRST_TEST = 88, 32, 800_000
GROUP = 8  # test scenes at once
TAUS = (40.0, 60.0, 100.0, 150.0)
_BEGAN = time.monotonic()


def small_config(**changes: object) -> ml_collections.ConfigDict:
    """The ablation's settings: `cpu`, scaled down to what minutes of a shared machine allow."""
    config = presets.get_config("cpu")
    config.sources.rooms.count = TRAIN_SCENES
    config.steps = _STEPS.value
    config.pool.update(scenes=4, shortest_life=30, longest_life=90, ahead=2)
    config.mapping.patches, config.query.patches = 64, 192
    config.support.steps = round(0.32 * _STEPS.value)
    config.codes_optimizer.learning_rate = 3e-4
    config.transformer_optimizer.warmup = 20
    config.validation.update(scenes=GROUP, every=10_000, steps=15)
    config.checkpoint_seconds = 60.0
    for name, value in changes.items():
        config[name].update(value) if isinstance(value, dict) else setattr(config, name, value)
    return config


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

    def has(self, name: str) -> bool:
        """Whether there is an answer, or no time left to make one."""
        there = (self.work / f"{name}.json").is_file()
        if not there and time.monotonic() - _BEGAN > 60 * _MINUTES.value:
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
    test = open_scenes(config, "data", _WEIGHTS_DIR.value).validation
    scenes = open_scenes(small_config(), "data", _WEIGHTS_DIR.value)
    work = Path(_WORK.value)
    work.mkdir(parents=True, exist_ok=True)
    return Bench(scenes, test, work)


def ablation(bench: Bench) -> str:
    """The three arms, beside the head that all start from."""
    for tau in TAUS:
        name = f"untrained-{tau:g}"
        if not bench.has(name):
            config = small_config(transformer={"tau": tau}, validation={"steps": 0})
            form = create_form(config, bench.scenes.extractor.dim)
            bench.evaluate(name, config, form.init_transformer(jax.random.key(0)))
    for seed in range(_SEEDS.value):
        for arm in ARMS:
            name = run_name(arm, seed)
            if not bench.has(name):
                config = small_config(query={"targets": arm}, seed=seed)
                bench.evaluate(name, config, bench.train(name, config))
    return ablation_tables(bench)


def run_name(arm: str, seed: int) -> str:
    """Of a run's folder and of its answers."""
    return f"{arm}-{_STEPS.value}-{seed}"


COLUMNS = {
    "surest_right": "surest tenth within 10 cm, %",
    "right": "all within 10 cm, %",
    "order": "rank correlation",
    "error_over_scale": "error / scale",
}


def ablation_tables(bench: Bench) -> str:
    """Means of the arms, and the differences with their intervals."""
    rows, arms = [], {}
    for tau in TAUS:
        if (found := bench.figures(f"untrained-{tau:g}")) is not None:
            cells = [f"{found[key].mean():.2f}" for key in COLUMNS]
            rows.append([f"untrained landmark attention, temperature {tau:g}", "", *cells])
            arms[f"untrained-{tau:g}"] = found
    for arm in ARMS:
        found = [bench.figures(run_name(arm, seed)) for seed in range(_SEEDS.value)]
        found = [f for f in found if f is not None]
        if found:
            arms[arm] = {key: np.mean([f[key] for f in found], axis=0) for key in COLUMNS}
            cells = []
            for key in COLUMNS:
                by_seed = [f[key].mean() for f in found]
                cells.append(f"{np.mean(by_seed):.2f} ({min(by_seed):.2f}-{max(by_seed):.2f})")
            rows.append([f"{arm.replace('_', '-')} targets", str(len(found)), *cells])
    text = table(["head", "seeds", *COLUMNS.values()], rows)
    if "query" not in arms:
        return text
    rows = []
    best = max(
        (name for name in arms if name.startswith("untrained")),
        key=lambda name: arms[name]["surest_right"].mean(),
        default=None,
    )
    for other in ("mapping", "held_out", best):
        if other in arms:
            cells = [interval(arms["query"][key] - arms[other][key]) for key in COLUMNS][:3]
            rows.append([f"query - {other.replace('_', '-')}", *cells])
    names = list(COLUMNS.values())[:3]
    return f"{text}\n\n{table(['difference, 95 % interval', *names], rows)}"


def interval(differences: np.ndarray, draws: int = 10_000) -> str:
    """Mean and 95 % bootstrap interval of differences by scene."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(differences), (draws, len(differences)))
    low, high = np.quantile(differences[picks].mean(axis=1), [0.025, 0.975])
    sure = "**" if low > 0 or high < 0 else ""
    return f"{sure}{differences.mean():+.2f} [{low:+.2f}, {high:+.2f}]{sure}"


TABLES: dict[str, Callable[[Bench], str]] = {"ablation": ablation}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    enable_compilation_cache()
    bench = open_bench()
    for name in _TABLES.value:
        if name not in TABLES:
            raise errors.UserError(f"no table {name!r}; there are {', '.join(TABLES)}")
        text = TABLES[name](bench)
        stamp = (
            f"{datetime.date.today()}, revision {revision()}, 2 cores of {processor()}; "
            f"JAX {jax.__version__}."
        )
        print(f"\n{text}\n\n{stamp}\n")
        if _DOCS.value:
            put_into(Path(_DOCS.value), name, f"{text}\n\n{stamp}")


if __name__ == "__main__":
    errors.run(main)
