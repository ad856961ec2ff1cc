"""Fuzzing of file readers, in processes with a memory limit and a time-out."""

import multiprocessing
import os
import queue
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from absl import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from data_formats import WRITERS
from data_fuzz import fuzz_archive, fuzz_one, small_archives, use
from file_fuzz import fuzz_file, samples

MEMORY = 1 << 30  # bytes that reading a broken recording may take beyond what was used before
HANG = 30.0  # seconds


def _worker(
    kinds: list[str], seeds: range, shared: Path | None, results: "multiprocessing.Queue"
) -> None:
    """Fuzzes until its seeds are used up; memory beyond the limit is a MemoryError."""
    logging.set_verbosity(logging.FATAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders write their complaints there
    with tempfile.TemporaryDirectory() as folder:
        clean, box = Path(folder) / "clean", Path(folder) / "box"
        box.mkdir()
        names = {k: WRITERS[k](clean / k) for k in kinds if k in WRITERS}
        files = samples(shared) if set(kinds) - set(WRITERS) - {"archive"} else {}
        packed = small_archives()
        for kind in names:  # imports and caches are not what is measured
            use(names[kind], clean / kind)
        for kind in set(kinds) & set(files):
            for seed in range(20):
                fuzz_file(kind, files[kind], random.Random(seed), box)
        import resource  # POSIX alone has it

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for seed in seeds:
            rng = random.Random(seed)
            kind = kinds[seed % len(kinds)]
            results.put(("start", seed, kind))
            if kind == "archive":
                outcome = fuzz_archive(rng.choice(packed), rng, box)
            elif kind in files:
                outcome = fuzz_file(kind, files[kind], rng, box)
            else:
                outcome = fuzz_one(kind, clean / kind, names[kind], rng, box)
            results.put(("end", seed, outcome))
    results.put(("done", -1, None))


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process so far; infinite if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fuzz(
    count: int,
    kinds: list[str],
    shared: Path | None = None,
    seconds: float = float("inf"),
) -> tuple[Counter, list[str]]:
    """Reads mutated recordings and files; a worker that hangs or dies is a problem and is replaced.

    Args:
        count: how many.
        kinds: of `data_formats.WRITERS`, of `file_fuzz.USES`, or "archive"; in turn.
        shared: folder with weights of other programs, if there is one.
        seconds: stop after these, with fewer than `count`.

    Returns:
        How many ended how, by kind; and what must not be, in words.
    """
    deadline = time.monotonic() + seconds
    ends: Counter = Counter()
    problems: list[str] = []
    seed, last = 0, count
    context = multiprocessing.get_context("spawn")
    while seed < last:
        results = context.Queue()
        worker = context.Process(target=_worker, args=(kinds, range(seed, last), shared, results))
        worker.start()
        current = "the start"
        used = 0.0
        while True:
            try:
                what, at, payload = results.get(timeout=HANG)
            except queue.Empty:
                # By processor time: others may have the processor, and starting takes a while.
                if worker.is_alive() and _cpu_seconds(worker.pid) - used < HANG:
                    continue
                state = "hangs" if worker.is_alive() else f"ended with code {worker.exitcode}"
                problems.append(f"seed {seed} ({current}): {state}")
                worker.kill()
                seed += 1
                break
            if what == "done":
                seed = last
                break
            if what == "start":
                seed, current, used = at, payload, _cpu_seconds(worker.pid)
                continue
            ends[payload.kind, payload.end] += 1
            if sum(ends.values()) % 1000 == 0:
                print(f"{sum(ends.values())} read, problems: {problems}", file=sys.stderr)
            if time.monotonic() > deadline:
                worker.kill()
                last = seed
                break
            seed = at + 1
            if payload.problem:
                problems.append(f"seed {at} ({payload.kind}): {payload.problem}")
        worker.join()
    return ends, problems
