"""Estimates pose and focal length of an unregistered depth camera from a recording.

The border of a thing is a depth edge, and mostly an image edge of the same direction. Depth edges
are lifted by their depth, moved into the colour camera, and the motion and the focal length are
sought with which they lie on image edges best, over many frames. Edges at several depths tell the
distance of the cameras from their angle: the one moves near things more than far ones, the other
moves all alike. The same idea calibrates laser scanners and cameras (Levinson and Thrun, "Automatic
online calibration of cameras and lasers", RSS 2013).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ace_jax.data.edge_fit import LEVELS, MIN_FRAMES, EdgeFit, Edges, Projection
from ace_jax.data.frame import Frame
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import rotation_of, rotation_vector

FRAMES = 24  # that are enough; more gain little
_MIDDLE, _FINEST = 1, len(LEVELS) - 1
_GROUPS = 8  # of frames, in time: each is left out once, and judges what the others found
_IN_PLACE = np.zeros(7)
_MIN_FIT = 0.8  # image edges at depth edges over the mean, less 1: registered depth has 1 to 3
_GAINED = 0.05  # of the fit; with less, depth edges were on image edges before
_CERTAIN = 3.0  # standard errors of the gain
_MAX_PIXELS = 4.0  # of 640: standard deviation of where depth lands
_MAX_FOCAL_ERROR = 0.03  # relative; with more the focal length counts as unknown


@dataclasses.dataclass(frozen=True)
class DepthCamera:
    """A depth camera beside a colour camera.

    Attributes:
        camera: intrinsics of the depth images; its principal point is taken to be the colour
            camera's, and what it differs by is a small turn.
        colour_from_depth: (4, 4) motion of points, metres.
        deviations: (7,) standard deviations of the rotation about x, y, z (radians), of the
            translation (metres) and of the focal length (relative; 0 if it was given).
        pixels: standard deviation of where depth lands in the colour image, in pixels of a 640 px
            wide image, over what the recording shows.
        fit: how much stronger image edges are at depth edges than elsewhere (0: chance),
        fit_before: and as it was.
        frames: how many were used.
        focal: how the focal length is known: "estimated", "given" or "assumed".
    """

    camera: Camera
    colour_from_depth: np.ndarray
    deviations: np.ndarray
    pixels: float
    fit: float
    fit_before: float
    frames: int
    focal: str

    def facts(self) -> dict[str, Any]:
        """The estimate for a JSON file."""
        return {
            "colour_from_depth": self.colour_from_depth.tolist(),
            "rotation_sigma_rad": self.deviations[:3].tolist(),
            "translation_sigma_m": self.deviations[3:6].tolist(),
            "depth_focal_px": float(self.camera.fx),
            "depth_focal_sigma_px": float(self.camera.fx * self.deviations[6]),
            "depth_focal": self.focal,
            "pixel_sigma_of_640": self.pixels,
            "edge_fit": self.fit,
            "edge_fit_before": self.fit_before,
            "frames": self.frames,
        }

    def __str__(self) -> str:
        pose, focal = self.colour_from_depth, float(self.camera.fx)
        turn = np.degrees(rotation_vector(pose[:3, :3]))
        place = _with_errors(100 * pose[:3, 3], 100 * self.deviations[3:6], "cm")
        turned = _with_errors(turn, np.degrees(self.deviations[:3]), "degrees")
        known = f"+- {focal * self.deviations[6]:.1f}" if self.focal == "estimated" else self.focal
        return (
            f"depth camera at {place}, turned by {turned}, focal length {focal:.1f} px ({known}); "
            f"depth lands within {self.pixels:.1f} px (of 640); depth edges fit image edges by "
            f"{self.fit:.2f}, before {self.fit_before:.2f} (chance: 0), in {self.frames} frames"
        )


def _with_errors(values: np.ndarray, errors: np.ndarray, unit: str) -> str:
    listed, margins = (", ".join(f"{x:.2f}" for x in numbers) for numbers in (values, errors))
    return f"({listed}) +- ({margins}) {unit}"


def estimate(frames: Sequence[Frame], focal: float | None = None) -> DepthCamera:
    """Estimates the depth camera of frames of one recording.

    Args:
        frames: spread over the recording, of one size; `FRAMES` are enough. Frames without depth
            edges are left out.
        focal: of the depth camera, pixels, if it is known.

    Raises:
        UserError: the recording does not tell it, or depth is registered already.
    """
    edges = Edges.of(frames)
    if edges is None:
        raise UserError(
            f"the depth camera cannot be found: fewer than {MIN_FRAMES} of {len(frames)} frames "
            "show things before others (depth edges); record a scene with near and far things, or "
            "leave out --register_depth"
        )
    free = np.ones(7, bool)
    start = np.zeros(7)
    if focal is not None:
        start[6], free[6] = np.log(focal / float(edges.colour.fx)), False
    found = _fit(edges, start, free)
    if focal is None and found.deviations[6] > _MAX_FOCAL_ERROR:
        start[6], free[6] = 0.0, False
        found = _fit(edges, start, free)
    if found.fit_before >= _MIN_FIT and found.gain < _GAINED * found.fit:
        raise UserError(
            f"the depth edges are on image edges already (fit {found.fit_before:.2f}, "
            f"{found.gain:+.2f} at best): leave out --register_depth"
        )
    how = ", or give --depth_focal" if focal is None else ""
    if found.fit < _MIN_FIT or found.gain < _CERTAIN * found.gain_error:
        raise UserError(
            "the depth camera cannot be found: nowhere do depth edges clearly fit image edges (by "
            f"{found.fit:.2f}, {found.gain:+.2f} +- {found.gain_error:.2f} against where they are; "
            f"chance: 0); take more frames of a scene with near and far things{how}"
        )
    if found.pixels > _MAX_PIXELS:
        raise UserError(
            f"the depth camera cannot be found: where depth lands is known to {found.pixels:.1f} "
            f"px (of 640) only; take more frames of a scene with near and far things{how}"
        )
    colour = edges.colour
    ratio = float(np.exp(found.parameters[6]))
    pose = np.eye(4)
    pose[:3, :3] = rotation_of(found.parameters[:3])
    pose[:3, 3] = found.parameters[3:6]
    return DepthCamera(
        camera=dataclasses.replace(
            colour, fx=float(colour.fx) * ratio, fy=float(colour.fy) * ratio
        ),
        colour_from_depth=pose,
        deviations=found.deviations,
        pixels=found.pixels,
        fit=found.fit,
        fit_before=found.fit_before,
        frames=edges.frames,
        focal="estimated" if free[6] else "assumed" if focal is None else "given",
    )


@dataclasses.dataclass(frozen=True)
class _Found:
    """Parameters (7,) with their deviations (7,); the rest as in `DepthCamera`."""

    parameters: np.ndarray
    deviations: np.ndarray
    pixels: float
    fit: float
    fit_before: float
    gain: float
    gain_error: float


def _fit(edges: Edges, start: np.ndarray, free: np.ndarray) -> _Found:
    """Fits from coarse to fine.

    The parameters without each group of frames in turn follow by one Newton step. Their spread is
    the jackknife's standard error (Jaeckel 1972); what no group can tell has that of the prior. The
    group itself, which took no part in that, tells what was gained.
    """
    every = np.ones(edges.frames, bool)
    best = min(
        (_descend(edges, at, free) for at in _starts(edges, start, free)),
        key=lambda at: EdgeFit(edges, _MIDDLE, every).loss(at)[0],
    )
    whole = EdgeFit(edges, _FINEST, every)
    best = whole.maximise(best, free)
    covariance = whole.covariance(best, free)
    group = np.arange(edges.frames) * _GROUPS // edges.frames
    moves, gains = [], []
    for number in np.unique(group):
        own = EdgeFit(edges, _FINEST, group == number)
        moves.append(covariance @ own.pull(best))
        gains.append(own.mean(best + moves[-1]) - own.mean(_IN_PLACE))
    count = len(moves)
    spread = np.array(moves) - np.mean(moves, axis=0)
    covariance = covariance + (count - 1) / count * spread.T @ spread
    surface = edges.surface
    by = Projection.of(best, surface[:, :2], surface[:, 2], edges.colour).jacobian()
    variance = np.einsum("nij,jk,nik->n", by, covariance, by).mean()
    return _Found(
        parameters=best,
        deviations=np.sqrt(np.diag(covariance)),
        pixels=float(np.sqrt(variance)) / edges.colour.pixel_scale,
        fit=whole.mean(best),
        fit_before=whole.mean(_IN_PLACE),
        gain=float(np.mean(gains)),
        gain_error=float(np.std(gains, ddof=1) / np.sqrt(count)),
    )


def _starts(edges: Edges, start: np.ndarray, free: np.ndarray) -> list[np.ndarray]:
    """Where to begin: at the best zoom and shift, and in place unless that is clearly wrong.

    The shift may be a turn or a distance.
    """
    coarse = edges.coarse
    if coarse is None:
        return [start]
    colour = edges.colour
    shift = np.array(coarse.shift) * colour.pixel_scale
    angle = shift / np.array([float(colour.fx), float(colour.fy)])
    turned, moved = start.copy(), start.copy()
    turned[:2] = -angle[1], angle[0]
    moved[3:5] = angle / np.median(edges.inverse_depth)
    for parameters in (turned, moved):
        if free[6]:
            parameters[6] = -np.log(coarse.zoom)
    return [turned, moved] if coarse.unregistered else [start, turned, moved]


def _descend(edges: Edges, parameters: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Parameters after all levels but the finest."""
    every = np.ones(edges.frames, bool)
    for level in range(_FINEST):
        parameters = EdgeFit(edges, level, every).maximise(parameters, free)
    return parameters
