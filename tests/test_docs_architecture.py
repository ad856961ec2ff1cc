"""docs/architecture.md names files and packages that exist."""

import itertools
import re

from repository import REPO
from test_imports import LAYERS

TEXT = (REPO / "docs" / "architecture.md").read_text()


def test_every_file_that_is_named_exists():
    named = re.findall(r"`((?:ace_jax|tests|datasets)/[\w./]*)`", TEXT)
    assert len(named) > 40
    assert [name for name in named if not (REPO / name).exists()] == []


def test_the_layers_are_those_of_the_imports():
    table = TEXT.partition("| layer |")[2].partition("\n\n")[0]
    rows = [set(re.findall(r"`(\w+)`", row.split("|")[2])) for row in table.splitlines()[2:]]
    levels = {name: level for level, layer in enumerate(LAYERS) for name in layer}
    ranges = [[levels[name] for name in row] for row in rows]
    assert all(max(above) < min(below) for above, below in itertools.pairwise(ranges))
