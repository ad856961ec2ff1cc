"""Runs every command of the documentation once, as a new user would.

  python benchmarks/first_steps.py [--docs docs/first-steps.md]

Builds the wheel, installs it with its dependencies into a fresh environment, and runs the commands
below in an empty directory with an empty cache and no weights. Prints command, output, wall and
core seconds as Markdown.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from machine import REPO, stamp
from markdown import put_into

from ace_jax import errors
from ace_jax.errors import UserError

_ROOM = "--seq synthetic/room0"
COMMANDS = (
    "ace-jax",
    "ace-jax slam",
    "ace-jax slam",
    "ace-jax evaluation runs/slam/synthetic/room0/trajectory.tum "
    "runs/slam/synthetic/room0/trajectory_live.tum",
    f"ace-jax mapping {_ROOM} --frames 0:150:3 --out room.safetensors",
    f"ace-jax relocalize --map room.safetensors {_ROOM} --frames 1:150:10 --out runs/photos",
    "ace-jax export room.safetensors --out relocalizer",
    "ace-jax synthetic --room room0 --frames 60 --out my_recording --layout folder",
    "ace-jax data check my_recording",
    "ace-jax data info my_recording",
    "ace-jax data convert my_recording --to colmap --out my_colmap",
    "ace-jax slam my_recording --out runs/mine",
    "ace-jax mapping --seq my_recording --poses runs/mine/trajectory.tum --out mine.safetensors",
    "ace-jax relocalize --map mine.safetensors --images my_recording/rgb/000007.png "
    "--intrinsics my_recording/intrinsics.json --out runs/photo",
    "ace-jax weights list",
)
_LINES = 12  # of an output that are shown

_DOCS = flags.DEFINE_string("docs", None, "put the table into this file")


def main(_: Sequence[str]) -> None:
    """Runs the commands and prints the table."""
    # pip and the commands must not see the checkout.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ACE_JAX") and name != "PYTHONPATH"
    }
    where = stamp(())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        parts = [_install(work, environment)]
        empty = work / "empty"
        empty.mkdir()
        environment |= {
            "PATH": f"{work / 'venv' / 'bin'}:{environment['PATH']}",
            "ACE_JAX_CACHE": str(work / "cache"),
            "HOME": str(work),
        }
        for command in COMMANDS:
            parts.append(_run(command, empty, environment))
            print(parts[-1], flush=True)
    parts.append(f"{where} (the machine is shared: read the core seconds).")
    text = "\n\n".join(parts)
    if _DOCS.value:
        put_into(Path(_DOCS.value), "first_steps", text)


def _install(work: Path, environment: dict[str, str]) -> str:
    for command in (
        [sys.executable, "-m", "build", "--outdir", str(work / "dist"), str(REPO)],
        [sys.executable, "-m", "venv", str(work / "venv")],
    ):
        subprocess.run(command, check=True, capture_output=True, env=environment)
    start, used = time.perf_counter(), _core_seconds()
    wheel = next((work / "dist").glob("*.whl"))
    pip = str(work / "venv" / "bin" / "pip")
    subprocess.run(
        [pip, "install", "-q", f"{wheel}[export]"], check=True, capture_output=True, env=environment
    )
    seconds, core = time.perf_counter() - start, _core_seconds() - used
    return f"`pip install {wheel.name}[export]`: {seconds:.0f} s ({core:.0f} core-seconds)"


def _run(command: str, folder: Path, environment: dict[str, str]) -> str:
    start, used = time.perf_counter(), _core_seconds()
    done = subprocess.run(
        command.split(), cwd=folder, env=environment, capture_output=True, text=True
    )
    seconds, core = time.perf_counter() - start, _core_seconds() - used
    if done.returncode:
        raise UserError(f"{command} ended with {done.returncode}: {done.stderr[-500:]}")
    lines = done.stdout.rstrip().splitlines()
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"... ({len(lines) - _LINES} more lines)"]
    shown = "\n".join([f"$ {command}", *lines])
    return f"{seconds:.0f} s ({core:.0f} core-seconds):\n\n```text\n{shown}\n```"


def _core_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    errors.run(main)
