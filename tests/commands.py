"""Programs and commands of the package in a process of their own."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from repository import REPO

_DRIVER = textwrap.dedent("""
    import contextlib, io, json, runpy, sys, traceback
    from absl import app, flags, logging
    from ml_collections import config_flags

    app.define_help_flags()
    known = set(flags.FLAGS)
    results = []
    for module, *arguments in json.load(sys.stdin):
        for name in list(flags.FLAGS):
            if name in known:
                flags.FLAGS[name].unparse()
            else:
                delattr(flags.FLAGS, name)
        sys.argv = [module, *arguments]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_module(f"ace_jax.{module}", run_name="__main__", alter_sys=True)
                code = 0
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException:
                traceback.print_exc()
                code = 1
        results.append([code, out.getvalue(), err.getvalue()])
    json.dump(results, sys.__stdout__)
""")


def run_python(
    *arguments: object, cwd: Path = REPO, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own, also where the package is not installed."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPO)} | environment,
    )


class Ended(NamedTuple):
    """A command that ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def run_commands(commands: Sequence[Sequence[str]], cwd: Path, **environment: str) -> list[Ended]:
    """Runs commands, such as `["slam", "--seq", "tum/x"]`, without a folder of weights.

    One after the other in one process: JAX is imported and programs are traced once for all.
    """
    given = {"PYTHONPATH": str(REPO), "ACE_JAX_WEIGHTS": str(cwd / "no-weights")}
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        input=json.dumps([[str(word) for word in command] for command in commands]),
        capture_output=True,
        text=True,
        env=os.environ | given | environment,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [Ended(*each) for each in json.loads(done.stdout)]


def run_named(commands: Mapping[str, Sequence[str]], cwd: Path) -> dict[str, Ended]:
    """`run_commands`, each by a name."""
    return dict(zip(commands, run_commands(list(commands.values()), cwd), strict=True))
