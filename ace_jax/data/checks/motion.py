"""Checks poses, depth and intrinsics against feature matches between frames.

Points matched between two frames, lifted by the first frame's depth, are moved by the poses and
projected into the second frame: they should land on their partners. Without depth the distance to
the epipolar line is taken. If they do not, each known mistake is undone in turn (inverted poses,
OpenGL axes, a pose of a frame earlier or later, a scale of depth, other intrinsics); the one that
makes the points land names the fault.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from ace_jax.data.checks.finding import Finding
from ace_jax.data.checks.structure import unit_finding
from ace_jax.data.frame import Frame
from ace_jax.geometry import host_camera
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.rigid import invert

GAPS = (2, 5, 10, 20)  # frames between the two of a pair
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV's camera axes in OpenGL's, and back
_FEATURES = 700
_MIN_MATCHES = 30
_MIN_PAIRS = 4
_FAR = 1e4  # pixels: the error of a point that falls behind the camera
_SCALES = np.geomspace(1e-3, 1e3, 61)  # of depth; 26 % apart, the best is refined
_FOCALS = np.geomspace(0.4, 2.5, 21)  # of focal length; 10 % apart
_SHIFTS = (-3, -2, -1, 1, 2, 3)  # frames
_BETTER = 0.9  # a fault is named if undoing it leaves at most this share of the distances ...
_MOST = 0.55  # ... and more than this share of the matches gain
_CAP = 25.0  # pixels of 640, of one match's distance: mismatches must not decide
_MAX_MATCHES = 4000
_POOR = 12.0  # pixels of 640: beyond, something is wrong even if no known fault explains it
_SCALE_FREE = 0.07  # so far depth and focal length may be off before it is a fault


@dataclasses.dataclass(frozen=True)
class Matches:
    """Points matched between frames of P pairs.

    Attributes:
        first: (P,) frame numbers.
        second: (P,) frame numbers.
        pair: (M,) which pair a match belongs to.
        uv_first: (M, 2) pixels.
        uv_second: (M, 2) pixels.
        depth: (M,) metres in the first frame; None for a colour-only source.
        camera: of all frames.
    """

    first: np.ndarray
    second: np.ndarray
    pair: np.ndarray
    uv_first: np.ndarray
    uv_second: np.ndarray
    depth: np.ndarray | None
    camera: Camera


def pairs_of(count: int, anchors: int = 10) -> list[tuple[int, int]]:
    """Pairs of frame numbers spread over a recording."""
    gaps = [gap for gap in GAPS if gap < count] or [1]
    starts = np.unique(np.linspace(0, max(count - 1 - gaps[-1], 0), anchors).astype(int))
    pairs = itertools.product(starts.tolist(), gaps)
    return [(i, i + gap) for i, gap in pairs if i + gap < count]


def match(frames: dict[int, Frame], pairs: Sequence[tuple[int, int]]) -> Matches | None:
    """Matches features of the pairs whose frames could be read; None if too few pairs match."""
    detector = cv2.ORB_create(_FEATURES)
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    found = {
        i: detector.detectAndCompute(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), None)
        for i, frame in frames.items()
    }
    kept, columns = [], []
    for i, j in pairs:
        if i not in frames or j not in frames or frames[i].camera != frames[j].camera:
            continue
        points = _match_pair(found[i], found[j], matcher)
        if points is None:
            continue
        depth = np.zeros(len(points))
        if frames[i].depth is not None:
            u, v = np.rint(points[:, :2]).astype(int).T
            depth = frames[i].depth[v, u].astype(np.float64)
            points, depth = points[depth > 0], depth[depth > 0]
        if len(points) >= _MIN_MATCHES:
            columns.append(np.c_[np.full(len(points), len(kept)), points, depth])
            kept.append((i, j))
    if len(kept) < _MIN_PAIRS:
        return None
    table = np.concatenate(columns)
    table = table[:: -(-len(table) // _MAX_MATCHES)]
    first, second = np.array(kept).T
    frame = frames[kept[0][0]]
    return Matches(
        first=first,
        second=second,
        pair=table[:, 0].astype(int),
        uv_first=table[:, 1:3],
        uv_second=table[:, 3:5],
        depth=None if frame.depth is None else table[:, 5],
        camera=frame.camera,
    )


def _match_pair(first: tuple, second: tuple, matcher: cv2.BFMatcher) -> np.ndarray | None:
    """(M, 4) pixels of matches that agree with one epipolar geometry."""
    if min(len(first[0]), len(second[0])) < _MIN_MATCHES:
        return None
    matches = matcher.match(first[1], second[1])
    if len(matches) < _MIN_MATCHES:
        return None
    a = np.array([first[0][m.queryIdx].pt for m in matches])
    b = np.array([second[0][m.trainIdx].pt for m in matches])
    _, inliers = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 1.5, 0.999, 2000)
    return None if inliers is None else np.c_[a, b][inliers.ravel() > 0]


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What might be wrong; the defaults mean: nothing.

    Attributes:
        invert: the poses are camera_from_world.
        opengl: the poses' camera axes are OpenGL's.
        shift: frames by which poses are late: frame i has the pose of frame i + shift.
        scale: what depth must be multiplied with.
        camera: other intrinsics, or None.
    """

    invert: bool = False
    opengl: bool = False
    shift: int = 0
    scale: float = 1.0
    camera: Camera | None = None


def distances(matches: Matches, poses: np.ndarray, hypothesis: Hypothesis) -> np.ndarray:
    """Pixels (M,) between where points should land and where they are; NaN without poses.

    Args:
        matches: between P pairs of frames.
        poses: (N, 4, 4) as given, NaN where missing.
        hypothesis: the mistake to undo.
    """
    motion, usable = _relative(matches, poses, hypothesis)
    camera = hypothesis.camera or matches.camera
    rays = host_camera.rays(matches.uv_first[usable], camera)
    target = matches.uv_second[usable]
    result = np.full(len(usable), np.nan)
    if matches.depth is None:
        result[usable] = _epipolar(rays, target, motion, camera)
    else:
        points = rays * (hypothesis.scale * matches.depth[usable])[:, None]
        result[usable] = np.linalg.norm(_project(points, motion, camera) - target, axis=1)
    return result


def landing(matches: Matches, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where poses and depth put the points: pixels (M, 2), and for which (M,) poses are known."""
    motion, usable = _relative(matches, poses, Hypothesis())
    points = host_camera.unproject(matches.uv_first[usable], matches.depth[usable], matches.camera)
    uv = np.full((len(usable), 2), np.nan)
    uv[usable] = _project(points, motion, matches.camera)
    return uv, usable


def _relative(
    matches: Matches, poses: np.ndarray, hypothesis: Hypothesis
) -> tuple[np.ndarray, np.ndarray]:
    """second_from_first (U, 4, 4) of matches whose poses are known, and which (M,) these are."""
    poses = invert(poses) if hypothesis.invert else poses
    poses = poses @ OPENGL if hypothesis.opengl else poses
    numbers = np.arange(len(poses)) + hypothesis.shift
    valid = (numbers >= 0) & (numbers < len(poses))
    poses = np.where(valid[:, None, None], poses[numbers.clip(0, len(poses) - 1)], np.nan)
    motion = invert(poses[matches.second]) @ poses[matches.first]
    usable = np.isfinite(motion).all(axis=(1, 2))[matches.pair]
    return motion[matches.pair[usable]], usable


def _project(points: np.ndarray, motion: np.ndarray, camera: Camera) -> np.ndarray:
    """(M, 2) pixels of moved points; far away for those behind the camera."""
    moved = np.einsum("nij,nj->ni", motion[:, :3, :3], points) + motion[:, :3, 3]
    return np.where(moved[:, 2:] > MIN_DEPTH, host_camera.project(moved, camera), _FAR)


def _epipolar(rays: np.ndarray, uv: np.ndarray, motion: np.ndarray, camera: Camera) -> np.ndarray:
    """(M,) pixels from the epipolar lines of `rays`."""
    lines = np.cross(motion[:, :3, 3], np.einsum("nij,nj->ni", motion[:, :3, :3], rays))
    # A line in normalised coordinates is one in pixels after multiplication with K^-T.
    a, b = lines[:, 0] / camera.fx, lines[:, 1] / camera.fy
    c = lines[:, 2] - a * camera.cx - b * camera.cy
    return np.abs(a * uv[:, 0] + b * uv[:, 1] + c) / np.maximum(np.hypot(a, b), 1e-12)


def scaled(camera: Camera, focal: float, centre: float = 1.0) -> Camera:
    """A camera with focal lengths and principal point multiplied."""
    return camera.replace(
        fx=camera.fx * focal, fy=camera.fy * focal, cx=camera.cx * centre, cy=camera.cy * centre
    )


def _hypotheses(matches: Matches) -> Iterator[tuple[str, Hypothesis]]:
    """Faults by name, each with what undoes it."""
    camera = matches.camera
    yield "poses_inverted", Hypothesis(invert=True)
    yield "opengl_axes", Hypothesis(opengl=True)
    yield "inverted_and_opengl", Hypothesis(invert=True, opengl=True)
    for shift in _SHIFTS:
        yield "time_shift", Hypothesis(shift=shift)
    yield (
        "swapped_focals",
        Hypothesis(camera=camera.replace(fx=camera.fy, fy=camera.fx)),
    )
    for factor in _FOCALS:
        if abs(np.log(factor)) > _SCALE_FREE:
            yield "intrinsics_size", Hypothesis(camera=scaled(camera, factor, factor))
            yield "focal_length", Hypothesis(camera=scaled(camera, factor))
    if matches.depth is not None:
        for scale in _SCALES:
            if abs(np.log(scale)) > _SCALE_FREE:
                yield "depth_scale", Hypothesis(scale=scale)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the matches say.

    Attributes:
        pairs: how many pairs of frames were compared.
        matches: how many matches they have.
        error: median error in pixels, as the recording is.
        fault: name of the mistake whose undoing helps most, or None.
        hypothesis: what undoes it.
        remaining: median error in pixels after that.
    """

    pairs: int
    matches: int
    error: float
    fault: str | None
    hypothesis: Hypothesis
    remaining: float


def weigh(matches: Matches, poses: np.ndarray) -> Verdict:
    """Tries all hypotheses.

    They are compared by the mean distance, each capped at 25 px of 640, of those matches that both
    the hypothesis and the recording as given say something about. (The median would look only at
    the nearest pairs, which tell the least about depth.)
    """
    given = distances(matches, poses, Hypothesis())
    cap = _CAP * matches.camera.pixel_scale

    def gain(hypothesis: Hypothesis) -> tuple[float, float, float]:
        """Share of the mean distance that is left, share of matches that gain, median left."""
        other = distances(matches, poses, hypothesis)
        both = np.isfinite(given) & np.isfinite(other)
        if both.sum() < max(_MIN_MATCHES, np.isfinite(given).sum() / 2):
            return np.inf, 0.0, np.inf
        before, after = given[both], other[both]
        share = np.minimum(after, cap).mean() / np.minimum(before, cap).mean()
        return float(share), float((after < before).mean()), float(np.median(after))

    tried = [(gain(hypothesis), name, hypothesis) for name, hypothesis in _hypotheses(matches)]
    left, name, best = min(tried, key=lambda item: item[0][0])
    if name == "depth_scale":
        around = [
            dataclasses.replace(best, scale=float(best.scale * factor))
            for factor in np.geomspace(0.88, 1.14, 14)
        ]
        left, best = min(((gain(h), h) for h in around), key=lambda item: item[0][0])
    found = left[0] < _BETTER and left[1] > _MOST
    median = float(np.nanmedian(given)) if np.isfinite(given).any() else np.inf
    return Verdict(
        pairs=len(matches.first),
        matches=len(matches.pair),
        error=median,
        fault=name if found else None,
        hypothesis=best if found else Hypothesis(),
        remaining=left[2] if found else median,
    )


def judge(verdict: Verdict, camera: Camera) -> list[Finding]:
    """The fault that a verdict names, in words."""
    seen = (
        f"matched points land {verdict.error:.1f} px off (median of {verdict.matches} matches in "
        f"{verdict.pairs} pairs of frames)"
    )
    if verdict.fault is None:
        if verdict.error > _POOR * camera.pixel_scale:
            return [
                Finding(
                    "disagreement",
                    "poses, depth and intrinsics do not agree with the images",
                    f"{seen}; none of the common mistakes explains it",
                    "check the calibration and the poses one by one: first the intrinsics, "
                    "with a checkerboard; then times, and the frames in which poses are given",
                )
            ]
        return []
    seen = f"{seen}, and {verdict.remaining:.1f} px once this is undone"
    scale = verdict.hypothesis.scale
    if verdict.fault == "depth_scale":
        power = np.rint(np.log10(scale))
        if power and abs(np.log10(scale) - power) < 0.04:
            return [unit_finding(10.0**power, seen)]
        return [
            Finding(
                "depth_scale",
                f"depth has the wrong scale: it should be multiplied by {scale:.3g}",
                seen,
                f"depth_scale is units per metre: multiply it by {1 / scale:.3g} (usual values: "
                "1000, TUM 5000, Replica 6553.5)",
            )
        ]
    return [Finding(verdict.fault, *_words(verdict, seen, camera))]


def _words(verdict: Verdict, seen: str, camera: Camera) -> tuple[str, str, str]:
    """What, seen, fix."""
    hypothesis = verdict.hypothesis
    if verdict.fault == "time_shift":
        late = hypothesis.shift
        return (
            f"times are off: each image has the pose of {abs(late)} frame(s) "
            f"{'before' if late > 0 else 'after'}",
            seen,
            f"pair image i with pose i {late:+d}, or add the delay to the times; cameras and "
            "motion capture often have different clocks",
        )
    other = hypothesis.camera or camera
    if verdict.fault == "intrinsics_size":
        width, height = (
            round(side * camera.fx / other.fx) for side in (camera.width, camera.height)
        )
        return (
            "the intrinsics are for images of another size",
            f"{seen}; they seem to be for {width} x {height}",
            f"multiply fx, fy, cx and cy by {other.fx / camera.fx:.3g}",
        )
    if verdict.fault == "focal_length":
        return (
            "the focal length is wrong",
            seen,
            f"fx and fy should be about {other.fx:.0f} and {other.fy:.0f}: calibrate again",
        )
    return {
        "poses_inverted": (
            "poses are inverted: they are camera_from_world",
            seen,
            "invert each 4 x 4 matrix: poses must take points from camera to world",
        ),
        "opengl_axes": (
            "poses have OpenGL camera axes (y up, z backward)",
            seen,
            "multiply each matrix by diag(1, -1, -1, 1) from the right: OpenCV axes are x right, "
            "y down, z forward",
        ),
        "inverted_and_opengl": (
            "poses are inverted and have OpenGL camera axes",
            seen,
            "invert each matrix, then multiply it by diag(1, -1, -1, 1) from the right",
        ),
        "swapped_focals": ("fx and fy are swapped", seen, "swap them"),
    }[verdict.fault]
