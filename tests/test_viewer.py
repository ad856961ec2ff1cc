"""The live view: shows what it is told, holds nobody up, and says what is missing."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
from absl.testing import flagsaver
from commands import run_commands
from repository import REPO
from slam_scene import CAMERA, RoomSource, make_system

from ace_jax.errors import UserError
from ace_jax.slam.reporting.live_view import SlamView
from ace_jax.slam.run import run
from ace_jax.viewer import __main__ as viewer
from ace_jax.viewer import flag, live
from ace_jax.viewer.live import LiveView, View
from ace_jax.viewer.painter import uncertainty_colours

pytestmark = pytest.mark.optimized


def _views(count):
    for i in range(count):
        pose = np.eye(4)
        pose[:3, 3] = [0.1 * i, np.sin(i), 0.0]
        yield View(
            index=i,
            timestamp=i / 30,
            camera=CAMERA,
            world_from_camera=None if i == 3 else pose,
            ground_truth=pose,
            milliseconds={"frame": 20.0},
            rgb=np.full((240, 320, 3), i, np.uint8) if i % 2 else None,
            uv=np.array([[3.0, 4.0], [30.0, 40.0]]),
            sigma=np.array([0.01, np.nan]),
            xyz=np.array([[1.0, 2.0, 3.0], [np.nan] * 3]),
            keyframes=pose[None, :3, 3],
            note="LOST" if i == 3 else "",
        )


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["x", "--rerun"], ["x", "--rerun=window"]),
        (["x", "--rerun", "--seed", "1"], ["x", "--rerun=window", "--seed", "1"]),
        (["x", "--rerun", "a.rrd"], ["x", "--rerun", "a.rrd"]),
        (["x", "--rerun=a.rrd"], ["x", "--rerun=a.rrd"]),
        (["x", "--rerun_else"], ["x", "--rerun_else"]),
    ],
)
def test_the_flag_may_stand_alone(given, read):
    assert flag.with_value(given) == read


def test_colours_tell_the_uncertainty():
    green, red, worse, unknown = uncertainty_colours(np.array([0.001, 0.5, 9.0, np.nan])).astype(
        int
    )
    assert green[1] > green[0]
    assert red[0] > red[1]
    np.testing.assert_array_equal(red, worse)
    np.testing.assert_array_equal(unknown, [160] * 3)


def test_without_the_extra_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UserError, match="pip install rerun-sdk"):
        LiveView("x.rrd", "room")


def test_a_missing_extra_is_told_before_the_recording_is_opened(tmp_path):
    missing = "import sys; sys.modules.update(rerun=None, open3d=None)"
    (tmp_path / "sitecustomize.py").write_text(missing)
    commands = (
        "slam --seq nothing --rerun",
        "slam --seq nothing --mesh",
        "mapping --seq nothing --out map --rerun",
        "relocalize --seq nothing --map map --out out --rerun",
    )
    for code, _, err in run_commands(
        [command.split() for command in commands], tmp_path, PYTHONPATH=f"{tmp_path}:{REPO}"
    ):
        assert code == 2
        assert re.fullmatch(r"error: --\w+ needs the extra `\w+`: pip install .*\n", err)


def test_a_recording_is_written_and_can_be_read(tmp_path):
    pytest.importorskip("rerun")
    path = tmp_path / "new" / "room.rrd"
    with LiveView(str(path), "room") as view:
        for shown in _views(60):
            while view._queue.full():  # here nothing may be dropped
                time.sleep(0.005)
            view.show(shown)
        while view._queue.full():
            time.sleep(0.005)
        view.show_numbers("training", 3, {"loss": 1.0})
        view.show_cameras(np.tile(np.eye(4), (2, 1, 1)))
        view.show_map(np.array([[0.0, 1.0, 2.0], [np.nan] * 3]), np.zeros((2, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "print", str(path)], capture_output=True, text=True
    )
    for entity in (
        *("/world/camera/image", "/world/camera/image/features", "/world/coordinates"),
        *("/world/path/0", "/world/truth", "/world/truth/path/1", "/world/keyframes"),
        *("/plots/milliseconds/frame", "/plots/training/loss", "/world/map", "/log"),
    ):
        assert entity in done.stdout, entity


def test_what_cannot_be_written_is_one_line(tmp_path):
    pytest.importorskip("rerun")
    with pytest.raises(UserError, match=r"ends in \.rrd"):
        LiveView("room.bag", "room")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        LiveView(str(tmp_path / "file" / "x.rrd"), "room")


def test_a_slow_view_drops_frames_and_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "require_rerun", lambda target: None)
    asleep = (sys.executable, "-c", "import time; print(flush=True); time.sleep(60)")
    monkeypatch.setattr(LiveView, "_COMMAND", asleep)
    view = LiveView(str(tmp_path / "x.rrd"), "room")
    start = time.perf_counter()
    for shown in _views(100):
        view.show(shown)
    assert time.perf_counter() - start < 10.0  # the view sleeps for 60
    assert view.dropped >= 100 - live._WAITING - 8  # some more are in the pipe
    assert not view.wants_picture()
    view._painter.kill()
    with pytest.raises(UserError, match="the view broke down"):
        view.close()


def test_a_broken_view_is_told_at_the_end_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "require_rerun", lambda target: None)
    monkeypatch.setattr(
        LiveView, "_COMMAND", (sys.executable, "-c", "raise SystemExit('no such colour')")
    )
    view = LiveView(str(tmp_path / "x.rrd"), "room")
    for shown in _views(40):
        view.show(shown)
        time.sleep(0.005)
    view.show_map(np.zeros((3, 3)))
    with pytest.raises(UserError, match="the view broke down: no such colour"):
        view.close()
    view.close()


class _Memory:
    """Stands in for a `LiveView`."""

    def __init__(self):
        self.views, self.maps = [], []

    def wants_picture(self):
        return len(self.views) % 2 == 0

    def show(self, view):
        self.views.append(view)

    def show_map(self, points, colours, always):
        assert not always  # it grew: what came last is not shown at the beginning
        self.maps.append((points, colours))


def test_slam_shows_its_frames_and_its_map(tmp_path):
    memory = _Memory()
    run(RoomSource(7, bad=(5,)), make_system(), tmp_path, view=SlamView(memory))
    assert [view.index for view in memory.views] == [0, 1, 2, 3, 4, 6]
    for number, view in enumerate(memory.views):
        assert {"frame", "features", "tracking"} <= view.milliseconds.keys() or number == 0
        assert (view.rgb is None) == (number % 2 == 1)
        assert view.ground_truth is not None  # the view may know it; tracking does not
    seen = memory.views[4]
    known = np.isfinite(seen.sigma)
    assert known.sum() > 50
    assert ((seen.sigma[known] > 0) & (seen.sigma[known] < 0.2)).all()
    # The points shown are where the features see them.
    local = (np.linalg.inv(seen.world_from_camera) @ np.c_[seen.xyz, np.ones(len(known))].T)[:3].T
    u = CAMERA.fx * local[known, 0] / local[known, 2] + CAMERA.cx
    assert np.median(np.abs(u - seen.uv[known, 0])) < 2.0
    (drawn,) = memory.maps
    assert len(drawn[0]) == len(drawn[1]) > 100


def test_the_viewer_opens_files_that_are_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no recording"):
        viewer.main(["viewer", str(tmp_path / "x.rrd")])
    called = []
    monkeypatch.setattr(subprocess, "call", lambda command: called.append(command) or 0)
    monkeypatch.setattr(viewer.importlib.util, "find_spec", lambda name: name)
    (tmp_path / "x.rrd").touch()
    if not viewer.flags.FLAGS.is_parsed():
        viewer.flags.FLAGS.mark_as_parsed()  # other commands have flags that must be given
    with flagsaver.flagsaver(web=True):
        assert viewer.main(["viewer", str(tmp_path / "x.rrd")]) == 0
    assert called[0][1:3] == ["-m", "rerun"]
    assert called[0][-1] == "--web-viewer"
    monkeypatch.setattr(viewer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install rerun-sdk"):
        viewer.main(["viewer", str(tmp_path / "x.rrd")])
