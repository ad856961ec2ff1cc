"""Executes the notebooks as they are, in a small setting; fails where a cell does.

  python notebooks/run.py [NOTEBOOK ...]

Needs the extra `notebooks`. Works in a temporary folder; the files are not changed.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
CELL_SECONDS = 900  # a slow machine


def main(arguments: list[str]) -> None:
    """Runs the named notebooks, or all."""
    os.environ["ACE_JAX_SMALL"] = "1"
    for path in map(Path, arguments) if arguments else sorted(HERE.glob("*.ipynb")):
        start = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        with tempfile.TemporaryDirectory() as folder:
            client = NotebookClient(
                notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": folder}}
            )
            client.execute()
        cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        print(f"{path.name}: {cells} cells, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
