"""The code in docs/solvers.md runs as pasted, one block after the other."""

import re

import numpy as np
from repository import REPO

BLOCKS = re.findall(r"```python\n(.*?)```", (REPO / "docs/solvers.md").read_text(), re.DOTALL)


def test_examples_run_and_find_the_pose(capsys):
    names = {}
    assert len(BLOCKS) == 4
    exec(BLOCKS[0], names)
    printed = capsys.readouterr().out
    assert printed.startswith("True 40")
    np.testing.assert_allclose(names["result"].camera_from_world, np.eye(4), atol=1e-3)
    exec(BLOCKS[1], names)
    assert np.asarray(names["ideal"]).shape == (1000, 2)
    exec(BLOCKS[2], names)
    assert np.all(names["results"].success)
    np.testing.assert_allclose(
        names["results"].camera_from_world, np.tile(np.eye(4), (8, 1, 1)), atol=1e-3
    )


def test_the_first_example_is_short():
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 10
