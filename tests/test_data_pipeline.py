"""Training input: deterministic, resumable at any step, sharded, with workers."""

import dataclasses

import numpy as np
import pytest
from data_scene import CAMERA, PlaneSource, pose

from ace_jax.data.pipeline import FrameTable, Shard, frame_batches
from ace_jax.errors import UserError

pytest.importorskip("grain", reason="the pipeline is grain's (extra pretrain)")


@dataclasses.dataclass
class Coloured(PlaneSource):
    """Its frames carry the source's number in their first pixel."""

    number: int = 0

    def __getitem__(self, index):
        frame = super().__getitem__(index)
        frame.rgb[...] = self.number
        return frame


def table(size=(32, 24), bad=()):
    sources = [Coloured(count, bad=bad, number=i) for i, count in enumerate((5, 7, 4))]
    return FrameTable(sources, size=size)


def ids(batches):
    return [list(zip(b["scene"].tolist(), b["frame"].tolist(), strict=True)) for b in batches]


def test_examples():
    example = table()[6]
    assert (example["scene"], example["frame"], example["rgb"][0, 0, 0]) == (1, 1, 1)
    assert example["rgb"].shape == (24, 32, 3)
    assert example["depth"].dtype == np.float32
    # The same ray at half the size: the corner of the image stays where it is.
    np.testing.assert_allclose(example["intrinsics"], [25, 26, (31.5 + 0.5) / 2 - 0.5, 11.5])
    np.testing.assert_allclose(example["world_from_camera"], pose(1), atol=1e-6)
    assert len(table()) == 16
    with pytest.raises(IndexError):
        table()[16]
    whole = FrameTable([PlaneSource(2)])[0]
    np.testing.assert_allclose(whole["intrinsics"], [CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy])


def test_missing_things_are_marked():
    bad = table(bad=(1,))
    assert not bad[1]["valid"]
    assert bad[2]["valid"]
    assert bad[1].keys() == bad[2].keys()
    lost = FrameTable([PlaneSource(3, lost=(1,), has_depth=False)])
    assert np.isnan(lost[1]["world_from_camera"]).all()
    assert not lost[1]["depth"].any()


def test_an_epoch_has_every_frame_once_in_an_order_of_the_seed():
    first = ids(frame_batches(table(), batch_size=4, seed=1, epochs=1))
    again = ids(frame_batches(table(), batch_size=4, seed=1, epochs=1, threads=1))
    other = ids(frame_batches(table(), batch_size=4, seed=2, epochs=1))
    assert first == again != other
    assert len({pair for batch in first for pair in batch}) == 16
    two = ids(frame_batches(table(), batch_size=4, seed=1, epochs=2))
    assert two[:4] == first
    assert two[4:] != first


def test_shards_are_disjoint_and_complete():
    parts = [
        ids(frame_batches(table(), batch_size=2, seed=5, epochs=1, shard=Shard(i, 2)))
        for i in range(2)
    ]
    flat = [[pair for batch in part for pair in batch] for part in parts]
    assert len(flat[0]) == len(flat[1]) == 8
    assert len(set(flat[0]) | set(flat[1])) == 16
    assert Shard.of_this_process() == Shard(0, 1)


def jitter(example, rng):
    return example | {"noise": rng.uniform(size=3)}


def test_resumes_at_any_step():
    def start():
        return iter(frame_batches(table(), batch_size=3, seed=7, transform=jitter))

    batches = start()
    states, wanted = [], []
    for _ in range(9):
        states.append(batches.get_state())
        wanted.append(next(batches))
    for step in (0, 1, 5, 8):  # within, and beyond, the first epoch
        resumed = start()
        resumed.set_state(states[step])
        for expected in wanted[step:]:
            got = next(resumed)
            assert got.keys() == expected.keys()
            for key in got:
                np.testing.assert_array_equal(got[key], expected[key])


def test_worker_processes_change_nothing():
    options = {"batch_size": 4, "seed": 3, "epochs": 2}
    with_workers = iter(frame_batches(table(), workers=1, **options))
    plain = ids(frame_batches(table(), **options))
    first = next(with_workers)
    state = with_workers.get_state()
    rest = list(with_workers)
    assert ids([first, *rest]) == plain
    resumed = iter(frame_batches(table(), workers=1, **options))
    resumed.set_state(state)
    assert ids(resumed) == plain[1:]


def test_refusals(monkeypatch):
    with pytest.raises(UserError, match="at least one recording"):
        FrameTable([])
    with pytest.raises(UserError, match="a batch of 20 from a shard of 16"):
        frame_batches(table(), batch_size=20, seed=0)
    with pytest.raises(UserError, match="shard 2 of 2"):
        frame_batches(table(), batch_size=2, seed=0, shard=Shard(2, 2))
    monkeypatch.setitem(__import__("sys").modules, "grain", None)
    with pytest.raises(UserError, match="needs the extra `pretrain`: pip install grain"):
        frame_batches(table(), batch_size=2, seed=0)
