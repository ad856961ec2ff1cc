"""Features under roll, scale, blur, noise, light and baseline: repeatability, precision, matches.

Three scenes, twelve pairs of images for each condition, all of 320x240 and cut to 4:3. All
conditions but the baseline are made from one photo: its second view is moved a little (up to 5
degrees of roll, 5 % of scale, 10 px, some perspective), so that no pixel falls on itself, and is
then rolled, enlarged, blurred and so on. There the truth is exact. For the baseline pairs are
frames of the recording: the truth is measured depth with the reference poses, or, in the castle,
which has no depth, the epipolar line.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from edgepoint2 import EdgePoint2
from machine import stamp
from markdown import asked, table

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.registry import open_sequence
from ace_jax.features import registry
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.files import write_json
from ace_jax.geometry import rigid
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import intrinsic_matrix, project, unproject
from ace_jax.geometry.pose_graph import skew

SIZE = 320, 240
FEATURES = 600
_FINE = 3  # views are rendered so many times larger and then averaged
_PAIRS = 12
_FOUND_PX = 2.0  # a keypoint this near is the same one
_RIGHT_PX = 3.0  # so is a match
_EPIPOLAR_PX = 2.0  # distance from the epipolar line
_MARGIN = 8  # pixels from the border in which nothing is expected
_COST_TURNS = 12


@dataclasses.dataclass(frozen=True)
class Row:
    """An extractor of the tables."""

    label: str
    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = ""  # under SHARED/weights; LEARNED: the file that is given


LEARNED = "given by --descriptor"
_EDGEPOINT2 = ("T32", "S64", "M64", "E64")
_OCTAVES = {"levels": 3}
_HALF_OCTAVES = {"levels": 4, "level_ratio": 2**0.5}
_ORIENTED = {"oriented": True}
ROWS: dict[str, Row] = {
    "blobs": Row("`blobs`, upright", "blobs"),
    "blobs_octaves": Row("`blobs`, upright, 3 octaves", "blobs", _OCTAVES),
    "blobs_half_octaves": Row("`blobs`, upright, 4 half octaves", "blobs", _HALF_OCTAVES),
    "blobs_oriented": Row("`blobs`, oriented", "blobs", _ORIENTED),
    "blobs_oriented_octaves": Row("`blobs`, oriented, 3 octaves", "blobs", _ORIENTED | _OCTAVES),
    "blobs_oriented_half_octaves": Row(
        "`blobs`, oriented, 4 half octaves", "blobs", _ORIENTED | _HALF_OCTAVES
    ),
    "learned_blobs": Row("`learned_blobs`, upright", "learned_blobs", weights=LEARNED),
    "learned_blobs_half_octaves": Row(
        "`learned_blobs`, upright, 4 half octaves", "learned_blobs", _HALF_OCTAVES, LEARNED
    ),
    "sift": Row("`sift`", "sift"),
    "xfeat": Row("`xfeat`", "xfeat", weights="xfeat.onnx"),
    "xfeat_blobs": Row("`xfeat_blobs`", "xfeat_blobs", weights="xfeat.onnx"),
} | {
    f"edgepoint2_{size.lower()}": Row(
        f"EdgePoint2 {size}", f"edgepoint2_{size.lower()}", weights=f"edgepoint2/{size}.pth"
    )
    for size in _EDGEPOINT2
}

# Sequences, and the frames of the pairs: (first, second), of recordings' parts for development.
_SCENES: dict[str, tuple[str, str, list[tuple[int, int]]]] = {
    "castle": ("folder/castle_map", "folders", [(2 * i, 2 * i + 1) for i in range(_PAIRS)]),
    "kitchen": ("7scenes/redkitchen/seq-01", "", [(40 * i, 40 * i + 20) for i in range(_PAIRS)]),
    "lounge": ("folder/hololens_lounge", "folders", [(7 * i, 7 * i + 2) for i in range(_PAIRS)]),
}


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Two images, and where points of the first are in the second.

    Attributes:
        first: (240, 320, 3) uint8.
        second: the same.
        errors: keypoints (N, 2) of the first, keypoints (M, 2) of the second -> errors (N, M) of
            all pairs in pixels, NaN in rows of points that the second does not show or of which
            nothing is known.
        limit: error below which a match is right, pixels.
        exact: whether the errors are distances, not those from epipolar lines.
    """

    first: np.ndarray
    second: np.ndarray
    errors: Callable[[np.ndarray, np.ndarray], np.ndarray]
    limit: float = _RIGHT_PX
    exact: bool = True


# Made from one photo.


def _cut(image: np.ndarray) -> np.ndarray:
    """The middle of an image, as wide as 4:3."""
    width = image.shape[0] * SIZE[0] // SIZE[1]
    left = (image.shape[1] - width) // 2
    return image[:, left : left + width]


def _view(image: np.ndarray, move: np.ndarray, blur: np.ndarray | None = None) -> np.ndarray:
    """What an image shows after the homography `move` of pixels of `SIZE`; `blur`: a kernel."""
    fine = (SIZE[0] * _FINE, SIZE[1] * _FINE)
    to_fine, from_image = _scaling(_FINE), _scaling(SIZE[1] / image.shape[0])
    seen = cv2.warpPerspective(
        image,
        to_fine @ move @ from_image,
        fine,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if blur is not None:
        seen = cv2.filter2D(seen, -1, blur, borderType=cv2.BORDER_REFLECT_101)
    return cv2.resize(seen, SIZE, interpolation=cv2.INTER_AREA)


def _scaling(factor: float) -> np.ndarray:
    """Pixels to pixels of the image `factor` times as large; centres at integers."""
    shift = 0.5 * factor - 0.5
    return np.array([[factor, 0.0, shift], [0.0, factor, shift], [0.0, 0.0, 1.0]])


def _move(random: np.random.Generator, roll: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """A homography about the image's centre: the given one, and a little more of everything."""
    angle = math.radians(roll + random.uniform(-5, 5))
    scale *= random.uniform(0.95, 1.05)
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    centre = np.array([[1.0, 0.0, (SIZE[0] - 1) / 2], [0.0, 1.0, (SIZE[1] - 1) / 2], [0, 0, 1]])
    shift = random.uniform(-10, 10, 2)
    turned = np.array([[c, -s, shift[0]], [s, c, shift[1]], [*random.uniform(-2e-4, 2e-4, 2), 1.0]])
    return centre @ turned @ np.linalg.inv(centre)


def _motion_blur(random: np.random.Generator, length: float = 9.0) -> np.ndarray:
    """The kernel of a straight motion, pixels of `SIZE`, at the finer size."""
    half = length * _FINE / 2
    side = 2 * math.ceil(half) + 1
    angle = random.uniform(0, math.pi)
    end = half * np.array([math.cos(angle), math.sin(angle)])
    kernel = np.zeros((side, side), np.float32)
    middle = (side - 1) / 2
    points = tuple(np.round((middle + sign * end) * 16).astype(int) for sign in (-1, 1))
    cv2.line(kernel, *(tuple(map(int, p)) for p in points), 1.0, 1, cv2.LINE_AA, shift=4)
    return kernel / kernel.sum()


def _noisy(image: np.ndarray, random: np.random.Generator, sigma: float = 15.0) -> np.ndarray:
    return np.clip(image + random.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)


def _other_light(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Light that falls off over the image from 1.2 to 0.3 of the photo's, and another gamma."""
    angle = random.uniform(0, 2 * math.pi)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    along = (x - SIZE[0] / 2) * math.cos(angle) + (y - SIZE[1] / 2) * math.sin(angle)
    share = (along - along.min()) / (along.max() - along.min())
    gain = (1.2 - 0.9 * share)[..., None]
    gamma = random.choice([0.7, 1.4])
    return np.clip(255 * (gain * (image / 255.0)) ** gamma, 0, 255).astype(np.uint8)


def _made(photo: np.ndarray, first: np.ndarray, condition: str, seed: int) -> _Pair:
    """The pair of a photo's plain view and one under a condition."""
    random = np.random.default_rng(seed)
    kind, _, amount = condition.partition(" ")
    size = float(amount) if kind in ("roll", "scale") else 0.0
    move = _move(random, **({kind: size} if size else {}))
    blur = _motion_blur(random) if kind == "blur" else None
    second = _view(photo, move, blur)
    if kind == "noise":
        second = _noisy(second, random)
    if kind == "light":
        second = _other_light(second, random)

    def errors(uv: np.ndarray, uv2: np.ndarray) -> np.ndarray:
        moved = np.concatenate([uv, np.ones((len(uv), 1))], axis=1) @ move.T
        return _distances(moved[:, :2] / moved[:, 2:], uv2)

    return _Pair(first, second, errors)


def _distances(expected: np.ndarray, uv2: np.ndarray) -> np.ndarray:
    """(N, M) of where keypoints should be to where keypoints are; NaN where out of the image."""
    inside = ((expected >= _MARGIN) & (expected < np.array(SIZE) - _MARGIN)).all(axis=1)
    distance = np.linalg.norm(expected[:, None] - uv2[None], axis=-1)
    return np.where(inside[:, None], distance, np.nan)


# Two frames.


def _small_camera(frame: Frame) -> tuple[Camera, float, float]:
    """The frame's camera at `SIZE`, the scale to the frame's pixels, and where the cut begins."""
    cut = _cut(frame.rgb)
    left = (frame.rgb.shape[1] - cut.shape[1]) // 2
    whole = frame.camera
    camera = dataclasses.replace(whole, cx=whole.cx - left, width=cut.shape[1]).resized(*SIZE)
    return camera, cut.shape[0] / SIZE[1], left


def _seen_twice(first: Frame, image: np.ndarray, second: Frame) -> _Pair:
    """The pair of two frames; `image` is the first one's plain view."""
    camera, scale, left = _small_camera(first)
    camera2, _, _ = _small_camera(second)
    image2 = _view(_cut(second.rgb), np.eye(3))
    assert first.world_from_camera is not None
    assert second.world_from_camera is not None
    move = rigid.invert(second.world_from_camera) @ first.world_from_camera

    def by_depth(uv: np.ndarray, uv2: np.ndarray) -> np.ndarray:
        assert first.depth is not None
        there = (uv + 0.5) * scale - 0.5 + [left, 0.0]
        depth, good = _smooth_depth(there, first.depth)
        points = rigid.transform(move, unproject(uv, depth, camera))
        distance = _distances(project(points, camera2), uv2)
        return np.where((good & (points[:, 2] > 0.1))[:, None], distance, np.nan)

    def by_line(uv: np.ndarray, uv2: np.ndarray) -> np.ndarray:
        cross = skew(move[None, :3, 3])[0]
        inverse, inverse2 = (np.linalg.inv(intrinsic_matrix(c)) for c in (camera, camera2))
        fundamental = inverse2.T @ cross @ move[:3, :3] @ inverse
        lines = np.concatenate([uv, np.ones((len(uv), 1))], axis=1) @ fundamental.T
        lines /= np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
        return np.abs(lines @ np.concatenate([uv2, np.ones((len(uv2), 1))], axis=1).T)

    if first.depth is None:
        return _Pair(image, image2, by_line, _EPIPOLAR_PX, exact=False)
    return _Pair(image, image2, by_depth)


def _smooth_depth(uv: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median depth of the 3x3 neighbourhood of each point, and where it is no edge or hole."""
    x, y = np.rint(uv).astype(int).T
    height, width = depth.shape
    inside = (x >= 1) & (y >= 1) & (x < width - 1) & (y < height - 1)
    x, y = np.clip(x, 1, width - 2), np.clip(y, 1, height - 2)
    patch = np.stack([depth[y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    spread = patch.max(axis=0) - patch.min(axis=0)
    smooth = inside & (patch.min(axis=0) > 0.3) & (spread < 0.03 * patch.mean(axis=0))
    return np.median(patch, axis=0), smooth


# Measuring.

CONDITIONS = (
    "moved", "roll 30", "roll 180", "scale 1.5", "scale 2", "blur", "noise", "light", "baseline",
)  # fmt: skip
_SHOWN = ("moved", "scale 1.5", "blur", "noise")  # in the table of keypoints
_KEYS = ("found", "right", "matches", "error")


def _open(scene: str, data: Path) -> FrameSource:
    name, root, _ = _SCENES[scene]
    if not name.startswith("7scenes"):
        return open_sequence(name, data / root)
    poses = data / "7scenes/redkitchen/seq-01-sfm-pseudo-gt.txt"
    return open_sequence(name, data, poses=poses, focal=525.505)


@functools.cache
def _pairs(scene: str, data: Path) -> list[tuple[str, _Pair]]:
    """All pairs of a scene, with their conditions; kept, as every row sees the same ones."""
    source = _open(scene, data)
    pairs = []
    for number, (first, second) in enumerate(_SCENES[scene][2]):
        frame = source[first]
        photo = _cut(frame.rgb)
        view = _view(photo, np.eye(3))
        for condition in CONDITIONS:
            if condition == "baseline":
                pairs.append((condition, _seen_twice(frame, view, source[second])))
            else:
                pairs.append((condition, _made(photo, view, condition, number)))
    return pairs


def _measure(one: Features, two: Features, pair: _Pair) -> dict[str, float]:
    """The figures of one pair of images with these features."""
    uv, uv2 = (np.asarray(f.uv, np.float64)[np.asarray(f.mask)] for f in (one, two))
    if not len(uv) or not len(uv2):
        return {"found": math.nan, "right": 0, "matches": 0, "error": math.nan}
    error = pair.errors(uv, uv2)
    known = ~np.isnan(error[:, 0])
    nearest = np.where(known, error.min(axis=1), np.inf)
    similarity = (
        np.asarray(one.descriptors)[np.asarray(one.mask)]
        @ np.asarray(two.descriptors)[np.asarray(two.mask)].T
    )
    forward, backward = similarity.argmax(axis=1), similarity.argmax(axis=0)
    mutual = known & (backward[forward] == np.arange(len(uv)))
    of_match = error[np.arange(len(uv)), forward][mutual]
    right = of_match < pair.limit
    return {
        "found": float((nearest[known] < _FOUND_PX).mean()) if pair.exact else math.nan,
        "right": int(right.sum()),
        "matches": int(mutual.sum()),
        "error": float(np.median(of_match[right])) if pair.exact and right.any() else math.nan,
    }


def _core_ms(extractors: Mapping[str, FeatureExtractor], image: np.ndarray) -> dict[str, float]:
    """Milliseconds of processor time a call, the median over turns.

    All take turns, so that what else the machine does falls on all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in extractors}
    for turn in range(_COST_TURNS + 1):
        for name, extractor in extractors.items():
            cpu, calls, began = time.process_time(), 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - began < 0.2:
                jax.block_until_ready(extractor.extract(image))
                calls += 1
            if turn:  # the first one compiles
                times[name].append((time.process_time() - cpu) / calls)
    return {name: 1e3 * float(np.median(taken)) for name, taken in times.items()}


def _extractor(row: Row, shared: Path, descriptor: Path | None) -> FeatureExtractor:
    weights = shared / "weights" / row.weights if row.weights else None
    if row.weights == LEARNED:
        weights = descriptor
    return registry.create(row.name, weights, max_features=FEATURES, **row.options)


def _stamp() -> str:
    return stamp(("jax", "opencv-python-headless"))


def _figures(extractor: FeatureExtractor, data: Path) -> dict[str, Any]:
    """For each scene and condition the means over pairs."""
    figures: dict[str, Any] = {"stamp": _stamp()}
    for scene in _SCENES:
        measured: dict[str, list[dict[str, float]]] = {}
        view = one = None
        for condition, pair in _pairs(scene, data):
            if view is not pair.first:  # it is that of all conditions
                view, one = pair.first, extractor.extract(pair.first)
            two = extractor.extract(pair.second)
            measured.setdefault(condition, []).append(_measure(one, two, pair))
        figures[scene] = {
            condition: {key: _mean([each[key] for each in results]) for key in _KEYS}
            for condition, results in measured.items()
        }
    return figures


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def matching(
    shared: Path, out: Path, names: list[str], reuse: bool, descriptor: Path | None = None
) -> str:
    """The tables, with what they were measured on.

    Args:
        shared: folder with data/ and weights/.
        out: folder that keeps each row's figures, and the costs, which are measured together.
        names: of `ROWS`; empty for all.
        reuse: take what is already in `out`.
        descriptor: weights of the rows of `learned_blobs`, which are left out without.
    """
    for size in _EDGEPOINT2:
        registry.register(f"edgepoint2_{size.lower()}", EdgePoint2)
    known = {n: row for n, row in ROWS.items() if descriptor or row.weights != LEARNED}
    rows = dict(zip(names or known, asked(known, names or list(known), "row"), strict=True))
    figures = {}
    for name, row in rows.items():
        stored = out / f"matching-{name}.json"
        if not (reuse and stored.is_file()):
            write_json(stored, _figures(_extractor(row, shared, descriptor), shared / "data"))
        figures[name] = json.loads(stored.read_text())
    stored = out / "cost.json"
    cost = json.loads(stored.read_text()) if reuse and stored.is_file() else {}
    if not rows.keys() <= cost.keys():
        image = _pairs("kitchen", shared / "data")[0][1].first
        cost = {"stamp": _stamp()}
        cost |= _core_ms(
            {name: _extractor(row, shared, descriptor) for name, row in rows.items()}, image
        )
        write_json(stored, cost)
    return _text(rows, figures, cost)


def _text(
    rows: Mapping[str, Row], figures: Mapping[str, dict[str, Any]], cost: Mapping[str, Any]
) -> str:
    parts = [f"Matching: {each}." for each in dict.fromkeys(f["stamp"] for f in figures.values())]
    parts.append(f"Cost: {cost['stamp']}.")
    lines = []
    for name, row in rows.items():
        means = {
            (condition, key): _mean([_number(figures[name][s][condition][key]) for s in _SCENES])
            for condition in CONDITIONS
            for key in _KEYS
        }
        cells = [row.label, f"{cost[name]:.1f}"]
        cells += [f"{100 * means[c, 'found']:.0f} %" for c in _SHOWN]
        cells += [f"{means[c, 'error']:.2f}" for c in _SHOWN]
        lines.append(cells)
    header = ["600 features, 320x240", "core-ms", *(f"found again: {c}" for c in _SHOWN)]
    parts.append(table([*header, *(f"error, px: {c}" for c in _SHOWN)], lines))
    for scene in _SCENES:
        lines = [
            [row.label, *(_cell(figures[name][scene][condition]) for condition in CONDITIONS)]
            for name, row in rows.items()
        ]
        parts.append(f"Right matches of a pair, and their share of all, {scene}:")
        parts.append(table(["", *CONDITIONS], lines))
    return "\n\n".join(parts)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _cell(figures: Mapping[str, float]) -> str:
    share = figures["right"] / figures["matches"] if figures["matches"] else 0.0
    return f"{figures['right']:.0f} ({100 * share:.0f} %)"
