"""The report of a mapping run: one HTML file beside the map."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.evaluation import page
from ace_jax.evaluation.charts import Curves, bar_figure, curves_figure, map_figure
from ace_jax.evaluation.lengths import LengthUnit, length_unit
from ace_jax.evaluation.page import Section, drawing
from ace_jax.evaluation.pictures import with_answers
from ace_jax.evaluation.relocalization import pose_errors
from ace_jax.geometry.rigid import invert
from ace_jax.localization.relocalizer import Localization, Relocalizer
from ace_jax.localization.scene_map import SceneMap
from ace_jax.localization.stored_landmarks import landmarks_of
from ace_jax.mapping import checks
from ace_jax.mapping.images import select_frames


@dataclasses.dataclass(frozen=True)
class CheckAnswer:
    """An image that was kept out of mapping, and its localization in the map.

    Attributes:
        frame: the image.
        answer: of the map.
        metres: error of the position; infinite without a pose.
        degrees: error of the orientation.
    """

    frame: Frame
    answer: Localization
    metres: float
    degrees: float


def report_path(out: Path) -> Path:
    """Where the report of a map goes: `kitchen.report.html` beside `kitchen.safetensors`."""
    return out.with_name(f"{out.stem}.report.html")


def write_report(
    path: Path,
    made: SceneMap,
    size: int,
    source: FrameSource,
    curve: Sequence[tuple[int, float, float]] = (),
    answers: Sequence[CheckAnswer] = (),
) -> None:
    """Writes the report.

    Args:
        path: the HTML file.
        made: the map; its `info` tells how it was made.
        size: of its file, bytes.
        source: the mapping images.
        curve: (step, loss, median error in pixels) of the training, if there was one.
        answers: to the images that were kept out of mapping.
    """
    info = made.info
    config = json.loads(info["config"])
    frames, _ = _frames(source, config)
    stages = bar_figure(info.get("stage_seconds", {}), "seconds")
    sections = [
        Section("Time", [drawing(stages, "seconds by stage")], f"{info['seconds']:.0f} s in all."),
    ]
    if len(curve) > 1:
        steps, loss, error = zip(*curve, strict=True)
        panels = (Curves({"": loss}, "loss"), Curves({"": error}, "median error, px", True))
        drawn = drawing(curves_figure(steps, panels), "loss and error")
        sections.append(Section("Training", [drawn]))
    landmarks = landmarks_of(made)
    if landmarks is not None:
        figure = map_figure(landmarks.points, None, source.poses()[frames], path=False)
        note = "Red dots are the mapping images' cameras."
        sections.append(Section("Map", [drawing(figure, "the map from two views")], note))
    if answers:
        note = "Worst first. Inliers green, outliers red, filtered out grey."
        worst_first = sorted(answers, key=lambda entry: -entry.metres)
        shown = page.pictures(_picture(entry, length_unit(made.metric)) for entry in worst_first)
        sections.append(Section("Images kept out of mapping", [shown], note))
    summary = (_figures(made, size), _judged(info["checks"], length_unit(made.metric)))
    page.write_report(path, f"Map of {info['sequence']}", summary, config, sections)


def _figures(made: SceneMap, size: int) -> list[tuple[str, str]]:
    info = made.info
    rows = [
        ("map", f"{size / 1e6:.2f} MB"),
        ("head", made.head),
        ("features", made.features),
        ("mapping images", f"{info['mapping_images']} of {info['images_given']}"),
    ]
    if "landmarks" in info:
        rows.append(("landmarks", str(info["landmarks"])))
        rows.append(("of them in the head", str(made.head_options["landmarks"])))
        rows.append(("left out for want of room", str(info["landmarks_left_out"])))
        rows.append(("images with hardly any", str(len(info["few_landmarks"]))))
    if np.isfinite(info.get("error_px", np.nan)):
        rows.append(("training's last median error", f"{info['error_px']:.1f} px"))
    return [*rows, ("core-seconds", f"{info['core_seconds']:.0f}")]


def _judged(judged: dict[str, Any], unit: LengthUnit) -> list[tuple[str, str]]:
    rows = []
    for label, both in judged.items():
        for when in ("before", "after"):
            if both[when] is not None:
                found = both[when]
                name = f"{label}, {when} update" if both["before"] is not None else label
                rows += [
                    (f"{name}: kept out", str(found["queries"])),
                    (
                        f"within {unit.bound(0.05)}, 5 deg",
                        page.number(found["within_5cm_5deg"], 1, 0, " %"),
                    ),
                    ("median error", unit.text(found["median_translation_m"])),
                ]
    return rows


def answer_checks(
    made: SceneMap, source: FrameSource, weights_dir: str | None = None
) -> list[CheckAnswer]:
    """How a map answers the images that were kept out of it, with these images."""
    _, kept_out = _frames(source, json.loads(made.info["config"]))
    carried = checks.carried_by(made)
    # An updated map's checks are a selection of old and new images: no image belongs to them.
    if "updates" in made.info or len(carried) != len(kept_out) or not carried:
        return []
    relocalizer = Relocalizer.of(made, weights_dir)
    found = []
    for index, check in zip(kept_out, carried, strict=True):
        try:
            frame = source[index]
        except BadFrame as error:
            logging.warning("no picture of frame %d: %s", index, error)
            continue
        answer = relocalizer.locate(checks.features_of(check), check.camera)
        pose = answer.world_from_camera if answer.success else None
        error = pose_errors([pose], invert(check.camera_from_world)[None])
        found.append(
            CheckAnswer(frame, answer, float(error.translation[0]), float(error.rotation[0]))
        )
    return found


def _frames(source: FrameSource, config: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The frames that were mapped, and those that were kept out."""
    frames = select_frames(source, config["max_frames"], config.get("more_frames"))
    return checks.hold_out(frames, config["checks"]["images"])


def _picture(entry: CheckAnswer, unit: LengthUnit) -> tuple[bytes, str, str]:
    answer, name = entry.answer, entry.frame.name
    caption = f"{name}: {answer.num_inliers} inliers, "
    caption += (
        f"{unit.text(entry.metres)}, {entry.degrees:.2f} deg" if answer.success else "no pose"
    )
    return with_answers(entry.frame.rgb, answer.uv, answer.voted, answer.inliers), name, caption
