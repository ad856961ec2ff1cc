"""Where the depth camera is beside the colour camera, estimated from a recording.

The border of a thing is a depth edge, and mostly an image edge of the same direction. Depth edges
are lifted by their depth, moved into the colour camera, and the motion and the focal length are
sought with which they lie on image edges best, over many frames. Edges at several depths tell the
distance of the cameras from their angle: the one moves near things more than far ones, the other
moves all alike. The same idea calibrates laser scanners and cameras (Levinson and Thrun, "Automatic
online calibration of cameras and lasers", RSS 2013).

The image's edges are kept as a tensor g g^T / |g| of their gradient g, of which the share along the
depth edge's normal counts: texture across an edge then says nothing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from ace_jax.data.checks import registration
from ace_jax.data.frame import Frame
from ace_jax.errors import UserError
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.host_camera import rays

FRAMES = 24  # that are enough; more gain little
_WIDTH = 640  # pixels of the finest level, at most; the coarsest is a quarter of it
_LEVELS = (4, 2, 1)
_MIDDLE, _FINEST = 1, 2
_BLUR = 1.5  # pixels of each level: how far an edge is seen from
_BORDER = 16  # pixels of the finest level in which the fit fades out
_CHANCE = np.array([1.0, 0.0, 1.0], np.float32)  # the mean tensor
_EDGE_WIDTH = 320  # pixels at which depth edges are looked for: sensors round them
_MIN_EDGES = 150  # pixels; a frame with fewer says nothing
_MAX_EDGES = 1200  # pixels of a frame that are used
_MIN_FRAMES = 4
_GROUPS = 8  # of frames, in time: each is left out once, and judges what the others found
_DEPENDENT = 20  # neighbouring edge pixels that say the same
# What is likely before anything is seen: turn about x, y, z (a camera's unknown principal point
# looks like a turn: 1 degree is 10 px), place along x, y, z in metres, logarithm of the focal
# length over the colour camera's. No more than what RGB-D cameras are built like.
_PRIOR = np.array([0.03, 0.03, 0.03, 0.05, 0.05, 0.02, 0.4])
_STEPS = np.array([1, 1, 2, 3, 3, 6, 4]) * 1e-3  # about a pixel each: for second derivatives
_IN_PLACE = np.zeros(7)
_MIN_FIT = 0.5  # image edges at depth edges over the mean, less 1: registered depth has 1.5 to 3
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
        turn = np.degrees(Rotation.from_matrix(pose[:3, :3]).as_rotvec())
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
    edges = _Edges.of(frames)
    if edges is None:
        raise UserError(
            f"the depth camera cannot be found: fewer than {_MIN_FRAMES} of {len(frames)} frames "
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
    pose[:3, :3] = Rotation.from_rotvec(found.parameters[:3]).as_matrix()
    pose[:3, 3] = found.parameters[3:6]
    return DepthCamera(
        camera=colour.replace(fx=float(colour.fx) * ratio, fy=float(colour.fy) * ratio),
        colour_from_depth=pose,
        deviations=found.deviations,
        pixels=found.pixels,
        fit=found.fit,
        fit_before=found.fit_before,
        frames=edges.frames,
        focal="estimated" if free[6] else "assumed" if focal is None else "given",
    )


@dataclasses.dataclass(frozen=True)
class _Edges:
    """Depth edges of F frames, N pixels together, and the image edges that they may lie on.

    Attributes:
        colour: intrinsics.
        frame: (N,) which frame, in ascending order.
        rays: (N, 2) x and y at unit depth, for a depth camera with the colour camera's intrinsics.
        inverse_depth: (N,) 1/m.
        normals: (N, 2) unit, across the edge.
        surface: (M, 3) rays x, y and inverse depth of pixels of any kind.
        levels: the image edges from coarse to fine, each (F, h, w, 3): the xx, xy and yy of the
            tensor, whose mean over an image along any direction is 1.
        coarse: the best zoom and shift; None if it could not be told.
    """

    colour: Camera
    frame: np.ndarray
    rays: np.ndarray
    inverse_depth: np.ndarray
    normals: np.ndarray
    surface: np.ndarray
    levels: list[np.ndarray]
    coarse: registration.Alignment | None

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> "_Edges | None":
        """The edges of frames; None if there are too few."""
        shown = [(frame, found) for frame in frames if (found := _depth_edges(frame)) is not None]
        if len(shown) < _MIN_FRAMES:
            return None
        used, found = zip(*shown, strict=True)
        uv, inverse_depth, normals = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        colour = used[0].camera
        surface = []
        for frame in used:
            depth = frame.depth[7::23, 5::29]
            v, u = np.nonzero(depth > 0)
            x, y, _ = np.moveaxis(rays(np.stack([5 + 29 * u, 7 + 23 * v], -1), colour), -1, 0)
            surface.append(np.stack([x, y, 1.0 / depth[v, u]], -1))
        tensors = [_image_edges(frame.rgb) for frame in used]
        return cls(
            colour=colour,
            frame=np.repeat(np.arange(len(used)), [len(edges[1]) for edges in found]),
            rays=rays(uv, colour)[:, :2],
            inverse_depth=inverse_depth,
            normals=normals,
            surface=np.concatenate(surface),
            levels=[np.stack([_coarser(t, by) for t in tensors]) for by in _LEVELS],
            coarse=registration.align(list(used)),
        )

    @property
    def frames(self) -> int:
        """How many frames."""
        return len(self.levels[0])


def _depth_edges(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Pixels (E, 2), inverse depths (E,) and normals (E, 2) of a frame's depth edges."""
    if frame.depth is None:
        return None
    step = max(round(frame.depth.shape[1] / _EDGE_WIDTH), 1)
    depth = np.ascontiguousarray(frame.depth[::step, ::step])
    depth = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
    v, u = np.nonzero(registration.near_edges(depth))
    if len(u) < _MIN_EDGES:
        return None
    chosen = np.unique(np.linspace(0, len(u) - 1, _MAX_EDGES).astype(int))
    u, v = u[chosen], v[chosen]
    surface = registration.filled(depth)
    steps = cv2.GaussianBlur(np.log(np.maximum(surface, MIN_DEPTH)), (0, 0), 1.0)
    normals = np.stack(
        [cv2.Sobel(steps, cv2.CV_32F, *along)[v, u] for along in ((1, 0), (0, 1))], axis=-1
    )
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    # The border is between the last pixel of the near side and the first of the far side.
    uv = step * (np.stack([u, v], axis=-1) + 0.5 * normals)
    return uv, 1.0 / np.maximum(surface[v, u], MIN_DEPTH), normals


def _image_edges(rgb: np.ndarray) -> np.ndarray:
    """(h, w, 3) the tensor of image edges, clipped and relative to the surroundings."""
    height, width = rgb.shape[:2]
    if width > _WIDTH:
        size = (_WIDTH, round(height * _WIDTH / width))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.2)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    length = np.maximum(cv2.magnitude(gx, gy), 1e-6)
    clipped = np.minimum(length, np.percentile(length[::2, ::2], 95))
    strength = clipped / (cv2.blur(clipped, (65, 65)) + 8)
    strength *= 2 / max(float(strength.mean()), 1e-6)
    gx, gy = gx / length, gy / length
    tensor = np.stack([strength * gx * gx, strength * gx * gy, strength * gy * gy], axis=-1)
    # Fades to chance at the border, so that the fit does not jump where an edge leaves the image.
    ramps = [np.minimum(np.arange(n), np.arange(n)[::-1]) / _BORDER for n in tensor.shape[:2]]
    inner = np.minimum(1.0, np.minimum(ramps[0][:, None], ramps[1]))[..., None]
    return (_CHANCE + inner * (tensor - _CHANCE)).astype(np.float32)


def _coarser(tensor: np.ndarray, by: int) -> np.ndarray:
    size = (tensor.shape[1] // by, tensor.shape[0] // by)
    small = tensor if by == 1 else cv2.resize(tensor, size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), _BLUR)


@dataclasses.dataclass(frozen=True)
class _Projection:
    """Depth pixels in the colour image. All is divided by depth: X / z = R r + t / z.

    Attributes:
        pixels: (N, 2) where they are seen.
        pixel_by_point: (N, 2, 3) derivatives by X / z.
        turned: (N, 3) R r.
        zoomed: (N, 3) derivative of X / z by the logarithm of the focal length.
        inverse_depth: (N,) 1/m: the derivative of X / z by t.
        turn: (3,) rotation vector.
    """

    pixels: np.ndarray
    pixel_by_point: np.ndarray
    turned: np.ndarray
    zoomed: np.ndarray
    inverse_depth: np.ndarray
    turn: np.ndarray

    @classmethod
    def of(
        cls, parameters: np.ndarray, rays_xy: np.ndarray, inverse_depth: np.ndarray, colour: Camera
    ) -> "_Projection":
        """Projects depth pixels, given as rays (N, 2) and inverse depth (N,)."""
        rotation = Rotation.from_rotvec(parameters[:3]).as_matrix()
        xy = rays_xy * np.exp(-parameters[6])
        turned = xy @ rotation[:, :2].T + rotation[:, 2]
        points = turned + parameters[3:6] * inverse_depth[:, None]
        depth = np.maximum(points[:, 2], 0.1)
        focal = np.array([float(colour.fx), float(colour.fy)])
        places = points[:, :2] / depth[:, None]
        by_point = np.zeros((len(xy), 2, 3))
        by_point[:, (0, 1), (0, 1)] = focal / depth[:, None]
        by_point[:, :, 2] = -focal * places / depth[:, None]
        centre = np.array([float(colour.cx), float(colour.cy)])
        zoomed = -xy @ rotation[:, :2].T
        return cls(places * focal + centre, by_point, turned, zoomed, inverse_depth, parameters[:3])

    def gradient(self, by_pixel: np.ndarray) -> np.ndarray:
        """(7,) derivative by the parameters of a sum over pixels, from those (N, 2) by pixels."""
        by_point = np.einsum("ni,nij->nj", by_pixel, self.pixel_by_point)
        by_turn = np.cross(self.turned, by_point).sum(0)
        return np.concatenate(
            [
                # The left Jacobian of a small rotation, to first order.
                by_turn + 0.5 * np.cross(by_turn, self.turn),
                self.inverse_depth @ by_point,
                [np.sum(self.zoomed * by_point)],
            ]
        )

    def jacobian(self) -> np.ndarray:
        """(N, 2, 7) derivatives of the pixels by the parameters."""
        n = len(self.turned)
        by_turn = np.cross(self.turned[:, None], self.pixel_by_point)
        by_turn = by_turn + 0.5 * np.cross(by_turn, self.turn)
        by_place = self.pixel_by_point * self.inverse_depth[:, None, None]
        by_zoom = np.einsum("nij,nj->ni", self.pixel_by_point, self.zoomed).reshape(n, 2, 1)
        return np.concatenate([by_turn, by_place, by_zoom], axis=2)


class _Fit:
    """The fit of depth edges to image edges at one level, of some frames."""

    def __init__(self, edges: _Edges, level: int, frames: np.ndarray) -> None:
        """See the class; `frames` (F,) bool."""
        self._edges, self._tensors = edges, edges.levels[level]
        self._used = frames[edges.frame]
        self._frame = edges.frame[self._used]
        self._scale = self._tensors.shape[2] / edges.colour.width
        nx, ny = edges.normals[self._used].T
        self._along = np.stack([nx * nx, 2 * nx * ny, ny * ny], axis=-1).astype(np.float32)

    def excess(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image edges at depth edges over the mean, less 1.

        Returns:
            (N,) excess, (N,) whether it is in the image, (7,) derivative of the sum.
        """
        edges, used = self._edges, self._used
        seen = _Projection.of(parameters, edges.rays[used], edges.inverse_depth[used], edges.colour)
        height, width = self._tensors.shape[1:3]
        x, y = ((seen.pixels + 0.5) * self._scale - 0.5).T
        inside = (x >= 1) & (x < width - 2) & (y >= 1) & (y < height - 2)
        x, y = np.where(inside, x, 1.0), np.where(inside, y, 1.0)
        column, row = x.astype(np.int64), y.astype(np.int64)
        x, y = x - column, y - row
        place = (self._frame * height + row) * width + column
        flat = self._tensors.reshape(-1, 3)
        corner, right, below, both = (
            np.einsum("nk,nk->n", flat[place + step], self._along)
            for step in (0, 1, width, width + 1)
        )
        top, bottom = corner + x * (right - corner), below + x * (both - below)
        value = top + y * (bottom - top)
        along_x = (right - corner) * (1 - y) + (both - below) * y
        by_pixel = np.stack([along_x, bottom - top], -1) * (inside * self._scale)[:, None]
        return np.where(inside, value - 1, 0.0), inside, seen.gradient(by_pixel)

    def mean(self, parameters: np.ndarray) -> float:
        """Mean excess of what is in the image."""
        excess, inside, _ = self.excess(parameters)
        return float(excess.sum() / max(inside.sum(), 1))

    def loss(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative excess, summed over independent edges, and the prior's part; and derivatives.

        A sum and no mean: a few edges that are left in the image must not win.
        """
        excess, _, gradient = self.excess(parameters)
        relative = parameters / _PRIOR
        return (
            float(0.5 * relative @ relative - excess.sum() / _DEPENDENT),
            relative / _PRIOR - gradient / _DEPENDENT,
        )

    def maximise(self, start: np.ndarray, free: np.ndarray) -> np.ndarray:
        """The best parameters from a start, those that are not free as they are."""
        edges, used = self._edges, self._used
        seen = _Projection.of(start, edges.rays[used], edges.inverse_depth[used], edges.colour)
        by = seen.jacobian()
        by = by.reshape(-1, 7)[:, free] * self._scale
        # Parameters whose unit moves the edges' pixels by one in all directions alike.
        information = by.T @ by / _DEPENDENT + np.diag(1 / _PRIOR[free] ** 2)
        units = np.linalg.inv(np.linalg.cholesky(information)).T

        def parameters(x: np.ndarray) -> np.ndarray:
            moved = start.copy()
            moved[free] += units @ x
            return moved

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.loss(parameters(x))
            return value, units.T @ gradient[free]

        done = minimize(
            loss,
            np.zeros(free.sum()),
            jac=True,
            method="BFGS",
            options={"gtol": 0.2, "maxiter": 30},
        )
        return parameters(done.x)

    def covariance(self, parameters: np.ndarray, free: np.ndarray) -> np.ndarray:
        """(7, 7) inverse curvature of the loss: large where the edges say nothing."""
        rows = []
        for index, step in enumerate(_STEPS):
            ends = (parameters + sign * step * np.eye(7)[index] for sign in (1, -1))
            above, below = (self.loss(end)[1] for end in ends)
            rows.append((above - below) / (2 * step))
        prior = np.diag(1 / _PRIOR**2)
        values, vectors = np.linalg.eigh(0.5 * (np.array(rows) + np.array(rows).T) - prior)
        curvature = (vectors * np.maximum(values, 0)) @ vectors.T + prior
        covariance = np.zeros((7, 7))
        covariance[np.ix_(free, free)] = np.linalg.inv(curvature[np.ix_(free, free)])
        return covariance


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


def _fit(edges: _Edges, start: np.ndarray, free: np.ndarray) -> _Found:
    """Fits from coarse to fine.

    The parameters without each group of frames in turn follow by one Newton step. Their spread is
    the jackknife's standard error (Jaeckel 1972); what no group can tell has that of the prior. The
    group itself, which took no part in that, tells what was gained.
    """
    every = np.ones(edges.frames, bool)
    best = min(
        (_descend(edges, at, free) for at in _starts(edges, start, free)),
        key=lambda at: _Fit(edges, _MIDDLE, every).loss(at)[0],
    )
    whole = _Fit(edges, _FINEST, every)
    best = whole.maximise(best, free)
    covariance = whole.covariance(best, free)
    group = np.arange(edges.frames) * _GROUPS // edges.frames
    moves, gains = [], []
    for number in np.unique(group):
        own = _Fit(edges, _FINEST, group == number)
        moves.append(covariance @ -own.excess(best)[2] / _DEPENDENT)
        gains.append(own.mean(best + moves[-1]) - own.mean(_IN_PLACE))
    count = len(moves)
    spread = np.array(moves) - np.mean(moves, axis=0)
    covariance = covariance + (count - 1) / count * spread.T @ spread
    surface = edges.surface
    by = _Projection.of(best, surface[:, :2], surface[:, 2], edges.colour).jacobian()
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


def _starts(edges: _Edges, start: np.ndarray, free: np.ndarray) -> list[np.ndarray]:
    """Where to begin: in place, and if that is clearly wrong, at the best zoom and shift.

    The shift may be a turn or a distance.
    """
    coarse = edges.coarse
    if coarse is None or not coarse.unregistered:
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
    return [start, turned, moved]


def _descend(edges: _Edges, parameters: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Parameters after all levels but the finest."""
    every = np.ones(edges.frames, bool)
    for level in range(_FINEST):
        parameters = _Fit(edges, level, every).maximise(parameters, free)
    return parameters
