"""The exported relocalizer: runs without the package, answers as the original; the examples."""

import importlib.util
import subprocess
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping_world import WorldExtractor
from repository import REPO
from slam_scene import CAMERA, RoomSource

from ace_jax.data.depth_at_features import sample_depth
from ace_jax.errors import UserError
from ace_jax.export import standalone
from ace_jax.export.__main__ import _size
from ace_jax.export.artifact import export
from ace_jax.features.sift import Sift
from ace_jax.geometry.camera import unproject
from ace_jax.localization import localize
from ace_jax.localization.localize import QueryPose
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import SceneMap
from ace_jax.localization.settings import default_settings
from ace_jax.models.landmark_attention import landmark_variables

INTRINSICS = [CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]


def _map():
    """Two images' features with their true points, as a map of landmarks."""
    source, extractor = RoomSource(8), Sift(None, 256)
    descriptors, points = [], []
    for frame in (source[0], source[4]):
        features = extractor.extract(frame.rgb)
        depth = sample_depth(frame.depth, np.asarray(features.uv))
        known = np.asarray(features.mask) & (depth > 0)
        local = np.asarray(unproject(features.uv, depth, CAMERA))[known]
        pose = frame.world_from_camera
        points.append(local @ pose[:3, :3].T + pose[:3, 3])
        descriptors.append(np.asarray(features.descriptors)[known])
    descriptors, points = np.concatenate(descriptors), np.concatenate(points)
    return SceneMap(
        head="landmark_attention",
        head_options={"landmarks": len(points), "dim": 128},
        variables=landmark_variables(descriptors, points, tau=300.0),
        features="sift",
        feature_options={"image_size": None, "max_features": 256},
        feature_checksum=extractor.weights_checksum,
        feature_dim=128,
        camera=CAMERA,
        mean=np.zeros(3),
    )


@pytest.fixture(scope="module")
def original():
    scene_map = _map()
    settings = default_settings(scene_map).replace(
        max_queries=256, min_inliers=15, guided_similarity=0.9
    )  # one attempt: half of the compilation
    return Relocalizer(scene_map, Sift(None, 256), settings, "room")


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    out = tmp_path_factory.mktemp("deployed")
    export(original, out)
    return out


@pytest.fixture(scope="module")
def deployed(folder):
    return standalone.Relocalizer(folder)


def test_gives_the_same_poses(original, deployed):
    source = RoomSource(8, foreign=(7,))
    answers = []
    for index in (1, 5, 7):
        image = source[index].rgb
        expected, found = original(image, CAMERA), deployed(image, INTRINSICS)
        assert found.success == expected.success
        assert found.num_inliers == expected.num_inliers
        np.testing.assert_allclose(
            found.world_from_camera, expected.world_from_camera, rtol=0, atol=1e-4
        )
        answers.append(found.success)
    assert answers == [True, True, False]


@pytest.mark.parametrize("enough", [100, 200])
def test_a_second_attempt_is_made_with_all_features(original, monkeypatch, enough):
    def attempt(head, settings, known, features, camera, queries):
        pose = QueryPose(
            camera_from_world=jnp.eye(4) * queries,
            success=jnp.array(queries >= enough),
            num_inliers=jnp.array(queries),
            covariance=jnp.eye(6),
        )
        return pose, None, None

    monkeypatch.setattr(localize, "attempt", attempt)
    settings = original.settings.replace(max_queries=128)
    again = Relocalizer(original.map, original.extractor, settings)
    function, arrays = again.as_function(CAMERA.width, CAMERA.height)
    features = original.extractor.extract(RoomSource(8)[1].rgb)
    found = jax.jit(function)(arrays, features, jnp.array(INTRINSICS))
    assert found["num_inliers"] == (128 if enough == 100 else 256)


def test_a_batch_has_the_poses_of_its_images(original):
    source = RoomSource(8, foreign=(7,))
    images = [source[index].rgb for index in (1, 5, 7)]
    function, arrays = original.as_function(CAMERA.width, CAMERA.height)
    features = [original.extractor.extract(image) for image in images]
    batch = jax.tree.map(lambda *rows: jnp.stack(rows), *features)
    found = jax.jit(jax.vmap(function, in_axes=(None, 0, None)))(
        arrays, batch, jnp.array(INTRINSICS)
    )
    expected = [original.locate(one, CAMERA) for one in features]
    np.testing.assert_array_equal(found["success"], [e.success for e in expected])
    for pose, one in zip(found["camera_from_world"][:2], expected[:2], strict=True):
        np.testing.assert_allclose(np.linalg.inv(pose), one.world_from_camera, atol=1e-3)


def test_is_for_all_platforms(folder):
    program = jax.export.deserialize(bytearray((folder / "program.bin").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")


def test_loads_without_the_package(folder):
    code = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, *_):\n"
        "        assert not name.startswith(('ace_jax', 'flax')), name\n"
        "sys.meta_path.insert(0, No())\n"
        "from relocalizer import Relocalizer\n"
        "print(Relocalizer().info['width'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "320", done.stderr


def test_refuses_an_image_of_another_size(deployed):
    with pytest.raises(ValueError, match="uint8 images of 320 x 240 pixels"):
        deployed(np.zeros((480, 640, 3), np.uint8), INTRINSICS)


def test_what_cannot_be_exported_is_one_line(original, tmp_path):
    other = Relocalizer.__new__(Relocalizer)
    other.__dict__.update(vars(original), extractor=WorldExtractor())
    with pytest.raises(UserError, match="world features cannot be exported"):
        export(other, tmp_path)
    with pytest.raises(UserError, match="choose from cpu, cuda, tpu"):
        export(original, tmp_path, platforms=["gpu"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        export(original, tmp_path / "file")


def test_the_extra_is_named(original, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install flatbuffers"):
        export(original, tmp_path)


def test_image_size():
    assert _size("1280x720") == (1280, 720)
    for text in ("1280", "axb", "0x5", "-1x5"):
        with pytest.raises(UserError, match="WIDTHxHEIGHT"):
            _size(text)


def _example(name):
    spec = importlib.util.spec_from_file_location(name, REPO / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_http_service(deployed):
    """`test_http_service.py` has what clients send; this is the exported program behind it."""
    image = RoomSource(8)[5].rgb
    photo = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    service = _example("http_service").Service(deployed, "127.0.0.1", 0)
    asked = "&".join(
        f"{name}={value}" for name, value in zip(("fx", "fy", "cx", "cy"), INTRINSICS, strict=True)
    )
    try:
        answer = service.locate(photo, asked)
    finally:
        service.server_close()
    expected = deployed(image, INTRINSICS)
    assert expected.success
    np.testing.assert_array_equal(answer["world_from_camera"], expected.world_from_camera)
