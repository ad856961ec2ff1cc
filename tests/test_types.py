"""The package is typed: pyright passes on its public modules and on a user's script."""

import shutil
import subprocess
import sys

import pytest
from repository import REPO


def test_the_package_is_marked_as_typed():
    assert (REPO / "ace_jax/py.typed").is_file()
    assert 'ace_jax = ["py.typed"' in (REPO / "pyproject.toml").read_text()


def test_pyright_passes():
    if shutil.which("pyright") is None:
        pytest.skip("pyright is not installed (pip install pyright)")
    done = subprocess.run(
        ["pyright", "--pythonpath", sys.executable], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
