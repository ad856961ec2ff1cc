"""What all tests share: real recordings, a cache of compiled programs, stated precisions."""

import os
from pathlib import Path

import pytest
from products import refuse_unstated
from repository import REPO

from ace_jax import runtime

# Most of the suite's time is compilation, and most programs do not change between two runs.
runtime.enable_compilation_cache()
refuse_unstated()
# Tests have the weights that the machine has; those of downloads fetch from this machine alone.
os.environ["ACE_JAX_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real recordings, weights and oracle values; `ACE_JAX_SHARED`, default `../shared`."""
    folder = Path(os.environ.get("ACE_JAX_SHARED") or REPO.parent / "shared").resolve()
    if not (folder / "golden").is_dir():
        pytest.skip(f"no shared data in {folder} (set ACE_JAX_SHARED)")
    return folder
