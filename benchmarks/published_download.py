"""Fetches one sequence of a benchmark for its runs, and removes it again if asked to."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from absl import logging
from published_protocols import BENCHMARKS, Benchmark

from ace_jax.data.catalogue import DATA_SETS
from ace_jax.data.verbs.download import download
from ace_jax.errors import UserError


def part_of(benchmark: str, sequence: str) -> str | None:
    """The name by which `ace_jax.data download` knows what holds a sequence, if it can fetch it."""
    kind = BENCHMARKS[benchmark].kind
    names = {part.name for part in DATA_SETS[kind].parts}
    for name in (sequence, f"{sequence}_frei_png", sequence.partition("/")[0]):
        if name in names:
            return f"{kind}/{name}"
    return None


@contextlib.contextmanager
def fetched(known: Benchmark, part: str | None, root: Path, keep: bool) -> Iterator[None]:
    """Within it a part of a data set is there, if it can be fetched; a failure is told, not raised.

    Args:
        known: the benchmark. What needs poses that are not there is not fetched.
        part: see `part_of`; None does nothing.
        root: data root.
        keep: leave on the disk what was fetched. Folders that were there before always stay.
    """
    if part is None or (known.poses and not (root / Path(known.poses).parent).is_dir()):
        yield
        return
    before = _folders(root)
    try:
        download(part, root)
    except UserError as error:
        logging.warning("%s is not fetched: %s", part, error)
    try:
        yield
    finally:
        if not keep:
            for folder in _folders(root) - before:
                shutil.rmtree(folder)


def _folders(root: Path) -> set[Path]:
    """Folders of sequences or scenes, such as `tum/...`; not those of unfinished downloads."""
    return {path for path in root.glob("[!.]*/*") if path.is_dir()}
