"""The scripts under examples/ that use `import ace_jax` do what they say."""

import runpy

import cv2
import numpy as np
import pytest
from mapping_world import World, WorldSource, register, small_config
from repository import REPO
from slam_scene import CAMERA, RoomSource, world_from_camera

import ace_jax
from ace_jax.data.export import export
from ace_jax.models.scene_coordinate_heads import HEADS


def _example(name: str) -> dict:
    return runpy.run_path(str(REPO / "examples" / f"{name}.py"))


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "kitchen"
    export(RoomSource(16), folder, "folder")
    return folder


def test_the_camera_loop(kitchen, tmp_path, capsys):
    result = _example("camera_loop")["main"](str(kitchen), str(tmp_path / "out"))
    truth = np.linalg.inv(world_from_camera(0)) @ world_from_camera(15)
    assert len(result.timestamps) == 16
    np.testing.assert_allclose(result.world_from_camera[-1][:3, 3], truth[:3, 3], atol=0.01)
    assert "inliers" in capsys.readouterr().out
    assert (tmp_path / "out" / "session.safetensors").is_file()


def test_the_batch(monkeypatch, tmp_path):
    register(monkeypatch)
    world = World(1)
    scene_map = ace_jax.map_images(WorldSource(tuple(range(1, 15)), world), config=small_config())
    scene_map.save(tmp_path / "map.safetensors")
    views, photos = (3.5, 7.5, 11.5), []
    for view in views:
        photos.append(str(tmp_path / f"{view}.png"))
        cv2.imwrite(photos[-1], world.image(view)[..., ::-1])
    answers = _example("batch_relocalization")["locate_all"](
        str(tmp_path / "map.safetensors"), [525.0, 525.0, 320.0, 240.0], photos
    )
    for answer, view in zip(answers, views, strict=True):
        assert answer.success
        np.testing.assert_allclose(answer.world_from_camera, world.pose(view), atol=0.02)


def test_an_own_head(kitchen, tmp_path, monkeypatch):
    monkeypatch.setitem(HEADS, "two_layers", None)  # taken back afterwards
    names = _example("own_head")
    scene_map = names["main"](str(kitchen), str(tmp_path / "map.safetensors"), steps=400)
    assert scene_map.head == "two_layers"
    relocalizer = ace_jax.Relocalizer.load(tmp_path / "map.safetensors")
    answer = relocalizer(RoomSource(16)[7].rgb, CAMERA)
    assert answer.success
    assert np.linalg.norm(answer.world_from_camera[:3, 3] - world_from_camera(7)[:3, 3]) < 0.1


def test_the_solver():
    error, inliers = _example("pose_solver")["main"]()
    assert error < 0.01
    assert 85 <= inliers <= 105
