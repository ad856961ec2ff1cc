"""The relocalizer and its runs: right poses, honest failures, files that others read."""

import dataclasses
import json
import re

import numpy as np
import pytest
from mapping_world import (
    CAMERA,
    SECOND_ROOM,
    World,
    WorldExtractor,
    WorldSource,
    camera,
    register,
)
from network_guard import no_network
from PIL import Image

from ace_jax.data.frame import BadFrame
from ace_jax.data.poses_file import read_poses
from ace_jax.errors import UserError
from ace_jax.evaluation.explorer import unpacked
from ace_jax.localization import localize
from ace_jax.localization import relocalizer as relocalizer_module
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import save_map
from ace_jax.localization.several_maps import load_maps, locate_among
from ace_jax.mapping.config import with_changes
from ace_jax.mapping.pipeline import describe as describe_map
from ace_jax.mapping.pipeline import map_scene
from ace_jax.mapping.report import write_report as write_map_report
from ace_jax.relocalize import run
from ace_jax.relocalize.queries import ImageQueries

pytestmark = pytest.mark.usefixtures("world_features", "small_batches")
VIEWS = tuple(range(1, 15))
STEPS = (
    *(localize.scene_coordinates, localize.robust_pose, localize.guided_pose),
    *(localize._scene_coordinates_of_many, localize._robust_poses, localize._guided_poses),
)
MATRIX = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(relocalizer_module, "BATCH", 4)


def _config():
    """Of all maps, so that they share their programs."""
    return with_changes(
        features={"name": "world", "options": {}},
        landmarks={"coarse": 256, "detail": 512, "capacity": 1024, "min_similarity": 0.7},
    )


@pytest.fixture(scope="module")
def map_files(tmp_path_factory):
    """Maps of two worlds."""
    folder, config = tmp_path_factory.mktemp("maps"), _config()
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        for seed in (1, 2):
            source = WorldSource(VIEWS, World(seed), name=f"world {seed}")
            save_map(folder / f"room{seed}.safetensors", map_scene(source, config), half=True)
    return folder / "room1.safetensors", folder / "room2.safetensors"


@pytest.fixture
def relocalizer(map_files):
    return Relocalizer.load(map_files[0])


def _distance(answer, view, seed=1):
    return np.linalg.norm(answer.world_from_camera[:3, 3] - World(seed).pose(view)[:3, 3])


def test_five_lines_give_a_pose_without_any_network(map_files):
    with no_network():
        relocalizer = Relocalizer.load(map_files[0])
        answer = relocalizer(World(1).image(4.5), MATRIX)
    assert answer.success
    assert _distance(answer, 4.5) < 0.01
    assert answer.num_inliers == answer.inliers.sum() > 50
    assert not (answer.inliers & ~answer.voted).any()
    assert set(answer.ms) == {"features", "head", "solver"}
    assert answer.scene == "room1"
    np.testing.assert_allclose(
        answer.world_from_camera[:3, :3] @ answer.world_from_camera[:3, :3].T, np.eye(3), atol=1e-5
    )


def test_guided_search_sharpens_the_pose(relocalizer):
    views = np.arange(2.5, 13, 1)
    found = {}
    for rounds in (0, 1):
        # Few queries: the pose that the search starts from is rough.
        relocalizer.settings = dataclasses.replace(
            relocalizer.settings, guided_rounds=rounds, max_queries=40, min_inliers=20
        )
        found[rounds] = [_distance(relocalizer(World(1).image(v), CAMERA), v) for v in views]
    assert np.median(found[1]) < 0.8 * np.median(found[0])


def test_landmarks_found_where_a_pose_expects_them_confirm_it(relocalizer):
    image, settings = World(1).image(6.5), relocalizer.settings
    few = dataclasses.replace(settings, max_queries=40, min_inliers=10_000)
    for changes, found in (
        ({}, True),
        ({"min_guided": 5_000}, False),
        ({"guided_rounds": 0}, False),
    ):
        relocalizer.settings = dataclasses.replace(few, **changes)
        answer = relocalizer(image, CAMERA)
        assert answer.success == found
        assert relocalizer.locate_many([image], [CAMERA])[0].success == found
    relocalizer.settings = few
    # Nothing confirms a pose in another place, with as few answers.
    assert not any(relocalizer(World(1).image(SECOND_ROOM + v), CAMERA).success for v in (1.5, 3.5))


@pytest.mark.parametrize("view", [SECOND_ROOM + 3.5, None])
def test_elsewhere_and_darkness_are_failures(relocalizer, view):
    image = np.zeros((480, 640, 3), np.uint8) if view is None else World(1).image(view)
    answer = relocalizer(image, CAMERA)
    assert not answer.success
    np.testing.assert_array_equal(answer.world_from_camera, np.eye(4))


def test_the_same_seed_gives_the_same_pose(relocalizer):
    first, second = (relocalizer(World(1).image(6.5), CAMERA) for _ in range(2))
    np.testing.assert_array_equal(first.world_from_camera, second.world_from_camera)


def test_few_queries_are_followed_by_all(relocalizer):
    relocalizer.settings = dataclasses.replace(
        relocalizer.settings, max_queries=40, min_guided=1000, min_inliers=41
    )
    answer = relocalizer(World(1).image(5.5), CAMERA)
    assert answer.success
    assert len(answer.uv) == 192


def test_what_few_features_tell_stands_if_many_landmarks_confirm_it(relocalizer):
    image, settings = World(1).image(5.5), relocalizer.settings
    for sure, asked in ((20, 40), (5_000, 192)):
        relocalizer.settings = settings.replace(first_queries=40, sure_guided=sure)
        answer, many = relocalizer(image, CAMERA), relocalizer.locate_many([image], [CAMERA])[0]
        assert answer.success
        assert len(answer.uv) == len(many.uv) == asked
        assert _distance(answer, 5.5) < 0.01
    # Elsewhere all are asked, in vain.
    relocalizer.settings = settings.replace(first_queries=40)
    answer = relocalizer(World(1).image(SECOND_ROOM + 3.5), CAMERA)
    assert (answer.success, len(answer.uv)) == (False, 192)


def test_the_filter_keeps_the_share_that_is_asked_for(map_files):
    image = World(1).image(5.5)
    for share in (0.3, 0.9):
        relocalizer = Relocalizer.load(map_files[0], keep_share=share)
        answer = relocalizer(image, CAMERA)
        assert answer.voted.sum() == pytest.approx(share * 192, abs=2)
        assert answer.scale[answer.voted].max() <= answer.scale[~answer.voted].min()
    relocalizer = Relocalizer.load(map_files[0], quantile_ratio=2.0)
    answer = relocalizer(image, CAMERA)
    limit = 2 * np.quantile(answer.scale, 0.1)
    assert (answer.voted != (answer.scale <= limit)).sum() <= 2


def test_depth_of_the_query_takes_part(relocalizer):
    world = World(1)
    answer = relocalizer(world.image(7.5), CAMERA, world.depth(7.5))
    assert answer.success
    assert _distance(answer, 7.5) < 0.01
    answer = relocalizer(world.image(7.5), CAMERA, np.full((480, 640), np.nan, np.float32))
    assert _distance(answer, 7.5) < 0.01


def test_many_images_at_once_have_the_answers_of_each(relocalizer):
    # Few queries, so that some images need a second attempt.
    relocalizer.settings = dataclasses.replace(relocalizer.settings, max_queries=40)
    views = [2.5, None, 4.5, SECOND_ROOM + 3.5, 6.5, 8.5]
    images = [np.zeros((480, 640, 3), np.uint8) if v is None else World(1).image(v) for v in views]
    found = relocalizer.locate_many(images, [CAMERA] * len(images))
    expected = [relocalizer(image, CAMERA) for image in images]
    assert [a.success for a in found] == [v is not None and v < SECOND_ROOM for v in views]
    for answer, one in zip(found, expected, strict=True):
        assert (answer.success, answer.num_inliers) == (one.success, one.num_inliers)
        np.testing.assert_allclose(answer.world_from_camera, one.world_from_camera, atol=1e-4)
        np.testing.assert_array_equal(answer.inliers, one.inliers)
        assert set(answer.ms) == set(one.ms)
    with pytest.raises(UserError, match="as many intrinsics"):
        relocalizer.locate_many(images, [CAMERA])


def test_images_of_all_sizes_share_one_program(relocalizer):
    cameras = [CAMERA, camera(656.0, 800, 600), camera(400.0, 480, 640)]
    images = [World(1).image(v, c) for v, c in zip((2.5, 4.5, 6.5), cameras, strict=True)]
    relocalizer.locate_many(images[:1], cameras[:1])
    relocalizer(images[0], cameras[0])
    programs = [step._cache_size() for step in STEPS]
    found = [*relocalizer.locate_many(images, cameras), relocalizer(images[1], cameras[1])]
    assert programs == [step._cache_size() for step in STEPS]
    for answer, view in zip(found, (2.5, 4.5, 6.5, 4.5), strict=True):
        assert answer.success
        assert _distance(answer, view) < 0.01


def test_a_scene_without_scale_is_reported_in_its_units(tmp_path, caplog):
    config = _config()
    config.checks.images = 2
    mapped = WorldSource(tuple(range(1, 25)), World(1))
    mapped.metric = False
    made = map_scene(mapped, config)
    size = save_map(tmp_path / "map.safetensors", made, half=True)
    told = [describe_map(made, size, "map")]
    write_map_report(tmp_path / "map.html", made, size, mapped)
    queries = WorldSource((3.5, 5.5), World(1))
    queries.metric = False
    maps = load_maps([tmp_path / "map.safetensors"])
    state = run.run(maps, queries, tmp_path, size, quiet=True)
    told += [run.describe(state, tmp_path)]
    told += [(tmp_path / name).read_text() for name in ("map.html", "report.html")]
    for text in told:
        assert "0.05 scene units" in text
        assert not re.search(r"\d cm\b|, cm\b", text)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["metric"] is False
    assert "differ in their units" not in caplog.text
    run.run(maps, WorldSource((3.5,), World(1)), tmp_path, size, quiet=True)
    assert "differ in their units" in caplog.text


def test_several_maps_tell_which_scene_it_is(map_files):
    relocalizers = load_maps(map_files)
    assert relocalizers[0].extractor is relocalizers[1].extractor
    for seed in (1, 2):
        answer = locate_among(relocalizers, World(seed).image(4.5), CAMERA)
        assert answer.success
        assert answer.scene == f"room{seed}"
        assert _distance(answer, 4.5, seed) < 0.01
    assert not locate_among(relocalizers, World(3).image(4.5), CAMERA).success


def test_a_run_writes_what_others_read(map_files, tmp_path):
    source = WorldSource((3.5, 5.5, SECOND_ROOM + 2.0, 7.5, 9.5), World(1), bad=(3,))
    state = run.run(load_maps(map_files[:1]), source, tmp_path, 1234, quiet=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    wanted = (
        "queries registered median_translation_m median_rotation_deg within_10cm_10deg "
        "within_5cm_5deg within_2cm_2deg ms_features ms_head ms_solver map_bytes"
    )
    assert set(wanted.split()) <= metrics.keys()
    # One query shows another room, one cannot be read: both count as failures.
    assert (metrics["queries"], metrics["registered"], metrics["unread"]) == (5, 3, 1)
    assert metrics["within_2cm_2deg"] == pytest.approx(60.0)
    assert metrics["map_bytes"] == 1234
    header, *lines = (tmp_path / "poses.txt").read_text().splitlines()
    assert re.fullmatch(r"# name qw .* inliers: world to camera, metres", header)
    assert [line.split()[0] for line in lines] == ["view-3.5", "view-5.5", "view-9.5"]
    assert all(len(line.split()) == 11 for line in lines)
    assert float(lines[0].split()[9]) < 0.02
    poses = read_poses(tmp_path / "poses.txt").of(["view-5.5"])
    np.testing.assert_allclose(poses[0], World(1).pose(5.5), atol=0.01)
    assert state.unread == 1
    assert "3 of 5" in run.describe(state, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 3
    explored = json.loads(re.search(r'id="explored">(.*?)</script>', page)[1])
    # All that could be read can be chosen; the one that was not found has no pose.
    names = [shot["name"] for shot in explored["shots"]]
    assert names == ["view-3.5", "view-5.5", f"view-{SECOND_ROOM + 2.0:g}", "view-9.5"]
    assert [shot["pose"] is None for shot in explored["shots"]] == [False, False, True, False]
    for shot, at in zip(explored["shots"], (3.5, 5.5, None, 9.5), strict=True):
        if at is not None:
            np.testing.assert_allclose(
                np.reshape(shot["pose"], (3, 4)), World(1).pose(at)[:3], atol=0.01
            )
            assert shot["image"]
            assert len(unpacked(shot["xyz"])) == len(unpacked(shot["uv"])) > 20
    for state in ("found: 3", "no pose: 1", "not read: 1"):
        assert state in page


def test_colmap_files_follow_its_conventions(map_files, tmp_path):
    source = WorldSource((3.5, 5.5), World(1))
    run.run(load_maps(map_files[:1]), source, tmp_path, 1, quiet=True)
    cameras = (tmp_path / "poses_colmap/cameras.txt").read_text().splitlines()
    assert cameras[1] == "1 PINHOLE 640 480 525 525 320.5 240.5"
    images = (tmp_path / "poses_colmap/images.txt").read_text().splitlines()
    assert re.fullmatch(r"1 (\S+ ){7}1 view-3.5", images[1])
    assert images[2] == ""
    assert (tmp_path / "poses_colmap/points3D.txt").is_file()
    pycolmap = pytest.importorskip("pycolmap", reason="COLMAP itself reads it where it is there")
    model = pycolmap.Reconstruction(tmp_path / "poses_colmap")
    assert len(model.images) == 2
    pose = model.images[2].cam_from_world().inverse().matrix()
    np.testing.assert_allclose(pose, World(1).pose(5.5)[:3], atol=0.01)


def test_without_a_reference_nothing_is_claimed(map_files, tmp_path):
    source = WorldSource((3.5, 5.5), World(1), posed=False)
    state = run.run(load_maps(map_files[:1]), source, tmp_path, 1, quiet=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["registered"] == 2
    assert metrics["median_translation_m"] is None
    assert metrics["within_5cm_5deg"] is None
    told = run.describe(state, tmp_path).splitlines()
    assert told[0] == "2 of 2 queries registered"
    assert told[1].startswith("median ms: ")
    assert not re.search(r"\bcm\b|\bdeg\b|\bnan\b", "\n".join(told[:-1]))  # the last is a path
    # Errors against no reference are unknown, in ACE's file too.
    errors = [line.split()[8:10] for line in (tmp_path / "poses.txt").read_text().splitlines()[1:]]
    assert errors == [["nan", "nan"]] * 2
    page = (tmp_path / "report.html").read_text()
    page = page[page.index("<body>") :]
    assert "Errors are not known" in page
    assert "unknown" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "no reference" not in page


def test_a_map_of_another_world_is_judged_after_alignment(map_files, tmp_path):
    moved = np.eye(4)
    moved[:3, 3] = [5.0, -1.0, 2.0]

    class Moved(WorldSource):
        def poses(self):
            return moved @ super().poses()

        def __getitem__(self, index):
            frame = super().__getitem__(index)
            return dataclasses.replace(frame, world_from_camera=moved @ frame.world_from_camera)

    source = Moved(tuple(np.arange(2.5, 13.5)), World(1))
    maps = load_maps(map_files[:1])
    apart = run.run(maps, source, tmp_path / "apart", 1, quiet=True)
    assert apart.metrics["median_translation_m"] > 5
    assert "--align" in run.describe(apart, tmp_path)
    state = run.run(maps, source, tmp_path, 1, align=True, quiet=True)
    assert state.metrics["aligned"]
    assert state.metrics["within_2cm_2deg"] == 100.0
    assert "--align" not in run.describe(state, tmp_path)
    # The poses that are written are still the map's.
    poses = read_poses(tmp_path / "poses.txt").of(["view-5.5"])
    np.testing.assert_allclose(poses[0], World(1).pose(5.5), atol=0.01)
    assert re.search(
        r"view-[\d.]+: \d+ inliers, \d\.\d\d cm", (tmp_path / "report.html").read_text()
    )
    few = run.run(maps, Moved((3.5, 5.5), World(1)), tmp_path, 1, align=True, quiet=True)
    assert np.isnan(few.metrics["median_translation_m"])


def test_ctrl_c_keeps_what_was_computed(map_files, tmp_path):
    class Interrupted(WorldSource):
        reads = 0

        def __getitem__(self, index):
            type(self).reads += 1
            if type(self).reads > 4:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    source = Interrupted((3.5, 5.5, 7.5, 8.5, 9.5), World(1))
    state = run.run(load_maps(map_files[:1]), source, tmp_path, 1, quiet=True)
    assert state.interrupted
    assert len((tmp_path / "poses.txt").read_text().splitlines()[1:]) == 3


def test_unwritable_output_is_one_line(map_files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        run.run(load_maps(map_files[:1]), WorldSource((3.5,)), tmp_path / "file", 1, quiet=True)


def test_a_map_without_its_features_is_refused(map_files, monkeypatch):
    monkeypatch.setattr(WorldExtractor, "weights_checksum", "changed")
    with pytest.raises(UserError, match="other world weights"):
        Relocalizer.load(map_files[0])


def _write(path, exif_focal=None, size=(64, 48)):
    image = Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8))
    exif = Image.Exif()
    if exif_focal:
        exif[0x8769] = {0xA405: exif_focal}
    image.save(path, exif=exif)
    return path


def test_images_take_intrinsics_from_wherever_they_are(tmp_path):
    photo = _write(tmp_path / "a.jpg", exif_focal=28)
    camera = ImageQueries(photo).camera
    assert camera.fx == pytest.approx(28 / 36 * 64)
    assert (camera.cx, camera.cy) == (31.5, 23.5)
    assert ImageQueries(photo, "70").camera.fx == 70
    assert ImageQueries(tmp_path, "70,71,30,20").camera.cy == 20
    (tmp_path / "intrinsics.json").write_text(json.dumps({"fx": 80, "fy": 81, "cx": 32, "cy": 24}))
    queries = ImageQueries(tmp_path)
    assert queries.camera.fy == 81
    assert queries[0].rgb.shape == (48, 64, 3)
    assert queries.names() == ["a.jpg"]
    assert queries.poses() is None
    (tmp_path / "rgb").mkdir()
    assert ImageQueries(_write(tmp_path / "rgb/b.png")).camera.fy == 81  # the recording's


@pytest.mark.parametrize("given", ["abc", "1,2", "0", "nan", "1,2,3,x"])
def test_malformed_intrinsics_are_one_line(tmp_path, given):
    with pytest.raises(UserError, match="--intrinsics"):
        ImageQueries(_write(tmp_path / "a.jpg"), given)


def test_an_image_without_a_focal_length_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="--intrinsics FILE"):
        ImageQueries(_write(tmp_path / "a.png"))
    with pytest.raises(UserError, match="no image"):
        ImageQueries(tmp_path / "none.jpg")
    distorted = {"fx": 8, "fy": 8, "cx": 3, "cy": 2, "distortion": [0.1, 0, 0, 0]}
    (tmp_path / "i.json").write_text(json.dumps(distorted))
    with pytest.raises(UserError, match="distortion"):
        ImageQueries(tmp_path / "a.png", str(tmp_path / "i.json"))


def test_a_broken_image_is_counted_not_fatal(tmp_path):
    good = _write(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(good.read_bytes()[:200])
    queries = ImageQueries(tmp_path, "70")
    assert len(queries) == 2
    with pytest.raises(BadFrame):
        queries[1]
