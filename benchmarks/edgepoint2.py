"""EdgePoint2, a peer of our extractors: the published networks run by JAX.

Yao et al., "EdgePoint2: Compact Descriptors for Superior Efficiency and Accuracy", 2025. The
weights (MIT) are `SHARED/weights/edgepoint2/NAME.pth`.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import keypoints
from ace_jax.features.base import Features
from ace_jax.features.extractor import sparse_features
from ace_jax.features.image import as_rgb, pixel_scale, resize, working_size
from ace_jax.geometry.interpolation import sample_bilinear
from ace_jax.weights import formats, store

_EPSILON = 1e-5  # of all normalizations
_MULTIPLE = 32  # sides of the network's input, pixels
_STRIDE = 4  # of the descriptor map
_BORDER = 4  # pixels without keypoints
_RADIUS = 2  # of non-maximum suppression, pixels
_THRESHOLD = -5.0  # smallest score, before any sigmoid

State = dict[str, np.ndarray]


class EdgePoint2:
    """Keypoints at whole pixels, as published, the strongest first.

    Args:
        weights_dir: the file with the weights.
        image_size: (width, height); larger images are reduced to this area. None: as given.
        max_features: fixed count N of the result.
    """

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        image_size: tuple[int, int] | None = (320, 240),
        max_features: int = 600,
    ) -> None:
        path = Path(weights_dir or "")
        self.name = f"edgepoint2_{path.stem.lower()}"
        self.image_size, self.max_features = image_size, max_features
        state = {k: np.asarray(v, np.float32) for k, v in formats.read(path).tensors.items()}
        self.dim = len(state["desc_head.2.bias"])
        self.weights_checksum = store.checksum(state)
        self._params = jax.device_put(state)
        self._pipeline = jax.jit(functools.partial(_features_of, count=max_features))

    def extract(self, rgb: np.ndarray) -> Features:
        """Features of an image (H, W, 3) uint8."""
        rgb = as_rgb(rgb)
        size = working_size(rgb.shape[1], rgb.shape[0], self.image_size, _MULTIPLE)
        return self._pipeline(self._params, resize(rgb, size), pixel_scale(rgb, size))


def _features_of(state: State, image: jax.Array, scale: jax.Array, *, count: int) -> Features:
    image = image.astype(jnp.float32)
    grey = (image[..., 0] + image[..., 1] + image[..., 2]) / 3.0
    descriptors, heatmap = network(state, grey[None] / 255.0)
    height, width = grey.shape
    peaks = keypoints.local_maxima(heatmap[0] - _THRESHOLD, _RADIUS)
    x, y, peak = keypoints.best_of_blocks(peaks)
    inside = (x >= _BORDER) & (y >= _BORDER) & (x < width - _BORDER) & (y < height - _BORDER)
    scores, index = keypoints.top(jnp.where(inside, jnp.maximum(peak, 0.0), 0.0), count)
    uv = jnp.stack([x, y], axis=-1)[index].astype(jnp.float32)
    sampled = sample_bilinear(descriptors[0], (uv + 0.5) / _STRIDE - 0.5)
    return sparse_features(uv, keypoints.normalize(sampled), scores, scale)


def network(state: State, grey: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Descriptors (B, H/4, W/4, D) and scores (B, H, W) of images (B, H, W)."""
    mean = grey.mean(axis=(1, 2), keepdims=True)
    variance = jnp.square(grey - mean).mean(axis=(1, 2), keepdims=True)
    x = ((grey - mean) * jax.lax.rsqrt(variance + _EPSILON))[..., None]

    x = _layer(state, "block1.0.layer.0", x, stride=2, pad=1)
    x = _layer(state, "block1.1.layer.0", x)
    half = _residual(state, "block1.2", x)  # 1/2
    quarter = _pool(half, 2)  # 1/4
    eighth = _residual(state, "block2", _pool(quarter, 2))  # 1/8
    coarse = _residual(state, "block3", _pool(eighth, 4))  # 1/32

    fused = jnp.concatenate([quarter, _enlarge(eighth, 2), _enlarge(coarse, 8)], axis=-1)
    fused = _convolve(state, "desc_head.0", fused)
    fused = _layer(state, "desc_head.1.layer.0", fused)
    descriptors = _convolve(state, "desc_head.2", fused)

    score = _convolve(state, "conv1", half)
    score += _enlarge(_convolve(state, "conv2", eighth), 4)
    score += _enlarge(_convolve(state, "conv3", coarse), 16)
    score = jax.nn.relu(_convolve(state, "score_head.0", score))
    score = jax.nn.relu(_convolve(state, "score_head.2", score))
    score = _convolve(state, "score_head.4", score)  # four pixels of each cell
    batch, rows, columns, _ = score.shape
    score = score.reshape(batch, rows, columns, 2, 2).transpose(0, 1, 3, 2, 4)
    return descriptors, score.reshape(batch, 2 * rows, 2 * columns)


def _convolve(
    state: State, name: str, x: jax.Array, stride: int = 1, pad: int | None = None
) -> jax.Array:
    kernel = jnp.transpose(jnp.asarray(state[f"{name}.weight"]), (2, 3, 1, 0))
    pad = kernel.shape[0] // 2 if pad is None else pad
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
        precision=jax.lax.Precision.HIGHEST,
    )
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def _normalized(state: State, name: str, x: jax.Array, **options: Any) -> jax.Array:
    """A convolution `X.N` with the batch normalization `X.N+1`."""
    prefix, _, number = name.rpartition(".")
    norm = f"{prefix}.{int(number) + 1}"
    gain = state[f"{norm}.weight"] * jax.lax.rsqrt(state[f"{norm}.running_var"] + _EPSILON)
    y = _convolve(state, name, x, **options)
    return (y - state[f"{norm}.running_mean"]) * gain + state[f"{norm}.bias"]


def _layer(state: State, name: str, x: jax.Array, **options: Any) -> jax.Array:
    return jax.nn.relu(_normalized(state, name, x, **options))


def _residual(state: State, name: str, x: jax.Array) -> jax.Array:
    y = _layer(state, f"{name}.layer.0", x)
    y = _normalized(state, f"{name}.layer.3", y)
    skip = _convolve(state, f"{name}.skip", x) if f"{name}.skip.weight" in state else x
    return jax.nn.relu(y + skip)


def _pool(x: jax.Array, size: int) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.mean(axis=(2, 4))


def _enlarge(x: jax.Array, factor: int) -> jax.Array:
    """Bilinear, half-pixel centres, edges clamped."""
    shape = (x.shape[0], x.shape[1] * factor, x.shape[2] * factor, x.shape[3])
    return jax.image.resize(x, shape, "bilinear", antialias=False)
