"""Cost of pre-training: time of each stage, and memory.

python benchmarks/pretraining_cost.py [--tables speed,memory] [--docs docs/pretraining.md]
"""

import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import flags
from machine import stamp
from markdown import asked, publish, table
from pretraining_runs import DOCS, Bench, open_bench
from throughput import matmul_peak, scene_bytes, step_flops

from ace_jax import errors
from ace_jax.pretrain import presets
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.scenes import Views
from ace_jax.pretrain.sources import create_source
from ace_jax.pretrain.steps import create_steps
from ace_jax.runtime import enable_compilation_cache
from ace_jax.training.mesh import SceneMesh

_TABLES = flags.DEFINE_list("tables", ["speed", "memory"], "of speed, memory")

KEY = jax.random.key(0)


def speed(bench: Bench) -> str:
    """Time of each stage, and how much of the matrix peak the steps reach."""
    config = presets.get_config("cpu")
    form = create_form(config, bench.scenes.extractor.dim)
    steps, mesh = create_steps(config, form), SceneMesh(config.pool.scenes)
    patches = mesh.stack(lambda slot: bench.scenes.load(slot))
    key = jax.random.key(0)
    state = steps.init(key, patches)
    peak = matmul_peak()
    rows = []
    for label, step, options, both in (
        ("mapping step", "map", config.mapping, False),
        ("query step", "query", config.query, True),
    ):
        walls, cores = [], []
        for i in range(12):
            wall, core = time.perf_counter(), time.process_time()
            state, loss = getattr(steps, step)(state, patches, jax.random.fold_in(key, i))
            loss.block_until_ready()
            walls.append(time.perf_counter() - wall)
            cores.append(time.process_time() - core)
        wall, core = np.median(walls[2:]), np.median(cores[2:])
        count = config.pool.scenes * options.patches
        flops = step_flops(config, form, options.patches, both)
        rate, share = f"{count / wall:.0f} patches/s", f"{100 * flops / wall / peak:.0f} %"
        rows.append([label, f"{1e3 * wall:.0f}", f"{1e3 * core:.0f}", rate, share])
    source = create_source(config.validation.source, "data", (320, 240))
    views = Views(2, 0, 2)
    source.images(50, views)  # compiles
    wall, core = time.perf_counter(), time.process_time()
    frames = source.images(51, views)
    wall, core = time.perf_counter() - wall, time.process_time() - core
    count = len(frames)
    rows.append([f"render a frame ({count} of a new room)", f"{1e3 * wall / count:.0f}",
                 f"{1e3 * core / count:.0f}", f"{count / wall:.1f} frames/s", ""])  # fmt: skip
    extractor = bench.scenes.extractor
    jax.block_until_ready(extractor.extract(frames[0].rgb))
    wall, core = time.perf_counter(), time.process_time()
    for _ in range(10):
        jax.block_until_ready(extractor.extract(frames[0].rgb))
    wall, core = (time.perf_counter() - wall) / 10, (time.process_time() - core) / 10
    rows.append(["encode a frame", f"{1e3 * wall:.0f}", f"{1e3 * core:.0f}",
                 f"{1 / wall:.0f} frames/s", ""])  # fmt: skip
    header = ["stage (`cpu`, 320x240)", "ms", "core-ms", "rate", f"of {peak / 1e9:.0f} GFLOP/s"]
    return table(header, rows)


def memory(bench: Bench) -> str:
    """Bytes of a scene and of a pool of 256, by variant; and what a compiled step needs besides."""
    rows = []
    dims = {"cpu": 64, "small": 384, "paper": 1024}
    for variant, dim in dims.items():
        config = presets.get_config(variant)
        form = create_form(config, dim)
        each = scene_bytes(config, form)
        transformer = sum(
            np.prod(x.shape) for x in jax.tree.leaves(jax.eval_shape(form.init_transformer, KEY))
        )
        cells = [each.patches, each.code, each.optimizer + each.gradient, each.total]
        rows.append([variant, *(f"{x / 1e6:.1f}" for x in cells), f"{256 * each.total / 1e9:.1f}",
                     f"{transformer / 1e6:.1f}"])  # fmt: skip
    config = presets.get_config("cpu")
    form = create_form(config, bench.scenes.extractor.dim)
    steps, mesh = create_steps(config, form), SceneMesh(config.pool.scenes)
    patches = mesh.stack(lambda slot: bench.scenes.load(slot))
    state = steps.init(KEY, patches)
    needed = [
        getattr(steps, name).lower(state, patches, KEY).compile().memory_analysis()
        for name in ("map", "query")
    ]
    held = sum(x.nbytes for x in jax.tree.leaves((state, patches))) / config.pool.scenes
    text = table(
        ["variant", "patches, MB", "code, MB", "its optimizer and gradient, MB", "a scene, MB",
         "256 scenes, GB", "transformer, M parameters"], rows)  # fmt: skip
    each = ", ".join(f"{n.temp_size_in_bytes / config.pool.scenes / 1e6:.1f}" for n in needed)
    return (
        f"{text}\n\nMeasured for `cpu`: {held / 1e6:.1f} MB a scene are held; beside them a "
        f"compiled mapping and query step need {each} MB a scene for what lies between."
    )


TABLES: dict[str, Callable[[Bench], str]] = {"speed": speed, "memory": memory}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    enable_compilation_cache()
    makers = asked(TABLES, _TABLES.value)
    where = stamp()
    bench = open_bench()
    for name, make in zip(_TABLES.value, makers, strict=True):
        publish(name, f"{make(bench)}\n\n{where}.", DOCS.value)


if __name__ == "__main__":
    errors.run(main)
