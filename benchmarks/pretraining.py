"""Pre-training tables: ablation, untrained heads, the paper's form.

  python benchmarks/pretraining.py --work runs/pretraining --steps 750 [--tables ablation,...]
  python benchmarks/pretraining.py --work runs/pretraining --docs docs/pretraining.md

The tables hour, poses and redkitchen also show `cpu` runs that were trained to their end:
  python -m ace_jax.pretrain --config experiments/pretrain.py:cpu --config.seed=0 \\
      --workdir runs/pretraining/cpu-0   # and so on, to --seeds

Every trained model and every answer is kept in --work as soon as it is there; run again, the script
goes on with what is missing, and prints the tables of what there is.

Protocol: three arms that differ only in the images whose patches the transformer is trained to
answer: the mapping images themselves, held-out images of the same pass, query images (other
viewpoints, light, exposure, moved furniture, as `conditions.HARD` says). Same scenes, codes, steps,
batches and seeds. Test scenes (seeds from 800,000) were looked at for nothing but the tables;
settings were chosen on validation scenes (from 900,000). Intervals are paired bootstraps over test
scenes: means over seeds first, then scenes resampled.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import flags
from kitchen import SEQUENCE, SFM_POSES
from machine import stamp
from markdown import asked, publish, table
from pretraining_runs import (
    DOCS,
    GENERAL_STEPS,
    STEPS,
    WEIGHTS_DIR,
    Bench,
    general_config,
    interval,
    open_bench,
    small_config,
)

from ace_jax import errors
from ace_jax.data.registry import open_sequence
from ace_jax.evaluation.relocalization import PoseErrors, share_within
from ace_jax.features import registry
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.journal import read_metrics
from ace_jax.pretrain.patches import patches_of
from ace_jax.pretrain.run import open_scenes
from ace_jax.pretrain.scenes import Views
from ace_jax.pretrain.validation import RIGHT, Answers, Validator
from ace_jax.runtime import enable_compilation_cache
from ace_jax.weights import checkpoint

_TABLES = flags.DEFINE_list(
    "tables",
    ["ablation"],
    "of ablation, general, arms, hour, poses, redkitchen, forms",
)
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/")
_SEEDS = flags.DEFINE_integer("seeds", 3, "of the ablation")
_POSE_ROOMS = flags.DEFINE_integer("pose_rooms", 32, "test rooms for poses and forms")
_MAPPING_STEPS = flags.DEFINE_list("mapping_steps", ["0", "15"], "of a code before it is asked")

ARMS = ("mapping", "held_out", "query")
TAUS = (60.0, 100.0, 160.0, 240.0)


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
    return f"{arm}-{STEPS.value}-{seed}"


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
    names = {arm: [run_name(arm, seed) for seed in range(_SEEDS.value)] for arm in ARMS}
    return _arms_table(bench, names, rows, arms, COLUMNS)


def _arms_table(
    bench: Bench,
    names: dict[str, list[str]],
    rows: list[list[str]],
    arms: dict[str, dict[str, np.ndarray]],
    columns: dict[str, str],
) -> str:
    """Rows of the arms under those of the untrained heads in `arms`, and query's differences."""
    for arm, runs in names.items():
        found = [f for f in map(bench.figures, runs) if f is not None]
        if found:
            arms[arm] = {key: np.mean([f[key] for f in found], axis=0) for key in columns}
            cells = []
            for key in columns:
                by_seed = [f[key].mean() for f in found]
                cells.append(f"{np.mean(by_seed):.2f} ({min(by_seed):.2f}-{max(by_seed):.2f})")
            rows.append([f"{arm.replace('_', '-')} targets", str(len(found)), *cells])
    text = table(["head", "seeds", *columns.values()], rows)
    if "query" not in arms:
        return text
    rows = []
    best = max(
        (name for name in arms if name.startswith("untrained")),
        key=lambda name: arms[name]["surest_right"].mean(),
        default=None,
    )
    # A calibration is not better for being larger.
    compared = {key: column for key, column in columns.items() if key != "error_over_scale"}
    for other in ("mapping", "held_out", best):
        if other in arms:
            cells = [interval(arms["query"][key] - arms[other][key]) for key in compared]
            rows.append([f"query - {other.replace('_', '-')}", *cells])
    return f"{text}\n\n{table(['difference, 95 % interval', *compared.values()], rows)}"


@dataclasses.dataclass(frozen=True)
class Head:
    """A head to compare.

    Attributes:
        label: in the tables.
        options: of its transformer.
        weights: of the transformer; None for the untrained one.
    """

    label: str
    options: dict[str, object]
    weights: object = None


def heads_to_compare(bench: Bench) -> list[Head]:
    """What pre-training made of the head, and the untrained head."""
    runs = {f"`cpu`, shortened, seed {i}": general_name(i) for i in range(_SEEDS.value)}
    runs |= {f"`cpu`, to its end, seed {i}": hour_name(i) for i in range(_SEEDS.value)}
    heads = []
    for label, run in runs.items():
        if (head := trained_head(bench, label, run)) is not None:
            heads.append(head)
    plain = (100.0, 160.0, 240.0)
    return heads + [Head(f"untrained, temperature {tau:g}", {"tau": tau}) for tau in plain]


def trained_head(bench: Bench, label: str, run: str) -> Head | None:
    """What a run has made; None if it has not ended."""
    file = bench.work / run / "transformer.safetensors"
    if not file.is_file():
        return None
    module, variables = checkpoint.load(file).build()
    return Head(label, {"tau": module.tau, "steady": module.steady}, variables["params"])


def general_name(seed: int, arm: str = "query") -> str:
    """Of a run of `general_config`."""
    other = "" if arm == "query" else f"{arm}-"
    return f"general-{other}{GENERAL_STEPS.value}-{seed}"


def train_general(bench: Bench, seed: int, arm: str = "query") -> None:
    """`cpu`, shortened, if it is not there yet."""
    name, config = general_name(seed, arm), general_config(seed=seed, query={"targets": arm})
    if not bench.has(f"{name}/transformer.safetensors", ""):
        scenes = open_scenes(config, _DATA_ROOT.value, WEIGHTS_DIR.value)
        dataclasses.replace(bench, scenes=scenes).train(name, config)


def arms(bench: Bench) -> str:
    """The three arms with the head and the scenes of `cpu`, and what they are worth for poses."""
    plain = [head for head in heads_to_compare(bench) if head.weights is None]
    rows, found = [], {}
    for head in plain:
        name = judge(bench, f"poses-{_POSE_ROOMS.value}-{head_name(head)}-0", head, 0)
        if (figures := bench.figures(name)) is not None:
            rows.append([head.label, "", *(f"{figures[key].mean():.2f}" for key in POSE_COLUMNS)])
            found[f"untrained-{head.options['tau']:g}"] = figures
    names: dict[str, list[str]] = {arm: [] for arm in ARMS}
    for seed, arm in itertools.product(range(_SEEDS.value), ARMS):
        train_general(bench, seed, arm)
        run = general_name(seed, arm)
        if (head := trained_head(bench, arm, run)) is not None:
            name = judge(bench, f"poses-{_POSE_ROOMS.value}-{run}", head, 0)
            names[arm].append(name)
    return _arms_table(bench, names, rows, found, POSE_COLUMNS)


def general(bench: Bench) -> str:
    """`cpu`, shortened: the runs, with their losses."""
    rows = []
    for seed in range(_SEEDS.value):
        train_general(bench, seed)
        name, config = general_name(seed), general_config(seed=seed)
        lines = read_metrics(bench.work / name)
        if lines:
            lines = [line for line in lines if "query_loss" in line]
            parts = np.array_split([line["query_loss"] for line in lines], 3)
            thirds = [f"{np.mean(part):.2f}" for part in parts]
            rows.append([str(seed), str(config.steps), *thirds, str(lines[-1]["scenes"])])
    return table(["seed", "steps", "query loss: first third", "second", "last", "scenes"], rows)


def hour_name(seed: int) -> str:
    """Folder in --work of a finished run of `cpu`."""
    return f"cpu-{seed}"


HOUR_COLUMNS = {
    "right": "all within 10 cm, %",
    "surest_right": "surest tenth within 10 cm, %",
    "median_cm": "median error, cm",
    "error_over_scale": "error / scale",
    "pose_5cm_5deg": "poses, %",
}


def hour(bench: Bench) -> str:
    """How the head gets better while `cpu` is trained to its end, on validation rooms."""
    runs = [read_metrics(bench.work / hour_name(seed)) for seed in range(_SEEDS.value)]
    by_step: dict[int, list[dict]] = {}
    for line in itertools.chain(*runs):
        if "validation" in line:
            by_step.setdefault(line["step"], []).append(line)
    rows = []
    for step, lines in sorted(by_step.items()):
        cells = ["/".join(f"{line['seconds'] / 60:.0f}" for line in lines)]
        for key in HOUR_COLUMNS:
            digits = {"error_over_scale": 2, "pose_5cm_5deg": 0}.get(key, 1)
            cells.append("/".join(f"{line['validation'][key]:.{digits}f}" for line in lines))
        rows.append([str(step), *cells])
    return table(["step", "minutes", *HOUR_COLUMNS.values()], rows)


POSE_CODE = 4096
POSE_COLUMNS = {"pose_5cm_5deg": "poses within 5 cm/5 deg, %", **COLUMNS}


def judge(bench: Bench, name: str, head: Head, steps: int) -> str:
    """A head's answers in test rooms, with codes of `POSE_CODE`, kept under `name`."""
    if not bench.has(name):
        config = small_config(
            code={"size": POSE_CODE}, transformer=head.options, validation={"steps": steps}
        )
        form = create_form(config, bench.scenes.extractor.dim)
        transformer = head.weights or form.init_transformer(jax.random.key(0))
        some = dataclasses.replace(bench, test=bench.test[: _POSE_ROOMS.value])
        some.evaluate(name, config, transformer)
    return name


def poses(bench: Bench) -> str:
    """Poses in unseen rooms, from the whole scene, with codes of 4096 landmarks."""
    rows, found = [], {}
    for head in heads_to_compare(bench):
        for steps in map(int, _MAPPING_STEPS.value):
            name = f"poses-{_POSE_ROOMS.value}-{head_name(head)}-{steps}"
            judge(bench, name, head, steps)
            if (figures := bench.figures(name)) is not None:
                found[head.label, steps] = figures
                cells = [
                    f"{figures[key].mean():.{1 if i < 3 else 2}f}"
                    for i, key in enumerate(POSE_COLUMNS)
                ]
                rows.append([head.label, str(steps), *cells])
    text = table(["head", "mapping steps", *POSE_COLUMNS.values()], rows)
    return text + _against_untrained(found)


def _against_untrained(found: dict[tuple[str, int], dict[str, np.ndarray]]) -> str:
    """Trained heads' means over seeds against the untrained head at its best temperature."""
    rows = []
    trained = dict.fromkeys(label.split(", seed")[0] for label, _ in found if label[0] == "`")
    for run, steps in itertools.product(trained, map(int, _MAPPING_STEPS.value)):
        seeds = [f for (label, s), f in found.items() if s == steps and label.startswith(run)]
        plain = [f for (label, s), f in found.items() if s == steps and label[:9] == "untrained"]
        if seeds and plain:
            cells = []
            for key in ("pose_5cm_5deg", "surest_right", "right"):
                mean = np.mean([f[key] for f in seeds], axis=0)
                cells.append(interval(mean - max((f[key] for f in plain), key=np.mean)))
            rows.append([run, str(steps), *cells])
    names = ["poses within 5 cm/5 deg, %", "surest tenth within 10 cm, %", "all within 10 cm, %"]
    header = ["head", "mapping steps", *(f"{name}: difference" for name in names)]
    return f"\n\n{table(header, rows)}" if rows else ""


def head_name(head: Head) -> str:
    """In file names."""
    return head.label.translate(str.maketrans(" ", "_", "`',"))


def redkitchen(bench: Bench) -> str:
    """7-Scenes redkitchen: mapped on 0-599, asked in between (9 mod 12) and on 700-799."""
    root = Path(_DATA_ROOT.value)
    source = open_sequence(SEQUENCE, root, poses=root / SFM_POSES)
    between, later = list(range(9, 600, 12)), list(range(700, 800, 4))
    frames = [source[i] for i in [*range(0, 600, 6), *between, *later]]
    views = {"mapping": 100, "held_out": 0, "query": len(between) + len(later)}
    features = small_config().features
    options = features.options.to_dict() | {"image_size": (640, 480), "max_features": 2000}
    extractor = registry.create(features.name, weights_dir=WEIGHTS_DIR.value, **options)
    patches = patches_of(frames, Views(**views), extractor, 1024)
    rows = []
    for head in heads_to_compare(bench):
        for steps in map(int, _MAPPING_STEPS.value):
            kept = bench.work / f"redkitchen-{head_name(head)}-{steps}.txt"
            if not bench.has(kept.name, ""):
                config = small_config(
                    code={"size": POSE_CODE},
                    transformer=head.options,
                    validation={"steps": steps},
                    mapping={"patches": 256},
                    views=views,
                    patches_per_image=1024,
                )
                form = create_form(config, extractor.dim)
                transformer = head.weights or form.init_transformer(jax.random.key(0))
                answers = Validator(config, form, [patches])(transformer)
                parts = (slice(0, len(between)), slice(len(between), None))
                kept.write_text("|".join(cell for part in parts for cell in _cells(answers, part)))
            if kept.is_file():
                rows.append([head.label, str(steps), *kept.read_text().split("|")])
    figures = ["within 5 cm/5 deg, %", "2 cm/2 deg, %", "median, cm", "coordinates within 10 cm, %"]
    header = [f"{where}: {figure}" for where in ("in between", "later") for figure in figures]
    return table(["head", "mapping steps", *header], rows)


def _cells(answers: Answers, images: slice) -> list[str]:
    """Figures of some of the images."""
    found = PoseErrors(answers.poses.translation[images], answers.poses.rotation[images])
    right = np.nanmean(answers.error[0, images] < RIGHT)
    return [
        f"{share_within(found, 0.05, 5.0):.0f}",
        f"{share_within(found, 0.02, 2.0):.0f}",
        f"{100 * np.median(found.translation):.1f}",
        f"{100 * right:.1f}",
    ]


def random_config() -> ml_collections.ConfigDict:
    """The paper's form at the size of the ablation: random codes, Laplace loss, both trained."""
    config = small_config()
    config.code.form = "random"
    config.transformer = ml_collections.ConfigDict(
        {"dim": 128, "blocks": 2, "heads": 4, "dtype": "float32"}
    )
    config.loss = "laplace"
    config.mapping.update(patches=192, transformer_every=1, dropout=0.1)
    config.query.dropout = 0.1
    config.codes_optimizer.update(learning_rate=2e-3, weight_decay=0.01)
    config.pool.update(shortest_life=100, longest_life=300)
    config.validation.steps = 150
    return config


def forms(bench: Bench) -> str:
    """The paper's form beside ours: equal scenes, code rows, width, blocks and steps."""
    name, rooms = f"random-{STEPS.value}-0", _POSE_ROOMS.value
    if not bench.has(name):
        config = random_config()
        some = dataclasses.replace(bench, test=bench.test[:rooms])
        some.evaluate(name, config, bench.train(name, config))
    rows = []
    for label, run in (("random codes", name), ("codes of landmarks", run_name("query", 0))):
        found, lines = bench.figures(run), read_metrics(bench.work / run)
        if found is None:
            continue
        losses = {line["step"]: line for line in lines if "query_loss" in line}
        picked = [losses[min(losses, key=lambda s, at=at: abs(s - at * max(losses)))]
                  for at in (0.0, 0.2, 0.5, 1.0)]  # fmt: skip
        curve = ", ".join(f"{line['query_loss']:.2f}" for line in picked)
        keys = ("surest_right", "right", "median_cm")
        cells = [f"{found[key][:rooms].mean():.1f}" for key in keys]
        rows.append([label, curve, *cells])
    names = ["surest tenth within 10 cm, %", "all within 10 cm, %", "median error, cm"]
    return table(["form", "query loss at 0, 20, 50, 100 % of the run", *names], rows)


TABLES: dict[str, Callable[[Bench], str]] = {
    "ablation": ablation,
    "general": general,
    "arms": arms,
    "hour": hour,
    "poses": poses,
    "redkitchen": redkitchen,
    "forms": forms,
}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    enable_compilation_cache()
    makers = asked(TABLES, _TABLES.value)
    where = stamp()
    bench = open_bench()
    for name, make in zip(_TABLES.value, makers, strict=True):
        steps = {"ablation": STEPS.value, "arms": GENERAL_STEPS.value}.get(name)
        block = name if steps is None else f"{name}-{steps}"
        publish(block, f"{make(bench)}\n\n{where}.", DOCS.value)


if __name__ == "__main__":
    errors.run(main)
