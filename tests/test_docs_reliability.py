"""Every test that docs/reliability.md names exists, and every promise in its tables names one."""

import ast
import re

from data_scene import PlaneSource
from repository import REPO

from ace_jax.data.export import export

TEXT = (REPO / "docs" / "reliability.md").read_text()
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXT)


def test_every_test_that_is_named_exists():
    assert len(NAMED) > 60
    known: dict[str, set[str]] = {}
    for file, name in NAMED:
        if file not in known:
            tree = ast.parse((REPO / "tests" / file).read_text())
            known[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in known[file], f"{file} has no {name}"


def test_every_promise_names_a_test():
    head = r"^\| promise \| test \|\n\| --- \| --- \|\n"
    rows = re.findall(head + r"((?:\|.*\|\n)+)", TEXT, re.MULTILINE)
    promises = [row for table in rows for row in table.splitlines()]
    assert len(promises) > 30
    for promise in promises:
        assert re.search(r"`test_\w+\.py::test_\w+` *(,|\|$)", promise), promise


def test_the_example_runs(tmp_path, monkeypatch):
    export(PlaneSource(60), tmp_path / "data" / "kitchen", "folder")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict = {}
    exec(block, names)
    covered = names["source"]
    (spoilt,) = covered.disturbed.nonzero()
    assert not covered[int(spoilt[len(spoilt) // 2])].depth.any()
