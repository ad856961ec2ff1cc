"""The progress display, on a terminal and in a log."""

import io
import re

import numpy as np

from ace_jax.slam.reporting.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _pose(x: float, y: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = x, y, x * x
    return pose


def _run(stream) -> str:
    with Progress(5, "room0", stream) as progress:
        for i in range(4):
            progress.update(True, _pose(i), _pose(i, 0.0 if i % 2 else 0.02))
        progress.update(False)
    return stream.getvalue()


def test_terminal_shows_rate_state_and_error():
    last = _run(_Terminal()).rstrip("\n").split("\r")[-1]
    assert re.search(r"room0 100%\|.*frame/s, LOST, ATE [\d.]+ cm\]", last)


def test_log_has_state_and_error():
    (line,) = _run(io.StringIO()).splitlines()
    assert line.startswith("room0 100 % 5/5 ")
    assert "LOST, ATE 0.8" in line


def test_no_error_without_ground_truth():
    stream = io.StringIO()
    with Progress(10, "x", stream) as progress:
        for i in range(5):
            progress.update(True, _pose(i))
    assert "TRACKING" in stream.getvalue()
    assert "ATE" not in stream.getvalue()
