"""`--frames`, and the official splits."""

import numpy as np
import pytest

from ace_jax.data.selection import Concatenation, open_frames, parse_frames
from ace_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:600:6", range(0, 600, 6)),
        (":", range(800)),
        ("700:", range(700, 800)),
        (":10", range(10)),
        ("::50", range(0, 800, 50)),
        ("-5:", range(795, 800)),
        ("7", range(7, 8)),
        ("-1", range(799, 800)),
        ("900:", range(0)),
        ("0:9999", range(800)),
    ],
)
def test_frames_are_python_slices(text, expected):
    assert list(range(*parse_frames(text, 800))) == list(expected)


@pytest.mark.parametrize("text", ["a:b", "1:2:3:4", "::0", "::-1", "1.5:", "5-9"])
def test_malformed_frames_are_one_line(text):
    with pytest.raises(UserError, match="START:STOP:STEP"):
        parse_frames(text, 100)


SEQUENCE = "7scenes/redkitchen/seq-01"


def test_frames_of_a_recording(shared_dir):
    source = open_frames(SEQUENCE, shared_dir / "data", frames="600:800:50")
    assert [name[-4:] for name in source.names()] == ["0600", "0650", "0700", "0750"]
    with pytest.raises(UserError, match="leaves none"):
        open_frames(SEQUENCE, shared_dir / "data", frames="900:")


@pytest.fixture
def scene(shared_dir, tmp_path):
    """A scene of two short sequences, with splits."""
    folder = tmp_path / "7scenes" / "kitchen"
    source = shared_dir / "data/7scenes/redkitchen/seq-01"
    for number, frames in ((1, (0, 1, 2)), (2, (10, 11))):
        target = folder / f"seq-{number:02d}"
        target.mkdir(parents=True)
        for frame in frames:
            for file in source.glob(f"frame-{frame:06d}.*"):
                (target / file.name).symlink_to(file)
    (folder / "TrainSplit.txt").write_text("sequence1\nsequence2\n")
    (folder / "TestSplit.txt").write_text("sequence2\n")
    return tmp_path


def test_official_splits_join_their_sequences(scene):
    train = open_frames("7scenes/kitchen", scene, split="train")
    assert len(train) == len(train.names()) == len(train.poses()) == 5
    assert train.names()[3] == "seq-02/frame-000010"
    assert [train[i].index for i in range(5)] == list(range(5))
    assert train[-1].name == "seq-02/frame-000011"
    np.testing.assert_array_equal(train[4].world_from_camera, train.poses()[4])
    assert len(open_frames("7scenes/kitchen", scene, split="test", frames="::2")) == 1
    with pytest.raises(IndexError):
        train[5]


def test_missing_and_impossible_splits_are_one_line(scene):
    with pytest.raises(UserError, match="--split is for a scene"):
        open_frames("7scenes/kitchen/seq-01", scene, split="train")
    with pytest.raises(UserError, match="--split is for a scene"):
        open_frames("tum/fr1_xyz", scene, split="train")
    (scene / "7scenes/kitchen/TestSplit.txt").write_text("nothing")
    with pytest.raises(UserError, match="names no sequence"):
        open_frames("7scenes/kitchen", scene, split="test")
    (scene / "7scenes/kitchen/TestSplit.txt").unlink()
    with pytest.raises(UserError, match="no official split"):
        open_frames("7scenes/kitchen", scene, split="test")


def test_sequences_of_different_cameras_are_not_joined(shared_dir):
    one = open_frames(SEQUENCE, shared_dir / "data", frames=":2")
    other = open_frames(SEQUENCE, shared_dir / "data", frames=":2", focal=500.0)
    with pytest.raises(UserError, match="different cameras"):
        Concatenation([one, other], "both")
