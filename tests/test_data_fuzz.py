"""Broken files end in frames, `UserError` or `BadFrame`; the long run is in the benchmark."""

import random

import pytest
from data_formats import WRITERS
from data_fuzz import fuzz_archive, fuzz_one, small_archives

TIMES = 12
SLOW = ("bag", "video")  # these are fuzzed in a process of their own by the benchmark


@pytest.mark.parametrize("kind", sorted(set(WRITERS) - set(SLOW)))
def test_mutated_recordings(tmp_path, kind):
    (tmp_path / "box").mkdir()
    name = WRITERS[kind](tmp_path / "clean")
    for seed in range(TIMES):
        outcome = fuzz_one(kind, tmp_path / "clean", name, random.Random(seed), tmp_path / "box")
        assert not outcome.problem, f"seed {seed}: {outcome.problem}"


def test_mutated_archives(tmp_path):
    box = tmp_path / "box"
    box.mkdir()
    packed = small_archives()
    for seed in range(300):
        outcome = fuzz_archive(packed[seed % len(packed)], random.Random(seed), box)
        assert not outcome.problem, f"seed {seed}: {outcome.problem}"
