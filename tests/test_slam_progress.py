"""The progress display, on a terminal and in a log."""

import io

import numpy as np
import pytest

from ace_jax.slam.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _pose(x: float, y: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = x, y, x * x
    return pose


def _run(stream, **options) -> str:
    with Progress(5, "room0", stream, **options) as progress:
        for i in range(4):
            progress.update(True, _pose(i), _pose(i, 0.0 if i % 2 else 0.02))
        progress.update(False)
    return stream.getvalue()


def test_terminal_shows_rate_state_and_error():
    text = _run(_Terminal())
    last = text.rstrip("\n").split("\r")[-1]
    assert "room0 100%" in last
    assert "fps, LOST, ATE" in last


def test_log_has_few_whole_lines():
    text = _run(io.StringIO(), log_seconds=1000.0)
    assert "\r" not in text
    assert len(text.splitlines()) == 1
    assert text.startswith("room0 100 % 5/5 ")
    assert "LOST, ATE 0.8" in text


def test_log_has_a_line_when_it_is_time():
    assert len(_run(io.StringIO(), log_seconds=0.0).splitlines()) == 6


def test_no_error_without_ground_truth_and_an_interrupt_is_told():
    stream = io.StringIO()

    def interrupted() -> None:
        with Progress(10, "x", stream) as progress:
            for i in range(5):
                progress.update(True, _pose(i))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().startswith("x  50 % 5/10 ")
    assert "TRACKING" in stream.getvalue()
    assert "ATE" not in stream.getvalue()
