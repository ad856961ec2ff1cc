"""The interactive view of a report: a map in 3D, cameras, trajectories, and images.

Everything is in the page: three.js (`web/three.min.js`), what it draws, as JSON, and the images.
Without WebGL the page shows a picture of the map instead; without JavaScript, that and the
timeline.
"""

import base64
import dataclasses
import html
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.evaluation.charts import height_colours
from ace_jax.evaluation.lengths import CENTIMETRES, LengthUnit
from ace_jax.evaluation.plots import view_axes
from ace_jax.evaluation.trajectory import Trajectory
from ace_jax.geometry.camera import Camera

MAX_SHOTS = 160
_MAX_POINTS = 30_000
_MAX_PATH = 3000  # positions of a trajectory
_MAX_INLIERS = 250  # of a shot
_MAX_IMAGE_BYTES = 2_300_000  # of all images together; base64 adds a third
_WEB = Path(__file__).with_name("web")
_MAX_CELLS = 1000  # of the timeline
_SLIMMEST = 0.2  # % of the timeline
# Colours of states, of those that need attention in the order in which they appear.
_USUAL, _UNUSUAL = "#3b82c4", ("#d1495b", "#e0a030", "#8b5fbf", "#4d9078", "#a05a2c")


@dataclasses.dataclass(frozen=True)
class Shot:
    """A frame or a query that can be chosen.

    Attributes:
        at: its place on the timeline, counted from 0.
        name: what it is called.
        facts: names and values.
        camera: of the image.
        pose: (4, 4) world_from_camera, or None.
        truth: (4, 4) the true one in the same world, or None.
        jpeg: the image, of any size, or None.
        uv: (K, 2) pixels of the inliers in the camera's image,
        xyz: and (K, 3) their points in the world.
    """

    at: int
    name: str
    facts: Sequence[tuple[str, str]]
    camera: Camera
    pose: np.ndarray | None = None
    truth: np.ndarray | None = None
    jpeg: bytes | None = None
    uv: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    xyz: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3)))


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Points (M, 3) in the world, and their colours (M, 3) uint8; None: by height."""

    points: np.ndarray
    colours: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Explored:
    """What can be explored.

    Attributes:
        shots: in the order of the timeline, at least one, at most `MAX_SHOTS`.
        points: of the map.
        states: of all frames or queries.
        usual: the state that needs no attention.
        surfaces: measured by depth images, or None.
        estimate: the camera's path, or None where the images are no sequence.
        truth: the true path in the same world, or None.
        error: (N,) metres of the frames (NaN where unknown), or None.
        unit: of lengths.
        what: what is chosen: "frame" or "query".
    """

    shots: Sequence[Shot]
    points: Cloud
    states: Sequence[str]
    usual: str = "tracked"
    surfaces: Cloud | None = None
    estimate: Trajectory | None = None
    truth: Trajectory | None = None
    error: np.ndarray | None = None
    unit: LengthUnit = CENTIMETRES
    what: str = "frame"


def explorer(explored: Explored, picture: str) -> list[str]:
    """The HTML of a report's section.

    Args:
        explored: what can be explored.
        picture: HTML that takes the place of the 3D view where there is none.
    """
    if not explored.shots:
        return [picture]
    text = json.dumps(page_data(explored), separators=(",", ":"), allow_nan=False)
    # A name must not end the element that holds it.
    text = text.replace("<", "\\u003c")
    script = "".join(
        f"<script>{(_WEB / name).read_text(encoding='utf-8')}</script>"
        for name in ("three.min.js", "explorer.js")
    )
    style = (_WEB / "explorer.css").read_text(encoding="utf-8")
    return [
        f"<style>{style}</style>",
        f'<div class="explorer" id="explorer">{_scene(explored, picture)}{_side()}'
        f"{_run(explored)}</div>",
        f'<script type="application/json" id="explored">{text}</script>{script}',
    ]


def page_data(explored: Explored) -> dict[str, Any]:
    """What `explorer.js` reads; numbers are metres in the world's axes."""
    poses = [s.pose for s in explored.shots if s.pose is not None]
    up = view_axes(np.array(poses))[2] if poses else np.array([0.0, -1.0, 0.0])
    points = _sample(explored.points)
    if points.colours is None:
        points = Cloud(points.points, height_colours(points.points @ up))
    surfaces = None if explored.surfaces is None else _sample(explored.surfaces)
    centre, radius = _extent(points.points, np.array(poses).reshape(-1, 4, 4)[:, :3, 3])
    images = _affordable([shot.jpeg for shot in explored.shots])
    return {
        "length": len(explored.states),
        "shots": [_shot(s, image) for s, image in zip(explored.shots, images, strict=True)],
        "points": _cloud(points),
        "surfaces": None if surfaces is None else _cloud(surfaces),
        "estimate": _path(explored.estimate),
        "truth": _path(explored.truth),
        "up": _numbers(up),
        "centre": _numbers(centre),
        "eye": _numbers(centre + radius * _outside(poses, up)),
        "radius": round(radius, 4),
    }


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of at most so many of a sequence, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def packed(values: np.ndarray) -> dict[str, Any]:
    """An array (N, D) in 16 bits a number, each column between its least and its largest."""
    low, high = values.min(axis=0), values.max(axis=0)
    step = (high - low) / 65535.0
    whole = np.round((values - low) / np.where(step > 0, step, 1.0)).astype("<u2")
    return {"low": low.tolist(), "step": step.tolist(), "values": _base64(whole.tobytes())}


def unpacked(stored: Mapping[str, Any]) -> np.ndarray:
    """The array that `packed` stored, (N, D)."""
    low, step = np.array(stored["low"]), np.array(stored["step"])
    whole = np.frombuffer(base64.b64decode(stored["values"]), "<u2")
    return low + whole.reshape(-1, len(low)) * step


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _numbers(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in np.ravel(values)]


def _shot(shot: Shot, image: bytes | None) -> dict[str, Any]:
    left, top = shot.camera.normalised(-0.5, -0.5)
    right, bottom = shot.camera.normalised(shot.camera.width - 0.5, shot.camera.height - 0.5)
    found: dict[str, Any] = {
        "at": shot.at,
        "name": shot.name,
        "facts": [list(fact) for fact in shot.facts],
        "size": [int(shot.camera.width), int(shot.camera.height)],
        "window": _numbers(np.array([left, top, right, bottom])),
        "pose": None if shot.pose is None else _numbers(shot.pose[:3]),
        "truth": None if shot.truth is None else _numbers(shot.truth[:3]),
        "image": None if image is None else _base64(image),
    }
    known = np.flatnonzero(np.isfinite(shot.uv).all(axis=1) & np.isfinite(shot.xyz).all(axis=1))
    if len(known):
        known = known[evenly(len(known), _MAX_INLIERS)]
        found |= {"uv": packed(shot.uv[known]), "xyz": packed(shot.xyz[known])}
    return found


def _affordable(images: Sequence[bytes | None]) -> list[bytes | None]:
    """The images, or every second, third, ... of them if they are too large together."""
    kept, step = list(images), 1
    while sum(len(image) for image in kept if image is not None) > _MAX_IMAGE_BYTES:
        step += 1
        kept = [image if i % step == 0 else None for i, image in enumerate(images)]
    return kept


def _sample(cloud: Cloud) -> Cloud:
    keep = np.flatnonzero(np.isfinite(cloud.points).all(axis=1))
    if len(keep) > _MAX_POINTS:
        keep = np.random.default_rng(0).choice(keep, _MAX_POINTS, replace=False)
    colours = None if cloud.colours is None else cloud.colours[keep]
    return Cloud(cloud.points[keep], colours)


def _cloud(cloud: Cloud) -> dict[str, Any] | None:
    if not len(cloud.points):
        return None
    assert cloud.colours is not None
    return {**packed(cloud.points), "rgb": _base64(cloud.colours.astype(np.uint8).tobytes())}


def _path(trajectory: Trajectory | None) -> list[list[float] | None] | None:
    """Positions in order; None where there is none, for the pen to be lifted."""
    if trajectory is None:
        return None
    chosen = trajectory[evenly(len(trajectory), _MAX_PATH)] if len(trajectory) else trajectory
    return [
        _numbers(position) if known else None
        for position, known in zip(chosen.positions, chosen.known, strict=True)
    ]


def _extent(points: np.ndarray, cameras: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of what matters: a few far points do not."""
    low, high = np.zeros(3), np.zeros(3)
    if len(points):
        low, high = np.percentile(points, (3, 97), axis=0)
    if len(cameras):
        seen = (low, high) if len(points) else (cameras[0], cameras[0])
        low, high = np.minimum(seen[0], cameras.min(0)), np.maximum(seen[1], cameras.max(0))
    return (low + high) / 2, max(float(np.linalg.norm(high - low)) / 2, 0.05)


def _outside(poses: Sequence[np.ndarray], up: np.ndarray) -> np.ndarray:
    """(3,) from where to look at the scene: from behind its cameras, and above."""
    if not poses:
        return np.array([0.6, -0.8, -1.2])
    back = -np.mean([pose[:3, 2] for pose in poses], axis=0)
    back = back - up * (up @ back)
    if np.linalg.norm(back) < 0.2:  # the camera looked all around, or straight down
        back = -poses[0][:3, 2] + up * (up @ poses[0][:3, 2]) + 1e-3 * poses[0][:3, 1]
    back = back / np.linalg.norm(back)
    return 1.35 * back + 1.1 * up + 0.5 * np.cross(up, back)


def _scene(explored: Explored, picture: str) -> str:
    def toggle(group: str, label: str, swatch: str = "") -> str:
        box = f'<input type="checkbox" checked data-group="{group}">'
        mark = f'<span class="swatch" style="background:var(--{swatch})"></span>' if swatch else ""
        return f'<label class="tool">{box}{mark}{label}</label>'

    keys = [toggle("points", "landmarks")]
    if explored.surfaces is not None:
        keys.append(toggle("surfaces", "surfaces"))
    keys.append(toggle("cameras", "cameras", "" if explored.estimate else "estimate"))
    if explored.estimate is not None:
        keys.append(toggle("estimate", "estimate", "estimate"))
    if explored.truth is not None:
        keys.append(toggle("truth", "ground truth", "truth"))
    keys += [
        f'<span class="tool"><button class="{name}" type="button">{label}</button></span>'
        for name, label in (("outside", "reset view"), ("through", f"from this {explored.what}"))
    ]
    return (
        '<div class="scene"><p class="noview">This browser has no WebGL: a picture of the map '
        f'instead of a view to turn.</p><div class="fallback">{picture}</div>'
        '<canvas class="canvas" aria-label="the map in 3D"></canvas>'
        f'<div class="keys">{"".join(keys)}</div></div>'
    )


def _side() -> str:
    return (
        '<div class="side"><div class="photo"><img class="image" alt="">'
        '<svg class="marks" aria-hidden="true"><path/></svg></div>'
        '<p class="name"></p><table class="facts"></table></div>'
    )


def _run(explored: Explored) -> str:
    """Error and states over the frames, and the slider, all of one width."""
    count = len(explored.states)
    error = ""
    if explored.error is not None and np.isfinite(explored.error).any():
        error = _error(explored.error, explored.unit)
    drawn, legend = _states(explored.states, explored.usual)
    return (
        f'<div class="run"><div class="timeline">{error}<div class="states">{drawn}</div>'
        '<span class="cursor"></span></div><input class="slider" type="range" min="0" '
        f'max="{max(count - 1, 0)}" value="0" aria-label="{explored.what}">'
        '<div class="keys"><span class="tool"><button class="play" type="button" '
        f'aria-label="play">▶</button></span>{legend}</div></div>'
    )


def _cells(count: int) -> np.ndarray:
    """Edges of the cells of the timeline, at most 1000, each of a frame or more."""
    return np.linspace(0, count, min(count, _MAX_CELLS) + 1).astype(int)


def _error(error: np.ndarray, unit: LengthUnit) -> str:
    """A curve; of many frames to a pixel the worst is drawn."""
    edges = _cells(len(error))
    groups = [error[a:b] for a, b in itertools.pairwise(edges)]
    worst = np.array([np.nanmax(g) if np.isfinite(g).any() else np.nan for g in groups])
    finite = np.isfinite(worst)
    top = max(1.1 * float(np.percentile(worst[finite], 99)), 1e-9)
    x = 1000.0 * (edges[:-1] + edges[1:]) / 2 / len(error)
    y = 100.0 * (1.0 - np.minimum(np.where(finite, worst, 0.0), top) / top)
    path, down = [], False
    for at, value, known in zip(x, y, finite, strict=True):
        if known:
            path.append(f"{'L' if down else 'M'}{at:.1f} {value:.1f}")
        down = bool(known)
    label = f"position error, up to {unit.text(top)}"
    return (
        f'<div class="scale">{html.escape(label)}</div><svg class="error" viewBox="0 0 1000 100" '
        f'preserveAspectRatio="none" role="img" aria-label="{html.escape(label)}">'
        f'<path d="{"".join(path)}"/></svg>'
    )


def _states(states: Sequence[str], usual: str) -> tuple[str, str]:
    """Bars for the stretches of equal state, and a legend with their counts."""
    names = sorted(dict.fromkeys(states), key=lambda name: name != usual)  # stable
    unusual = [name for name in names if name != usual]
    colours = {name: _UNUSUAL[i % len(_UNUSUAL)] for i, name in enumerate(unusual)}
    edges = _cells(len(states))
    # Of a cell the state that needs attention.
    codes = np.array([names.index(state) for state in states], int)
    cells = np.array([codes[a:b].max() for a, b in itertools.pairwise(edges)], int)
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    ends = np.append(starts[1:], len(cells))
    bars = []
    # The usual one first, so that what is drawn wider than it is stays in sight.
    for i in np.argsort(cells[starts], kind="stable"):
        name, a, b = names[cells[starts[i]]], edges[starts[i]], edges[ends[i]]
        width = max(100 * (b - a) / len(codes), _SLIMMEST)
        bars.append(
            f'<i title="{html.escape(name)}: {a}-{b - 1}" style="left:{100 * a / len(codes):.3f}%;'
            f'width:{width:.3f}%;background:{colours.get(name, _USUAL)}"></i>'
        )
    counts = Counter(states)
    legend = "".join(
        f'<span><span class="swatch" style="background:{colours.get(name, _USUAL)}"></span>'
        f"{html.escape(name)}: {counts[name]}</span>"
        for name in names
    )
    return "".join(bars), legend
