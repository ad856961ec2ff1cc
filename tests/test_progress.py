"""The progress display: a bar on a terminal, few whole lines in a log."""

import io
import re
import sys

import pytest
from repository import REPO

from ace_jax.progress import ProgressBar, StageBars


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _log(seconds_a_step: float, steps: int, total: int | None = None, **options) -> list[str]:
    stream, clock = io.StringIO(), _Clock()
    with ProgressBar(total, "work", stream=stream, clock=clock, **options) as bar:
        for done in range(1, steps + 1):
            clock.now += seconds_a_step
            bar.show(done, f"loss {done}")
    text = stream.getvalue()
    assert "\r" not in text
    assert text.endswith("\n")
    return text.splitlines()


def test_a_terminal_has_one_line_that_is_overwritten():
    stream = _Terminal()
    with ProgressBar(5, "room0", stream=stream) as bar:
        for done in range(1, 5):
            bar.show(done, "TRACKING")
    lines = stream.getvalue().rstrip("\n").split("\r")
    assert len(lines) > 1
    assert re.search(r"room0:? +80%\|.*\| 4/5 \[.*TRACKING", lines[-1])


def test_a_short_job_is_one_line_in_a_log():
    (line,) = _log(0.01, 500, 500)
    assert line.startswith("work 100 % 500/500 [00:05")
    assert line.endswith("loss 500]")


def test_a_long_job_has_lines_that_come_more_rarely():
    minute, hour, day = (_log(0.5, 2 * seconds, 2 * seconds) for seconds in (60, 3600, 86400))
    assert 5 <= len(minute) <= 7
    assert len(hour) < 60
    assert len(day) < 100
    assert hour[0].startswith("work   0 % 20/7200 [00:10<59:50")


def test_an_unknown_total_and_bytes():
    assert _log(1.0, 12)[0].startswith("work 10 [00:10, ")
    assert _log(20.0, 1, 5, unit="B", scaled=True, initial=0)[0].startswith("work  20 % 1.00/5.00")
    assert "1.50M/3.00M" in _log(1e-5, 1_500_000, 3_000_000, unit="B", scaled=True)[-1]


def test_a_resumed_job_begins_where_it_was():
    stream, clock = io.StringIO(), _Clock()
    with ProgressBar(100, "work", initial=50, stream=stream, clock=clock) as bar:
        clock.now += 10.0
        bar.show(60)
    # Ten steps in ten seconds, and forty to go.
    assert stream.getvalue().startswith("work  60 % 60/100 [00:10<00:40,  1.00")


def test_an_interrupt_leaves_the_last_state():
    stream = io.StringIO()

    def interrupted() -> None:
        with ProgressBar(10, "work", stream=stream) as bar:
            bar.show(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().startswith("work  50 % 5/10 ")


def test_nothing_is_told_twice_or_when_unwanted():
    stream, clock = io.StringIO(), _Clock()
    with ProgressBar(2, "work", stream=stream, clock=clock) as bar:
        bar.show(1)
        clock.now += 10.0
        bar.show(2)
        bar.close()
    assert len(stream.getvalue().splitlines()) == 1
    for quiet in (io.StringIO(), _Terminal()):
        with ProgressBar(2, "work", shown=False, stream=quiet) as bar:
            bar.show(2)
        assert quiet.getvalue() == ""


def test_a_mapping_run_is_a_line_a_stage(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bars = StageBars()
    for stage in ("features", "training"):
        for done in range(1001):
            bars(stage, done, 1000, loss=1.0 / (1 + done))
    bars.close()
    features, training = stream.getvalue().splitlines()
    assert features.startswith("features   100 % 1000/1000 ")
    assert training.endswith("loss=0.000999]")
    assert set(bars.seconds) == {"features", "training"}


def test_every_bar_is_this_one():
    users = [
        file.relative_to(REPO).as_posix()
        for file in (REPO / "ace_jax").rglob("*.py")
        if "tqdm" in file.read_text()
    ]
    assert users == ["ace_jax/progress.py"]
