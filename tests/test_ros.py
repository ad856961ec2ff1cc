"""The ROS 2 package under ros/: its logic, its interfaces on recorded bags, its nodes."""

import ast
import importlib
import runpy
import shutil
import sys
import threading
import time
import types
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pytest
import yaml
from data_scene import CAMERA, plane_depth, pose, rotation, texture
from repository import REPO
from ros_stand_ins import PACKAGE, World, install

import ace_jax
from ace_jax.data.bag_writer import Messages
from ace_jax.data.frame import BadFrame
from ace_jax.errors import UserError
from ace_jax.geometry.rigid import from_quaternion, invert

OPTICAL = "camera_color_optical_frame"
START = 1_305_031_102_175_304_123  # nanoseconds, more digits than float64 seconds have
PERIOD = 33_333_333
BASE_FROM_CAMERA = np.eye(4)
BASE_FROM_CAMERA[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # x forward, z up
BASE_FROM_CAMERA[:3, 3] = [0.2, 0.05, 1.1]


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield
    for name in [n for n in sys.modules if n.split(".")[0] == "ace_jax_ros"]:
        del sys.modules[name]


def package(name):
    return importlib.import_module(f"ace_jax_ros.{name}")


@pytest.fixture(scope="module")
def store():
    stores = pytest.importorskip("rosbags.typesys")
    return stores.get_typestore(stores.Stores.ROS2_HUMBLE)


class Recorder(Messages):
    """Frames of the plane as messages of a camera driver."""

    def image(self, i, pixels, encoding, late=0):
        return self._types["sensor_msgs/msg/Image"](
            header=self.header(START + i * PERIOD + late, OPTICAL),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
        )

    def colour(self, i, encoding):
        rgb = texture(CAMERA, pose(i))
        if encoding == "jpeg":
            data = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].ravel()
            return self._types["sensor_msgs/msg/CompressedImage"](
                header=self.header(START + i * PERIOD, OPTICAL), format="bgr8; jpeg", data=data
            )
        return self.image(i, rgb if encoding == "rgb8" else rgb[:, :, ::-1].copy(), encoding)

    def range(self, i, encoding):
        depth = plane_depth(CAMERA, pose(i)).astype(np.float32)
        if encoding == "16UC1":
            return self.image(i, np.rint(1000 * depth).astype(np.uint16), encoding, late=4_000_000)
        depth[0, :4] = np.nan
        return self.image(i, depth, encoding, late=4_000_000)


def recorded(store, folder, colour, depth, count=4):
    """A bag of a camera, read back: (topic, message) in the order of time."""
    from rosbags import rosbag2
    from rosbags.highlevel import AnyReader

    make = Recorder(store.types)
    kinds = {
        "camera_info": "sensor_msgs/msg/CameraInfo",
        "color": f"sensor_msgs/msg/{'CompressedImage' if colour == 'jpeg' else 'Image'}",
        "depth": "sensor_msgs/msg/Image",
    }
    plugin = rosbag2.StoragePlugin.SQLITE3
    with rosbag2.Writer(folder, version=8, storage_plugin=plugin) as writer:
        topics = {t: writer.add_connection(f"/{t}", k, typestore=store) for t, k in kinds.items()}
        for i in range(count):
            at = START + i * PERIOD
            for topic, message, late in (
                ("camera_info", make.camera_info(make.header(at, OPTICAL), CAMERA), 0),
                ("color", make.colour(i, colour), 1),
                ("depth", make.range(i, depth), 4_000_000),
            ):
                data = store.serialize_cdr(message, kinds[topic])
                writer.write(topics[topic], at + late, data)
    with AnyReader([folder]) as reader:
        return [
            (c.topic[1:], reader.deserialize(data, c.msgtype)) for c, _, data in reader.messages()
        ]


class FakeSlam:
    """Knows where the plane's camera is, and keeps what it was given."""

    seen: tuple = ()

    def __init__(self, camera, **options):
        type(self).options, type(self).seen, self.camera = options, [], camera

    def track(self, rgb, depth, seconds):
        i = len(self.seen)
        self.seen.append((rgb, depth, seconds))
        found = None if i == 2 else invert(pose(0)) @ pose(i)
        return types.SimpleNamespace(
            tracked=found is not None,
            world_from_camera=found,
            inliers=0 if found is None else 80 + i,
            lost_because="nothing was recognised" if found is None else None,
            state="LOST",
        )

    def finish(self):
        return types.SimpleNamespace(save=lambda folder: self.seen.append(folder))


@pytest.mark.parametrize("colour", ["rgb8", "bgr8", "jpeg"])
@pytest.mark.parametrize("depth", ["16UC1", "32FC1"])
def test_recorded_bags_become_frames(store, tmp_path, monkeypatch, colour, depth):
    monkeypatch.setattr(ace_jax, "Slam", FakeSlam)
    estimate = package("estimators").SlamEstimator(0.02, 0.01, features="auto")
    pairing, answers = package("sync").Pairing(20_000_000), []
    for topic, message in recorded(store, tmp_path / "bag", colour, depth):
        if topic == "camera_info":
            estimate.pictures.calibrate(message)
            continue
        stamp = package("estimators").stamp_of(message)
        add = pairing.colour if topic == "color" else pairing.depth
        pair = add(stamp, message)
        if pair is not None:
            answers.append(estimate(*pair))
    assert [a.stamp for a in answers] == [START + i * PERIOD for i in range(4)]
    assert {a.frame_id for a in answers} == {OPTICAL}
    assert [a.reason for a in answers] == ["", "", "nothing was recognised", ""]
    assert FakeSlam.options == {"realtime": True, "features": "auto"}
    for i, (rgb, metres, _) in enumerate(FakeSlam.seen):
        expected = texture(CAMERA, pose(i)).astype(int)
        assert np.abs(rgb - expected).mean() < (3 if colour == "jpeg" else 1e-9)
        known = metres > 0
        assert known.mean() > 0.99
        assert np.abs(metres - plane_depth(CAMERA, pose(i)))[known].max() < 0.0006
    assert estimate.save("runs/robot")
    assert FakeSlam.seen[-1] == "runs/robot"


def test_what_cannot_be_used_is_said(store):
    make, estimators = Recorder(store.types), package("estimators")
    pictures = estimators.Pictures()
    wrong = make.image(0, np.zeros((4, 4), np.uint16), "bayer_rggb16")
    with pytest.raises(BadFrame, match="bayer"):
        pictures.read(wrong, None)
    with pytest.raises(UserError, match="calibrate"):
        pictures.calibrate(make.camera_info(make.header(0, OPTICAL), CAMERA.replace(fx=0.0)))
    with pytest.raises(UserError, match="no map"):
        estimators.load_localizer("nowhere.safetensors")


def test_an_exported_folder_is_loaded(tmp_path):
    load = package("estimators").load_localizer
    with pytest.raises(UserError, match=r"no relocalizer\.py"):
        load(str(tmp_path))
    (tmp_path / "relocalizer.py").write_text(
        "class Relocalizer:\n    def __init__(self, folder):\n        self.folder = folder\n"
    )
    assert load(str(tmp_path)).folder == tmp_path


def test_pairs_by_time():
    sync = package("sync")
    pairing, ms = sync.Pairing(20_000_000), 1_000_000
    assert pairing.depth(0, "d0") is None
    assert pairing.colour(30 * ms, "c30") is None  # too far apart
    assert pairing.colour(33 * ms, "c33") is None
    assert pairing.depth(34 * ms, "d34") == ("c33", "d34")
    assert pairing.depth(29 * ms, "d29") is None  # c30 is older than one that was used
    assert pairing.depth(66 * ms, "d66") is None
    assert pairing.colour(67 * ms, "c67") == ("c67", "d66")
    for i in range(100):  # depth alone does not fill the memory
        pairing.depth(100 * ms * i, i)
    assert len(pairing._waiting[1]) == 10


def test_the_newest_frame_is_worked_on():
    started, go_on, done = threading.Event(), threading.Event(), []

    def work(item):
        started.set()
        go_on.wait(5)
        done.append(item)

    worker = package("sync").LatestWorker(work)
    worker.put(1)
    assert started.wait(5)
    for item in (2, 3, 4):
        worker.put(item)
    go_on.set()
    while len(done) < 2:
        time.sleep(0.001)
    worker.close()
    assert done == [1, 4]
    assert worker.dropped == 2


def test_odometry_and_map_meet():
    frames = package("frames")
    map_from_world, odom_from_base = pose(7), pose(3)
    map_from_base = frames.base_in_map(map_from_world, pose(1), BASE_FROM_CAMERA)
    np.testing.assert_allclose(map_from_base @ BASE_FROM_CAMERA, map_from_world @ pose(1))
    correction = frames.map_from_odom(map_from_base, odom_from_base)
    np.testing.assert_allclose(correction @ odom_from_base, map_from_base, atol=1e-12)
    moved = frames.motion_of_numbers([1, 2, 3, 0, 0, 1, 1])
    np.testing.assert_allclose(moved[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    with pytest.raises(ValueError, match="x y z qx qy qz qw"):
        frames.motion_of_numbers([1, 2, 3])


def test_the_covariance_is_that_of_moved_poses():
    """Against samples of camera_from_world, moved as the solver's tangent says."""
    rng = np.random.default_rng(0)
    root = 1e-3 * rng.normal(size=(6, 6))
    covariance, map_from_camera = root @ root.T, pose(5) @ pose(9)
    expected = package("frames").base_covariance(covariance, map_from_camera, BASE_FROM_CAMERA)
    base = map_from_camera @ invert(BASE_FROM_CAMERA)
    samples = []
    for error in rng.normal(size=(4000, 6)) @ root.T:
        moved = np.eye(4)
        moved[:3, :3], moved[:3, 3] = rotation(error[3:]), error[:3]
        noisy = invert(moved @ invert(map_from_camera)) @ invert(BASE_FROM_CAMERA)
        turn = noisy[:3, :3] @ base[:3, :3].T
        vector = [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
        samples.append([*(noisy - base)[:3, 3], *(0.5 * np.array(vector))])
    found = np.cov(np.array(samples).T)
    assert np.abs(found - expected).max() < 0.08 * np.abs(expected).max()


def test_levels_of_diagnostics():
    module, second = package("health"), 10**9
    health = module.Health(lost_after=2.0, silent_after=1.0, started=0)
    assert health.status(second // 2)[0] == module.WARN
    level, line, values = health.status(3 * second)
    assert (level, values["seconds since the last pose"]) == (module.ERROR, "never")
    assert "no image for 3.0 s" in line
    health.image_at = health.frame_at = health.pose_at = 3 * second
    assert health.status(3 * second)[:2] == (module.WARN, "no camera_info yet")
    health.calibrated = True
    assert health.status(3 * second)[:2] == (module.OK, "tracking")
    health.reason = "dark"
    assert health.status(4 * second)[:2] == (module.WARN, "no pose: dark")
    health.image_at = 6 * second
    assert health.status(6 * second)[0] == module.ERROR


def transform(store, motion):
    make = Messages(store.types)
    return make.transform(make.header(0, ""), "", motion)


def checked(store, world):
    """Every message that was published, through ROS's own encoding and back."""
    kinds = {
        "odometry": "nav_msgs/msg/Odometry",
        "pose": "geometry_msgs/msg/PoseWithCovarianceStamped",
        "path": "nav_msgs/msg/Path",
        "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    }
    assert set(world.published) == set(kinds)
    return {
        topic: [
            store.deserialize_cdr(store.serialize_cdr(m, kinds[topic]), kinds[topic])
            for m in messages
        ]
        for topic, messages in world.published.items()
    }


def play(world, node, messages):
    """Hands messages over, and waits for each frame: none is dropped."""
    completes = "depth" if "depth" in world.callbacks else "color"
    for topic, message in messages:
        wanted = node.health.frames + (topic == completes)
        world.callbacks[topic](message)
        deadline = time.monotonic() + 10
        while node.health.frames < wanted and time.monotonic() < deadline:
            time.sleep(0.001)


def motion(message):
    p, q = message.position, message.orientation
    return from_quaternion(np.array([q.w, q.x, q.y, q.z]), np.array([p.x, p.y, p.z]))


def test_the_slam_node(store, tmp_path, monkeypatch):
    world = World()
    world.parameters = {"output": str(tmp_path), "path_period": 0.03}
    world.tf["base_link", OPTICAL] = transform(store, BASE_FROM_CAMERA)
    install(monkeypatch, world, store.types)
    monkeypatch.setattr(ace_jax, "Slam", FakeSlam)
    node = package("slam_node").SlamNode()
    play(world, node, recorded(store, tmp_path / "bag", "rgb8", "16UC1"))
    world.timers[0]()
    node.finish()
    out = checked(store, world)
    # The map begins at the base; frame 2 was lost.
    for k, i in enumerate((0, 1, 3)):
        expected = BASE_FROM_CAMERA @ invert(pose(0)) @ pose(i) @ invert(BASE_FROM_CAMERA)
        message = out["odometry"][k]
        assert (message.header.frame_id, message.child_frame_id) == ("map", "base_link")
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == START + i * PERIOD
        np.testing.assert_allclose(motion(message.pose.pose), expected, atol=1e-9)
        np.testing.assert_allclose(motion(out["pose"][k].pose.pose), expected, atol=1e-9)
        covariance = message.pose.covariance.reshape(6, 6)
        assert np.linalg.eigvalsh(covariance).min() > 0
        assert message.twist.covariance[0] == -1
    assert [len(message.poses) for message in out["path"]] == [1, 2, 3]
    assert [t.child_frame_id for t in world.transforms] == ["base_link"] * 3
    (status,) = out["/diagnostics"][0].status
    assert (status.level, status.message) == (0, "tracking")
    assert {v.key: v.value for v in status.values}["frames"] == "4"
    assert FakeSlam.seen[-1] == str(tmp_path)


def test_the_localization_node(store, tmp_path, monkeypatch):
    world, asked, odom_from_base = World(), [], pose(6)
    world.parameters = {"map": "kitchen.safetensors", "min_inliers": 30}
    world.tf["base_link", OPTICAL] = transform(store, BASE_FROM_CAMERA)
    install(monkeypatch, world, store.types)

    def locate(image, intrinsics):
        asked.append(intrinsics)
        i = len(asked) - 1
        return types.SimpleNamespace(
            success=i != 1,
            num_inliers=20 if i == 2 else 90,
            world_from_camera=pose(i),
            covariance=1e-6 * np.eye(6),
        )

    module = package("localization_node")
    monkeypatch.setattr(module, "load_localizer", lambda path: locate)
    node = module.LocalizationNode()
    messages = recorded(store, tmp_path / "bag", "bgr8", "16UC1", count=5)
    messages = [m for m in messages if m[0] != "depth"]
    play(world, node, messages[:8])
    assert not world.transforms  # nothing publishes odom -> base_link yet
    assert "not connected" in node.health.reason
    world.tf["odom", "base_link"] = transform(store, odom_from_base)
    play(world, node, messages[8:])
    node.finish()
    assert asked[0] == [50.0, 52.0, 31.5, 23.5]
    (sent,) = world.transforms
    assert (sent.header.frame_id, sent.child_frame_id) == ("map", "odom")
    found = package("frames").motion_of(sent.transform) @ odom_from_base
    np.testing.assert_allclose(found, pose(4) @ invert(BASE_FROM_CAMERA), atol=1e-9)
    checked(store, world)
    world.parameters = {}
    with pytest.raises(UserError, match="`map` is missing"):
        module.LocalizationNode()


def test_every_message_type_exists(store):
    assert set(package("messages").NAMES) <= set(store.types)


@pytest.mark.parametrize("name", ["slam", "localization"])
def test_files_of_the_package_agree(name, monkeypatch, store):
    install(monkeypatch, World(), store.types)
    (content,) = yaml.safe_load((PACKAGE / "config" / f"{name}.yaml").read_text()).values()
    assert content["ros__parameters"] == package(f"{name}_node").DEFAULTS
    setup = (PACKAGE / "setup.py").read_text()
    assert f"{name}_node:main" in setup
    assert f"launch/{name}.launch.py" in setup
    manifest = ET.parse(PACKAGE / "package.xml").getroot()
    assert manifest.findtext("name") == PACKAGE.name
    assert (PACKAGE / "resource" / PACKAGE.name).is_file()
    needed = {d.text for d in manifest.findall("exec_depend")}
    sources = (PACKAGE / PACKAGE.name).glob("*.py")
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    ours = {PACKAGE.name, "ace_jax", "numpy"}
    assert imported - ours - set(sys.stdlib_module_names) <= needed


@pytest.mark.parametrize("name", ["slam", "localization"])
def test_launch_files_start_their_node_with_its_topics(name, monkeypatch, store):
    world = World()
    install(monkeypatch, world, store.types)
    file = runpy.run_path(str(PACKAGE / "launch" / f"{name}.launch.py"))
    ((*arguments, node),) = file["generate_launch_description"]().said
    assert (node.package, node.executable, node.name) == (PACKAGE.name, name, f"ace_jax_{name}")
    assert f'"{node.name}"' in (PACKAGE / PACKAGE.name / f"{name}_node.py").read_text()
    defaults = {argument.said[0]: argument.default_value for argument in arguments}
    package_share, *path = defaults.pop("params").said[0]
    assert package_share.said == (PACKAGE.name,)
    assert PACKAGE.joinpath(*path) == PACKAGE / "config" / f"{name}.yaml"
    assert [parameters.said for parameters in node.parameters] == [("params",)]
    # Every argument is a topic that the nodes listen to, and has a line in the page.
    remapped = {topic: given.said[0] for topic, given in node.remappings}
    assert set(remapped.values()) == set(defaults)
    assert all(topic.startswith("/") for topic in defaults.values())
    sources = (PACKAGE / PACKAGE.name / "node.py").read_text()
    page = (REPO / "docs" / "ros.md").read_text()
    for topic, given in remapped.items():
        assert f'"{topic}"' in sources, topic
        assert f"`{given}:=`" in page


def test_the_page_names_every_parameter():
    page = (REPO / "docs" / "ros.md").read_text()
    for path in sorted((PACKAGE / "config").glob("*.yaml")):
        assert f"config/{path.name}" in page


@pytest.mark.skipif(shutil.which("ros2") is None, reason="ROS 2 is not installed")
def test_ros_has_these_modules():
    for name in ("rclpy", "tf2_ros", "rosidl_runtime_py.utilities", "launch_ros.actions"):
        importlib.import_module(name)
    from rosidl_runtime_py.utilities import get_message

    for name in package("messages").NAMES:
        get_message(name)
