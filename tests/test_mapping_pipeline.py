"""Whole maps of a small world: accurate, continued after a kill, extended without forgetting."""

import dataclasses
import importlib
import json
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping_world import (
    CAMERA,
    SECOND_ROOM,
    World,
    WorldExtractor,
    WorldSource,
    position_errors,
    register,
    small_config,
)
from repository import REPO

from ace_jax.errors import UserError
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import SceneMap, load_map, save_map
from ace_jax.mapping.attention_map import tracks_of
from ace_jax.mapping.config import base, preset_names, resolve, with_changes, with_preset_files
from ace_jax.mapping.pipeline import map_scene
from ace_jax.mapping.trained_map import rehearsal_of
from ace_jax.models.map_code_transformer import MapCodeTransformer
from ace_jax.weights import checkpoint, safetensors_io
from ace_jax.weights.layout import to_checkpoint

pytestmark = pytest.mark.usefixtures("world_features")
FIRST, SECOND = tuple(range(1, 19)), tuple(range(SECOND_ROOM + 1, SECOND_ROOM + 19))
QUERIES_FIRST = tuple(np.arange(2.5, 17, 2))
QUERIES_SECOND = tuple(np.arange(SECOND_ROOM + 2.5, SECOND_ROOM + 17, 2))


def _mlp(**training):
    settings = {"steps": 60, "batch": 256, "loss": "dynamic_tanh", "checkpoint_seconds": 0.0}
    return small_config(
        head={"name": "homogeneous_mlp", "options": {"width": 32}},
        buffer={"patches": 4000, "patches_per_image": 100},
        points={"source": "none"},
        training=settings | training,
        rehearsal_patches=500,
    )


@pytest.fixture(scope="module")
def first_map():
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        return map_scene(WorldSource(FIRST), small_config())


def test_a_map_from_images_and_poses_alone(first_map, tmp_path):
    save_map(tmp_path / "map", first_map, half=True)
    read = load_map(tmp_path / "map")
    errors = position_errors(read, QUERIES_FIRST)
    assert np.median(errors) < 0.01
    assert errors.max() < 0.03
    assert (position_errors(read, QUERIES_FIRST, World(3)) == np.inf).all()
    assert read.info["mapping_images"] == 18
    np.testing.assert_allclose(read.mean, WorldSource(FIRST).poses()[:, :3, 3].mean(0), rtol=1e-5)


def test_measured_depth_serves_as_well():
    source = WorldSource(FIRST, has_depth=True)
    for points in ("measured", "both"):
        made = map_scene(source, small_config(points={"source": points}))
        assert np.median(position_errors(made, QUERIES_FIRST)) < 0.01


def test_the_same_seed_gives_the_same_map(first_map):
    again = map_scene(WorldSource(FIRST), small_config())
    jax.tree.map(np.testing.assert_array_equal, again.variables, first_map.variables)


def test_bad_frames_are_left_out():
    made = map_scene(WorldSource(FIRST, bad=(0, 7)), small_config())
    assert np.median(position_errors(made, QUERIES_FIRST)) < 0.01
    with pytest.raises(UserError, match="can be read"):
        map_scene(WorldSource(FIRST, bad=tuple(range(18))), small_config())


def test_numbers_that_are_not_finite_are_told_by_the_frames_name(caplog, monkeypatch):
    """NaN in a pose and NaN in features: these frames are left out, the others make the map."""
    good = WorldSource(FIRST)

    class Spoilt(WorldSource):
        def __getitem__(self, index):
            frame = super().__getitem__(index)
            if index == 3:
                pose = np.full((4, 4), np.nan)
                frame = dataclasses.replace(frame, world_from_camera=pose)
            return frame

    extract = WorldExtractor.extract

    def overflowing(self, rgb):
        features = extract(self, rgb)
        if (rgb == good[5].rgb).all():
            features = features.replace(descriptors=features.descriptors.at[0, 0].set(jnp.nan))
        return features

    monkeypatch.setattr(WorldExtractor, "extract", overflowing)
    made = map_scene(Spoilt(FIRST), small_config())
    assert f"{good.names()[3]}: its pose is not finite" in caplog.text
    assert f"{good.names()[5]}: world gave descriptors that are not finite" in caplog.text
    jax.tree.map(lambda x: np.testing.assert_array_equal(np.isfinite(x), True), made.variables)


def test_an_update_adds_without_forgetting(first_map):
    before = position_errors(first_map, QUERIES_FIRST)
    assert np.isinf(position_errors(first_map, QUERIES_SECOND)).all()
    updated = map_scene(WorldSource(SECOND), small_config(), known=first_map)
    assert len(tracks_of(updated).landmarks.points) > len(tracks_of(first_map).landmarks.points)
    after = position_errors(updated, QUERIES_FIRST)
    assert np.median(after) < np.median(before) + 0.003
    assert after.max() < 0.03
    assert np.median(position_errors(updated, QUERIES_SECOND)) < 0.012
    assert updated.info["updates"] == ["world"]


def test_an_update_drops_what_is_gone(first_map):
    # The same places, with other things in them.
    changed = map_scene(WorldSource(FIRST, World(5)), small_config(), known=first_map)
    assert np.median(position_errors(changed, QUERIES_FIRST, World(5))) < 0.012
    kept = tracks_of(changed).landmarks.points
    distance = np.linalg.norm(np.asarray(kept)[:, None] - World().points[None], axis=2).min(1)
    old = tracks_of(first_map).landmarks.points.shape[0]
    assert (distance < 0.02).sum() < 0.5 * old


def test_a_map_of_another_extractor_is_not_updated(first_map, monkeypatch):
    monkeypatch.setattr(WorldExtractor, "weights_checksum", "other")
    with pytest.raises(UserError, match="other world weights"):
        map_scene(WorldSource(SECOND), small_config(), known=first_map)


def test_a_map_of_slam_is_read_and_extended(first_map):
    # Landmarks and their points are all that such a map has.
    bare = {**first_map.__dict__, "extra": {}, "info": {}}
    slam_map = SceneMap(**bare)
    assert np.median(position_errors(slam_map, QUERIES_FIRST)) < 0.01
    updated = map_scene(WorldSource(SECOND), small_config(), known=slam_map)
    assert np.median(position_errors(updated, QUERIES_SECOND)) < 0.012


def test_an_mlp_learns_and_carries_a_rehearsal(tmp_path):
    history = []
    made = map_scene(
        WorldSource(FIRST),
        _mlp(steps=300, learning_rate=1e-2, schedule="one_cycle"),
        progress=lambda stage, done, total, **figures: history.append((stage, figures)),
    )
    last = [figures for stage, figures in history if stage == "training"][-1]
    assert np.isfinite([last["loss"], last["error_px"]]).all()
    untrained = map_scene(WorldSource(FIRST), _mlp(steps=1))
    assert last["error_px"] < 0.7 * untrained.info["error_px"]
    save_map(tmp_path / "map", made, half=True)
    rehearsal = rehearsal_of(load_map(tmp_path / "map"))
    assert rehearsal.count == 500
    # Poses and intrinsics keep their digits in a map of 16 bits.
    np.testing.assert_allclose(rehearsal.intrinsics[0], [525, 525, 320, 240])
    poses = np.linalg.inv(np.asarray(rehearsal.camera_from_world, np.float64))
    np.testing.assert_allclose(poses[3, :3, 3], World().pose(FIRST[3])[:3, 3], atol=1e-5)
    updated = map_scene(WorldSource(SECOND), _mlp(), known=made)
    again = rehearsal_of(updated)
    assert set(np.asarray(again.frame)[np.asarray(again.image)]) == set(range(18))
    assert len(again.frame) == 36


def test_an_mlp_without_steps_is_refused():
    with pytest.raises(UserError, match="must be trained"):
        map_scene(WorldSource(FIRST), _mlp(steps=0))


def test_landmarks_can_be_trained(first_map):
    made = map_scene(
        WorldSource(FIRST),
        small_config(
            training={
                "steps": 40,
                "batch": 128,
                "learning_rate": 1e-3,
                "rate_factors": {"log_tau": 10.0},
            }
        ),
    )
    assert np.isfinite(made.info["loss"])
    moved = made.variables["params"]["log_tau"] - first_map.variables["params"]["log_tau"]
    assert abs(moved) > 1e-4
    assert np.median(position_errors(made, QUERIES_FIRST)) < 0.03
    assert rehearsal_of(made).count == 3456  # every patch: a later update rehearses them


def test_a_code_is_trained_under_a_frozen_transformer(tmp_path):
    head = MapCodeTransformer(dim=16, blocks=1, heads=2, code_dim=8)
    code = jnp.zeros((1, 8))
    params = jax.jit(head.init)(jax.random.key(0), jnp.zeros((1, 32)), code)["params"]
    config = {"dim_emb": 16, "num_blocks": 1, "num_attention_heads": 2, "dim_map_emb": 8}
    config["dim_in"] = 32
    path = tmp_path / "transformer.safetensors"
    found = checkpoint.Checkpoint("ace_g_head", to_checkpoint(params), config, path, {})
    safetensors_io.write(
        path,
        found.state,
        {"format": checkpoint.FORMAT, "family": "ace_g_head", "config": json.dumps(config)},
    )
    made = map_scene(
        WorldSource(FIRST),
        small_config(
            head={"name": "map_code_transformer", "options": {}},
            code={"weights": str(path), "size": 24},
            points={"source": "none"},
            training={"steps": 8, "batch": 64, "dropout": 0.1, "loss": "reprojection_nll"},
        ),
    )
    assert made.code.shape == (24, 8)
    assert np.abs(made.code).max() > 0.01
    assert "params" not in made.variables
    save_map(tmp_path / "map", made)
    loaded = Relocalizer.load(tmp_path / "map")
    answer = loaded(World().image(3.0), CAMERA)
    assert np.isfinite(answer.xyz).all()
    other = dict(found.state)
    other["in_mlp.fcs.0.bias"] = other["in_mlp.fcs.0.bias"] + 1
    safetensors_io.write(
        path,
        other,
        {"format": checkpoint.FORMAT, "family": "ace_g_head", "config": json.dumps(config)},
    )
    with pytest.raises(UserError, match="other weights"):
        Relocalizer.load(tmp_path / "map")


_KILLED = textwrap.dedent("""
    import os, signal, sys
    sys.path[:0] = [{tests!r}, {repo!r}]
    import pytest, test_mapping_pipeline as t
    from mapping_world import WorldSource, register

    register(pytest.MonkeyPatch())
    from ace_jax.training.checkpoints import Checkpoints
    save = Checkpoints.save

    def save_and_die(self, step, state):
        save(self, step, state)
        if step == 12:
            self.wait()  # one checkpoint is whole,
        if step == 24:
            os.kill(os.getpid(), signal.SIGKILL)  # one is being written

    Checkpoints.save = save_and_die
    t.map_scene(WorldSource(t.FIRST), t._mlp(steps=40), checkpoint_dir={folder!r})
""")


def test_a_killed_run_continues_bit_for_bit(tmp_path):
    whole = map_scene(WorldSource(FIRST), _mlp(steps=40), checkpoint_dir=tmp_path / "whole")
    folder = tmp_path / "killed"
    script = _KILLED.format(tests=str(REPO / "tests"), repo=str(REPO), folder=str(folder))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr[-2000:]
    continued = map_scene(WorldSource(FIRST), _mlp(steps=40), checkpoint_dir=folder)
    jax.tree.map(np.testing.assert_array_equal, continued.variables, whole.variables)
    assert continued.info["loss"] == whole.info["loss"]


def test_an_unfinished_run_of_another_configuration_is_not_continued(tmp_path):
    map_scene(WorldSource(FIRST), _mlp(steps=5), checkpoint_dir=tmp_path / "run")
    with pytest.raises(UserError, match="another configuration"):
        map_scene(WorldSource(FIRST), _mlp(steps=6), checkpoint_dir=tmp_path / "run")


def test_poses_are_required():
    with pytest.raises(UserError, match="--poses"):
        map_scene(WorldSource(FIRST, posed=False), small_config())


def test_wrong_poses_are_noticed():
    source = WorldSource(FIRST)
    poses = source.poses()[::-1].copy()
    poses[:, :3, 3] += np.random.default_rng(0).normal(size=(18, 3))
    source.poses = lambda: poses
    frames = [source[i] for i in range(18)]

    class Wrong(WorldSource):
        def __getitem__(self, index):
            return dataclasses.replace(frames[index], world_from_camera=poses[index])

    wrong = Wrong(FIRST)
    wrong.poses = lambda: poses
    with pytest.raises(UserError, match="poses belong to these images"):
        map_scene(wrong, small_config())


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_variants_of_the_default(name):
    config = importlib.import_module(f"ace_jax.mapping.presets.{name}").get_config()
    free = ("options", "feature_options", "rate_factors")

    def fields(tree, prefix=""):
        for key, value in tree.items():
            if isinstance(value, dict) and key not in free:
                yield from fields(value, f"{prefix}{key}.")
            else:
                yield prefix + key

    assert set(fields(config.to_dict())) == set(fields(base().to_dict()))


def test_preset_names_stand_for_their_files(tmp_path):
    assert resolve("ace").endswith("presets/ace.py")
    own = tmp_path / "own.py"
    own.write_text("")
    assert resolve(str(own)) == str(own)
    assert resolve(f"{own}:big") == f"{own}:big"
    with pytest.raises(UserError, match="presets are ace,"):
        resolve("my/own.py")
    arguments = ["mapping", "--config", "ace", "--config=landmarks", "--out", "ace"]
    replaced = with_preset_files(arguments)
    assert replaced[2].endswith("ace.py")
    assert replaced[3].startswith("--config=/")
    assert replaced[3].endswith("landmarks.py")
    assert replaced[4:] == ["--out", "ace"]
    assert with_preset_files(["mapping", "--out", "x"])[1].endswith("presets/landmarks.py")


def test_an_unknown_field_fails():
    with pytest.raises(KeyError, match="stepz"):
        with_changes(training={"stepz": 3})
    with pytest.raises(AttributeError):
        base().lock().traning = 3
