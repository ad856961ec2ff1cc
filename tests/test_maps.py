"""Map files come back as they were written, and every damage is told in one line."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.localization import scene_map as maps
from ace_jax.localization.scene_map import SceneMap, load_map, save_map
from ace_jax.models.landmark_attention import landmark_variables
from ace_jax.models.map_code_transformer import MapCodeTransformer
from ace_jax.models.scene_coordinate_heads import HomogeneousMLP
from ace_jax.models.scene_coordinates import HomogeneousDecode

CAMERA = Camera(525.0, 525.0, 320.0, 240.0, 640, 480)


def _map(**changes):
    rng = np.random.default_rng(0)
    variables = landmark_variables(
        rng.normal(size=(30, 8)).astype(np.float32), rng.normal(size=(30, 3)), 40.0, 32
    )
    fields = {
        "head": "landmark_attention",
        "head_options": {"landmarks": 32, "dim": 8},
        "variables": jax.tree.map(np.asarray, variables),
        "features": "xfeat",
        "feature_options": {"height": 480},
        "feature_checksum": "abc",
        "feature_dim": 8,
        "camera": CAMERA,
        "mean": np.array([1.0, 2.0, 3.0], np.float32),
        "extra": {"second_descriptors": rng.normal(size=(32, 4, 8)).astype(np.float32)},
        "info": {"sequence": "synthetic/room0", "seed": 0},
    }
    return SceneMap(**(fields | changes))


def test_comes_back_as_written(tmp_path):
    path = tmp_path / "deep" / "map.safetensors"
    written = _map()
    assert save_map(path, written) == path.stat().st_size
    read = load_map(path)
    for field in dataclasses.fields(SceneMap):
        a, b = getattr(written, field.name), getattr(read, field.name)
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert read.camera == CAMERA
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_half_precision_keeps_points(tmp_path):
    written = _map()
    whole = save_map(tmp_path / "a", written)
    half = save_map(tmp_path / "b", written, half=True)
    assert half < 0.7 * whole
    a, b = written.variables["params"], load_map(tmp_path / "b").variables["params"]
    np.testing.assert_array_equal(a["points"], b["points"])
    np.testing.assert_array_equal(a["bias"], b["bias"])
    np.testing.assert_allclose(a["descriptors"], b["descriptors"], rtol=1e-3)
    assert b["descriptors"].dtype == np.float32


def test_options_with_constants_and_codes_without_weights(tmp_path):
    decode = HomogeneousDecode(beta=0.92431640625)
    head = HomogeneousMLP(width=8, decode=decode)
    features = np.zeros((1, 8), np.float32)
    variables = jax.tree.map(np.asarray, jax.jit(head.init)(jax.random.key(0), features))
    options = {"width": 8, "decode": decode}
    save_map(
        tmp_path / "a", _map(head="homogeneous_mlp", head_options=options, variables=variables)
    )
    assert load_map(tmp_path / "a").create_head() == head
    coded = _map(
        head="map_code_transformer",
        head_options={"dim": 16, "blocks": 1, "heads": 2},
        variables={"scene": {"mean": np.zeros(3, np.float32)}},
        code=np.ones((5, 16), np.float32),
        head_checksum="h",
    )
    save_map(tmp_path / "b", coded)
    read = load_map(tmp_path / "b")
    assert read.create_head() == MapCodeTransformer(dim=16, blocks=1, heads=2)
    np.testing.assert_array_equal(read.code, coded.code)


def _rewrite(path, change_meta=None, change_arrays=None):
    with safe_open(path, framework="numpy") as file:
        meta = json.loads(file.metadata()["ace_jax_map"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if change_arrays:
        change_arrays(arrays)
        meta["checksum"] = maps.checksum(arrays)
    if change_meta:
        change_meta(meta)
    save_file(arrays, path, {"ace_jax_map": json.dumps(meta)})


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "truncated": (
        lambda p: p.write_bytes(p.read_bytes()[:-100]),
        "not a readable safetensors file",
    ),
    "text": (lambda p: p.write_text("hello"), "not a readable safetensors file"),
    "empty": (lambda p: p.write_bytes(b""), "not a readable safetensors file"),
    "bit": (_flip, "damaged"),
    "other file": (lambda p: save_file({"a": np.zeros(3)}, p), "not a map"),
    "version": (lambda p: _rewrite(p, lambda m: m.update(version=99)), "version 99"),
    "no camera": (lambda p: _rewrite(p, lambda m: m.pop("camera")), "not a complete map"),
    "head": (lambda p: _rewrite(p, lambda m: m.update(head="nerf")), "no head is called"),
    "size": (
        lambda p: _rewrite(p, lambda m: m.update(head_options={"landmarks": 9, "dim": 8})),
        "has shape",
    ),
    "array": (
        lambda p: _rewrite(p, change_arrays=lambda a: a.pop("params/bias")),
        "params/bias is missing",
    ),
    "nan": (
        lambda p: _rewrite(p, change_arrays=lambda a: a["params/points"].fill(np.nan)),
        "not finite",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line(tmp_path, kind):
    path = tmp_path / "map"
    save_map(path, _map())
    damage, message = DAMAGE[kind]
    damage(path)
    with pytest.raises(UserError, match=message):
        load_map(path)


def test_absent_map_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"ace_jax\.mapping"):
        load_map(tmp_path / "none")


def test_unwritable_place_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_map(tmp_path / "file" / "map", _map())


class _Extractor:
    def __init__(self, name, weights_checksum):
        self.name, self.weights_checksum = name, weights_checksum


def test_other_features_are_refused():
    scene_map = _map()
    scene_map.require_features(_Extractor("xfeat", "abc"))
    with pytest.raises(UserError, match="made with xfeat, not with sift"):
        scene_map.require_features(_Extractor("sift", "abc"))
    with pytest.raises(UserError, match="other xfeat weights"):
        scene_map.require_features(_Extractor("xfeat", "def"))


def test_a_map_that_is_not_finite_is_not_written(tmp_path):
    made = _map()
    params = made.variables["params"]
    params["points"] = np.where(np.arange(32)[:, None] == 3, np.nan, params["points"])
    with pytest.raises(UserError, match=r"not written: params/points holds .* not finite"):
        save_map(tmp_path / "map", made)
    assert not list(tmp_path.iterdir())
