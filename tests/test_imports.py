"""Packages depend on each other in one direction; read from the source, nothing is imported."""

import ast
import graphlib
from pathlib import Path

import pytest

import ace_jax

ROOT = Path(ace_jax.__file__).parent
# A module may import from its own package and from the layers above it in this list.
LAYERS = (
    {"__init__"},
    {"command_help"},
    {"errors", "precision", "config_flag"},
    {"files", "progress", "pickle_reader", "plugins"},
    {"runtime", "downloads", "archives"},
    {"executables"},
    {"programs"},
    {"geometry"},
    {"data", "models"},
    {"weights", "synthetic"},
    {"features"},
    {"training", "localization"},
    {"evaluation"},
    {"viewer"},
    {"mapping", "slam", "relocalize", "pretrain", "export"},  # the commands: none knows another
    {"encoder"},  # trains features on the scenes of `pretrain`, and logs as it does
    {"api"},  # what `import ace_jax` offers
    {"warm_up"},  # does once what users of the API will do
    {"__main__"},
)
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}


def _modules() -> dict[str, Path]:
    """All modules by dotted name within the package; a folder's is that of its `__init__.py`."""
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in ROOT.rglob("*.py")}
    return {".".join(p.parts).removesuffix(".__init__"): path for p, path in paths.items()}


MODULES = _modules()


def _is_for_types(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def _imported(path: Path) -> set[str]:
    """Modules of this package that a file imports anywhere, in functions too.

    What only type checkers see does not count: `ace_jax/__init__.py` names its public API so.
    """
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        id(node) for block in ast.walk(tree) if _is_for_types(block) for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, *parts = name.split(".")
            if top == ROOT.name:
                while parts and ".".join(parts) not in MODULES:
                    parts.pop()  # a class or a function
                found.add(".".join(parts) or "__init__")
    return found


GRAPH = {name: _imported(path) for name, path in MODULES.items()}


def test_every_package_has_a_layer():
    assert {name.split(".")[0] for name in MODULES} == set(LEVEL)


@pytest.mark.parametrize("package", sorted(LEVEL))
def test_imports_point_one_way(package):
    upwards = [
        f"{name} imports {other}"
        for name, imported in sorted(GRAPH.items())
        for other in sorted(imported)
        if name.split(".")[0] == package != other.split(".")[0]
        and LEVEL[other.split(".")[0]] >= LEVEL[package]
    ]
    assert not upwards


def test_modules_import_each_other_in_no_circle():
    list(graphlib.TopologicalSorter(GRAPH).static_order())  # a CycleError names the circle
