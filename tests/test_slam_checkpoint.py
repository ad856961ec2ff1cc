"""A killed run goes on where it was; what cannot serve is told in one line."""

import dataclasses
import shutil

import numpy as np
import pytest
from slam_scene import CONFIG, Killed, RoomSource, make_system, resumed

from ace_jax.data.poses_file import read_poses
from ace_jax.errors import UserError
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.slam.run import run
from ace_jax.slam.sessions.checkpoint import SlamCheckpoint

pytestmark = pytest.mark.optimized

FRAMES, KILLED_AT = 30, 17


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder that a killed run left behind."""
    out = tmp_path_factory.mktemp("killed")
    checkpoint = SlamCheckpoint(out, "settings", seconds=0.0)
    with pytest.raises(Killed):
        run(RoomSource(FRAMES, killed_at=KILLED_AT), make_system(), out, checkpoint=checkpoint)
    checkpoint.close()
    return out


@pytest.mark.usefixtures("without_pictures")
def test_a_killed_run_goes_on(killed, tmp_path):
    assert [path.name for path in killed.iterdir()] == ["checkpoint.safetensors"]
    out = shutil.copytree(killed, tmp_path / "out")
    checkpoint = SlamCheckpoint(out, "settings", seconds=0.0)
    assert checkpoint.unfinished()
    asked = []

    class Watched(RoomSource):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    result = run(Watched(FRAMES), resumed(checkpoint.path), out, checkpoint=checkpoint)
    known = asked[0]  # the report asks for others when all is done
    assert KILLED_AT - 5 <= known <= KILLED_AT  # what was saved was not processed again
    metrics = result.metrics
    assert metrics["frames"] == metrics["frames_tracked"] == FRAMES
    assert metrics["ate_rmse_m"] < 0.01
    times = read_poses(out / "trajectory.tum").timestamps
    np.testing.assert_array_equal(times, RoomSource(FRAMES).timestamps())
    assert not checkpoint.path.exists()
    assert not checkpoint.unfinished()


def test_a_checkpoint_is_a_map(killed):
    assert load_map(killed / "checkpoint.safetensors").head == "landmark_attention"


def test_what_cannot_be_continued_is_one_line(killed, tmp_path):
    out = shutil.copytree(killed, tmp_path / "out")
    with pytest.raises(UserError, match="other settings"):
        SlamCheckpoint(out, "others").unfinished()
    checkpoint = SlamCheckpoint(out, "settings")
    content = load_map(checkpoint.path)
    beyond, short = lambda x: x + 10_000, lambda x: x[:-1]
    for name, spoil in (
        ("frame/reference", beyond),
        ("frame/index", short),
        ("tracking/landmarks", beyond),
        ("tracking/recent/uv", short),
        ("tracking/recent/landmarks", beyond),
        ("tracking/air/depths", short),
        ("tracking/age", lambda x: np.zeros(3)),
    ):
        extra = content.extra | {name: spoil(content.extra[name])}
        save_map(checkpoint.path, type(content)(**{**vars(content), "extra": extra}))
        system = resumed(checkpoint.path)
        with pytest.raises(UserError, match="not a complete checkpoint"):
            checkpoint.restore(system)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:1000])
    with pytest.raises(UserError, match="safetensors"):
        checkpoint.unfinished()


def test_a_place_that_cannot_be_written_costs_a_warning_not_the_run(tmp_path, caplog):
    checkpoint = SlamCheckpoint(tmp_path, "settings", seconds=0.0)
    checkpoint.path.mkdir()
    (checkpoint.path / "something").write_text("")
    system = make_system()
    source = RoomSource(2)
    for i in range(2):
        system.process(source[i])
    checkpoint.frame_done(system, 2)
    checkpoint.close()
    assert "cannot be continued" in caplog.text


def test_frames_of_retired_keyframes_come_back_where_they_were(tmp_path):
    config = dataclasses.replace(CONFIG, max_keyframes=4, recent_keyframes=2)
    system, source = make_system(config=config), RoomSource(60)
    for frame in source:
        system.process(frame)
    assert any(frame.reference in system.landmark_map.keyframes.retired for frame in system.frames)
    checkpoint = SlamCheckpoint(tmp_path, "settings", seconds=0.0)
    checkpoint.frame_done(system, 60)
    checkpoint.close()
    later = resumed(checkpoint.path)
    assert len(later.landmark_map.keyframes) == len(system.landmark_map.keyframes) <= 5
    assert checkpoint.restore(later) == 60
    for ours, theirs in zip(later.final_trajectory(), system.final_trajectory(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
