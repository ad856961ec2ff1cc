"""`import ace_jax`: the public names, one line for a wrong input; the page and the examples run."""

import ast
import re
import runpy
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping_world import World, WorldSource, register, small_config
from mapping_world import camera as world_camera
from repository import REPO
from slam_scene import CAMERA, RoomSource, world_from_camera

import ace_jax
import ace_jax.api.slam
from ace_jax.data.export import export
from ace_jax.data.frame import BadFrame
from ace_jax.errors import UserError
from ace_jax.geometry.rigid import invert
from ace_jax.models.scene_coordinate_heads import HEADS
from ace_jax.slam.frame_poses import State, TrackedFrame

SOURCE = (REPO / "ace_jax/__init__.py").read_text()
PAGE = (REPO / "docs/camera.md").read_text()


def test_names_are_about_ten_and_typed():
    names = set(ace_jax.__all__) - {"__version__"}
    assert names == set(ace_jax._MODULES) <= set(dir(ace_jax))
    assert "TYPE_CHECKING" not in dir(ace_jax)
    assert 10 <= len(names) <= 13
    (block,) = (node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.If)
                and ast.unparse(node.test) == "TYPE_CHECKING")  # fmt: skip
    typed = {a.name: node.module for node in block.body for a in node.names}
    assert typed == {name: f"ace_jax.{module}" for name, module in ace_jax._MODULES.items()}
    for name in names:
        assert getattr(ace_jax, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Slamm'"):
        _ = ace_jax.Slamm


def test_the_import_loads_nothing():
    code = "import sys, ace_jax; print([m for m in sys.modules if m in ('jax', 'numpy', 'typing')])"
    done = subprocess.run([sys.executable, "-Sc", code], capture_output=True, text=True, cwd=REPO)
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "kitchen"
    export(RoomSource(36), folder, "folder")
    return folder


def test_open_recording(kitchen):
    source = ace_jax.open_recording(kitchen, start=2, stride=4)
    assert (len(source), source.has_depth, source.camera) == (9, True, CAMERA)
    photos = ace_jax.open_recording(kitchen / "rgb", intrinsics=[262.0, 262.0, 159.5, 119.5])
    assert (len(photos), photos.has_depth, photos.camera) == (36, False, CAMERA)
    same = ace_jax.open_recording(kitchen / "rgb", intrinsics=kitchen / "intrinsics.json")
    assert same.camera == CAMERA
    with pytest.raises(UserError, match="--intrinsics"):
        ace_jax.open_recording(kitchen / "rgb", intrinsics=[1.0, 2.0])


@pytest.fixture(scope="module")
def page(kitchen, tmp_path_factory):
    """What the page's code leaves; its recording is a smaller one."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = "\n".join(blocks)
    assert code.count('"synthetic/room0"') == 1
    code = code.replace('"synthetic/room0"', repr(f"folder/{kitchen}"))
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        exec(compile(code, "docs/camera.md", "exec"), names)
        names["saved"] = {path.name for path in kitchen.parent.cwd().glob("runs/kitchen/*")}
    return names


def test_the_pages_loop_follows_the_camera(page):
    poses = page["result"].world_from_camera
    truth = np.stack([world_from_camera(i) for i in range(36)])
    relative = np.linalg.inv(truth[0]) @ truth
    assert len(poses) == 36
    assert (page["result"].lost, page["result"].other_maps) == ([], ())
    np.testing.assert_allclose(poses[:, :3, 3], relative[:, :3, 3], atol=0.01)
    np.testing.assert_array_equal(
        page["saved"],
        {"trajectory.tum", "map.safetensors", "session.safetensors", "points.ply"},
    )


def test_the_pages_photo_is_found(page):
    truth = np.linalg.inv(world_from_camera(0)) @ world_from_camera(33)
    assert page["answer"].success
    for found in (page["answer"], page["pose"]):  # of the relocalizer, and of a frozen session
        np.testing.assert_allclose(found.world_from_camera[:3, 3], truth[:3, 3], atol=0.02)
    assert page["pose"].tracked
    assert page["pose"].inliers > 20
    assert page["pose"].state == "TRACKING"


def test_a_finished_system_takes_no_frames(page):
    with pytest.raises(UserError, match="finished"):
        page["slam"].track(page["photo"].rgb, page["photo"].depth)
    assert page["slam"].finish() is page["result"]


class FakeSystem:
    """What `Slam` asks of the system: tracks every frame but the dark ones."""

    def __init__(self, camera, options):
        self.camera, self.options, self.frames = camera, options, []
        self.state, self.last_landmarks = State.STARTING, np.array([3, -1, 5])

    def process(self, frame):
        if frame.timestamp == 13.0:
            raise BadFrame("frame: its features are not finite")
        lost = not frame.rgb.any()
        self.state = State.LOST if lost else State.TRACKING
        pose = None if lost else invert(world_from_camera(3))
        cause = "too dark" if lost else None
        self.frames.append(frame)
        return TrackedFrame(frame.index, frame.timestamp, pose, map=1, lost_because=cause)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(
        ace_jax.api.slam,
        "create_system",
        lambda source, options: FakeSystem(source.camera, options),
    )
    return ace_jax.Slam


LIGHT, DARK = np.full((240, 320, 3), 200, np.uint8), np.zeros((240, 320, 3), np.uint8)
DEPTH = np.ones((240, 320), np.float32)


def test_a_pose_and_why_there_is_none(fake):
    slam = fake(CAMERA)
    tracked, lost = slam.track(LIGHT, DEPTH), slam.track(DARK, DEPTH)
    assert (tracked.state, tracked.tracked, tracked.inliers) == ("TRACKING", True, 2)
    np.testing.assert_allclose(tracked.world_from_camera, world_from_camera(3))
    assert tracked.lost_because is None
    assert (lost.state, lost.tracked, lost.inliers, lost.index) == ("LOST", False, 0, 1)
    assert lost.lost_because == "too dark"
    assert tracked.map_number == 1
    assert (tracked.timestamp, lost.timestamp) == (0.0, pytest.approx(1 / 30))


@pytest.mark.parametrize("camera", [CAMERA, [262.0, 262.0, 159.5, 119.5]])
def test_nothing_to_finish(fake, camera):
    with pytest.raises(UserError, match="no frame was tracked"):
        fake(camera).finish()


def test_the_size_is_the_first_images(fake):
    slam = fake([262.0, 262.0, 159.5, 119.5], seed=np.int64(4))
    with pytest.raises(UserError, match="no frame was tracked yet"):
        _ = slam.system
    slam.track(LIGHT / 255.0, DEPTH[..., None].astype(np.float64), 7)
    assert slam.system.camera == CAMERA
    assert slam.system.options.seed == 4
    frame = slam.system.frames[0]
    np.testing.assert_array_equal(frame.rgb, LIGHT)
    assert (frame.depth.dtype, frame.depth.shape, frame.timestamp) == (np.float32, (240, 320), 7.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((LIGHT,), "no depth; SLAM needs RGB-D"),
        ((LIGHT, np.ones((240, 320), np.uint16)), "in metres"),
        ((LIGHT, DEPTH[::2, ::2]), "register it"),
        ((LIGHT[::2, ::2], DEPTH[::2, ::2]), "160 x 120 pixels"),
        ((LIGHT, DEPTH, np.nan), "times must ascend"),
        ((LIGHT, DEPTH, 1.0), "times must ascend"),
        ((LIGHT, DEPTH, "noon"), "number of seconds"),
        ((LIGHT, DEPTH, 13.0), "features are not finite"),
        (("nowhere.png", DEPTH), "nowhere.png: No such file"),
    ],
)
def test_a_wrong_frame_is_one_line_and_does_not_count(fake, arguments, words):
    slam = fake(CAMERA)
    slam.track(LIGHT, DEPTH, 1.0)
    with pytest.raises(UserError, match=words):
        slam.track(*arguments)
    assert len(slam.system.frames) == 1
    assert slam.track(LIGHT, DEPTH, 2.0).index == 1


def test_a_frozen_map_needs_no_depth(fake, tmp_path):
    assert fake(CAMERA, session=tmp_path, frozen=True).track(LIGHT).tracked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"camera": np.eye(4)}, "intrinsics"),
        ({"camera": CAMERA.replace(fx=-1.0)}, "intrinsics"),
        ({"camera": CAMERA, "seed": 1.5}, "a seed is an integer"),
        ({"camera": CAMERA, "frozen": True}, "give a session"),
        ({"camera": CAMERA, "features": "orb"}, "'orb'"),
        ({"camera": CAMERA, "session": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"camera": [262.0, 262.0, 159.5, 119.5], "features": "orb"}, "'orb'"),
        ({"camera": [262.0, 262.0, 159.5, 119.5], "session": "nowhere"}, "no session nowhere"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        ace_jax.Slam(**arguments)
    assert "\n" not in str(caught.value)


WORLD, VIEWS, INTRINSICS = World(1), range(1, 15), [525.0, 525.0, 320.0, 240.0]


@pytest.fixture(scope="module")
def world_map():
    """Of images and poses."""
    images, poses = ([get(view) for view in VIEWS] for get in (WORLD.image, WORLD.pose))
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        yield ace_jax.map_images(images, poses, INTRINSICS, config=small_config(), seed=1)


def test_map_images_and_ask(world_map, tmp_path):
    source = WorldSource(tuple(VIEWS), WORLD, has_depth=False)
    same = ace_jax.map_images(source, config=small_config())
    assert world_map.info["mapping_images"] == same.info["mapping_images"] == 14
    assert world_map.save(tmp_path / "map.safetensors") > 0
    for known in (world_map, ace_jax.SceneMap.load(tmp_path / "map.safetensors")):
        answer = ace_jax.Relocalizer.of(known)(WORLD.image(4.5) / 255.0, INTRINSICS)
        assert answer.success
        assert np.linalg.norm(answer.world_from_camera[:3, 3] - WORLD.pose(4.5)[:3, 3]) < 0.02


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([np.zeros((480, 640, 3), np.uint8)],), "need world_from_camera"),
        (([np.zeros((480, 640, 3), np.uint8)], [np.eye(3)], [1, 1, 0, 0]), r"poses \(4, 4\)"),
        ((RoomSource(3), [np.eye(4)] * 3), "a recording has its own poses"),
        (([np.zeros((480, 640, 3), np.uint8)], [None], [1, 1, 0, 0]), "no poses"),
    ],
)
def test_images_that_cannot_be_mapped(arguments, words):
    with pytest.raises(UserError, match=words):
        ace_jax.map_images(*arguments)


def test_no_such_preset():
    with pytest.raises(UserError, match=r"no preset 'fast': there are .*landmarks"):
        ace_jax.map_images(RoomSource(3), config="fast")


def _correspondences(count: int = 200):
    """As many as the example of the solver has, whose program they share."""
    rng = np.random.default_rng(0)
    camera = world_camera(525.0)
    points = rng.uniform([-2, -1.5, 2], [2, 1.5, 5], (count, 3))
    uv = 525.0 * points[:, :2] / points[:, 2:] + [320.0, 240.0]
    uv[:10] += 50.0  # outliers
    shift = np.array([0.1, -0.2, 0.3])
    return uv, points + shift, camera, shift


def test_the_solver_takes_numpy_and_integer_seeds():
    uv, points, camera, shift = _correspondences()
    poses = [
        ace_jax.estimate_absolute_pose(uv, points, camera),
        ace_jax.estimate_absolute_pose(uv, points, camera, 0, threshold=4.0),
        ace_jax.estimate_absolute_pose(jnp.array(uv), points, camera, jax.random.key(0)),
    ]
    for pose in poses:
        assert pose.success
        assert int(pose.num_inliers) == 190
        np.testing.assert_allclose(pose.camera_from_world[:3, 3], -shift, atol=1e-3)
        # A threshold that is given makes another program, which may round otherwise.
        np.testing.assert_allclose(
            pose.camera_from_world, poses[0].camera_from_world, atol=1e-6, rtol=1e-6
        )


def test_the_solver_refuses_what_does_not_fit():
    uv, points, camera, _ = _correspondences()
    for arguments, words in (
        ((uv[:, :1], points, camera), r"points_2d has shape \(200, 1\), not \(200, 2\)"),
        ((uv, points[:5], camera), r"points_3d has shape \(5, 3\), not \(200, 3\)"),
        ((uv, points, np.eye(3)), "the image's size, too: give an ace_jax.Camera"),
        ((uv, points, camera, 0.5), "a seed is an integer"),
    ):
        with pytest.raises(UserError, match=words):
            ace_jax.estimate_absolute_pose(*arguments)


# The scripts under examples/ that use `import ace_jax`.


def _example(name: str) -> dict:
    return runpy.run_path(str(REPO / "examples" / f"{name}.py"))


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "short"
    export(RoomSource(16), folder, "folder")
    return folder


def test_the_camera_loop(short, tmp_path, capsys):
    result = _example("camera_loop")["main"](str(short), str(tmp_path / "out"))
    truth = np.linalg.inv(world_from_camera(0)) @ world_from_camera(15)
    assert len(result.timestamps) == 16
    np.testing.assert_allclose(result.world_from_camera[-1][:3, 3], truth[:3, 3], atol=0.01)
    assert "inliers" in capsys.readouterr().out
    assert (tmp_path / "out" / "session.safetensors").is_file()


def test_the_batch(world_map, tmp_path):
    world_map.save(tmp_path / "map.safetensors")
    views, photos = (3.5, 7.5, 11.5), []
    for view in views:
        photos.append(str(tmp_path / f"{view}.png"))
        cv2.imwrite(photos[-1], WORLD.image(view)[..., ::-1])
    answers = _example("batch_relocalization")["locate_all"](
        str(tmp_path / "map.safetensors"), INTRINSICS, photos
    )
    for answer, view in zip(answers, views, strict=True):
        assert answer.success
        np.testing.assert_allclose(answer.world_from_camera, WORLD.pose(view), atol=0.02)


def test_an_own_head(short, tmp_path, monkeypatch):
    monkeypatch.setitem(HEADS, "two_layers", None)  # taken back afterwards
    names = _example("own_head")
    scene_map = names["main"](str(short), str(tmp_path / "map.safetensors"), steps=250)
    assert scene_map.head == "two_layers"
    relocalizer = ace_jax.Relocalizer.load(tmp_path / "map.safetensors")
    answer = relocalizer(RoomSource(16)[7].rgb, CAMERA)
    assert answer.success
    assert np.linalg.norm(answer.world_from_camera[:3, 3] - world_from_camera(7)[:3, 3]) < 0.1


def test_the_solver():
    error, inliers = _example("pose_solver")["main"]()
    assert error < 0.01
    assert 85 <= inliers <= 105
