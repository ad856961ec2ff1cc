"""Our figures beside published ones: the figures, discovery in every official layout, verdicts."""

import re
from pathlib import Path

import pytest
from data_scene import PlaneSource
from published_layouts import LAYOUTS, as_short_as_the_miniatures, tum

from ace_jax.data.export import export
from ace_jax.errors import UserError

# isort: split
import published_figures
import published_protocols
from published_discovery import find
from published_protocols import BENCHMARKS
from published_verdicts import AHEAD, BEHIND, LEVEL, OTHER_FRAMES, Ours, average, verdict

FIGURES = published_figures.read()
SPLIT = [name for name, known in BENCHMARKS.items() if known.task != "slam"]


@pytest.fixture
def small(monkeypatch):
    """The benchmarks as if their sequences were as short as the miniatures."""
    for name, known in as_short_as_the_miniatures().items():
        monkeypatch.setitem(published_protocols.BENCHMARKS, name, known)


def figure(value, metric="ate_cm", benchmark="tum", sequence="freiburg1_desk"):
    return published_figures.Figure(
        "theirs", benchmark, sequence, metric, value, "", "", "a paper", "compared"
    )


def test_the_published_figures_are_complete():
    assert len(FIGURES) > 100
    assert {f.benchmark for f in FIGURES} == set(BENCHMARKS)
    for known in FIGURES:
        assert known.source
        assert known.metric in BENCHMARKS[known.benchmark].metrics
        assert known.text.endswith("*") == (known.checked == "")
    desk = {f.method: f.value for f in FIGURES if f.sequence == "freiburg1_desk"}
    assert (desk["ACE-SLAM"], desk["ORB-SLAM2"]) == (8.3, 1.6)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('benchmark = "kitti"', "no benchmark or metric"),
        ('metric = "ate_m"', "no benchmark or metric"),
        ("values = { freiburg9_desk = 1.0 }", "has no sequence or average"),
        ("values = { freiburg1_desk = -1.0 }", "not positive"),
        ('source = ""', "without a source"),
        ("unknown = 1", "each entry has the fields"),
        ("values = 3", "each entry has the fields"),
    ],
)
def test_wrong_figures_are_refused(tmp_path, line, wrong):
    first = published_figures.PATHS[0].read_text().split("\n[[figures]]")[1]
    name = line.split(" =")[0]
    changed = re.sub(rf"^{name} = .*$", "", first, flags=re.MULTILINE) + line + "\n"
    (tmp_path / "figures.toml").write_text("[[figures]]\n" + changed)
    with pytest.raises(UserError, match=wrong):
        published_figures.read([tmp_path / "figures.toml"])
    (tmp_path / "figures.toml").write_text(2 * ("[[figures]]\n" + first))
    with pytest.raises(UserError, match="twice"):
        published_figures.read([tmp_path / "figures.toml"])


# ------------------------------------------------------------------ discovery


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_part_of_a_sequence_is_never_taken_for_the_whole(tmp_path, name):
    write, sequence, _ = LAYOUTS[name]
    write(tmp_path)
    found = find(BENCHMARKS[name], sequence, tmp_path)
    assert found.problem is None
    # The official lists of these two say how many images there are, and all of them are here.
    assert found.whole == (name in ("12scenes", "indoor6"))
    elsewhere = next(s for s in reversed(BENCHMARKS[name].sequences) if s != sequence)
    assert find(BENCHMARKS[name], elsewhere, tmp_path) is None


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_frames_are_found_and_asked_for_by_the_official_split(tmp_path, small, name):
    write, sequence, count = LAYOUTS[name]
    write(tmp_path)
    known = published_protocols.BENCHMARKS[name]
    found = find(known, sequence, tmp_path)
    assert found.whole == (name not in ("bonn", "rio10"))  # see their notes
    if name in SPLIT:
        assert f"{count[1]} queries, {count[0]} mapping" in found.frames
        assert "--split=train" in found.map_flags
        assert "--split=test" in found.query_flags
        poses = [flag for flag in found.query_flags if flag.startswith("--poses=")]
        assert [Path(p).name for p in poses] == (["chess_test.txt"] if "sfm" in name else [])
    else:
        assert found.map_flags == (f"--seq={known.kind}/{sequence}",)
        assert not found.query_flags


@pytest.mark.parametrize("name", ["12scenes", "indoor6"])
def test_missing_images_of_an_official_list_are_noticed(tmp_path, name):
    write, sequence, _ = LAYOUTS[name]
    write(tmp_path)
    next(iter(sorted(tmp_path.rglob("*000004.color.jpg")))).unlink()
    found = find(BENCHMARKS[name], sequence, tmp_path)
    assert not found.whole
    assert "of" in found.frames


def test_one_recording_without_its_split_is_a_part(tmp_path):
    export(PlaneSource(8), tmp_path / "7scenes/chess/seq-01", "7scenes")
    found = find(BENCHMARKS["7scenes"], "chess", tmp_path)
    assert (found.whole, found.frames) == (False, "a part: frames 0-5 mapped, 7-7 asked")
    assert found.map_flags == ("--seq=7scenes/chess", "--frames=0:6")
    assert found.query_flags == ("--seq=7scenes/chess", "--frames=7:")
    assert find(BENCHMARKS["7scenes-sfm"], "chess", tmp_path) is None


def test_a_broken_recording_has_a_reason(tmp_path):
    tum(tmp_path)
    (tmp_path / "tum/rgbd_dataset_freiburg1_desk/rgb.txt").write_text("nonsense\n")
    found = find(BENCHMARKS["tum"], "freiburg1_desk", tmp_path)
    assert "rgb.txt is unreadable" in found.problem


# ------------------------------------------------------------------ verdicts


@pytest.mark.parametrize(
    ("ours", "theirs", "metric", "expected"),
    [
        ((1.0,), 2.0, "ate_cm", AHEAD),
        ((3.0,), 2.0, "ate_cm", BEHIND),
        ((1.91,), 2.0, "ate_cm", LEVEL),  # within 5 %
        ((0.14,), 0.1, "ate_cm", LEVEL),  # within half of the last digit given
        ((1.0, 1.1, 2.3), 2.0, "ate_cm", LEVEL),  # the worst seed is not better
        ((1.9, 3.0), 2.0, "ate_cm", LEVEL),
        ((2.5, 3.0), 2.0, "ate_cm", BEHIND),
        ((97.0,), 80.8, "within_5cm_5deg", AHEAD),
        ((60.0,), 80.8, "within_5cm_5deg", BEHIND),
        ((None,), 2.0, "ate_cm", BEHIND),
        ((1.0, None), 2.0, "ate_cm", BEHIND),
    ],
)
def test_verdicts(ours, theirs, metric, expected):
    assert verdict(Ours("all", ours, whole=True), figure(theirs, metric)) == expected
    assert verdict(Ours("part", ours, whole=False), figure(theirs, metric)) == OTHER_FRAMES


def test_an_error_over_a_few_tracked_frames_wins_nothing():
    assert verdict(Ours("all", (0.1,), whole=True, covered=False), figure(2.0)) == BEHIND


def test_an_average_needs_all_of_its_sequences():
    parts = [Ours("all", (1.0, 2.0), whole=True), Ours("all", (3.0, 6.0), whole=True)]
    assert average(parts) == Ours("2 of 2 sequences", (2.0, 4.0), whole=True)
    assert not average([*parts, Ours("part", (1.0, 1.0))]).whole
    assert average([*parts, Ours("not here")]) == Ours("2 of 3 sequences")
