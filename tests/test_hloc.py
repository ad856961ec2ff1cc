"""Features, matches and pairs in hloc's layout: read, mapped, and answered with."""

import sys

import numpy as np
import pytest
from mapping_world import DIM, World, WorldSource, small_config

from ace_jax.data.hloc import FeatureFile, MatchFile, read_pairs
from ace_jax.errors import UserError
from ace_jax.features.stored import HlocFeatures
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.several_maps import load_maps
from ace_jax.mapping.hloc import HlocFiles, map_from_hloc
from ace_jax.mapping.run import run_hloc
from ace_jax.relocalize import run

h5py = pytest.importorskip("h5py")
VIEWS, QUERIES = tuple(range(1, 15)), (3.5, 7.5, 11.5)
WRONG = 0.1  # of the matches


def write_features(path, views, world, folder="db"):
    """As hloc's `extract_features` does: half precision, (D, N) descriptors."""
    with h5py.File(path, "w", libver="latest") as file:
        for view in views:
            _, uv, _, descriptors = world.observe(view)
            group = file.create_group(f"{folder}/view-{view:g}.jpg")
            group.create_dataset("keypoints", data=uv.astype(np.float32))
            group.create_dataset("descriptors", data=descriptors.T.astype(np.float16))
            group.create_dataset("scores", data=np.linspace(1, 0.1, len(uv)).astype(np.float16))
            group.create_dataset("image_size", data=np.array([640, 480]))


def write_matches(path, views, world, old=False):
    """As `match_features` does, with some wrong ones; the new names of pairs, or the old ones."""
    rng = np.random.default_rng(0)
    pairs = [(a, b) for i, a in enumerate(views) for b in views[i + 1 : i + 5]]
    with h5py.File(path, "w", libver="latest") as file:
        for a, b in pairs:
            shown, others = world.observe(a)[0], world.observe(b)[0]
            place = {point: k for k, point in enumerate(others)}
            matches = np.array([place.get(point, -1) for point in shown])
            wrong = rng.random(len(shown)) < WRONG
            matches[wrong] = rng.integers(0, len(others), wrong.sum())
            key = ("_" if old else "/").join(f"db-view-{v:g}.jpg" for v in (a, b))
            group = file.create_group(key)
            group.create_dataset("matches0", data=matches.astype(np.int16))
            group.create_dataset("matching_scores0", data=np.ones(len(shown), np.float16))
    return [tuple(f"db/view-{v:g}.jpg" for v in pair) for pair in pairs]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, world = tmp_path_factory.mktemp("hloc"), World(1)
    write_features(folder / "feats.h5", VIEWS, world)
    write_features(folder / "queries.h5", QUERIES, world, "query")
    pairs = write_matches(folder / "matches.h5", VIEWS, world)
    (folder / "pairs.txt").write_text("".join(f"{a} {b}\n" for a, b in pairs))
    return folder


@pytest.fixture(scope="module")
def map_file(files):
    given = [str(files / name) for name in ("feats.h5", "matches.h5", "pairs.txt")]
    said = run_hloc(WorldSource(VIEWS, World(1)), small_config(), files / "map.safetensors", given)
    assert "landmark_attention on hloc, 14 images of world" in said
    return files / "map.safetensors"


def test_what_hloc_wrote_is_read(files, tmp_path):
    world, file = World(1), FeatureFile(files / "feats.h5")
    assert (file.dim, len(file.names())) == (DIM, len(VIEWS))
    uv, descriptors, scores = file.read(file.find("view-3"))
    _, expected, _, known = world.observe(3)
    np.testing.assert_allclose(uv, expected, atol=1e-3)
    np.testing.assert_allclose(descriptors, known, atol=2e-3)
    assert scores.shape == (len(uv),)
    assert file.find("view-1") == "db/view-1.jpg"  # and not view-10
    assert file.find("view-99") is None
    pairs = read_pairs(files / "pairs.txt")
    assert pairs[0] == ("db/view-1.jpg", "db/view-2.jpg")
    matches = MatchFile(files / "matches.h5").read(*pairs[0])
    ours, theirs = world.observe(1)[0], world.observe(2)[0]
    right = ours[matches[:, 0]] == theirs[matches[:, 1]]
    assert right.mean() > 0.75
    back = MatchFile(files / "matches.h5").read(*pairs[0][::-1])
    np.testing.assert_array_equal(back, matches[:, ::-1])
    write_matches(tmp_path / "old.h5", VIEWS, world, old=True)
    np.testing.assert_array_equal(MatchFile(tmp_path / "old.h5").read(*pairs[0]), matches)
    assert MatchFile(files / "matches.h5").read("db/view-1.jpg", "db/view-9.jpg") is None


def test_landmarks_lie_where_the_points_are(map_file):
    world = World(1)
    stored = HlocFeatures(FeatureFile(map_file.with_name("queries.h5")))
    (relocalizer,) = load_maps([map_file], extractor=stored)
    points = relocalizer.points()
    nearest = np.linalg.norm(points[:, None] - world.points[None], axis=2).min(axis=1)
    assert len(points) > 150
    assert np.median(nearest) < 0.01
    assert (nearest < 0.05).mean() > 0.95


def test_queries_bring_their_features(map_file, tmp_path):
    stored = HlocFeatures(FeatureFile(map_file.with_name("queries.h5")))
    relocalizers = load_maps([map_file], extractor=stored)
    source = WorldSource(QUERIES, World(1))
    state = run.run(relocalizers, source, tmp_path, map_file.stat().st_size, quiet=True)
    for answer, view in zip(state.answers, QUERIES, strict=True):
        assert answer.success
        np.testing.assert_allclose(answer.world_from_camera, World(1).pose(view), atol=0.03)


def test_without_pairs_all_are_looked_for(files):
    given = HlocFiles(files / "feats.h5", files / "matches.h5")
    made = map_from_hloc(WorldSource(VIEWS, World(1)), given, small_config())
    assert made.info["landmarks"] > 150


def test_refusals(files, map_file, tmp_path, monkeypatch):
    source = WorldSource(VIEWS, World(1))
    with pytest.raises(UserError, match="--hloc_features"):
        Relocalizer.load(map_file)
    stored = HlocFeatures(FeatureFile(files / "queries.h5"))
    with pytest.raises(UserError, match=r"no features of elsewhere\.jpg"):
        stored.of("elsewhere.jpg")
    with pytest.raises(UserError, match="features of 0 images"):
        map_from_hloc(source, HlocFiles(files / "queries.h5", files / "matches.h5"), small_config())
    write_matches(tmp_path / "others.h5", (21, 22, 23), World(1))
    with pytest.raises(UserError, match="no matches between these images"):
        map_from_hloc(source, HlocFiles(files / "feats.h5", tmp_path / "others.h5"), small_config())
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(UserError, match="damaged"):
        FeatureFile(tmp_path / "text.h5")
    with h5py.File(tmp_path / "global.h5", "w") as file:
        file.create_dataset("db/1.jpg/global_descriptor", data=np.zeros(8))
    with pytest.raises(UserError, match="global descriptors"):
        FeatureFile(tmp_path / "global.h5")
    (tmp_path / "pairs.txt").write_text("one\n")
    with pytest.raises(UserError, match="line 1: not two names"):
        read_pairs(tmp_path / "pairs.txt")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="pip install h5py"):
        FeatureFile(files / "feats.h5")
