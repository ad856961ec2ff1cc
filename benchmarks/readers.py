"""Readers of recordings: frames a second, planted faults, and fuzzing.

  python benchmarks/readers.py [--tables speed,faults] [--data_root DIR] [--docs docs/datasets.md]
  python benchmarks/readers.py --fuzz 10000 [--seed 0]

`speed` reads real recordings through the prefetcher as SLAM does, on `--cores` cores; the layouts
for which there is no real file are exports of the same frames. `faults` plants each fault that
`python -m ace_jax.data check` knows into both real recordings and says what it found. `--fuzz N`
opens and reads N recordings of which files were mutated (bits, bytes, lengths, text), a share for
each reader and for the archives, in processes whose memory is limited and which are killed if they
hang: every one must end in frames, `UserError` or `BadFrame`, and write nothing outside its folder.
"""

import dataclasses
import multiprocessing
import os
import platform
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from absl import flags, logging
from markdown import put_into, table

from ace_jax import archives, errors
from ace_jax.data.export import export
from ace_jax.data.folder import Folder
from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.prefetch import Prefetcher
from ace_jax.data.registry import open_sequence
from ace_jax.data.subset import SubsetSource
from ace_jax.data.verbs.check import check
from ace_jax.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from data_faults import FAULTS, VARIANTS, copy
from data_formats import WRITERS

_TABLES = flags.DEFINE_list("tables", ["speed", "faults"], "which tables")
_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/ and tum/")
_CORES = flags.DEFINE_integer("cores", 2, "processor cores to use", lower_bound=1)
_FRAMES = flags.DEFINE_integer("frames", 300, "frames to read for the table of speeds")
_FUZZ = flags.DEFINE_integer("fuzz", 0, "how many mutated recordings to read; 0: make tables")
_SEED = flags.DEFINE_integer("seed", 0, "of the mutations")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")

KITCHEN, FREIBURG = "7scenes/redkitchen/seq-01", "tum/freiburg1_rpy"
MEMORY = 1 << 30  # bytes that reading a broken recording may take beyond what was used before
HANG = 30.0  # seconds


# Speed.


def _rate(source: FrameSource, workers: int, ahead: int) -> tuple[float, float]:
    """Frames and processor seconds: frames a second, and CPU milliseconds a frame."""
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    with Prefetcher(source, ahead=ahead, workers=workers) as frames:
        for frame in frames:
            count += not isinstance(frame, BadFrame)
    return (
        count / (time.perf_counter() - start),
        1e3 * (time.process_time() - cpu) / max(count, 1),
    )


def speed_rows(root: Path) -> Iterator[list[str]]:
    """Frames a second of every layout, the best of three runs."""
    cv2.setNumThreads(1)  # the prefetcher's threads are the parallel ones
    with tempfile.TemporaryDirectory() as folder:
        sources = [
            ("7-Scenes, depth registered at reading", open_sequence(KITCHEN, root), "JPEG + PNG"),
            ("TUM, lens undistorted at reading", open_sequence(FREIBURG, root), "PNG + PNG"),
        ]
        clean = SubsetSource(sources[0][1], max_frames=60)
        kinds = {"7scenes": "7scenes/e/seq-01", "replica": "Replica/e", "colmap": "e", "ace": "a"}
        for layout, place in kinds.items():
            export(clean, Path(folder) / place, layout)
            name = {"7scenes": place, "replica": "replica/e"}.get(layout, f"{layout}/{place}")
            stored = "JPEG + PNG" if layout == "replica" else "PNG + PNG"
            sources.append((f"{layout}, exported", open_sequence(name, folder), stored))
        for title, source, stored in sources:
            part = SubsetSource(source, max_frames=_FRAMES.value)
            rates = [_rate(part, workers=_CORES.value, ahead=16) for _ in range(3)]
            rate, cpu = max(rates)
            yield [title, stored, f"{rate:.0f}", f"{cpu:.1f}", f"{len(part)}"]


# Faults.


def fault_rows(root: Path) -> Iterator[list[str]]:
    """What `check` says to every planted fault."""
    logging.set_verbosity(logging.ERROR)
    plants = {fault: (fault, plant) for fault, plant in FAULTS.items()} | VARIANTS
    cells: dict[str, list[str]] = {"none (clean)": []} | {title: [] for title in plants}
    for name in (KITCHEN, FREIBURG):
        whole = check(open_sequence(name, root))
        cells["none (clean)"].append(_found(whole, None))
        with tempfile.TemporaryDirectory() as folder:
            clean = Path(folder) / "clean"
            export(open_sequence(name, root, max_frames=120), clean, "folder")
            for title, (fault, plant) in plants.items():
                target = copy(clean, Path(folder) / "planted")
                plant(target)
                cells[title].append(_found(check(Folder(target)), fault))
                shutil.rmtree(target)
    for title, found in cells.items():
        yield [title, *found]


def _found(report, fault: str | None) -> str:
    names = [finding.fault for finding in report.findings]
    seen = ", ".join(names) or "nothing"
    return seen if names == ([fault] if fault else []) else f"**{seen}**"


# Fuzzing.


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four mutations."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            return bytes(rng.randbytes(20))
        at = rng.randrange(len(data))
        kind = rng.randrange(8)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + rng.randint(1, 8)] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randint(1, 64)]
        elif kind == 4:
            data[at:at] = data[at : at + rng.randint(1, 64)]
        elif kind == 5:  # a number becomes a strange one
            strange = (b"nan", b"-inf", b"1e999", b"-1", b"0", b"99999999999", b"\xff\xfe", b"null")
            data[at : at + rng.randint(0, 3)] = rng.choice(strange)
        elif kind == 6:  # four bytes become a large integer
            large = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000)).to_bytes(4, "little")
            data[at : at + 4] = large
        else:
            data[at : at + 8] = rng.choice(
                (b"../../x/", b"\0\0\0\0\0\0\0\0", b"{[{[{[{[", b"\n\n  \t \n")
            )
    return bytes(data)


@dataclasses.dataclass
class Outcome:
    """What one mutated recording did: how it ended, and what must not be."""

    kind: str
    end: str
    problem: str = ""


def _listing(folder: Path) -> set[tuple[str, int]]:
    return {(str(p), p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def _use(name: str, root: Path) -> str:
    """Opens a recording and reads all its frames, poses and times, as a user would."""
    try:
        source = open_sequence(name, root)
        bad = 0
        for i in range(min(len(source), 12)):
            try:
                source[i]
            except BadFrame:
                bad += 1
        source.poses()
        source.timestamps()
    except UserError as error:
        if "\n" in str(error):
            raise ValueError(f"an error of several lines: {error}") from error
        return "refused"
    return "bad frames" if bad else "read"


def fuzz_one(kind: str, clean: Path, name: str, rng: random.Random, box: Path) -> Outcome:
    """Mutates one to three files of a copy of a recording and uses it."""
    root = box / "root"
    shutil.copytree(clean, root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in rng.sample(files, min(rng.randint(1, 3), len(files))):
        action = rng.randrange(20)
        if action == 0:
            path.unlink()
        elif action == 1:
            path.write_bytes(b"")
        else:
            path.write_bytes(mutate(path.read_bytes(), rng))
    before = _listing(box)
    try:
        end = _use(name, root)
        problem = ""
    except Exception:
        end, problem = "traceback", traceback.format_exc(limit=-4)
    if _listing(box) != before:
        problem += "files were written"
    shutil.rmtree(root, ignore_errors=True)
    return Outcome(kind, end, problem)


def fuzz_archive(data: bytes, rng: random.Random, box: Path) -> Outcome:
    """Unpacks a mutated archive."""
    path = box / "below" / "archive"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(mutate(data, rng))
    problem = ""
    try:
        archives.unpack(path, box / "below/target")
        end = "read"
    except UserError:
        end = "refused"
    except Exception:
        end, problem = "traceback", traceback.format_exc(limit=-4)
    outside = [p for p in box.rglob("*") if p != path and "target" not in p.parts and p.is_file()]
    if outside:
        problem += f"written outside: {outside}"
    shutil.rmtree(path.parent, ignore_errors=True)
    return Outcome("archive", end, problem)


def _archives() -> list[bytes]:
    import io
    import tarfile
    import zipfile

    files = {f"a/{i}.txt": os.urandom(50) * 4 for i in range(4)}
    first, second = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(first, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with tarfile.open(fileobj=second, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return [first.getvalue(), second.getvalue()]


def _worker(kinds: list[str], seeds: range, results: "multiprocessing.Queue") -> None:
    """Fuzzes until its seeds are used up; memory beyond the limit is a MemoryError."""
    logging.set_verbosity(logging.FATAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders write their complaints there
    with tempfile.TemporaryDirectory() as folder:
        clean, box = Path(folder) / "clean", Path(folder) / "box"
        box.mkdir()
        names = {k: WRITERS[k](clean / k) for k in kinds if k != "archive"}
        packed = _archives()
        for kind in names:  # imports and caches are not what is measured
            _use(names[kind], clean / kind)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for seed in seeds:
            rng = random.Random(seed)
            kind = kinds[seed % len(kinds)]
            results.put(("start", seed, kind))
            if kind == "archive":
                outcome = fuzz_archive(rng.choice(packed), rng, box)
            else:
                outcome = fuzz_one(kind, clean / kind, names[kind], rng, box)
            results.put(("end", seed, outcome))
    results.put(("done", -1, None))


def fuzz(count: int, kinds: list[str], first: int = 0) -> tuple[Counter, list[str]]:
    """Reads mutated recordings; a worker that hangs or dies is a problem and is replaced.

    Returns:
        How many ended how, by kind; and what must not be, in words.
    """
    ends: Counter = Counter()
    problems: list[str] = []
    seed, last = first, first + count
    context = multiprocessing.get_context("spawn")
    while seed < last:
        results = context.Queue()
        worker = context.Process(target=_worker, args=(kinds, range(seed, last), results))
        worker.start()
        current = "the start"
        while True:
            try:
                what, at, payload = results.get(timeout=HANG if current != "the start" else 300.0)
            except Exception:
                state = "hangs" if worker.is_alive() else f"ended with code {worker.exitcode}"
                problems.append(f"seed {seed} ({current}): {state}")
                worker.kill()
                seed += 1
                break
            if what == "done":
                seed = last
                break
            if what == "start":
                seed, current = at, payload
                continue
            ends[payload.kind, payload.end] += 1
            seed = at + 1
            if payload.problem:
                problems.append(f"seed {at} ({payload.kind}): {payload.problem}")
        worker.join()
    return ends, problems


def _fuzz_report(count: int, seed: int) -> int:
    kinds = [*sorted(WRITERS), "archive"]
    start = time.perf_counter()
    ends, problems = fuzz(count, kinds, seed)
    columns = ("read", "bad frames", "refused", "traceback")
    rows = [[kind, *(str(ends[kind, column]) for column in columns)] for kind in kinds]
    rows.append(["all", *(str(sum(ends[k, c] for k in kinds)) for c in columns)])
    text = table(["reader", *columns], rows)
    text += (
        f"\n\n{sum(ends.values())} mutated recordings (seeds from {seed}), "
        f"{time.perf_counter() - start:.0f} s; problems (tracebacks, hangs, crashes, more than "
        f"1 GiB, files written): {len(problems)}."
    )
    print(text)
    for problem in problems[:40]:
        print(problem)
    if _DOCS.value:
        put_into(Path(_DOCS.value), "fuzz", text)
    return 1 if problems else 0


def main(_: Sequence[str]) -> int | None:
    """Makes the tables, or fuzzes."""
    if _FUZZ.value:
        return _fuzz_report(_FUZZ.value, _SEED.value)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: _CORES.value]))
    root = Path(_DATA_ROOT.value)
    made = {
        "speed": (
            ["recording, 640x480", "files", "frames/s", "CPU ms a frame", "frames"],
            speed_rows,
        ),
        "faults": (["planted", "found in redkitchen", "found in freiburg1_rpy"], fault_rows),
    }
    where = f"{_CORES.value} cores of {platform.processor() or platform.machine()}, "
    where += f"OpenCV {cv2.__version__}, NumPy {np.__version__}"
    for name in _TABLES.value:
        if name not in made:
            raise UserError(f"no table {name!r}: there are {', '.join(made)}")
        header, rows = made[name]
        text = f"{table(header, list(rows(root)))}\n\n({where})"
        print(text)
        if _DOCS.value:
            put_into(Path(_DOCS.value), name, text)
    return None


if __name__ == "__main__":
    errors.run(main)
