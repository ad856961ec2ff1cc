"""Relocalization metrics: pose errors, medians, shares within thresholds, calibration."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ace_jax.evaluation.lengths import CENTIMETRES, LengthUnit
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import rays
from ace_jax.geometry.rigid import invert, project_to_so3, transform

THRESHOLDS = ((0.10, 10.0), (0.05, 5.0), (0.02, 2.0), (0.01, 1.0))  # metres, degrees


@dataclasses.dataclass(frozen=True)
class PoseErrors:
    """Errors of N queries; infinite for a query without a pose.

    Attributes:
        translation: (N,) metres.
        rotation: (N,) degrees.
    """

    translation: np.ndarray
    rotation: np.ndarray


def pose_errors(estimated: Sequence[np.ndarray | None], reference: np.ndarray) -> PoseErrors:
    """Compares poses world_from_camera with reference ones.

    Args:
        estimated: N matrices (4, 4), or None for a query without a pose.
        reference: (N, 4, 4); queries whose reference is NaN get NaN errors.
    """
    translation = np.full(len(estimated), np.inf)
    rotation = np.full(len(estimated), np.inf)
    for i, (pose, truth) in enumerate(zip(estimated, reference, strict=True)):
        if np.isnan(truth).any():
            translation[i] = rotation[i] = np.nan
        elif pose is not None and np.isfinite(pose).all():
            translation[i] = np.linalg.norm(pose[:3, 3] - truth[:3, 3])
            # Half the chord between rotations is the sine of half the angle: exact near zero,
            # where the arc cosine of the trace is not.
            chord = np.linalg.norm(pose[:3, :3] - truth[:3, :3]) / np.sqrt(8.0)
            rotation[i] = np.degrees(2 * np.arcsin(min(chord, 1.0)))
    return PoseErrors(translation, rotation)


MIN_TO_ALIGN = 10
_ALIGN_TOLERANCE = 0.1  # metres; a query farther off takes no part


def estimate_from_reference(
    estimated: Sequence[np.ndarray | None], reference: np.ndarray
) -> np.ndarray | None:
    """The motion between the worlds of estimated and reference poses, where these differ.

    The motion that one query implies and most others support within 10 cm, averaged over these.

    Args:
        estimated: N matrices (4, 4) world_from_camera, or None for a query without a pose.
        reference: (N, 4, 4), NaN where unknown.

    Returns:
        (4, 4), or None if fewer than 10 queries agree on one.
    """
    both = {
        i: e for i, e in enumerate(estimated) if e is not None and not np.isnan(reference[i]).any()
    }
    if len(both) < MIN_TO_ALIGN:
        return None
    found, known = np.stack(list(both.values())), reference[list(both)]
    motions = found @ invert(known)
    support = [
        np.linalg.norm(transform(m, known[:, :3, 3]) - found[:, :3, 3], axis=1) < _ALIGN_TOLERANCE
        for m in motions[:: max(len(motions) // 200, 1)]
    ]
    agreeing = max(support, key=np.count_nonzero)
    if np.count_nonzero(agreeing) < MIN_TO_ALIGN:
        return None
    result = np.eye(4)
    result[:3, :3] = project_to_so3(motions[agreeing, :3, :3].sum(axis=0))
    shift = found[agreeing, :3, 3] - known[agreeing, :3, 3] @ result[:3, :3].T
    result[:3, 3] = shift.mean(axis=0)
    return result


def share_within(errors: PoseErrors, metres: float, degrees: float) -> float:
    """Per cent of the queries with a reference that are within both thresholds."""
    judged = ~np.isnan(errors.translation)
    if not judged.any():
        return float("nan")
    good = (errors.translation[judged] <= metres) & (errors.rotation[judged] <= degrees)
    return 100.0 * float(good.mean())


def summary(errors: PoseErrors, registered: int) -> dict[str, float]:
    """The figures that are reported: counts, medians, per cent within the thresholds."""
    judged = ~np.isnan(errors.translation)
    any_judged = bool(judged.any())
    result: dict[str, float] = {
        "queries": len(errors.translation),
        "registered": registered,
        "median_translation_m": float(np.median(errors.translation[judged]))
        if any_judged
        else float("nan"),
        "median_rotation_deg": float(np.median(errors.rotation[judged]))
        if any_judged
        else float("nan"),
    }
    for metres, degrees in THRESHOLDS:
        result[_share_name(metres, degrees)] = share_within(errors, metres, degrees)
    return result


def table_row(figures: Mapping[str, float], unit: LengthUnit = CENTIMETRES) -> str:
    """One line of `summary`'s figures for a terminal."""
    shares = [
        f"{unit.bound(metres)}/{degrees:g} deg {share:5.1f} %"
        for (metres, degrees), share in zip(THRESHOLDS[:3], within(figures), strict=False)
    ]
    median = unit.text(figures["median_translation_m"])
    return "   ".join([*shares, f"median {median}, {figures['median_rotation_deg']:.2f} deg"])


def within(figures: Mapping[str, float]) -> list[float]:
    """`summary`'s per cent within each of `THRESHOLDS`."""
    return [figures[_share_name(*threshold)] for threshold in THRESHOLDS]


def _share_name(metres: float, degrees: float) -> str:
    return f"within_{100 * metres:.0f}cm_{degrees:.0f}deg"


def beside_ray(
    xyz: np.ndarray, uv: np.ndarray, camera: Camera, world_from_camera: np.ndarray
) -> np.ndarray:
    """Error of scene coordinates without the true points: how far they are beside their rays.

    Args:
        xyz: (N, 3) predicted, world, metres.
        uv: (N, 2) pixels.
        camera: intrinsics.
        world_from_camera: (4, 4) the true pose.

    Returns:
        (N,) metres; infinite behind the camera.
    """
    camera_from_world = invert(world_from_camera)
    point = transform(camera_from_world, xyz)
    ray = rays(uv, camera)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    beside = point - np.sum(point * ray, axis=1, keepdims=True) * ray
    return np.where(point[:, 2] > 0, np.linalg.norm(beside, axis=1), np.inf)


@dataclasses.dataclass(frozen=True)
class CalibrationBin:
    """Answers of similar predicted scale.

    Attributes:
        scale: median predicted scale, metres.
        error: median error, metres.
        low: lower quartile of the error, metres.
        high: upper quartile, metres.
        count: answers.
    """

    scale: float
    error: float
    low: float
    high: float
    count: int


def calibration(scale: np.ndarray, error: np.ndarray, bins: int = 12) -> list[CalibrationBin]:
    """Predicted scale against error in bins of equal count.

    Args:
        scale: (N,) predicted, metres.
        error: (N,) true, metres; not finite where unknown.
        bins: number of bins.
    """
    known = np.isfinite(error) & np.isfinite(scale)
    scale, error = scale[known], error[known]
    order = np.argsort(scale, kind="stable")
    result = []
    for part in np.array_split(order, bins):
        if len(part):
            low, middle, high = np.quantile(error[part], [0.25, 0.5, 0.75])
            result.append(
                CalibrationBin(
                    scale=float(np.median(scale[part])),
                    error=float(middle),
                    low=float(low),
                    high=float(high),
                    count=len(part),
                )
            )
    return result


def rank_correlation(scale: np.ndarray, error: np.ndarray) -> float:
    """Spearman's correlation of predicted scale and error; 1 is a perfect order."""
    known = np.isfinite(error) & np.isfinite(scale)
    if known.sum() < 3:
        return float("nan")
    ranks = [np.argsort(np.argsort(x[known], kind="stable"), kind="stable") for x in (scale, error)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
