"""SIGKILL at random moments: files stay intact, and the resumed run reaches the same result."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kill_jobs import JOBS, quietly

HEADER = ["what was killed", "kills", "runs that were finished by continuing", "could not continue",
          "half-written files", "ended like the undisturbed run", "files left over"]  # fmt: skip


LATEST = 1.3  # of an undisturbed run's time, for a kill: some runs come to their end


def _left_over(folder: Path) -> int:
    """Temporary files of killed writers."""
    return sum(path.name.startswith(".") for path in folder.iterdir())


def rows(kills: int, seed: int = 0) -> Iterator[list[str]]:
    """A row for each kind of run, `kills` kills in all, shared evenly."""
    # The server that forks the runs has imported everything; it finds its modules here.
    places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kill_jobs"])
    rng = random.Random(seed)
    for number, (title, (job, result)) in enumerate(JOBS.items()):
        share = kills * (number + 1) // len(JOBS) - kills * number // len(JOBS)
        with tempfile.TemporaryDirectory() as root:
            cells = [title, *_killed(context, job, result, share, rng, Path(root))]
        print(cells, file=sys.stderr, flush=True)
        yield cells


def _killed(context, job, result, kills: int, rng: random.Random, root: Path) -> list[str]:
    def start(folder: Path) -> multiprocessing.Process:
        folder.mkdir(exist_ok=True)
        process = context.Process(target=quietly, args=(job, folder, root / "log"))
        process.start()
        return process

    whole = root / "whole"
    start(whole).join()  # compiles
    shutil.rmtree(whole)
    began = time.perf_counter()
    process = start(whole)
    process.join()
    seconds = time.perf_counter() - began
    wanted = result(whole)
    if process.exitcode != 0 or wanted is None:
        raise RuntimeError(f"the undisturbed run failed: {(root / 'log').read_text()[-2000:]}")
    done, finished, stuck, half, same, left = 0, 0, 0, 0, 0, 0
    folder, interrupted = root / "killed", False
    while done < kills or interrupted:  # the last one is brought to its end, too
        process = start(folder)
        process.join(rng.uniform(0.0, LATEST) * seconds if done < kills else None)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            done += 1
            interrupted = True
            ended = False
        else:
            ended = True
            if process.exitcode != 0:
                stuck += 1
                print((root / "log").read_text()[-1500:])
        try:
            found = result(folder)
        except Exception as error:
            half += 1
            print(f"half-written: {error}")
            found = None
        if ended:
            if interrupted and process.exitcode == 0:
                finished += 1
                same += found == wanted
            left += _left_over(folder)
            shutil.rmtree(folder)
            interrupted = False
    return [str(n) for n in (done, finished, stuck, half, f"{same} of {finished}", left)]
