"""What the benchmarks' numbers were measured on."""

import os
import platform
import re
import subprocess
from pathlib import Path


def use_cores(count: int) -> int:
    """Restricts this process and its children to so many processor cores; how many it has then."""
    if not hasattr(os, "sched_setaffinity"):
        return count
    chosen = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, chosen)
    return len(chosen)


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        return found[1]
    return platform.processor() or platform.machine()


def revision() -> str:
    """The repository's revision."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return told or "unknown"
