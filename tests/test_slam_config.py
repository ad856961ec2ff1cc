"""What docs/slam.md promises of the code: where constants are, and the step of a frame."""

import ast
import dataclasses
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from ace_jax import slam
from ace_jax.slam import config
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.networks.config import NetworkConfig
from ace_jax.slam.reporting.mesh import MeshConfig

GROUPS = [x for x in vars(config).values() if dataclasses.is_dataclass(x)]
SOURCE = r"theory: [^)]+|size|judged|measured[^)]+|tuned [KRPWLB]( [KRPWLB])*"
ENTRY = re.compile(r"^ {4}(\w+) \([^;)]+; (" + SOURCE + r")\): ", re.M)
# Physics, mathematics and the interpreter.
NOT_TUNED = {"MEDIAN_OF_RAYLEIGH", "SWITCH_INTERVAL"}


@pytest.mark.parametrize("group", [*GROUPS, NetworkConfig, MeshConfig])
def test_each_constant_has_a_unit_and_a_source(group):
    text = re.sub(r"\n {8,}", " ", inspect.getdoc(group))
    described = {entry[0] for entry in ENTRY.findall(text)}
    nested = {f.name for f in dataclasses.fields(group) if dataclasses.is_dataclass(f.default)}
    assert described == {f.name for f in dataclasses.fields(group)} - nested


def test_no_module_of_slam_has_tuned_numbers_of_its_own():
    found = set()
    for path in Path(slam.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and any(
                isinstance(part, ast.Constant) and isinstance(part.value, float)
                for part in ast.walk(node.value)
            ):
                found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    flags = {name for name in found if name.startswith("_") or name in ("flags", "math")}
    assert found - flags <= NOT_TUNED


def test_the_step_that_the_docs_print_is_the_programs():
    parts = LandmarkSlam._step, LandmarkSlam._track, LandmarkSlam._track_near
    code = "\n\n".join(textwrap.dedent(inspect.getsource(part)) for part in parts)
    docs = (Path(__file__).parents[1] / "docs" / "slam.md").read_text()
    assert "".join(code.split()) in "".join(docs.split())  # it is indented less there
    assert len(inspect.getsource(LandmarkSlam._step).splitlines()) <= 60
