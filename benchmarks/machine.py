"""Describes the machine on which a benchmark ran."""

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ace_jax.runtime import processor


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
