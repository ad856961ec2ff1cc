"""The notebooks' first cells, and their stored outputs: there, small, and without noise."""

import base64
import importlib.util
import io

import numpy as np
import pytest
from PIL import Image
from repository import REPO

nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebooks`")
pytest.importorskip("nbclient", reason="needs the extra `notebooks`")
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def run():
    spec = importlib.util.spec_from_file_location("notebooks_run", REPO / "notebooks/run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cells_and_size(run, path):
    """Else: python notebooks/run.py --setup"""
    stored = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    run.begin(fresh, path.name, run.address())
    assert [cell.source for cell in stored.cells] == [cell.source for cell in fresh.cells]
    assert path.stat().st_size <= run.LARGEST_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_without_noise(run, path):
    """Else: python notebooks/run.py --store"""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert run.noise(notebook) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("written to /tmp/tmpab/runs/room0", ["/tmp/tmpab/runs/room0"]),
        (r"C:\Users\me\a.png", [r"C:\Users\me\a.png"]),
        ("<Figure at 0x7f00ab>", ["at 0x7f00ab"]),
        ("10%|#   | 3/30 [00:01<00:09, 3.0it/s]\r", ["\r"]),
        ("x.py:3: DeprecationWarning: old", ["DeprecationWarning"]),
        ("runs/room0/report.html, 20 frames/s, 3/home/a", []),
    ],
)
def test_noise_is_found(run, text, found):
    stream = nbformat.v4.new_output("stream", name="stdout", text=text)
    value = nbformat.v4.new_output("execute_result", {"text/plain": text, "image/png": "/tmp/"})
    for output in (stream, value):
        cell = nbformat.v4.new_code_cell("x", outputs=[output])
        assert run.noise(nbformat.v4.new_notebook(cells=[cell])) == found


def test_a_badge_and_an_installation_once_there_is_an_address(run):
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    for _ in range(2):  # the second time replaces, and adds nothing
        run.begin(notebook, "1_slam.ipynb", "https://github.com/somebody/ace_jax")
    title = notebook.cells[0].source
    assert title.count("[![Open in Colab]") == 1
    assert "/github/somebody/ace_jax/blob/main/notebooks/1_slam.ipynb)" in title
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert 'REPOSITORY = "https://github.com/somebody/ace_jax"' in first
    assert "%pip install -q git+{REPOSITORY}" in first
    run.begin(notebook, "1_slam.ipynb", "")
    assert "[![Open in Colab]" not in notebook.cells[0].source


def test_outputs_are_shortened(run):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 60, (900, 900, 3), np.uint8)
    crimson = (220, 20, 60)
    noise[450:454, 450:454] = crimson
    Image.fromarray(np.pad(noise, ((0, 300), (0, 0), (0, 0)))).save(buffer, "PNG")
    cell = nbformat.v4.new_code_cell(
        "x",
        outputs=[
            nbformat.v4.new_output("stream", name="stderr", text="a bar"),
            nbformat.v4.new_output("stream", name="stdout", text="line\n" * 100),
            nbformat.v4.new_output(
                "display_data", {"image/png": base64.b64encode(buffer.getvalue()).decode()}
            ),
        ],
    )
    run.shorten(cell)
    text, picture = cell.outputs
    assert text.text.count("line") == run.LINES
    stored = Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"])))
    assert max(stored.size) == 900
    assert len(stored.getcolors()) <= run.COLOURS
    far = np.abs(np.asarray(stored.convert("RGB")).astype(int) - crimson).sum(-1)
    assert far.min() < 60
