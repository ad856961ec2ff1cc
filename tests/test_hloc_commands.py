"""The commands of docs/interoperability.md for hloc and for benchmarks, as they stand there."""

import shutil
import zipfile

import numpy as np
import pytest
from commands import run_commands
from data_scene import CAMERA, NORMAL, OFFSET, PlaneSource, pose

from ace_jax.data.export import export
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.rigid import from_quaternion, invert, transform

h5py = pytest.importorskip("h5py")
VIEWS, QUERIES, DIM = (0, 1, 2, 4, 5, 6, 8, 9), (3, 7), 32
RNG = np.random.default_rng(0)
DESCRIPTORS = RNG.normal(size=(400, DIM))


def points():
    """(400, 3) of the plane, in front of the first cameras."""
    xy = np.random.default_rng(1).uniform([-1.4, -1.1], [1.4, 1.1], (400, 2))
    return np.column_stack([xy, (OFFSET - xy @ NORMAL[:2]) / NORMAL[2]])


def shown(view):
    """Which points a view shows, and where."""
    uv = project(transform(invert(pose(view)), points()), CAMERA)
    inside = ((uv > 1) & (uv < [62, 46])).all(axis=1)
    return np.flatnonzero(inside), uv[inside]


def write(path, names):
    with h5py.File(path, "w") as file:
        for view, name in names.items():
            index, uv = shown(view)
            file[f"{name}/keypoints"] = uv.astype(np.float32)
            file[f"{name}/descriptors"] = DESCRIPTORS[index].T.astype(np.float16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the commands name, and what they made."""
    cwd = tmp_path_factory.mktemp("work")
    export(PlaneSource(10), cwd / "sfm", "colmap")
    names = {view: f"{view:06d}.png" for view in VIEWS}
    write(cwd / "feats.h5", names)
    pairs = [(a, b) for a in VIEWS for b in VIEWS if a < b]
    with h5py.File(cwd / "matches.h5", "w") as file:
        for a, b in pairs:
            place = {point: k for k, point in enumerate(shown(b)[0])}
            matches = [place.get(point, -1) for point in shown(a)[0]]
            file[f"{names[a]}/{names[b]}/matches0"] = np.array(matches, np.int16)
    (cwd / "pairs.txt").write_text("".join(f"{names[a]} {names[b]}\n" for a, b in pairs))
    queries = cwd / "s00525" / "seq1"
    queries.mkdir(parents=True)
    lines = []
    for view in QUERIES:
        name = f"frame_{view:05d}.png"
        shutil.copy(cwd / "sfm" / "images" / f"{view:06d}.png", queries / name)
        lines.append(f"seq1/{name} 50 52 31.5 23.5 64 48\n")
    (queries.parent / "intrinsics.txt").write_text("".join(lines))
    write(cwd / "queries.h5", {view: f"seq1/frame_{view:05d}.png" for view in QUERIES})
    commands = (
        "mapping --seq colmap/sfm --data_root . --hloc_features feats.h5 --hloc_matches matches.h5 "
        "--hloc_pairs pairs.txt --out hloc.safetensors",
        "relocalize --map hloc.safetensors --images s00525/seq1 --hloc_features queries.h5 "
        "--intrinsics s00525/intrinsics.txt --map_free submission.zip --submission aachen.txt "
        "--out out",
    )
    for done in run_commands([command.split() for command in commands], cwd):
        assert done.code == 0, done.out + done.err
    return cwd


def test_the_poses_are_right_in_both_submissions(folder):
    lines = (folder / "aachen.txt").read_text().splitlines()
    with zipfile.ZipFile(folder / "submission.zip") as file:
        scene = file.read("pose_s00525.txt").decode().splitlines()
    assert len(lines) == len(scene) == len(QUERIES)
    for view, line, other in zip(QUERIES, lines, scene, strict=True):
        name, *values = line.split()
        assert name == f"frame_{view:05d}.png"
        assert other.split()[:-1] == [f"seq1/{name}", *values]
        assert float(other.split()[-1]) > 30  # inliers
        numbers = np.array(values, float)
        found = from_quaternion(numbers[:4], numbers[4:])
        np.testing.assert_allclose(found, invert(pose(view)), atol=0.02)
