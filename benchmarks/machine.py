"""Describes the machine on which a benchmark ran, and runs parts of it in their own processes."""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ace_jax.errors import UserError
from ace_jax.runtime import processor

REPO = Path(__file__).resolve().parent.parent
# Runs `python ARGUMENTS` with its output into a file; says what went wrong, if anything.
Command = Callable[[Sequence[str], Path], str | None]


def use_cores(count: int) -> None:
    """Restricts this process and its children to so many processor cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def revision() -> str:
    """The repository's revision."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return told or "unknown"


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stamp(packages: Sequence[str] = ("jax",)) -> str:
    """Date, revision, machine, its load now (call it before measuring) and versions of packages."""
    versions = [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]
    count = f"{cores()} core{'s' if cores() > 1 else ''}"
    return (
        f"{datetime.date.today()}, revision {revision()}, {count} of {processor()}, load "
        f"{os.getloadavg()[0]:.1f} at the start; {', '.join(versions)}"
    )


def python(arguments: Sequence[str], log: Path) -> str | None:
    """Runs the command; the line with the reason if it failed."""
    with open(log, "a") as file:
        done = subprocess.run(
            [sys.executable, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )
    if done.returncode == 0:
        return None
    lines = log.read_text(errors="replace").splitlines()
    told = [line for line in lines if re.match(r"error: |[\w.]*(Error|Exception)\b", line)]
    return f"exit code {done.returncode}, {(told or lines or ['no message'])[-1]}"


def printed_by(
    what: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> Any:
    """What a Python process of its own prints as JSON in its last line.

    Raises:
        UserError: `what` failed.
    """
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        raise UserError(f"{what} failed: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])
