"""Our figures beside published ones: runs, tables, the page, downloads."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import data_formats
import pytest
from data_scene import PlaneSource
from local_server import Files, serving
from published_layouts import LAYOUTS, Stub, as_short_as_the_miniatures, measured, tum
from repository import REPO

from ace_jax.data import catalogue
from ace_jax.data.export import export
from ace_jax.errors import UserError

# isort: split
import published_download
import published_figures
import published_page
import published_protocols
from published_protocols import BENCHMARKS
from published_verdicts import OTHER_FRAMES, tables

FIGURES = published_figures.read()


@pytest.fixture
def small(monkeypatch):
    """The benchmarks as if their sequences were as short as the miniatures."""
    for name, known in as_short_as_the_miniatures().items():
        monkeypatch.setitem(published_protocols.BENCHMARKS, name, known)


def test_every_layout_has_its_row_with_known_answers(tmp_path, small):
    for write in {write for write, _, _ in LAYOUTS.values()}:
        write(tmp_path / "data")
    stub = Stub()
    records = measured(tmp_path / "data", tmp_path / "out", stub)
    assert set(records) == {(name, sequence) for name, (_, sequence, _) in LAYOUTS.items()}
    made = {t.title: t for name in BENCHMARKS for t in tables(name, FIGURES, records)}
    cells = {
        title: {row[0]: dict(zip(table.header[1:], row[1:], strict=True)) for row in table.rows}
        for title, table in made.items()
    }
    desk = cells["TUM RGB-D: ATE RMSE, cm"]["freiburg1_desk"]
    assert (desk["here"], desk["ace_jax"]) == ("all 5 frames", "1.00")
    assert desk["ORB-SLAM2"] == "1.6*: ahead"
    assert desk["NICE-SLAM"] == "2.7: ahead"
    three = cells["TUM RGB-D: ATE RMSE, cm"]["average of three"]
    assert (three["here"], three["ace_jax"], three["EGG-Fusion"]) == (
        "1 of 3 sequences",
        "-",
        "4.47*",
    )
    room = cells["Replica, NICE-SLAM's renderings: ATE RMSE, cm"]["room0"]
    assert (room["NICE-SLAM"], room["MonoGS"]) == ("0.97*: level", "0.44*: behind")
    balloon = cells["Bonn RGB-D Dynamic: ATE RMSE, cm"]["balloon"]
    assert balloon["ReFusion"] == f"17.5*: {OTHER_FRAMES}"
    college = cells["Cambridge Landmarks: median error, cm"]["KingsCollege"]
    assert (college["ace_jax"], college["hloc"]) == ("1.0", "6.9: ahead")
    asked = [given for module, given in stub.calls if module == "ace_jax.relocalize"]
    assert {given["split"] for given in asked} == {"test"}
    mapped = [given for module, given in stub.calls if module == "ace_jax.mapping"]
    assert {(given["split"], given["config"]) for given in mapped} == {("train", "landmarks_rgb")}
    page = tmp_path / "report.html"
    published_page.write(page, list(made.values()), FIGURES, "today")
    text = page.read_text()
    assert text.count("<img") >= 4
    assert not re.search(r"(src|href)=\"http", text)
    assert "Cambridge Landmarks" in text


def test_within_25_cm_counts_queries_of_the_poses_file(tmp_path):
    data_formats.indoor6(tmp_path / "data")
    records = measured(tmp_path / "data", tmp_path / "out", Stub(near=6), names=["indoor6"])
    (record,) = records["indoor6", "scene1"]
    assert record.metrics["within_5cm_5deg"] == 60.0
    assert record.metrics["within_25cm_5deg"] == 100.0
    assert record.metrics["map_mb"] == 2.0


def test_a_broken_run_is_recorded_and_the_rest_goes_on(tmp_path):
    tum(tmp_path, "freiburg1_desk")
    tum(tmp_path, "freiburg1_rpy")
    stub = Stub(broken=("tum/freiburg1_desk",))
    records = measured(tmp_path, tmp_path / "out", stub, names=["tum"])
    (broken,), (good,) = records["tum", "freiburg1_desk"], records["tum", "freiburg1_rpy"]
    assert broken.failure == "exit code 1, ValueError: broken"
    assert good.failure is None
    (table,) = tables("tum", FIGURES, records)
    row = next(row for row in table.rows if row[0] == "freiburg1_desk")
    assert row[2] == "failed: exit code 1, ValueError: broken"
    assert row[4] == "1.6*"  # no verdict
    stub.broken = ()
    records = measured(tmp_path, tmp_path / "out", stub, names=["tum"])
    assert records["tum", "freiburg1_desk"][0].failure is None
    assert [given["seq"] for _, given in stub.calls] == [
        *("tum/freiburg1_desk", "tum/freiburg1_rpy", "tum/freiburg1_desk")
    ]


def test_a_run_without_results_and_an_unreadable_recording_are_failures(tmp_path):
    tum(tmp_path)
    records = measured(tmp_path, tmp_path / "out", lambda *_: None, names=["tum"])
    assert "no results: FileNotFoundError" in records["tum", "freiburg1_desk"][0].failure
    (tmp_path / "tum/rgbd_dataset_freiburg1_desk/rgb.txt").write_text("nonsense\n")
    records = measured(tmp_path, tmp_path / "out", Stub(), names=["tum"])
    assert "rgb.txt is unreadable" in records["tum", "freiburg1_desk"][0].failure


def test_finished_runs_are_kept_until_something_changes(tmp_path, monkeypatch):
    tum(tmp_path / "data")
    stub, out = Stub(), tmp_path / "out"

    def count(**options) -> int:
        before = len(stub.calls)
        measured(tmp_path / "data", out, stub, names=["tum"], **options)
        return len(stub.calls) - before

    assert count(seeds=2) == 2
    assert count(seeds=2) == 0
    assert count(seeds=3) == 1
    assert count(seeds=2, again=True) == 2
    (out / "tum-freiburg1_desk-seed1.json").write_text("{ half-written")
    assert count(seeds=2) == 1
    shutil.rmtree(tmp_path / "data")
    tum(tmp_path / "data", count=7)
    assert count(seeds=1) == 1
    monkeypatch.setattr("published_runs.revision", lambda: "another")
    assert count(seeds=1) == 1


def test_nothing_there_is_one_line_that_says_where_data_come_from(tmp_path):
    with pytest.raises(UserError, match=r"none of the papers.* tum, .*data list.*--download"):
        measured(tmp_path, tmp_path / "out", Stub())


# ------------------------------------------------------------------ downloads, and all of it


@pytest.fixture
def archives(monkeypatch, tmp_path):
    """A server that has freiburg1_desk alone; what was asked of it."""
    monkeypatch.delenv("ACE_JAX_OFFLINE")
    tum(tmp_path / "made")
    with tarfile.open(tmp_path / "desk.tgz", "w:gz") as archive:
        archive.add(
            tmp_path / "made/tum/rgbd_dataset_freiburg1_desk", "rgbd_dataset_freiburg1_desk"
        )
    handler = Files.of({"/rgbd_dataset_freiburg1_desk.tgz": (tmp_path / "desk.tgz").read_bytes()})
    with serving(handler) as url:
        known = catalogue.DATA_SETS["tum"]
        parts = [
            dataclasses.replace(part, url=f"{url}/{part.url.rpartition('/')[2]}")
            for part in known.parts
        ]
        changed = dataclasses.replace(known, parts=tuple(parts))
        monkeypatch.setitem(catalogue.DATA_SETS, "tum", changed)
        yield handler.asked


def test_what_is_missing_is_fetched_run_and_removed(tmp_path, archives, caplog):
    root, out = tmp_path / "data", tmp_path / "out"
    tum(root, "freiburg1_rpy")
    stub = Stub()
    records = measured(root, out, stub, names=["tum"], download=True)
    assert set(records) == {("tum", "freiburg1_desk"), ("tum", "freiburg1_rpy")}
    assert [path.name for path in (root / "tum").iterdir()] == ["rgbd_dataset_freiburg1_rpy"]
    assert "tum/freiburg1_room is not fetched" in caplog.text
    assert "/rgbd_dataset_freiburg1_rpy.tgz" not in archives
    archives.clear()
    records = measured(root, out, stub, names=["tum"], download=True)
    assert len(stub.calls) == 2  # finished, although the frames are not here any more
    assert len(records) == 2
    assert "/rgbd_dataset_freiburg1_desk.tgz" not in archives


def test_what_was_fetched_can_be_kept(tmp_path, archives):
    measured(tmp_path / "data", tmp_path / "out", Stub(), names=["tum"], download=True, keep=True)
    assert (tmp_path / "data/tum/rgbd_dataset_freiburg1_desk/rgb.txt").is_file()


@pytest.mark.parametrize(
    ("benchmark", "sequence", "part"),
    [
        ("replica", "room0", "replica/room0"),
        ("7scenes-sfm", "redkitchen", "7scenes/redkitchen"),
        ("12scenes", "apt2/luke", "12scenes/apt2"),
        ("cambridge", "ShopFacade", "cambridge/ShopFacade"),
        ("icl", "living_room_traj1n", "icl/living_room_traj1n_frei_png"),
        ("scannet", "scene0000_00", None),
    ],
)
def test_what_may_be_fetched_is_in_the_catalogue(benchmark, sequence, part):
    assert published_download.part_of(benchmark, sequence) == part
    assert part is None or catalogue.find(part)[1]
    assert all(published_download.part_of("tum", s) for s in BENCHMARKS["tum"].sequences)


def test_the_command_with_a_real_run(tmp_path):
    export(PlaneSource(12), tmp_path / "data/tum/rgbd_dataset_freiburg1_rpy", "tum")
    docs = tmp_path / "published.md"
    blocks = [
        f"<!-- table: {n} -->\n<!-- end table -->\n" for n in ("published", "published-sources")
    ]
    docs.write_text("\n".join(blocks))
    command = [sys.executable, str(REPO / "benchmarks/published.py"), "--seeds=1", f"--docs={docs}"]
    command += [f"--data_root={tmp_path / 'data'}", f"--out={tmp_path / 'out'}", "--only=tum"]
    command.append(f"--history={tmp_path / 'history'}")
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/tum-freiburg1_rpy-seed0.json").read_text())
    assert (record["frames"], record["whole"]) == ("12 of 723 frames", False)
    assert (record["failure"] is None) == ("coverage" in record["metrics"])
    text = docs.read_text()
    assert "| freiburg1_rpy | 12 of 723 frames |" in text
    assert re.search(r"\d{4}-\d\d-\d\d, revision \S+, .* cores? of .*load", text)
    assert "Mur-Artal" in text
    (history,) = (tmp_path / "history").glob("*-published-*.json")
    if record["failure"] is None:
        assert "tum/freiburg1_rpy coverage" in json.loads(history.read_text())["figures"]
    assert (tmp_path / "out/report.html").is_file()
