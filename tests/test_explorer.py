"""The page that can be explored: its data, its size, and what a browser makes of it."""

import json
import re
import shutil
import subprocess
import types

import numpy as np
import pytest

from ace_jax.data.frame import BadFrame
from ace_jax.evaluation import page, pictures
from ace_jax.evaluation.explorer import (
    MAX_SHOTS,
    Cloud,
    Explored,
    Shot,
    explorer,
    packed,
    page_data,
    unpacked,
)
from ace_jax.evaluation.lengths import CENTIMETRES
from ace_jax.evaluation.relocalization import pose_errors, summary
from ace_jax.evaluation.trajectory import Trajectory
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert
from ace_jax.relocalize.explored import Thumbnails
from ace_jax.relocalize.explored import explored as queries_explored
from ace_jax.relocalize.report import write_report as write_query_report
from ace_jax.slam.frame_poses import TrackedFrame
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.reporting import explored as slam_explored

CAMERA = Camera(200.0, 200.0, 99.5, 74.5, 200, 150)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SOFTWARE_3D = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
MAX_BYTES = 5_300_000  # charts and pictures of the worst frames come on top


def _poses(count):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = 0.1 * np.arange(count)
    poses[:, 2, 3] = 0.05 * np.sin(np.arange(count))
    return poses


def _explored(count=5, lost=(3,), truth=True, jpeg=b"", name="frame {}"):
    rng = np.random.default_rng(0)
    poses = _poses(count)
    poses[list(lost)] = np.nan
    jpeg = jpeg or pictures.thumbnail(rng.integers(0, 255, (150, 200, 3), np.uint8))
    shots = [
        Shot(
            at,
            name.format(at),
            [("state", "lost: dark" if at in lost else "tracked")],
            CAMERA,
            None if at in lost else poses[at],
            poses[at] if truth and at not in lost else None,
            jpeg,
            *(() if at in lost else (rng.uniform(0, 150, (40, 2)), rng.normal(size=(40, 3)))),
        )
        for at in range(count)
    ]
    times = np.arange(count) / 30
    return Explored(
        shots=shots,
        points=Cloud(rng.normal([0, 0, 3], size=(500, 3)), None),
        surfaces=Cloud(rng.normal([0, 0, 3], size=(50, 3)), np.full((50, 3), 9, np.uint8)),
        states=["lost: dark" if at in lost else "tracked" for at in range(count)],
        estimate=Trajectory(times, poses),
        truth=Trajectory(times, _poses(count)) if truth else None,
        error=np.where(np.isin(np.arange(count), lost), np.nan, 0.01) if truth else None,
    )


def _write(path, explored):
    picture = '<img alt="" src="data:image/png;base64,AA==">'
    sections = [page.Section("Map", explorer(explored, picture))]
    page.write_report(path, "A run", [], {}, sections)
    return path.read_text(encoding="utf-8")


def _data(text):
    return json.loads(re.search(r'id="explored">(.*?)</script>', text, re.DOTALL)[1])


def test_the_data_are_those_of_the_run(tmp_path):
    explored = _explored()
    data = _data(_write(tmp_path / "report.html", explored))
    estimate = data["estimate"]
    assert estimate[3] is None
    for at in (0, 1, 2, 4):
        np.testing.assert_allclose(estimate[at], explored.estimate.positions[at], atol=1e-5)
        pose = np.reshape(data["shots"][at]["pose"], (3, 4))
        np.testing.assert_allclose(pose, explored.estimate.world_from_camera[at, :3], atol=1e-5)
    assert data["shots"][3]["pose"] is None
    np.testing.assert_allclose(data["truth"], explored.truth.positions, atol=1e-5)
    np.testing.assert_allclose(unpacked(data["points"]), explored.points.points, atol=1e-3)
    np.testing.assert_allclose(unpacked(data["shots"][1]["uv"]), explored.shots[1].uv, atol=0.01)
    assert data["length"] == 5
    left, top, right, bottom = data["shots"][0]["window"]
    assert (right - left, bottom - top) == (pytest.approx(1.0), pytest.approx(0.75))
    np.testing.assert_allclose(data["up"], [0, -1, 0], atol=1e-4)


def test_arrays_in_16_bits():
    values = np.random.default_rng(0).normal(size=(7, 3)) * [1, 100, 0]
    np.testing.assert_allclose(unpacked(packed(values)), values, atol=0.004)


def test_a_page_needs_no_network_and_names_cannot_break_it(tmp_path):
    text = _write(tmp_path / "report.html", _explored(name="</script><img src=x> {}"))
    library = text[text.index("<script>/* three.js") : text.index("// The explorer of")]
    own = text.replace(library, "")
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\(|https?://", own)
    # Of addresses the library has that of a standard alone, which names a format.
    assert set(re.findall(r"https?://[\w./-]+", library)) == {"http://www.w3.org/1999/xhtml"}
    assert "</script" not in library[:-20]
    assert _data(text)["shots"][2]["name"] == "</script><img src=x> 2"
    assert "<img src=x>" not in text


def test_large_recordings_give_pages_of_bounded_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (320, 320, 3), np.uint8)
    explored = _explored(MAX_SHOTS, jpeg=pictures.thumbnail(noise))
    rng = np.random.default_rng(1)
    many = Cloud(rng.normal(size=(200_000, 3)), rng.integers(0, 255, (200_000, 3), np.uint8))
    count = 50_000
    times = Trajectory(np.arange(count) / 30, _poses(count))
    explored = Explored(
        **{
            **vars(explored),
            "points": many,
            "surfaces": many,
            "states": ["tracked", "lost: dark"] * (count // 2),
            "estimate": times,
            "truth": times,
            "error": rng.uniform(size=count),
        }
    )
    text = _write(tmp_path / "report.html", explored)
    assert len(text.encode()) < MAX_BYTES
    images = [shot["image"] is not None for shot in _data(text)["shots"]]
    assert images[0]
    assert 20 < sum(images) < MAX_SHOTS


def test_without_a_reference_nothing_is_claimed(tmp_path):
    text = _write(tmp_path / "report.html", _explored(truth=False))
    data = _data(text)
    assert data["truth"] is None
    assert all(shot["truth"] is None for shot in data["shots"])
    shown = text[text.index("<body>") : text.index('<script type="application/json"')]
    assert "ground truth" not in shown
    assert "position error" not in shown
    assert "NaN" not in text[text.index('id="explored"') : text.index("<script>/* three.js")]


def test_the_timeline_tells_states_and_their_counts():
    html = explorer(_explored(20, lost=(3, 4, 11)), "")[1]
    assert "tracked: 17" in html
    assert "lost: dark: 3" in html
    assert re.findall(r'title="lost: dark: (\d+-\d+)"', html) == ["3-4", "11-11"]


def test_a_run_without_frames_has_a_picture_alone():
    nothing = Explored(shots=[], points=Cloud(np.zeros((0, 3))), states=[])
    assert explorer(nothing, "<p>picture</p>") == ["<p>picture</p>"]
    lost = _explored(3, lost=(0, 1, 2), truth=False)
    lost = Explored(**{**vars(lost), "points": Cloud(np.zeros((0, 3))), "surfaces": None})
    assert page_data(lost)["points"] is None


class _System:
    """As much of a SLAM system as the page reads: every frame sees two landmarks."""

    def __init__(self, count, lost=()):
        self.camera = CAMERA
        self.last_landmarks = np.array([0, NO_LANDMARK, 1])
        self.landmark_map = types.SimpleNamespace(
            points=np.array([[0.0, 0, 2], [0.5, 0, 2]]), observations=np.array([3, 3])
        )
        self.atlas = types.SimpleNamespace(current=0)
        self.frames = [
            TrackedFrame(i, i / 30, None, lost_because="dark")
            if i in lost
            else TrackedFrame(i, i / 30, invert(pose), 0, invert(pose))
            for i, pose in enumerate(_poses(count))
        ]
        self.poses = types.SimpleNamespace(corrected=lambda frame: frame.camera_from_reference)

    def points(self):
        return self.landmark_map.points, np.full((2, 3), 200, np.uint8)

    def adapted(self, frame):
        return frame


class _Source:
    name = "folder/x"

    def __getitem__(self, index):
        if index == 2:
            raise BadFrame("gone")
        return types.SimpleNamespace(
            index=index,
            rgb=np.full((150, 200, 3), index % 200, np.uint8),
            depth=np.full((150, 200), 2.0, np.float32),
            camera=CAMERA,
        )


def _sampled(system):
    samples = slam_explored.SampledFrames()
    features = types.SimpleNamespace(
        mask=np.array([True, True, True]), uv=np.array([[5.0, 6], [7, 8], [9, 10]])
    )
    for frame in system.frames:
        samples.note(system, types.SimpleNamespace(features=features), frame)
    return samples


@pytest.mark.parametrize("posed", [True, False])
def test_a_slam_run_can_be_explored(posed):
    system = _System(400, lost=(101, 102, 103))
    motion = np.eye(4)
    motion[:3, 3] = [5, 6, 7]  # the reference has axes of its own
    reference = Trajectory(np.arange(400) / 30, motion @ _poses(400)) if posed else None
    explored = slam_explored.explored(_Source(), system, _sampled(system), reference)
    assert len(explored.shots) <= MAX_SHOTS
    assert [shot.at for shot in explored.shots[:3]] == [0, 4, 8]
    by_frame = {shot.at: shot for shot in explored.shots}
    assert by_frame[101].facts[0] == ("state", "lost: dark")  # not among the evenly spaced
    assert by_frame[101].pose is None
    shot = by_frame[80]
    np.testing.assert_allclose(shot.pose, _poses(400)[80])
    np.testing.assert_array_equal(shot.uv, [[5, 6], [9, 10]])
    np.testing.assert_allclose(shot.xyz, system.landmark_map.points, atol=1e-5)
    assert explored.states.count("tracked") == 397
    if posed:
        np.testing.assert_allclose(shot.truth, shot.pose, atol=1e-6)
        assert ("error", "0.00 cm") in shot.facts
        assert np.isnan(explored.error[101])
    else:
        assert explored.truth is explored.error is shot.truth is None
    # Depth images: a plane two metres in front of the cameras.
    away = explored.surfaces.points[:, 2]
    assert np.abs(away - 2).max() < 0.06


def test_runs_that_were_mostly_lost_or_interrupted_have_no_more_frames_to_choose():
    system = _System(1000, lost=range(50, 1000))
    samples = _sampled(system)
    assert samples.step == 1
    explored = slam_explored.explored(_Source(), system, samples, None)
    assert 100 < len(explored.shots) <= MAX_SHOTS


def test_landmarks_that_a_keyframe_has_just_made_are_no_inliers():
    system = _System(1)
    system.frames[0].camera_from_reference = np.eye(4)
    system.landmark_map.observations[1] = 1
    np.testing.assert_array_equal(_sampled(system).seen[0].uv, [[5, 6]])


def test_frames_that_cannot_be_read_again_have_no_image():
    system = _System(4)
    explored = slam_explored.explored(_Source(), system, _sampled(system), None)
    assert [shot.jpeg is None for shot in explored.shots] == [False, False, True, False]


def _queries(posed=True):
    """Five queries: the third was not found, the fourth could not be read."""
    rng = np.random.default_rng(0)
    poses = _poses(5)
    answers, thumbnails = [], Thumbnails(5)
    for i, pose in enumerate(poses):
        answers.append(
            types.SimpleNamespace(
                success=i != 2,
                world_from_camera=pose if i != 2 else np.eye(4),
                num_inliers=20,
                uv=rng.uniform(0, 150, (30, 2)),
                xyz=rng.normal([0, 0, 3], size=(30, 3)),
                voted=np.ones(30, bool),
                inliers=np.arange(30) < 20,
            )
            if i != 3
            else None
        )
        if i != 3:
            thumbnails.offer(i, types.SimpleNamespace(rgb=np.full((150, 200, 3), 90, np.uint8)))
    reference = poses if posed else np.full_like(poses, np.nan)
    found = [a.world_from_camera if a and a.success else None for a in answers]
    errors = pose_errors(found, reference)
    names = [f"<b>{i}.png" for i in range(5)]
    points = rng.normal([0, 0, 3], size=(300, 3))
    answered = names, answers, [CAMERA] * 5, reference, errors
    return queries_explored(points, *answered, thumbnails, CENTIMETRES), errors


@pytest.mark.parametrize("posed", [True, False])
def test_queries_can_be_explored(tmp_path, posed):
    explored, errors = _queries(posed)
    assert [shot.name for shot in explored.shots] == [f"<b>{i}.png" for i in (0, 1, 2, 4)]
    assert [shot.pose is None for shot in explored.shots] == [False, False, True, False]
    assert [shot.truth is None for shot in explored.shots] == [not posed] * 4
    assert explored.states == ["found", "found", "no pose", "not read", "found"]
    assert len(explored.shots[0].uv) == len(explored.shots[0].xyz) == 20
    metrics = {
        **summary(errors, 3),
        **{"metric": True, "source": "folder/<x>", "settings": {}, "map_bytes": 10, "unread": 1},
        **{"ms_features": 1.0, "ms_head": 2.0, "ms_solver": 3.0, "maps": {"a": ""}},
    }
    write_query_report(
        tmp_path / "report.html", metrics, errors, np.full(5, 20), (), 0.0, (), (), {}, explored
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = text[text.index("<body>") : text.index('<script type="application/json"')]
    after = text[text.rindex("</script>") :]
    assert "found: 3" in shown
    assert ("position error" in shown) == posed
    assert ("Errors are not known" in after) == (not posed)
    assert "unknown" not in shown + after
    assert "<b>" not in text


def _in_chromium(path, *options):
    """The page's elements after its scripts ran."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--virtual-time-budget=5000"]
    command += ["--enable-logging=stderr", f"--user-data-dir={path.parent / 'profile'}"]
    done = subprocess.run(
        [*command, *options, "--dump-dom", f"file://{path}#4"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    wrong = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "Uncaught" in line]
    assert not wrong
    return done.stdout[done.stdout.index('<div class="explorer') :].split("<script")[0]


@pytest.mark.parametrize(
    ("options", "view"),
    [
        (SOFTWARE_3D, "3d"),
        (("--disable-3d-apis",), "picture"),
    ],
)
def test_a_browser_shows_the_frame_that_is_asked_for(tmp_path, options, view):
    _write(tmp_path / "report.html", _explored())
    shown = _in_chromium(tmp_path / "report.html", *options)
    assert f'data-view="{view}"' in shown
    assert 'data-shot="4"' in shown
    assert '<p class="name">frame 4</p>' in shown
    assert "<td>tracked</td>" in shown
    assert re.search(r'<img class="image" alt="frame 4" src="data:image/jpeg', shown)
    assert len(re.search(r'<path d="(M[^"]*)"', shown)[1]) > 40 * 20  # a ring an inlier


def test_a_browser_shows_queries(tmp_path):
    _write(tmp_path / "report.html", _queries()[0])
    shown = _in_chromium(tmp_path / "report.html", *SOFTWARE_3D)
    assert 'data-view="3d"' in shown
    assert '<p class="name">&lt;b&gt;4.png</p>' in shown
