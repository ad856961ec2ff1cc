"""Python in the documents: what it imports exists, and its calls fit the functions that they call.

Examples that need a user's data cannot run here; this finds what would be a TypeError there.
"""

import ast
import importlib
import inspect
import re
from typing import Any

import pytest
from repository import REPO

PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


def imported(tree: ast.Module) -> dict[str, Any]:
    """The objects of this package that a block imports, by the names that it gives them."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and [a.name for a in node.names] == ["ace_jax"]:
            found["ace_jax"] = importlib.import_module("ace_jax")
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "ace_jax":
            for alias in node.names:
                module = importlib.import_module(node.module)
                if not hasattr(module, alias.name):
                    module = importlib.import_module(f"{node.module}.{alias.name}")
                    found[alias.asname or alias.name] = module
                else:
                    found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def target(function: ast.expr, names: dict[str, Any]) -> Any:
    """What a call's function is, if it is imported or an attribute of what is; else None."""
    if isinstance(function, ast.Name):
        return names.get(function.id)
    if isinstance(function, ast.Attribute):
        owner = target(function.value, names)
        return None if owner is None else getattr(owner, function.attr)  # an AttributeError: wrong
    return None


def check_calls(code: str) -> int:
    """Binds the arguments of all calls of imported functions; how many there are."""
    tree = ast.parse(code)
    names, count = imported(tree), 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = target(node.func, names)
        keywords = {k.arg: k.value for k in node.keywords}
        spread = None in keywords or any(isinstance(value, ast.Starred) for value in node.args)
        if function is None or spread:
            continue
        inspect.signature(function).bind(*node.args, **keywords)
        count += 1
    return count


@pytest.mark.parametrize("block", BLOCKS)
def test_imports_exist_and_calls_fit(block):
    check_calls(block)


def test_calls_are_found():
    assert sum(check_calls(block.values[0]) for block in BLOCKS) > 15


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("from ace_jax.data.registry import nothing", ImportError),
        ("from ace_jax.data.registry import open_sequence\nopen_sequence('a')", TypeError),
        (
            "from ace_jax.data import inputs\ninputs.as_camera(1, 2, tall=3)",
            TypeError,
        ),
        ("import ace_jax\nace_jax.Slam(1, 2)", TypeError),
        ("import ace_jax\nace_jax.Slamm(1)", AttributeError),
    ],
)
def test_a_wrong_example_is_found(code, error):
    with pytest.raises(error):
        check_calls(code)
