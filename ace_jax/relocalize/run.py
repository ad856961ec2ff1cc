"""A relocalization run: queries in; poses, metrics and a report out."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ace_jax.data import pose_writers
from ace_jax.data.frame import BadFrame, Frame, FrameSource, metric
from ace_jax.errors import UserError
from ace_jax.evaluation import relocalization as evaluation
from ace_jax.evaluation.explorer import Explored
from ace_jax.evaluation.lengths import length_unit
from ace_jax.evaluation.pictures import with_answers
from ace_jax.features.stored import HlocFeatures
from ace_jax.files import write_json
from ace_jax.geometry.camera import Camera
from ace_jax.localization.relocalizer import BATCH, Localization, Relocalizer
from ace_jax.localization.several_maps import locate_features_among, locate_many_among
from ace_jax.progress import ProgressBar
from ace_jax.relocalize.explored import Thumbnails, explored
from ace_jax.relocalize.report import Picture, write_report
from ace_jax.viewer.answers import view_of
from ace_jax.viewer.live import LiveView

EXIT_UNREAD = 1  # some frame could not be read
_PICTURES = 4  # of the best and of the worst queries
_FAR_OFF = 0.5  # metres; a median error beyond is hardly the solver's


@dataclasses.dataclass
class Run:
    """What a run has found so far.

    Attributes:
        names: of the queries.
        answers: of the queries, None where the frame could not be read.
        cameras: of the queries.
        reference: (4, 4) world_from_camera of each query, NaN where unknown.
        unread: queries that could not be read.
        interrupted: whether it was stopped before its end.
        metrics: the summary, once finished.
    """

    names: list[str] = dataclasses.field(default_factory=list)
    answers: list[Localization | None] = dataclasses.field(default_factory=list)
    cameras: list[Camera] = dataclasses.field(default_factory=list)
    reference: list[np.ndarray] = dataclasses.field(default_factory=list)
    unread: int = 0
    interrupted: bool = False
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


def run(
    relocalizers: Sequence[Relocalizer],
    source: FrameSource,
    out: Path | str,
    map_bytes: int,
    use_depth: bool = False,
    align: bool = False,
    quiet: bool = False,
    view: LiveView | None = None,
) -> Run:
    """Answers every query of a source and writes what came out; Ctrl-C keeps what was computed.

    Args:
        relocalizers: one for each map.
        source: queries; poses, where there are any, are used for the evaluation alone.
        out: folder.
        map_bytes: size of the map files.
        use_depth: let the queries' depth take part.
        align: the references are of another world than the map, such as a SLAM map's: move them
            rigidly to fit the poses that are found, then judge.
        quiet: without a progress bar.
        view: shows the answers as they come.

    Raises:
        UserError: the folder cannot be written, or a query's size is not its camera's.
    """
    out = Path(out)
    try:
        (out / "poses_colmap").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from error
    state = Run()
    _warm_up(relocalizers, source, use_depth)
    if view is not None and len(relocalizers) == 1:
        points = relocalizers[0].points()
        if points is not None:
            view.show_map(points)
    pictures, thumbnails = _Pictures(judged=not align), Thumbnails(len(source))
    names, reference = source.names(), source.poses()
    if reference is not None and any(r.map.metric != metric(source) for r in relocalizers):
        logging.warning(
            "the map and the queries' poses differ in their units; pass --scale for both or neither"
        )
    bar = ProgressBar(len(source), "queries", unit="query", shown=not quiet)
    pending: list[Frame | None] = []

    def answer_pending() -> None:
        """Answers the frames that were read since the last time, None for one that could not be."""
        answers = iter(_ask(relocalizers, [f for f in pending if f is not None], use_depth))
        while pending:
            index, frame = len(state.names), pending.pop(0)
            if frame is None:
                state.unread += 1
                known = None if reference is None else reference[index]
                _append(state, names[index], None, source.camera, known)
                continue
            answer = next(answers)
            _append(state, frame.name, answer, frame.camera, frame.world_from_camera)
            if view is not None:
                view.show(view_of(index, frame, answer, view.wants_picture()))
            pictures.offer(index, frame, answer)
            thumbnails.offer(index, frame)
        found = sum(answer is not None and answer.success for answer in state.answers)
        bar.show(len(state.names), f"{found} found")

    try:
        for index in range(len(source)):
            pending.append(_read(source, index))
            if len(pending) == BATCH or index == len(source) - 1:
                answer_pending()
    except KeyboardInterrupt:
        state.interrupted = True
        answer_pending()
    finally:
        bar.close()
    _finish(state, relocalizers, source, out, map_bytes, pictures, thumbnails, align)
    return state


def _read(source: FrameSource, index: int) -> Frame | None:
    try:
        return source[index]
    except BadFrame as error:
        logging.warning("query %d skipped: %s", index, error)
        return None


def _ask(
    relocalizers: Sequence[Relocalizer], frames: Sequence[Frame], use_depth: bool
) -> list[Localization]:
    """The answers to some frames."""
    stored = relocalizers[0].extractor
    if isinstance(stored, HlocFeatures):
        known = [stored.of(frame.name) for frame in frames]
        return locate_features_among(relocalizers, known, [frame.camera for frame in frames])
    depths = [frame.depth for frame in frames] if use_depth else None
    return locate_many_among(
        relocalizers, [frame.rgb for frame in frames], [frame.camera for frame in frames], depths
    )


def _warm_up(relocalizers: Sequence[Relocalizer], source: FrameSource, use_depth: bool) -> None:
    """Answers the first readable query once, so that no time that is reported has compilation."""
    for index in range(len(source)):
        try:
            frame = source[index]
        except BadFrame:
            continue
        # The second attempt of a failed query is compiled, too, should one be needed.
        blank = dataclasses.replace(frame, rgb=np.zeros_like(frame.rgb))
        _ask(relocalizers, [frame, blank], use_depth)
        return


def _append(
    state: Run,
    name: str,
    answer: Localization | None,
    camera: Camera,
    reference: np.ndarray | None,
) -> None:
    state.names.append(name)
    state.answers.append(answer)
    state.cameras.append(camera)
    state.reference.append(np.full((4, 4), np.nan) if reference is None else reference)


def _finish(
    state: Run,
    relocalizers: Sequence[Relocalizer],
    source: FrameSource,
    out: Path,
    map_bytes: int,
    pictures: "_Pictures",
    thumbnails: Thumbnails,
    align: bool,
) -> None:
    poses = [a.world_from_camera if a is not None and a.success else None for a in state.answers]
    reference = np.array(state.reference).reshape(-1, 4, 4)
    if align:
        motion = evaluation.estimate_from_reference(poses, reference)
        if motion is None:
            logging.warning("too few queries agree with their references: nothing can be aligned")
            motion = np.full((4, 4), np.nan)
        reference = motion @ reference
        state.reference = list(reference)
    errors = evaluation.pose_errors(poses, reference)
    answered = [a for a in state.answers if a is not None]
    registered = sum(pose is not None for pose in poses)
    scenes = Counter(a.scene for a in answered if a.success)
    ms = {
        f"ms_{stage}": float(np.median([a.ms[stage] for a in answered])) if answered else None
        for stage in ("features", "head", "solver")
    }
    total = [sum(a.ms.values()) for a in answered]
    state.metrics = {
        "source": source.name,
        "maps": {r.name: r.map.info.get("sequence", "") for r in relocalizers},
        "scenes": dict(scenes),
        **evaluation.summary(errors, registered),
        **ms,
        "ms_p50": float(np.quantile(total, 0.5)) if total else None,
        "ms_p95": float(np.quantile(total, 0.95)) if total else None,
        "map_bytes": map_bytes,
        "metric": relocalizers[0].map.metric,
        "unread": state.unread,
        "interrupted": state.interrupted,
        "aligned": align,
        "settings": dataclasses.asdict(relocalizers[0].settings),
    }
    inliers = [0 if a is None else a.num_inliers for a in state.answers]
    pose_writers.write_ace_poses(
        out / "poses.txt", state.names, poses, errors.rotation, errors.translation, inliers
    )
    pose_writers.write_colmap(out / "poses_colmap", state.names, poses, state.cameras)
    write_json(out / "metrics.json", state.metrics)
    scale, metres = _coordinate_errors(state)
    write_report(
        out / "report.html",
        state.metrics,
        errors,
        np.array(inliers),
        evaluation.calibration(scale, metres),
        evaluation.rank_correlation(scale, metres),
        pictures.best(),
        pictures.worst(),
        {
            stage: np.array([a.ms[stage] for a in answered])
            for stage in (answered[0].ms if answered else ())
        },
        _place(relocalizers, state, reference, errors, thumbnails),
    )


def _place(
    relocalizers: Sequence[Relocalizer],
    state: Run,
    reference: np.ndarray,
    errors: evaluation.PoseErrors,
    thumbnails: Thumbnails,
) -> Explored | None:
    """The map with the queries in it; several maps have worlds of their own and none in common."""
    found = [a for a in state.answers if a is not None and a.success]
    if len(relocalizers) > 1 or not found:
        return None
    points = relocalizers[0].points()
    if points is None:  # no map of landmarks: what the inliers said
        points = np.concatenate([a.xyz[a.inliers] for a in found])
    unit = length_unit(relocalizers[0].map.metric)
    queries = state.names, state.answers, state.cameras, reference, errors
    return explored(points, *queries, thumbnails, unit)


def _coordinate_errors(state: Run) -> tuple[np.ndarray, np.ndarray]:
    """Predicted scale and error of every coordinate, metres, where the true pose is known."""
    scales, errors = [], []
    for answer, camera, pose in zip(state.answers, state.cameras, state.reference, strict=True):
        if answer is not None and not np.isnan(pose).any():
            scales.append(answer.scale)
            errors.append(evaluation.beside_ray(answer.xyz, answer.uv, camera, pose))
    if not scales:
        return np.empty(0), np.empty(0)
    return np.concatenate(scales), np.concatenate(errors)


class _Pictures:
    """Small pictures of the queries that went best and worst so far; the rest is let go.

    Args:
        judged: whether the frames' own poses say how well a query went; else its inliers do.
    """

    def __init__(self, judged: bool = True) -> None:
        self._judged = judged
        self._kept: list[tuple[float, Picture]] = []

    def offer(self, index: int, frame: Frame, answer: Localization) -> None:
        """Keeps the query's picture if it is among the extremes."""
        error = float("nan")
        if self._judged and frame.world_from_camera is not None:
            errors = evaluation.pose_errors(
                [answer.world_from_camera if answer.success else None],
                frame.world_from_camera[None],
            )
            error = float(errors.translation[0])
        # Without a reference the fewest inliers are the worst.
        badness = -float(answer.num_inliers) if np.isnan(error) else error
        ranked = sorted(value for value, _ in self._kept)
        full = len(ranked) >= 2 * _PICTURES
        if full and ranked[_PICTURES - 1] <= badness <= ranked[-_PICTURES]:
            return
        picture = Picture(
            index=index,
            name=frame.name,
            jpeg=with_answers(frame.rgb, answer.uv, answer.voted, answer.inliers),
            inliers=answer.num_inliers,
            scene=answer.scene,
            success=answer.success,
        )
        self._kept.append((badness, picture))
        if full:
            self._kept.sort(key=lambda entry: entry[0])
            del self._kept[_PICTURES]

    def best(self) -> list[Picture]:
        """The best ones, best first."""
        return [picture for _, picture in sorted(self._kept, key=lambda e: e[0])[:_PICTURES]]

    def worst(self) -> list[Picture]:
        """The worst ones, worst first, none of which is among the best."""
        ordered = sorted(self._kept, key=lambda entry: entry[0])[_PICTURES:]
        return [picture for _, picture in reversed(ordered)]


def describe(state: Run, out: Path) -> str:
    """A few lines for the terminal."""
    metrics = state.metrics
    lines = [f"{metrics['registered']} of {metrics['queries']} queries registered"]
    if np.isfinite(metrics["median_translation_m"]):
        lines.append(evaluation.table_row(metrics, length_unit(metrics["metric"])))
        if not metrics["aligned"] and metrics["median_translation_m"] > _FAR_OFF:
            lines.append(
                "if the map's world is not that of the reference poses (a SLAM map begins at its "
                "first camera), pass --align"
            )
    if metrics["ms_p50"] is not None:
        lines.append(
            f"median ms: features {metrics['ms_features']:.1f}, head {metrics['ms_head']:.1f}, "
            f"solver {metrics['ms_solver']:.1f}"
        )
    if len(metrics["maps"]) > 1:
        lines.append(", ".join(f"{name}: {count}" for name, count in metrics["scenes"].items()))
    if state.unread:
        lines.append(f"{state.unread} frames could not be read")
    return "\n".join([*lines, f"written to {out}"])
