"""What is installed, and that the set-up commands are the same wherever they are written."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commands import run_commands, run_python
from repository import REPO

import ace_jax
from ace_jax.__main__ import commands, main

SETUP = ("pip install . && python -m ace_jax.slam", 'pip install ".[test]" && python -m pytest')
# Import names that differ from the names of their distributions.
DISTRIBUTIONS = {
    "absl": "absl-py",
    "cv2": "opencv-python-headless",
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
}
PACKAGE = REPO / "ace_jax"


def _project() -> dict:
    return tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement).group().lower()


def test_readme_and_ci_have_the_same_two_setup_commands():
    blocks = re.findall(r"```sh\n(.*?)\n```", (REPO / "README.md").read_text(), re.DOTALL)
    assert tuple(blocks[:2]) == SETUP
    ci = (REPO / ".ci" / "run").read_text()
    for command in SETUP:
        assert f"bash -c '{command}'" in ci


def test_only_our_package_is_installed():
    setuptools = pytest.importorskip("setuptools")
    config = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = setuptools.find_packages(str(REPO), include=config["packages"]["find"]["include"])
    with_code = {
        ".".join(file.parent.relative_to(REPO).parts)
        for file in PACKAGE.rglob("*.py")
        if "__pycache__" not in file.parts
    }
    assert set(found) == with_code  # a folder without __init__.py would be left out


def test_metadata():
    project = _project()
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "version" in project["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", ace_jax.__version__)
    assert {"test", "bench", "viewer", "mesh", "tfds"} <= set(project["optional-dependencies"])
    for required in ("evo", "pytest", "ruff"):
        assert required in map(_name, project["optional-dependencies"]["test"])


def test_the_distribution_has_a_name_of_its_own():
    """`ace-jax` is another project's name, so nothing may tell anybody to install it."""
    name = _project()["name"]
    assert name == "ace-slam-jax"
    install = re.compile(r"ace[-_]jax\[|pip3? install[^\n`]*\bace[-_]jax(?![\w/.-])", re.IGNORECASE)
    git = shutil.which("git")
    files = git and subprocess.run([git, "ls-files"], cwd=REPO, capture_output=True, text=True)
    if not files or files.returncode:
        pytest.skip("not a git checkout")
    wrong = []
    for file in files.stdout.splitlines():
        path = REPO / file
        if path == Path(__file__) or not path.is_file():
            continue
        text = path.read_bytes().decode(errors="ignore")
        wrong += [f"{file}: {found.group()}" for found in install.finditer(text)]
    assert not wrong
    ci = (REPO / ".ci" / "run").read_text()
    assert f'version("{name}")' in ci
    assert f"{name.replace('-', '_')}-{{ace_jax.__version__}}.dist-info" in ci
    assert f"--exclude {name}" in (REPO / ".ci" / "versions").read_text()


def _imports(tree: ast.Module) -> set[str]:
    """Top-level names of the packages that a module needs as soon as it is imported."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"ace_jax"}


def test_what_modules_import_is_declared():
    declared = {_name(requirement).replace("-", "_") for requirement in _project()["dependencies"]}
    for file in PACKAGE.rglob("*.py"):
        for name in _imports(ast.parse(file.read_text())):
            distribution = DISTRIBUTIONS.get(name, name).replace("-", "_")
            assert distribution in declared, f"{file} imports {name}, which is no dependency"


def test_commands_are_those_that_exist():
    listed = commands()
    assert "evaluation" in listed
    for name, summary in listed.items():
        assert (PACKAGE / name.replace("-", "_") / "__main__.py").is_file()
        assert summary.endswith(".")


@pytest.mark.parametrize("name", commands())
def test_help_has_examples_that_can_be_pasted(name):
    name = name.replace("-", "_")
    text = ast.get_docstring(ast.parse((PACKAGE / name / "__main__.py").read_text()))
    examples = text.partition("Examples:\n")[2]
    assert re.search(rf"^  python -m ace_jax\.{name}\b", examples, re.MULTILINE)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_overview(capsys, arguments):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for name in commands():
        assert re.search(rf"^  {name}  ", text, re.MULTILINE)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ace_jax {ace_jax.__version__}\n"


def test_the_shell_completes_commands_and_flags(capsys, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    assert main(["completion"]) == 0
    script = capsys.readouterr().out
    program = tmp_path / "ace-jax"
    program.write_text('#!/bin/sh\necho "  --seq SEQ  a"; echo "  --[no]mesh  b"; echo more\n')
    program.chmod(0o755)
    for words, wanted in (
        (["ace-jax", "sl"], ["slam"]),
        (["ace-jax", "slam", "--s"], ["--seq"]),
        (["ace-jax", "slam", "--"], ["--seq", "--mesh"]),
        (["ace-jax", "slam", f"{tmp_path}/ace"], [str(program)]),
    ):
        typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _ace_jax"
        done = subprocess.run(
            [bash, "-c", f'{script}\n{typed}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
            capture_output=True,
            text=True,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        )
        assert (done.stdout.split(), done.stderr) == (wanted, "")


@pytest.mark.parametrize(
    ("typed", "hint"), [("evalution", "did you mean 'evaluation'?"), ("zzz", "there are: ")]
)
def test_an_unknown_command_is_one_line_and_exit_code_2(capsys, typed, hint):
    assert main([typed]) == 2
    error = capsys.readouterr().err
    assert hint in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("flag", "title"), [("--help", "Flags"), ("--helpfull", "ace_jax.data")])
def test_help_names_the_module_and_no_folder_however_it_was_started(flag, title):
    direct, through = (
        run_python("-m", *command, flag) for command in (["ace_jax.data"], ["ace_jax", "data"])
    )
    assert through.returncode == direct.returncode == 0, direct.stderr
    assert through.stdout == direct.stdout
    assert f"\n{title}:\n  --" in direct.stdout
    for folder in {str(REPO), sys.prefix, sys.base_prefix, "__main__"}:
        assert folder not in direct.stdout


def test_help_shows_the_fields_of_a_configuration(tmp_path):
    fields = {
        "mapping": "head.name=landmark",
        "pretrain": "query.targets=query",
        "encoder": "network.inputs=histograms",
    }
    for done, field in zip(
        run_commands([[name, "--help"] for name in fields], tmp_path), fields.values(), strict=True
    ):
        assert done.code == 0, done.err
        assert f"\n  --config.{field}" in done.out
        assert all(len(line) <= 100 for line in done.out.splitlines())


def test_every_dependency_has_a_lower_bound_and_a_newest_tested_version():
    tested = {}
    for line in (REPO / ".ci" / "newest.txt").read_text().splitlines():
        name, version = line.split("==")
        tested[name.lower().replace("-", "_")] = [int(part) for part in version.split(".")]
    project = _project()
    for bound in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        name, lowest = re.fullmatch(r"([\w-]+)>=([\d.]+)", bound).groups()
        newest = tested[name.lower().replace("-", "_")]
        assert newest >= [int(part) for part in lowest.split(".")], bound


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no broken pipes")
def test_a_reader_who_has_gone_is_no_error():
    """As `ace-jax | head` does it."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ace_jax"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=REPO)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
