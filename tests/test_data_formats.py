"""Every reader on a small recording in its data set's layout."""

import sys
import types

import cv2
import numpy as np
import pytest
from data_formats import COUNT, LOST, WRITERS, bag, colour, video
from data_scene import CAMERA, PlaneSource, plane_depth, pose, texture

from ace_jax.data.export import export
from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.live import Live, RealSense, open_named
from ace_jax.data.prefetch import Prefetcher
from ace_jax.data.registry import FORMATS, open_sequence
from ace_jax.data.selection import open_frames
from ace_jax.data.video import Video
from ace_jax.errors import UserError

NO_POSES = ("video", "bag")
NO_DEPTH = ("cambridge", "indoor6", "video")
OWN_CAMERAS = ("cambridge", "indoor6", "nerfstudio", "record3d", "polycam")
INFINITE = ("12scenes", "scannet", "rio10", "nerfstudio", "polycam")  # a broken pose, counted
ABSENT = ("indoor6", "record3d")  # NaN, which means that there is none
LOW_DEPTH = ("12scenes", "scannet", "nerfstudio", "record3d", "polycam")  # half the size
LOSSY = ("replica", "12scenes", "scannet", "indoor6", "rio10", "record3d", "polycam", "video")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def names(root):
    pytest.importorskip("rosbags", reason="rosbags writes the bag to read")
    return {kind: write(root) for kind, write in WRITERS.items()}


def test_every_format_is_tested():
    assert set(WRITERS) == set(FORMATS) - {"synthetic", "live"}


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_recording(root, names, kind):
    source = open_sequence(names[kind], root)
    assert isinstance(source, FrameSource)
    assert len(source) == COUNT
    assert np.all(np.diff(source.timestamps()) > 0)
    assert source.has_depth == (kind not in NO_DEPTH)
    frames = [source[i] for i in range(COUNT)]
    for i, frame in enumerate(frames):
        difference = np.abs(frame.rgb.astype(int) - texture(CAMERA, pose(i))).mean()
        assert difference < (8 if kind in LOSSY else 0.01)
        assert (frame.camera.width, frame.camera.height) == (64, 48)
        if source.has_depth:
            truth = plane_depth(CAMERA, pose(i))
            known = frame.depth > 0
            assert known.mean() > 0.9
            # Nearest neighbour: one pixel of half the size is up to 3 cm off on this plane.
            limit = 0.05 if kind in LOW_DEPTH else 0.0006
            assert np.abs(frame.depth - truth)[known].max() < limit
        if kind in OWN_CAMERAS:
            assert float(frame.camera.fx) == 50 + i
        else:
            assert float(frame.camera.fx) == 50
    poses = source.poses()
    if kind in NO_POSES:
        assert poses is None
        return
    lost = [LOST] if kind in INFINITE + ABSENT else []
    kept = [i for i in range(COUNT) if i not in lost]
    np.testing.assert_allclose(poses[kept], [pose(i) for i in kept], atol=2e-6)
    assert all(frames[i].world_from_camera is None for i in lost)
    counts = source.pose_counts
    assert (counts.not_finite, counts.absent) == (kind in INFINITE, kind in ABSENT)


def test_principal_points_and_official_cameras(root, names):
    cameras = {kind: open_sequence(names[kind], root).camera for kind in WRITERS}
    for kind in ("nerfstudio", "colmap", "12scenes", "scannet", "rio10", "record3d", "polycam"):
        assert (float(cameras[kind].cx), float(cameras[kind].cy)) == (31.5, 23.5), kind
    assert (float(cameras["cambridge"].cx), float(cameras["indoor6"].cx)) == (31.5, 32.0)


def test_bonn_has_a_camera_of_its_own(tmp_path):
    name = WRITERS["bonn"](tmp_path)
    (tmp_path / "bonn/rgbd_bonn_plane/intrinsics.json").unlink()
    source = open_sequence(name, tmp_path)
    assert float(source.camera.fx) == 542.822841
    assert source[1].depth is not None
    with pytest.raises(UserError, match="rgbd_bonn_crowd"):
        open_sequence("bonn/crowd", tmp_path)


@pytest.mark.parametrize(
    ("kind", "scene", "train", "test"),
    [
        ("12scenes", "12scenes/apt1/kitchen", [2, 3, 4], [0, 1]),
        ("cambridge", "cambridge/KingsCollege", [0, 1, 2], [3, 4]),
        ("indoor6", "indoor6/scene1", [0, 1, 2], [3, 4]),
        ("nerfstudio", "nerfstudio/nerfstudio_capture", [0, 1, 2], [3, 4]),
        ("rio10", "rio10/scene01", range(COUNT), range(COUNT)),
        ("ace", "ace/scene", range(COUNT), None),
    ],
)
def test_official_splits(root, names, kind, scene, train, test):
    for split, wanted in (("train", train), ("test", test)):
        if wanted is None:
            with pytest.raises(UserError, match="no folder"):
                open_frames(scene, root, split=split)
            continue
        source = open_frames(scene, root, split=split)
        assert len(source) == len(wanted)
        for got, i in zip(source.poses(), wanted, strict=True):
            if np.isnan(got).any():
                assert i == LOST
            else:
                np.testing.assert_allclose(got, pose(i), atol=1e-5)


@pytest.mark.parametrize(
    ("version", "storage", "compressed"),
    [(1, "sqlite3", False), (1, "sqlite3", True), (2, "sqlite3", True), (2, "mcap", False)],
)
def test_bags(tmp_path, version, storage, compressed):
    pytest.importorskip("rosbags")
    name = bag(tmp_path, version=version, storage=storage, compressed=compressed)
    source = open_sequence(name, tmp_path)
    assert source.topics[1] == "/camera/aligned_depth_to_color/image_raw"
    np.testing.assert_allclose(source.timestamps(), 10 + np.arange(COUNT) / 30, atol=1e-6)
    for i in (3, 0, 4):
        frame = source[i]
        np.testing.assert_array_equal(frame.rgb, texture(CAMERA, pose(i)))
        np.testing.assert_allclose(frame.depth, plane_depth(CAMERA, pose(i)), atol=6e-4)


def test_a_single_mcap_file_and_a_missing_extra(tmp_path, monkeypatch):
    pytest.importorskip("rosbags")
    bag(tmp_path, storage="mcap")
    (file,) = tmp_path.rglob("*.mcap")
    assert len(open_sequence(f"bag/{file}", tmp_path)) == COUNT
    monkeypatch.setitem(sys.modules, "rosbags.highlevel", None)
    with pytest.raises(UserError, match="pip install rosbags"):
        open_sequence(f"bag/{file}", tmp_path)


def test_video_goes_back_and_tells_what_is_wrong(tmp_path):
    name = video(tmp_path)
    source = open_sequence(name, tmp_path)
    first = source[0].rgb
    with Prefetcher(source, workers=2) as frames:
        read = [frame.rgb for frame in frames]
    np.testing.assert_array_equal(read[0], first)
    assert np.abs(read[4].astype(int) - texture(CAMERA, pose(4))).mean() < 8
    np.testing.assert_allclose(source.timestamps(), np.arange(COUNT) / 25)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="no video that OpenCV can decode"):
        Video(tmp_path / "bad.mp4")
    (tmp_path / "clip.json").unlink()
    with pytest.raises(UserError, match=r"intrinsics\.json"):
        open_sequence(name, tmp_path)


class FakeDevice:
    camera, has_depth, lens = CAMERA, True, None

    def __init__(self, fails=()):
        self.count, self.fails = 0, fails

    def read(self):
        self.count += 1
        if self.count - 1 in self.fails:
            return None
        return np.full((48, 64, 3), self.count - 1, np.uint8), np.ones((48, 64), np.float32)


def test_live_device():
    source = Live(FakeDevice(fails=(2,)), "live/fake", frames=40)
    with Prefetcher(source, workers=3) as frames:
        for i, frame in enumerate(frames):
            if i == 2:
                assert isinstance(frame, BadFrame)
            else:
                assert frame.rgb[0, 0, 0] == frame.index == i
            if i == 30:
                break
    times = [source[i].timestamp for i in range(36, 40)]
    assert times == sorted(times)
    with pytest.raises(BadFrame, match="gone"):
        source[1]
    with pytest.raises(UserError, match="no live source"):
        open_named("kinect", "data")


def test_realsense_through_a_fake_sdk(tmp_path, monkeypatch):
    rgb, units = np.full((480, 640, 3), 7, np.uint8), np.full((480, 640), 2000, np.uint16)

    class Frames:
        def get_color_frame(self):
            return types.SimpleNamespace(get_data=lambda: rgb)

        def get_depth_frame(self):
            return types.SimpleNamespace(get_data=lambda: units)

    seen = types.SimpleNamespace(fx=600.0, fy=601.0, ppx=320.0, ppy=240.0, width=640, height=480)
    stream = types.SimpleNamespace(
        as_video_stream_profile=lambda: stream, get_intrinsics=lambda: seen
    )
    sensor = types.SimpleNamespace(get_depth_scale=lambda: 0.001)
    device = types.SimpleNamespace(first_depth_sensor=lambda: sensor)
    profile = types.SimpleNamespace(get_device=lambda: device, get_stream=lambda _: stream)
    pipeline = types.SimpleNamespace(start=lambda _: profile, wait_for_frames=Frames)
    sdk = types.SimpleNamespace(
        pipeline=lambda: pipeline,
        config=lambda: types.SimpleNamespace(enable_stream=lambda *_: None),
        stream=types.SimpleNamespace(color=1, depth=2),
        format=types.SimpleNamespace(rgb8=1, z16=2),
        align=lambda _: types.SimpleNamespace(process=lambda frames: frames),
    )
    monkeypatch.setitem(sys.modules, "pyrealsense2", sdk)
    source = open_sequence("live/realsense", tmp_path, max_frames=3)
    frame = source[2]
    assert (frame.camera.fy, frame.rgb[0, 0, 0], frame.depth[5, 5]) == (601.0, 7, 2.0)
    monkeypatch.setattr(pipeline, "start", _no_device)
    with pytest.raises(UserError, match="no RealSense camera: No device connected"):
        RealSense(sdk)
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(UserError, match="pip install pyrealsense2"):
        open_sequence("live/realsense", tmp_path)


def _no_device(_):
    raise RuntimeError("No device connected")


def test_webcam_without_a_camera(tmp_path, monkeypatch):
    class Capture:
        def __init__(self, number):
            self.number = number

        def read(self):
            image = np.zeros((48, 64, 3), np.uint8)
            image[..., 0] = 9  # blue, in OpenCV's order
            return (self.number == 0, image)

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    with pytest.raises(UserError, match="no webcam number 3"):
        open_sequence("live/webcam/3", tmp_path)
    source = open_sequence("live/webcam", tmp_path, max_frames=2)
    assert source.camera.cx == 31.5
    assert source[0].rgb[0, 0].tolist() == [0, 0, 9]
    (tmp_path / "webcam.json").write_text('{"fx": 40, "fy": 41, "cx": 30, "cy": 20}')
    assert open_sequence("live/webcam/0", tmp_path).camera.fy == 41


def test_a_pickle_that_names_code_is_refused(root, names, tmp_path):
    import pickle

    path = root / "indoor6/scene1/train_test_val.pkl"
    good = path.read_bytes()

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    try:
        path.write_bytes(pickle.dumps({"train": [Evil()]}))
        with pytest.raises(UserError, match="names"):
            open_frames("indoor6/scene1", root, split="train")
        assert not (tmp_path / "written").exists()
    finally:
        path.write_bytes(good)


def test_ace_calibration_files(tmp_path):
    export(PlaneSource(3), tmp_path / "scene/train", "ace")
    calibration = tmp_path / "scene/train/calibration"
    (calibration / "000001.txt").write_text("77.5\n")
    source = open_sequence("ace/scene", tmp_path)
    assert (source[1].camera.fx, source[1].camera.cx) == (77.5, 32.0)
    assert source[0].camera.fy == 52
    # Official names carry the kind before the suffix, and pair by name.
    for folder, kind in (
        ("rgb", "color.png"),
        ("poses", "pose.txt"),
        ("calibration", "calibration.txt"),
    ):
        for path in (tmp_path / f"scene/train/{folder}").iterdir():
            path.rename(path.with_name(f"seq-01-frame-{path.stem}.{kind}"))
    (tmp_path / "scene/train/poses/seq-01-frame-000000.pose.txt").unlink()
    source = open_sequence("ace/scene", tmp_path)
    np.testing.assert_allclose(source.poses()[2], pose(2), atol=1e-9)
    assert np.isnan(source.poses()[0]).all()
    (calibration / "seq-01-frame-000002.calibration.txt").unlink()
    with pytest.raises(UserError, match="no calibration/seq-01-frame-000002"):
        open_sequence("ace/scene", tmp_path)


def test_file_names_in_lists_must_stay_inside(root, tmp_path):
    colour(tmp_path / "secret.png", 0)
    export(PlaneSource(3), tmp_path / "tum/rgbd_dataset_freiburg1_x", "tum")
    (tmp_path / "tum/rgbd_dataset_freiburg1_x/rgb.txt").write_text("0.0 ../../secret.png\n")
    with pytest.raises(UserError, match="leads out of the folder"):
        open_sequence("tum/freiburg1_x", tmp_path)
