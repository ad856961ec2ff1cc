"""Local plane fits on a coarse grid of a depth image.

On a plane n.X = 1 inverse depth is linear in the pixel: 1/z = n.(x, y, 1) with (x, y) the point at
unit depth. So a plane is a linear least-squares fit of inverse depth, in which a depth camera's
noise is the same everywhere.
"""

import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import rays

# Tuned on synthetic rooms 3 and 4 and 7-Scenes redkitchen 0-499.
STEP = 16  # pixels between planes, of a 640-pixel-wide image
SPACING = 3  # pixels of such an image between the samples that a plane is fitted to
SAMPLES = 5  # rows and columns of samples per plane
MAX_RESIDUAL = (0.01, 0.01)  # of the depth, and more per metre: of a depth camera's noise
MIN_COSINE = 0.2  # between normal and viewing ray, 78 degrees: depth at grazing incidence is bad


def grid_pixels(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Rows (R,) and columns (C,) of the pixels at which the planes are."""
    step = _scaled(STEP, camera)
    rows, columns = int(camera.height) // step, int(camera.width) // step
    return np.arange(rows) * step + step // 2, np.arange(columns) * step + step // 2


def grid_uv(camera: Camera) -> np.ndarray:
    """The same pixels (R, C, 2)."""
    return np.stack(np.meshgrid(*grid_pixels(camera)[::-1]), axis=-1)


def fit_planes(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Fits a plane around each pixel of the grid.

    Args:
        depth: (H, W) metres; 0, NaN and inf mean unknown.
        camera: intrinsics.

    Returns:
        (R, C, 3) float32 n of each plane n.X = 1 in camera axes, 1/m; zeros at the image's border
        and where there is no depth, an edge or a curved surface.
    """
    v, u = grid_pixels(camera)
    offsets = _scaled(SPACING, camera) * (np.arange(SAMPLES) - SAMPLES // 2)
    rows, columns = v[:, None] + offsets, u[:, None] + offsets
    inside = _within(rows, depth.shape[0])[:, None] & _within(columns, depth.shape[1])
    rows, columns = (
        np.clip(pixels, 0, size - 1)
        for pixels, size in zip((rows, columns), depth.shape, strict=True)
    )
    samples = depth[rows[:, None, :, None], columns[None, :, None, :]]  # (R, C, n, n)
    known = np.isfinite(samples) & (samples > 0) & inside[..., None, None]
    inverse = np.where(known, 1.0 / np.where(known, samples, 1.0), 0.0)
    dx, dy = offsets / float(camera.fx), offsets[:, None] / float(camera.fy)
    centre = inverse.mean((2, 3))
    along_x = (inverse * dx).sum((2, 3)) / (SAMPLES * np.sum(dx**2))
    along_y = (inverse * dy).sum((2, 3)) / (SAMPLES * np.sum(dy**2))
    bent = inverse - (
        _over_samples(centre) + _over_samples(along_x) * dx + _over_samples(along_y) * dy
    )
    x, y, _ = np.moveaxis(rays(grid_uv(camera), camera), -1, 0)
    planes = np.stack([along_x, along_y, centre - along_x * x - along_y * y], axis=-1)
    z = 1.0 / np.maximum(centre, 1e-6)
    view = np.linalg.norm(planes, axis=-1) * np.sqrt(x**2 + y**2 + 1.0)
    good = known.all((2, 3)) & (
        np.abs(bent).max((2, 3)) * z < MAX_RESIDUAL[0] + MAX_RESIDUAL[1] * z
    )
    good &= centre > MIN_COSINE * view
    return np.where(good[..., None], planes, 0.0).astype(np.float32)


def _over_samples(grid: np.ndarray) -> np.ndarray:
    return grid[..., None, None]


def _within(pixels: np.ndarray, size: int) -> np.ndarray:
    """(N,) whether all samples (N, n) of a window are in the image."""
    return np.all((pixels >= 0) & (pixels < size), axis=1)


def _scaled(pixels: int, camera: Camera) -> int:
    return max(round(pixels * camera.pixel_scale), 1)
