"""A mapping run from the command line: a source in, a map file out, and a few lines to read."""

import shutil
from pathlib import Path

import ml_collections

from ace_jax.data.frame import FrameSource
from ace_jax.errors import UserError
from ace_jax.mapping.pipeline import describe, map_scene
from ace_jax.mapping.progress import Bars
from ace_jax.mapping.report import report_path, write_report
from ace_jax.maps import load_map, save_map


def run(
    source: FrameSource,
    config: ml_collections.ConfigDict,
    out: Path,
    weights_dir: str | None = None,
    update: str | None = None,
) -> str:
    """Maps a source and saves the map; returns a summary.

    The state of training is kept in `OUT.checkpoints` until the map is written.

    Raises:
        UserError: as `map_scene`, or the map cannot be written (found out before the work).
    """
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file, such as {out / 'map.safetensors'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.parent / f".{out.name}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    known = load_map(update) if update else None
    checkpoints = out.with_name(f"{out.name}.checkpoints")
    bars = Bars()
    try:
        made = map_scene(source, config, weights_dir, checkpoints, bars, known)
    finally:
        bars.close()
    made.info["stage_seconds"] = bars.seconds
    size = save_map(out, made, half=config.half)
    shutil.rmtree(checkpoints, ignore_errors=True)
    page = report_path(out)
    write_report(page, made, size, source, bars.curve, weights_dir)
    return f"{describe(made, size, out)}\nreport in {page}"
