"""Fit of depth edges to image edges, for a depth camera that is not registered to colour.

The image's edges are kept as a tensor g g^T / |g| of their gradient g, of which the share along the
depth edge's normal counts: texture across an edge then says nothing.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from ace_jax.data.checks import registration
from ace_jax.data.frame import Frame
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.host_camera import rays
from ace_jax.geometry.rigid import rotation_of

LEVELS = (4, 2, 1)  # by how much the images are smaller than at the finest level
MIN_FRAMES = 4
_WIDTH = 640  # pixels of the finest level, at most
_BLUR = 1.5  # pixels of each level: how far an edge is seen from
_BORDER = 16  # pixels of the finest level in which the fit fades out
_CHANCE = np.array([1.0, 0.0, 1.0], np.float32)  # the mean tensor
_EDGE_WIDTH = 320  # pixels at which depth edges are looked for: sensors round them
_MIN_EDGES = 150  # pixels; a frame with fewer says nothing
_MAX_EDGES = 1200  # pixels of a frame that are used
_DEPENDENT = 20  # neighbouring edge pixels that say the same
# What is likely before anything is seen: turn about x, y, z (a camera's unknown principal point
# looks like a turn: 1 degree is 10 px), place along x, y, z in metres, logarithm of the focal
# length over the colour camera's. No more than what RGB-D cameras are built like: in one plane.
_PRIOR = np.array([0.05, 0.05, 0.05, 0.05, 0.05, 0.01, 0.4])
_STEPS = np.array([1, 1, 2, 3, 3, 6, 4]) * 1e-3  # about a pixel each: for second derivatives


@dataclasses.dataclass(frozen=True)
class Edges:
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
    def of(cls, frames: Sequence[Frame]) -> "Edges | None":
        """The edges of frames; None if there are too few."""
        shown = [(frame, found) for frame in frames if (found := depth_edges(frame)) is not None]
        if len(shown) < MIN_FRAMES:
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
            levels=[np.stack([_coarser(t, by) for t in tensors]) for by in LEVELS],
            coarse=registration.align(list(used)),
        )

    @property
    def frames(self) -> int:
        """How many frames."""
        return len(self.levels[0])


def depth_edges(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
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
class Projection:
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
    ) -> "Projection":
        """Projects depth pixels, given as rays (N, 2) and inverse depth (N,)."""
        rotation = rotation_of(parameters[:3])
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


class EdgeFit:
    """The fit of depth edges to image edges at one level, of some frames."""

    def __init__(self, edges: Edges, level: int, frames: np.ndarray) -> None:
        """See the class; `frames` (F,) bool."""
        self._edges, self._tensors = edges, edges.levels[level]
        by = LEVELS[level]  # coarse levels need fewer of the edges
        self._used = np.flatnonzero(frames[edges.frame])[::by]
        self._dependent = _DEPENDENT / by
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
        seen = Projection.of(parameters, edges.rays[used], edges.inverse_depth[used], edges.colour)
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
            float(0.5 * relative @ relative - excess.sum() / self._dependent),
            relative / _PRIOR - gradient / self._dependent,
        )

    def pull(self, parameters: np.ndarray) -> np.ndarray:
        """(7,) derivative of the loss without the prior's part."""
        return -self.excess(parameters)[2] / self._dependent

    def maximise(self, start: np.ndarray, free: np.ndarray) -> np.ndarray:
        """The best parameters from a start, those that are not free as they are."""
        edges, used = self._edges, self._used
        seen = Projection.of(start, edges.rays[used], edges.inverse_depth[used], edges.colour)
        by = seen.jacobian()
        by = by.reshape(-1, 7)[:, free] * self._scale
        # Parameters whose unit moves the edges' pixels by one in all directions alike.
        information = by.T @ by / self._dependent + np.diag(1 / _PRIOR[free] ** 2)
        units = np.linalg.inv(np.linalg.cholesky(information)).T

        def parameters(x: np.ndarray) -> np.ndarray:
            moved = start.copy()
            moved[free] += units @ x
            return moved

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.loss(parameters(x))
            return value, units.T @ gradient[free]

        from scipy.optimize import minimize  # a quarter of a second, for a rare option

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
