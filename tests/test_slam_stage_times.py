"""Times by stage: the frames that compile do not count, and nothing grows but the numbers."""

import time

from ace_jax.slam.reporting.stage_times import StageClock, StageTimes


def test_a_lap_books_what_passed_since_the_last_one():
    clock = StageClock({"read": 4.0})
    time.sleep(0.002)
    clock.lap("features")
    clock.lap("tracking")
    clock.lap("features")
    assert clock.stage_ms["read"] == 4.0
    assert clock.stage_ms["features"] >= 2.0 > clock.stage_ms["tracking"] >= 0.0


def test_stage_times_are_those_of_the_frames_in_which_a_stage_ran():
    times = StageTimes()
    assert times.newest == times.by_stage() == {}
    times.add({"tracking": 900.0, "mapping": 900.0})
    times.add({"tracking": 800.0})
    assert times.by_stage() == {}  # both compiled
    times.add({"tracking": 3.0, "mapping": 50.0})
    times.add({"tracking": 5.0})
    assert {name: ms.tolist() for name, ms in times.by_stage().items()} == {
        "tracking": [3.0, 5.0],
        "mapping": [50.0],
    }
    assert times.newest == {"tracking": 5.0}
