"""A recording at its own pace: arrivals, lateness, bad frames, and a prompt end."""

import threading
import time

import pytest
from data_scene import PlaneSource

from ace_jax.data.frame import BadFrame
from ace_jax.data.playback import Player

SPEED = 3.0  # the recording has 30 frames a second: one arrives every 11 ms


def play(player, work=0.0):
    """Indices and delays of the frames when each takes `work` seconds."""
    seen = []
    for arrival in player:
        seen.append((arrival.index, time.perf_counter() - arrival.time, arrival.frame))
        time.sleep(work)
        player.done()
    return seen


def test_frames_arrive_at_their_times():
    source = PlaneSource(12, bad=(5,))
    times = source.timestamps()
    player = Player(source, speed=SPEED, buffer=12)
    start = time.perf_counter()
    seen = play(player)
    assert time.perf_counter() - start >= (times[-1] - times[0]) / SPEED
    assert [index for index, _, _ in seen] == list(range(12))
    assert player.late == 0
    assert isinstance(seen[5][2], BadFrame)
    assert all(delay >= 0 for _, delay, _ in seen), "no frame is there before its time"


def test_who_is_too_slow_loses_frames_and_keeps_up():
    player = Player(PlaneSource(40), speed=SPEED, buffer=2)
    seen = play(player, work=0.04)
    assert player.late > 0
    assert len(seen) + player.late == 40
    indices = [index for index, _, _ in seen]
    assert indices == sorted(set(indices))
    # Two frames' work and some; without a bound the last would be 1.2 s late.
    assert max(delay for _, delay, _ in seen) < 0.6, "the backlog is bounded"


def test_frames_in_work_are_bounded():
    player = Player(PlaneSource(10), speed=SPEED, buffer=3)
    taken = [arrival.index for arrival in player]  # nothing is ever done
    assert taken == [0, 1, 2]
    assert player.late == 7


def test_closing_ends_the_wait():
    player = Player(PlaneSource(2), speed=1e-3)
    threading.Timer(0.05, player.close).start()
    start = time.perf_counter()
    assert len(list(player)) == 1
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("options", [{"speed": 0}, {"speed": -1}, {"buffer": 0}])
def test_senseless_options(options):
    with pytest.raises(ValueError, match="speed"):
        Player(PlaneSource(2), **options)
