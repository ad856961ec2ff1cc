"""Reports: self-contained pages, and what they are made of."""

import base64
import re
import shlex
import sys
import types

import numpy as np
import pytest

from ace_jax.data.frame import BadFrame
from ace_jax.evaluation import charts, page, pictures
from ace_jax.evaluation.trajectory import Trajectory
from ace_jax.mapping.config import with_preset_files
from ace_jax.slam.reporting import report


def test_a_page_needs_no_network_and_shows_names_as_they_are(tmp_path):
    rgb = np.full((48, 64, 3), 90, np.uint8)
    data = pictures.with_answers(
        rgb, np.array([[5.0, 5.0], [30.0, 20.0]]), np.array([True, True]), np.array([True, False])
    )
    timing = charts.timing_figure(np.arange(5.0), {"solver": np.arange(5.0)}, 33.0)
    page.write_report(
        tmp_path / "report.html",
        "Map of <kitchen>",
        [[("<script>", "a & b")]],
        {"seed": 0, "features": {"name": "<sift>"}},
        [
            page.Section("Time", [page.drawing(timing, "time")]),
            page.Section("Nothing", [], "left out"),
            page.Section("<i>", [page.pictures([(data, "x.png", "<b>")])]),
        ],
    )
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\(|<script", text)
    assert "&lt;kitchen&gt;" in text
    assert "features.name" in text
    assert re.findall("<h2>(.*?)</h2>", text) == ["Time", "&lt;i&gt;", "Settings"]
    assert "left out" not in text
    assert text.count("data:image/") == 2


def test_the_command_is_one_that_can_be_given_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/ace_jax/slam/__main__.py", "--seq", "folder/my room"])
    assert "python -m ace_jax.slam --seq &#x27;folder/my room&#x27;" in page.settings_table({})


@pytest.mark.parametrize("typed", [[], ["--config=landmarks_1mb"], ["--config", "landmarks_1mb"]])
def test_the_command_names_a_preset_and_not_its_file(typed, monkeypatch):
    argv = with_preset_files(["/x/ace_jax/mapping/__main__.py", *typed, "--out", "map"])
    monkeypatch.setattr(sys, "argv", argv)
    shown = shlex.join(typed or ["--config=landmarks"])
    assert f"python -m ace_jax.mapping {shown} --out map<" in page.settings_table({})


def test_drawings_follow_the_theme():
    figure = charts.bar_figure({"a & b": 1.0}, "seconds")
    drawn = re.search(r"base64,([^\"]+)", page.drawing(figure, "bars"))[1]
    svg = base64.b64decode(drawn).decode()
    assert svg.startswith("<svg")
    assert "prefers-color-scheme:dark" in svg
    assert "stroke: var(--g00)" in svg
    assert "#000000" not in svg.replace("--g00:#000000", "")
    assert "--g00:#dfdfdf" in svg
    assert "a &amp; b" in svg
    assert set(re.findall(r"https?://([\w.]+)", svg)) == {"www.w3.org"}
    assert f"fill: {charts.BLUE}" in svg


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_known_is_said(value):
    assert page.number(value, 100, 2, " cm") == "unknown"


def test_maps_are_drawn_whatever_they_hold():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0.0, 0.5, np.nan]
    points = np.random.default_rng(0).normal([0, 0, 3], size=(50, 3))
    points[0] = np.nan
    colours = np.full((50, 3), 200, np.uint8)
    figure = charts.map_figure(points, colours, poses, poses, path=False)
    assert [axis.get_title() for axis in figure.axes] == ["from above", "from an angle"]
    assert len(figure.axes[0].collections) == 3  # points, rings, cameras
    for nothing in (points[:0], points[:1]):
        assert "empty" in charts.map_figure(nothing, None, poses).texts[0].get_text()
    assert "empty" in charts.map_figure(points, None, poses[2:]).texts[0].get_text()


def test_the_view_from_above_looks_down():
    """A camera looks along z, y down: of points at one place the higher one covers the lower."""
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = np.arange(4)
    points = np.array([[0.0, -1.0, 2.0], [0.0, 1.0, 2.0]])  # above, below
    drawn = charts.map_figure(points, np.array([[255, 0, 0], [0, 0, 255]], np.uint8), poses)
    colours = drawn.axes[0].collections[0].get_facecolors()
    np.testing.assert_allclose(colours[-1][:3], [1, 0, 0])


def _frames(shifts, lost=()):
    """Tracked frames whose live poses are off by so many metres."""
    frames = []
    for i, shift in enumerate(shifts):
        pose = np.eye(4)
        pose[:3, 3] = [-0.1 * i - shift, 0.01 * i**1.5, 0.02 * np.sin(i)]
        live = None if i in lost else pose
        why = "blur" if live is None else None
        frames.append(
            types.SimpleNamespace(
                index=i, timestamp=i / 30, live_camera_from_world=live, lost_because=why
            )
        )
    return frames


def _truth(frame):
    pose = np.eye(4)
    i = frame.index
    pose[:3, 3] = [-0.1 * i, 0.01 * i**1.5, 0.02 * np.sin(i)]
    return pose


def test_worst_frames_are_the_lost_and_the_furthest_off():
    shifts = np.zeros(100)
    shifts[[40, 41, 70]] = [0.3, 0.29, 0.2]
    frames = _frames(shifts, lost=(10,))
    reference = Trajectory(
        [f.timestamp for f in frames], [np.linalg.inv(_truth(f)) for f in frames]
    )
    for known in (reference, None):
        chosen = report.worst_frames(frames, _truth, known)
        assert [frame.index for frame, _ in chosen[:3]] == [10, 40, 70]  # 41 is beside 40
        assert chosen[0][1] == "lost (blur)"
    assert "moved 30.0 cm by later corrections" in chosen[1][1]


def test_pictures_that_cannot_be_read_again_are_left_out():
    class Source:
        name = "folder/x"

        def __getitem__(self, index):
            if index == 2:
                raise BadFrame("gone")
            return types.SimpleNamespace(rgb=np.zeros((4, 6, 3), np.uint8))

    frames = [(frame, "lost") for frame in _frames(np.zeros(4))]
    assert [name for _, name, _ in report._pictures(Source(), frames)] == [
        "frame 0",
        "frame 1",
        "frame 3",
    ]
    Source.name = "live/webcam"
    assert report._pictures(Source(), frames) == []
