"""`check` finds planted faults on real recordings, and none on clean ones."""

import numpy as np
import pytest
from data_faults import FAULTS, copy
from data_scene import PlaneSource

from ace_jax.data.checks import motion, structure
from ace_jax.data.export import export
from ace_jax.data.folder import Folder
from ace_jax.data.poses_file import PosedSource
from ace_jax.data.registry import open_sequence
from ace_jax.data.subset import SubsetSource
from ace_jax.data.verbs.check import check, save_picture
from ace_jax.data.verbs.info import info
from ace_jax.geometry.rigid import invert

FRAMES = 60
# What is hardest to see where the camera mostly turns; benchmarks/readers.py plants all in both.
GEOMETRIC = ("depth_scale", "time_shift")
# Less than a user's check looks at; clean recordings have the whole of it.
SOME = {"anchors": 5, "edge_frames": 12}
# Faults that files show by themselves: a short look is enough.
FILES = ("dropped_frames", "intrinsics_size", "mixed_sizes", "nan_pose", "not_orthonormal")


@pytest.fixture(scope="module")
def clean(shared_dir, tmp_path_factory):
    """Each recording's first frames as plain files."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("clean") / "folder"
            source = open_sequence(name, shared_dir / "data", max_frames=FRAMES)
            export(source, made[name], "folder")
        return made[name]

    return make


def faults(folder, **amount):
    return [finding.fault for finding in check(Folder(folder), **amount).findings]


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_kitchen(clean, tmp_path, fault):
    folder = copy(clean("7scenes/redkitchen/seq-01"), tmp_path / "folder")
    FAULTS[fault](folder)
    amount = {"anchors": 1, "edge_frames": 5} if fault in FILES else SOME
    assert faults(folder, **amount) == [fault]


@pytest.mark.parametrize("fault", GEOMETRIC)
def test_freiburg(clean, tmp_path, fault):
    folder = copy(clean("tum/freiburg1_rpy"), tmp_path / "folder")
    FAULTS[fault](folder)
    assert faults(folder) == [fault]


@pytest.mark.parametrize("name", ["7scenes/redkitchen/seq-01", "tum/freiburg1_rpy"])
def test_nothing_is_found_on_clean_recordings(shared_dir, tmp_path, name):
    report = check(open_sequence(name, shared_dir / "data", max_frames=400))
    assert report.findings == []
    assert "no faults found" in report.text()
    save_picture(tmp_path / "seen.png", report)
    assert (tmp_path / "seen.png").stat().st_size > 50_000


def test_poses_alone_are_judged_by_epipolar_lines(shared_dir):
    source = open_sequence("7scenes/redkitchen/seq-01", shared_dir / "data", max_frames=60)
    pairs = motion.pairs_of(60, 3)
    frames = {i: source[i] for i in sorted({i for pair in pairs for i in pair})}
    for frame in frames.values():
        object.__setattr__(frame, "depth", None)
    matches = motion.match(frames, pairs)
    assert motion.weigh(matches, source.poses()).fault is None
    verdict = motion.weigh(matches, invert(source.poses()))
    assert verdict.fault == "poses_inverted"
    assert verdict.remaining < verdict.error / 3


def test_a_few_frames_are_too_few():
    names = [finding.fault for finding in structure.times(PlaneSource(4))]
    assert names == ["few_frames"]


def test_times(monkeypatch):
    source = PlaneSource(40)
    assert not list(structure.times(source))
    times = source.timestamps()
    monkeypatch.setattr(PlaneSource, "timestamps", lambda _: times[::-1])
    assert [f.fault for f in structure.times(source)] == ["times_not_ascending"]
    late = times + np.where(np.arange(40) > 20, 0.2, 0.0)
    monkeypatch.setattr(PlaneSource, "timestamps", lambda _: late)
    (finding,) = structure.times(source)
    assert finding.fault == "dropped_frames"
    assert "about 6 frames" in finding.seen
    assert "plane-20" in finding.seen


@pytest.mark.parametrize(("timed", "faults"), [(True, ["pose_jump"]), (False, [])])
def test_steps_are_judged_where_times_are_known(tmp_path, timed, faults):
    folder = tmp_path / "own"
    export(PlaneSource(40), folder, "folder")
    assert (folder / "times.txt").exists()
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    poses[25:, :3, 3] += 3.0
    np.savetxt(folder / "poses.txt", poses.reshape(-1, 16))
    if not timed:
        (folder / "times.txt").unlink()
    source = Folder(folder)
    for seen in (source, SubsetSource(source, stride=1), PosedSource(source, source.poses())):
        assert [finding.fault for finding in structure.poses(seen)] == faults
    assert ("no times" in info(source)) != timed


def test_photos_without_times_are_no_trajectory(shared_dir):
    source = open_sequence("nerfstudio/nerfstudio_fox", shared_dir / "data")
    assert not list(structure.poses(source))
    assert "scene units" in info(source)


def test_all_images_of_another_size(tmp_path):
    export(PlaneSource(12), tmp_path / "own", "folder")
    text = (tmp_path / "own/intrinsics.json").read_text()
    (tmp_path / "own/intrinsics.json").write_text(text.replace('"width": 64', '"width": 128'))
    report = check(Folder(tmp_path / "own"))
    assert report.findings[0].fault == "intrinsics_size"
    assert "0.5" in report.findings[0].fix
    save_picture(tmp_path / "seen.png", report)  # no frame can be read


def test_centre_in_another_corner(tmp_path):
    export(PlaneSource(12), tmp_path / "own", "folder")
    path = tmp_path / "own/intrinsics.json"
    path.write_text(path.read_text().replace('"cy": 23.5', '"cy": 63.5'))
    (finding,) = structure.intrinsics(Folder(tmp_path / "own"))
    assert finding.fault == "intrinsics_size"
