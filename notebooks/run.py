"""Executes the notebooks as they are, in a small setting; fails where a cell does.

  python notebooks/run.py [--store] [NOTEBOOK ...]

Needs the extra `notebooks`. Works in a temporary folder. With --store the full setting is run, and
the outputs are kept in the files; without, the files are not changed.

The first cells come from here: a badge for Colab and the line that installs the package there. Both
need the repository's address, which is `Repository` of `[project.urls]` in pyproject.toml; as long
as there is none, there is no badge, and the cell says how to install a wheel. `--store` and
`--setup` write them anew.
"""

import base64
import io
import os
import re
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
CELL_SECONDS = 900  # a slow machine
LARGEST_BYTES = 300_000  # of a file with its outputs
LINES = 40  # of a text output that is kept
COLOURS = 256  # of a stored picture
# What says more of the machine that ran a notebook than of the notebook.
_NOISE = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|var|usr|opt|mnt|Users|work)/\S*|\b[A-Z]:\\\S*|site-packages"
    r"|\bat 0x[0-9a-f]+|[\r\x1b]|\bit/s\b|\w*Warning\b"
)
_SETUP = """\
# Installs the package where it is not, as on Colab, whose JAX uses its GPU or TPU.
import importlib.util
import os

REPOSITORY = "ADDRESS"
if importlib.util.find_spec("ace_jax") is None:
    if not REPOSITORY:
        raise RuntimeError("upload a wheel (`python -m build` makes it) and `%pip install` it")
    %pip install -q git+{REPOSITORY}

import jax  # noqa: E402

SMALL = bool(os.environ.get("ACE_JAX_SMALL"))  # set where the notebooks are tested
print(jax.devices())"""


def main(arguments: list[str]) -> None:
    """Runs the named notebooks, or all."""
    store, setup = "--store" in arguments, "--setup" in arguments
    paths = [Path(argument) for argument in arguments if not argument.startswith("--")]
    if not store:
        os.environ["ACE_JAX_SMALL"] = "1"
    for path in paths or sorted(HERE.glob("*.ipynb")):
        start = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        if store or setup:
            begin(notebook, path.name, address())
        nbformat.validate(notebook)
        if not setup:
            execute(notebook)
        if store:
            for cell in notebook.cells:
                shorten(cell)
            if found := noise(notebook):
                sys.exit(f"{path.name}: not stored, its outputs have {', '.join(map(repr, found))}")
        if store or setup:
            text = nbformat.writes(notebook)
            if len(text) > LARGEST_BYTES:
                sys.exit(f"{path.name}: {len(text)} bytes with its outputs")
            path.write_text(text + "\n", encoding="utf-8")
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        print(f"{path.name}: {cells} cells, {time.perf_counter() - start:.0f} s", flush=True)


def address() -> str:
    """Where the repository is; "" as long as it has no public address."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["urls"].get("Repository", "").rstrip("/")


def begin(notebook: nbformat.NotebookNode, name: str, repository: str) -> None:
    """Writes the badge below the title and the first code cell.

    Args:
        notebook: whose first cell has the title and whose first code cell is replaced.
        name: of the file.
        repository: address of the repository on GitHub; "" for none.
    """
    title, *rest = notebook.cells[0].source.split("\n")
    rest = [line for line in rest if not line.startswith("[![Open in Colab]")]
    while rest and not rest[0].strip():
        rest.pop(0)
    badge = []
    if repository:
        place = repository.removeprefix("https://github.com/")
        colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}"
        picture = "https://colab.research.google.com/assets/colab-badge.svg"
        badge = [f"[![Open in Colab]({picture})]({colab})", ""]
    notebook.cells[0].source = "\n".join([title, "", *badge, *rest])
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = _SETUP.replace("ADDRESS", repository)


def execute(notebook: nbformat.NotebookNode) -> None:
    """Runs all cells in a temporary folder; the outputs are in the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=CELL_SECONDS, resources=resources).execute()


def shorten(cell: nbformat.NotebookNode) -> None:
    """Drops what a cell wrote to standard error; long texts and large pictures become small."""
    cell.metadata.pop("execution", None)
    if cell.cell_type != "code":
        return
    kept = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in kept:
        if "text" in output:
            output.text = "\n".join(output.text.split("\n")[:LINES])
        picture = output.get("data", {}).get("image/png")
        if picture:
            output.data["image/png"] = smaller(picture)
    cell.outputs = kept


def noise(notebook: nbformat.NotebookNode) -> list[str]:
    """Paths of a machine, addresses in memory, warnings and progress bars in the outputs."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts = [output.get("text", ""), *output.get("traceback", [])]
            texts += [text for kind, text in output.get("data", {}).items() if "image/" not in kind]
            found += [match.group() for text in texts for match in _NOISE.finditer(str(text))]
    return found


def smaller(picture: str) -> str:
    """A PNG in base64, of few colours, small dots' too, and at most 900 pixels across."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.thumbnail((900, 900))
    buffer = io.BytesIO()
    few = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
    few.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    main(sys.argv[1:])
