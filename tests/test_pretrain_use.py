"""What pre-training leaves is used: the transformer by mapping and relocalization, the figures."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pretrain_world as world
import pytest
from ml_collections import ConfigDict
from repository import REPO
from slam_scene import RoomSource

from ace_jax.errors import UserError
from ace_jax.evaluation.relocalization import PoseErrors
from ace_jax.features.sift import Sift
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.mapping.pipeline import map_scene
from ace_jax.mapping.presets import ace_g_cpu
from ace_jax.models.landmark_attention import attend
from ace_jax.pretrain import validation
from ace_jax.pretrain.export import export
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.scenes import Views
from ace_jax.pretrain.validation import Answers, Validator, find_pose
from ace_jax.weights import checkpoint, safetensors_io
from ace_jax.weights.shared_transformer import load_transformer

SIFT = {"max_features": 150, "image_size": None}


def _exported(path, dim, random=False):
    config = world.config(transformer={"dim": max(dim, 32)})
    if random:
        world.random_form(config)
    form = create_form(config, dim)
    transformer = jax.jit(form.init_transformer)(jax.random.key(0))
    export(path, form, transformer, SimpleNamespace(name="sift", weights_checksum="none"))
    return form, transformer


def test_mapping_takes_it_and_relocalization_reads_the_map(tmp_path):
    weights = tmp_path / "transformer.safetensors"
    _, transformer = _exported(weights, 128)
    config = ace_g_cpu.get_config()
    config.features = ConfigDict({"name": "sift", "options": SIFT})
    config.code.update(weights=str(weights), size=64)
    config.checks.update(images=0)
    config.points.source = "measured"
    made = {}
    for steps in (0, 3):
        config.training.update(steps=steps, batch=64)
        made[steps] = map_scene(RoomSource(3), config)
        assert made[steps].head == "landmark_transformer"
        assert made[steps].code.shape == (64, 132)
    assert np.isfinite(made[3].info["loss"])
    change = np.abs(made[3].code - made[0].code)
    assert 0 < change.max() < 0.01
    save_map(tmp_path / "map", made[0], half=True)
    read = load_map(tmp_path / "map")
    assert "params" not in read.variables
    known = RoomSource(3)[1]
    relocalizer = Relocalizer.load(tmp_path / "map")
    answer = relocalizer(known.rgb, known.camera)
    code = made[0].code
    features = Sift(**SIFT).extract(known.rgb)
    same = attend(features.descriptors, code[:, :128], code[:, -3:], 20.0, code[:, 128])
    np.testing.assert_allclose(answer.xyz, same.xyz[: len(answer.xyz)], atol=1e-3)
    assert set(transformer) >= {"embed", "attention.0", "out"}


def test_the_random_forms_file_is_one_of_ace_g(tmp_path):
    form, transformer = _exported(tmp_path / "t.safetensors", world.DIM, random=True)
    shared = load_transformer(str(tmp_path / "t.safetensors"), None)
    assert (shared.head, shared.dim_in) == ("map_code_transformer", world.DIM)
    features, code = np.eye(world.DIM, dtype=np.float32)[:3], np.ones((4, 32), np.float32)
    mine = jax.jit(lambda *inputs: form.apply(*inputs, None))(transformer, features, code)
    scene = {"mean": jnp.zeros(3)}
    variables = {"params": shared.params, "scene": scene}
    theirs = jax.jit(shared.module.apply)(variables, features, code)
    np.testing.assert_allclose(mine.xyz, theirs.xyz, atol=1e-6)


def test_weights_of_another_kind_or_without_metadata_are_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    _exported(path, world.DIM)
    tensors, _ = safetensors_io.read(path)
    safetensors_io.write(path, tensors, {})
    with pytest.raises(UserError, match="lacks the metadata"):
        load_transformer(str(path), None)
    safetensors_io.write(
        path, {"fc1.weight": np.zeros((4, 4)), "res3_conv1.weight": np.ones(1)}, {}
    )
    with pytest.raises(UserError, match="not those of a transformer"):
        load_transformer(str(path), None)


def test_a_transformer_with_context_is_read_whole_and_refused_by_mapping(tmp_path):
    config = world.config()
    config.transformer = ConfigDict({"dim": 32, "blocks": 2, "context": 4, "candidates": 3})
    form = create_form(config, world.DIM)
    transformer = jax.jit(form.init_transformer)(jax.random.key(0))
    path = tmp_path / "t.safetensors"
    export(path, form, transformer, SimpleNamespace(name="sift", weights_checksum="none"))
    module, variables = checkpoint.load(path).build()
    assert (module.context, module.candidates) == (4, 3)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], transformer)
    with pytest.raises(UserError, match=r"config\.transformer\.context=0"):
        load_transformer(str(path), None)


def test_figures_of_answers():
    error = np.full((2, 1, 20), 0.5)
    error[0, 0, :10] = 0.05
    error[1, 0, 15:] = np.nan  # padding
    scale = np.ones((2, 1, 20))
    scale[0, 0, :2] = 0.1  # sure, and right
    scale[1, 0, :1] = 0.1  # sure, and wrong
    poses = PoseErrors(np.array([0.04, np.inf]), np.array([1.0, np.inf]))
    answers = Answers(np.zeros((2, 1, 20, 3)), scale, error, poses)
    by_scene = answers.by_scene()
    np.testing.assert_allclose(by_scene["right"], [50.0, 0.0])
    np.testing.assert_allclose(by_scene["surest_right"], [100.0, 0.0])
    np.testing.assert_allclose(by_scene["pose_5cm_5deg"], [100.0, 0.0])
    np.testing.assert_allclose(by_scene["median_cm"], [27.5, 50.0])
    summary = answers.summary()
    assert summary["right"] == 25.0
    assert summary["score"] == 37.5  # half of the poses, a quarter of the coordinates
    assert sum(b.count for b in answers.calibration()) == 35


def test_an_image_without_a_valid_patch_has_no_pose(monkeypatch):
    monkeypatch.setattr(validation, "find_pose", lambda *_: np.eye(4))  # of all others
    config = world.config()
    asked = Views(**config.views).rows("query")
    scenes = [world.scene(n, config) for n in range(2)]
    scenes[0].mask[asked][0] = False  # one image of a scene
    scenes[1].mask[asked] = False  # all of the other's
    form = create_form(config, world.DIM)
    transformer = jax.jit(form.init_transformer)(jax.random.key(0))
    answers = Validator(config, form, scenes)(transformer, steps=1)
    images = len(scenes[0].mask[asked])
    without = [0, *range(images, 2 * images)]
    assert np.flatnonzero(np.isinf(answers.poses.translation)).tolist() == without
    by_scene = answers.by_scene()
    assert np.isfinite(by_scene["right"][0])
    assert np.isnan(by_scene["right"][1])
    assert by_scene["pose_5cm_5deg"][1] == 0.0
    assert answers.summary()["right"] == by_scene["right"][0]


def test_a_pose_is_found_when_most_votes_are_wrong():
    rng = np.random.default_rng(0)
    xyz = rng.uniform([-1.0, -1.0, 2.0], [1.0, 1.0, 4.0], (200, 3))
    uv = 260.0 * xyz[:, :2] / xyz[:, 2:] + [159.5, 119.5]
    xyz[60:] = rng.uniform(-3.0, 3.0, (140, 3))
    intrinsics = np.array([260.0, 260.0, 159.5, 119.5], np.float32)
    found = find_pose(uv, xyz, np.ones(200, bool), intrinsics, jax.random.key(0))
    np.testing.assert_allclose(found, np.eye(4), atol=0.02)
    assert find_pose(uv, xyz[::-1], np.ones(200, bool), intrinsics, jax.random.key(0)) is None


def test_bytes_of_a_scene(monkeypatch):
    monkeypatch.syspath_prepend(REPO / "benchmarks")
    scene_bytes = pytest.importorskip("throughput").scene_bytes
    config = world.config()
    form = create_form(config, world.DIM)
    patches = world.scene(0, config)
    held = sum(x.nbytes for x in (patches.features, patches.uv, patches.xyz, patches.mask))
    found = scene_bytes(config, form)
    assert found.patches == held
    assert found.code == 4 * 48 * (world.DIM + 4)
    assert found.total == held + 4 * found.code
