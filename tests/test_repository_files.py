"""Files of the repository that no program of ours reads: they parse, and name what exists."""

import os
import re
import textwrap
import tomllib

import pytest
import yaml
from commands import run_python
from conftest import unexpected_skips
from repository import REPO

import ace_jax

WORKFLOWS = sorted((REPO / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def _load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_workflows_for_tests_release_and_docs():
    assert [path.stem for path in WORKFLOWS] == ["ci", "docs", "release"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_least_rights_and_fixed_actions(path):
    workflow = _load(path)
    assert workflow["permissions"] in ({"contents": "read"}, {"contents": "write"})
    assert (workflow["permissions"] == {"contents": "write"}) == (path.stem == "docs")
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1)", step["uses"])


def test_ci_calls_scripts_that_exist_and_installs_all_extras():
    workflow = _load(REPO / ".github/workflows/ci.yml")
    runs = [step["run"] for step in _steps(workflow) if "run" in step]
    scripts = [run.split()[0] for run in runs if run.startswith(".ci/")]
    assert scripts == [".ci/run", ".ci/versions"]
    for script in scripts:
        assert (REPO / script).is_file()
        assert os.access(REPO / script, os.X_OK)
    (extras,) = re.findall(r'"\.\[([\w,]{20,})\]"', " ".join(runs))
    assert extras.split(",") == sorted(PROJECT["optional-dependencies"])
    systems = {
        entry["os"] for entry in workflow["jobs"]["elsewhere"]["strategy"]["matrix"]["include"]
    }
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}


def test_a_release_needs_no_password():
    workflow = _load(REPO / ".github/workflows/release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert workflow["jobs"]["publish"]["needs"] == "build"
    assert "secrets" not in (REPO / ".github/workflows/release.yml").read_text()
    assert PROJECT["name"] in (REPO / ".github/workflows/release.yml").read_text()


def test_citation():
    citation = _load(REPO / "CITATION.cff")
    assert citation["version"] == ace_jax.__version__
    assert citation["license"] == PROJECT["license"]
    readme = (REPO / "README.md").read_text()
    for reference in citation["references"]:
        for author in reference["authors"]:
            assert author["family-names"] in readme


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "AGENTS.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md"),
        "docs/camera.md",
    ],
)
def test_links_exist(name):
    path = REPO / name
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]
    if "/" not in name and name != "README.md":  # which every distribution has
        assert name in (REPO / "MANIFEST.in").read_text()


def test_templates_and_hooks_parse():
    for path in (REPO / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert _load(path)
    hooks = [
        hook for repo in _load(REPO / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    assert {"ruff-check", "ruff-format"} <= {hook["id"] for hook in hooks}


def test_urls_are_addresses():
    for url in PROJECT["urls"].values():
        assert re.match(r"https://[\w.]+/", url)


def test_what_may_be_skipped():
    reasons = [
        "no shared data in x (set ACE_JAX_SHARED)",
        "no /dev/full here",
        "the host compares all",
        "Not a test.",
    ]
    assert unexpected_skips(reasons) == ["no /dev/full here"]
    assert unexpected_skips(["Skipped: could not import 'evo'"] * 2) == [
        "Skipped: could not import 'evo'"
    ]


def test_a_skipped_test_fails_where_nothing_may_be_skipped(tmp_path):
    hook = (REPO / "tests/conftest.py").read_text()
    hook = hook[hook.index("# What no machine") : hook.index('@pytest.fixture(scope="session")')]
    (tmp_path / "conftest.py").write_text(
        "import os, re, pytest\nfrom collections.abc import Iterable\n" + hook
    )
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            import pytest

            def test_passes(): pass

            def test_needs_data(): pytest.skip("no shared data in x")

            def test_needs_more(): pytest.importorskip("no_such_package")
        """)
    )
    for chosen, strict, code in (
        ("passes or data", True, 0),
        ("more or passes", True, 1),
        ("more", False, 0),
    ):
        done = run_python(
            *("-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, tmp_path),
            cwd=tmp_path,
            ACE_JAX_NO_SKIPS="1" if strict else "",
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",  # most of the start, and of no use here
            PYTEST_ADDOPTS="",  # which may ask for plugins
        )
        assert done.returncode == code, done.stdout
        assert ("must not be skipped" in done.stdout) == bool(code)
