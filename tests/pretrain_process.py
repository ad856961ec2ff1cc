"""A pre-training run of toy scenes in a process of its own: to be killed, or one of several.

  python tests/pretrain_process.py WORKDIR STEPS SAVE_EVERY KILL_AT [PORT PROCESS PROCESSES]

KILL_AT: iteration after which the process kills itself; 0 for never.
"""

import os
import signal
import sys
from types import SimpleNamespace

import numpy as np

folder, steps, save_every, kill_at, *hosts = sys.argv[1:]

import jax  # noqa: E402

if hosts:
    port, process, processes = map(int, hosts)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)

import pretrain_world as world  # noqa: E402

from ace_jax import runtime  # noqa: E402
from ace_jax.pretrain import run, validation  # noqa: E402

runtime.enable_compilation_cache()
# The paper's form: the spread of landmark attention is a small difference of large numbers, which
# other devices round otherwise (docs/pretraining.md).
config = world.random_form(world.config(steps=int(steps)))
config.pool.scenes = 8
config.validation.update(every=100, steps=0)
# Adam divides gradients by their size, rounding errors where they are zero included: with this,
# what other devices round otherwise stays as small as it is.
config.transformer_optimizer.eps = config.codes_optimizer.eps = 1e-3
scenes = run.Scenes(
    extractor=SimpleNamespace(name="toy", weights_checksum="toy", dim=world.DIM),
    load=lambda number: world.scene(number, config),
    validation=[world.scene(10_000 + n, config) for n in range(2)],
    thumbnails=lambda number: np.zeros((8, 60, 80, 3), np.uint8),
)
iterate = run.Trainer.iterate


def iterate_and_perhaps_die(trainer):
    """Saves at fixed iterations, so that it is known where the continuation begins."""
    losses = iterate(trainer)
    if trainer.step % int(save_every) == 0:
        trainer.save()
        trainer._checkpoints.wait()
    if trainer.step == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
    return losses


run.Trainer.iterate = iterate_and_perhaps_die
if not os.environ.get("WITH_REPORT"):  # most of the time of so short a run
    run.report.write_report = lambda *_: None
    validation.find_pose = lambda *_: None
print(run.pretrain(config, scenes, folder))
