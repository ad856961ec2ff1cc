"""Figures of benchmark runs are kept, and compared beyond noise."""

import os
import subprocess
import sys

import pytest
from repository import REPO

from ace_jax.errors import UserError

sys.path.insert(0, str(REPO / "benchmarks"))

# isort: split
import figure_changes
import history_file
from history_file import History


def runs(old, new):
    return [History("slam", "1", "", {"room0 ate_cm": v} if v else {}) for v in (old, new)]


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([1.0], [1.05], "level"),  # within 10 %
        ([1.0], [1.2], "worse"),
        ([1.0], [0.8], "better"),
        ([0.010], [0.014], "level"),  # half of what counts
        ([1.0, 1.1, 1.4], [1.3, 1.4, 1.5], "level"),  # within the range over seeds
        ([1.0, 1.01, 1.02], [1.05, 1.06, 1.07], "worse"),  # seeds agree to less than 10 %
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.004], "level"),
        (None, [1.0], "new"),
        ([1.0], None, "gone"),
    ],
)
def test_what_moved_beyond_noise(old, new, verdict):
    (change,) = figure_changes.compare(*runs(old, new), 0.1, 0.25)
    assert change.verdict == verdict


def test_more_is_better_for_some_and_speed_has_a_margin_of_its_own():
    old = History("a", "1", "", {"x coverage": [1.0], "x fps": [20.0], "y fps": [20.0]})
    new = History("a", "2", "", {"x coverage": [0.8], "x fps": [16.0], "y fps": [30.0]})
    found = {c.name: c.verdict for c in figure_changes.compare(old, new, 0.1, 0.25)}
    assert found == {"x coverage": "worse", "y fps": "better", "x fps": "level"}
    assert next(iter(found)) == "x coverage"  # what got worse stands first


def test_a_figure_without_values_is_none():
    old = History("a", "1", "", {"x ate_cm": [], "y ate_cm": [1.0]})
    new = History("a", "2", "", {"x ate_cm": [], "y ate_cm": []})
    (change,) = figure_changes.compare(old, new, 0.1, 0.25)
    assert (change.name, change.verdict) == ("y ate_cm", "gone")


def test_the_text_shows_what_moved():
    text = figure_changes.text(
        figure_changes.compare(*runs([1.0, 1.0, 1.1], [2.0, 2.0, 2.2]), 0.1, 0.25)
    )
    assert "| room0 ate_cm | 1 (1-1.1) | 2 (2-2.2) | 0.2 | worse |" in text
    assert text.endswith("0 of 1 figures have not moved.")
    level = figure_changes.compare(*runs([1.0], [1.0]), 0.1, 0.25)
    assert figure_changes.text(level) == "1 of 1 figures have not moved."
    assert "room0" in figure_changes.text(level, show_all=True)


def test_runs_are_kept_and_found_by_revision(tmp_path):
    first = History("slam", "abcdef0", "today", {"room0 ate_cm": [1.0]})
    path = history_file.save(first, tmp_path)
    assert path.parent == tmp_path
    assert history_file.load("abcdef0", tmp_path) == first
    assert history_file.load(str(path), tmp_path) == first
    history_file.save(History("published", "abcdef0", "today", {}), tmp_path)
    with pytest.raises(UserError, match="several benchmarks: published, slam"):
        history_file.load("abcdef0", tmp_path)
    assert history_file.load("slam-abcdef0", tmp_path) == first
    with pytest.raises(UserError, match="no run of that name"):
        history_file.load("1234567", tmp_path)
    more = History("slam", "abcdef0", "later", {"room1 ate_cm": [2.0]})
    assert history_file.save(more, tmp_path) == path
    kept = {"room0 ate_cm": [1.0], "room1 ate_cm": [2.0]}
    assert history_file.load(str(path)) == History("slam", "abcdef0", "later", kept)
    path.write_text("[]")
    with pytest.raises(UserError, match="is no run of a benchmark"):
        history_file.load(str(path), tmp_path)


def test_the_command_ends_with_1_if_something_got_worse(tmp_path):
    paths = [
        str(history_file.save(History("slam", f"000000{n}", "", {"room0 ate_cm": [n]}), tmp_path))
        for n in (1, 2)
    ]
    command = [sys.executable, str(REPO / "benchmarks/compare.py")]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    for order, code in ((paths, 1), (paths[::-1], 0)):
        done = subprocess.run([*command, *order], capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stderr
        assert "| room0 ate_cm |" in done.stdout
    alone = subprocess.run([*command, "a"], capture_output=True, text=True, env=environment)
    assert (alone.returncode, "missing NEW" in alone.stderr) == (2, True)
