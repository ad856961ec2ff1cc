"""A mapping run of the command line: recording in; map file, report and summary out."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections

from ace_jax.data.frame import FrameSource
from ace_jax.errors import UserError
from ace_jax.localization.scene_map import SceneMap, load_map, save_map
from ace_jax.localization.stored_landmarks import landmarks_of
from ace_jax.mapping.hloc import HlocFiles, map_from_hloc
from ace_jax.mapping.pipeline import describe, map_scene
from ace_jax.mapping.report import (
    CheckAnswer,
    answer_checks,
    report_path,
    write_report,
)
from ace_jax.progress import Progress, StageBars
from ace_jax.viewer.answers import view_of
from ace_jax.viewer.live import LiveView


def run(
    source: FrameSource,
    config: ml_collections.ConfigDict,
    out: Path,
    weights_dir: str | None = None,
    update: str | None = None,
    view: LiveView | None = None,
) -> str:
    """Maps a source and saves the map; returns a summary.

    The state of training is kept in `OUT.checkpoints` until the map is written.

    Raises:
        UserError: as `map_scene`, or the map cannot be written (found out before the work).
    """
    _probe(out)
    known = load_map(update) if update else None
    checkpoints = out.with_name(f"{out.name}.checkpoints")
    bars = StageBars()
    progress = bars if view is None else _Shown(bars, view)
    try:
        made = map_scene(source, config, weights_dir, checkpoints, progress, known)
    finally:
        bars.close()
    made.info["stage_seconds"] = bars.seconds
    size = save_map(out, made, half=config.half)
    shutil.rmtree(checkpoints, ignore_errors=True)
    page = report_path(out)
    answers = answer_checks(made, source, weights_dir)
    write_report(page, made, size, source, bars.curve, answers)
    if view is not None:
        _show(view, made, source, answers)
    return f"{describe(made, size, out)}\nreport in {page}"


def run_hloc(
    source: FrameSource,
    config: ml_collections.ConfigDict,
    out: Path,
    files: tuple[str, str, str | None],
) -> str:
    """Maps a source from hloc's features, matches and pairs (or None) and saves the map.

    Raises:
        UserError: as `map_from_hloc`, or the map cannot be written.
    """
    _probe(out)
    features, matches, pairs = files
    given = HlocFiles(Path(features), Path(matches), None if pairs is None else Path(pairs))
    bars = StageBars()
    try:
        made = map_from_hloc(source, given, config, bars)
    finally:
        bars.close()
    return describe(made, save_map(out, made, half=config.half), out)


def _probe(out: Path) -> None:
    """Finds out before the work whether the map can be written."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file, such as {out / 'map.safetensors'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.parent / f".{out.name}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error


class _Shown:
    """Progress that is plotted, too."""

    def __init__(self, progress: Progress, view: LiveView) -> None:
        self._progress, self._view = progress, view

    def __call__(self, stage: str, done: int, total: int, **figures: Any) -> None:
        self._progress(stage, done, total, **figures)
        numbers = {k: v for k, v in figures.items() if isinstance(v, int | float)}
        self._view.show_numbers(stage, done, {"done": done / max(total, 1), **numbers})


def _show(
    view: LiveView, made: SceneMap, source: FrameSource, answers: Sequence[CheckAnswer]
) -> None:
    """Shows the finished map, where its images were taken, and how it answers the checks."""
    view.show_cameras(source.poses())
    landmarks = landmarks_of(made)
    if landmarks is not None:
        view.show_map(landmarks.points)
    for i, answered in enumerate(answers):
        view.show(view_of(i, answered.frame, answered.answer))
