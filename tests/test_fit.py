"""Training stops where it diverges, and what was good is kept."""

import functools

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ace_jax.data.depth_at_features import sample_depth
from ace_jax.data.images import read_depth
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.precision import full_precision
from ace_jax.training.checkpoints import Checkpoints
from ace_jax.training.fit import fit, patch_loss
from ace_jax.training.patch_buffer import Batch


def _options(**changes):
    options = {
        "steps": 12, "schedule": "cosine", "learning_rate": 1e-2, "rate_factors": {}, "clip": 0.0,
        "weight_decay": 0.0, "loss": "coordinate_l1", "coordinate_weight": 0.0,
        "checkpoint_seconds": 0.0, "prior_depth": 1.0,
    }  # fmt: skip
    return ml_collections.ConfigDict(options | changes)


def _batch(poisoned: bool) -> Batch:
    target = jnp.ones((8, 3))
    return Batch(
        features=jnp.full((8, 2), jnp.nan if poisoned else 1.0),
        uv=jnp.zeros((8, 2)),
        target=target,
        camera_from_world=jnp.tile(jnp.eye(4), (8, 1, 1)),
        camera=Camera(*(jnp.ones(8) for _ in range(4)), 0, 0),
        frame=jnp.zeros(8, jnp.int32),
    )


def _apply(params, _, batch, __):
    return SceneCoordinates(
        xyz=full_precision(jnp.matmul)(batch.features, params["w"]), scale=jnp.ones(8)
    )


def _fit(checkpoints, poisoned_from, **changes):
    params = {"w": jnp.zeros((2, 3))}

    def sampler(step):
        return _batch(step >= poisoned_from)

    return fit(_apply, params, None, sampler, _options(**changes), jax.random.key(0), checkpoints)


def test_divergence_stops_and_the_last_good_checkpoint_stays(tmp_path):
    with (
        Checkpoints(tmp_path, "run") as checkpoints,
        pytest.raises(UserError, match=r"diverged: .* from step 6 on.*kept in") as told,
    ):
        _fit(checkpoints, poisoned_from=5)
    with Checkpoints(tmp_path, "run") as checkpoints:
        kept = checkpoints.newest
        assert kept is not None
        assert kept <= 5
    assert f"step {kept} " in str(told.value)
    with Checkpoints(tmp_path, "run") as checkpoints:
        # The good part of the run goes on from there.
        params, history = _fit(checkpoints, poisoned_from=99)
    assert np.isfinite(history).all()
    assert np.isfinite(params["w"]).all()


def test_without_checkpoints_no_params_that_are_not_finite_come_back():
    with pytest.raises(UserError, match="diverged"):
        _fit(None, poisoned_from=11)


# What a depth camera says where it knows nothing, and what it says where it does.
UNITS_PER_METRE = 1000.0
PIXELS = st.sampled_from([2.0] * 12 + [0.0, np.nan, np.inf, -np.inf, -1.0])
IMAGES = st.one_of(
    st.sampled_from([0.0, 2.0, np.nan, np.inf]).map(lambda x: np.full((12, 16), x, np.float32)),
    arrays(np.float32, (12, 16), elements=PIXELS),
)


@functools.partial(jax.jit, static_argnums=2)
@functools.partial(jax.grad, has_aux=True)
def _gradient(predicted, batch, loss):
    out = SceneCoordinates(xyz=predicted[:, :3], scale=jnp.exp(predicted[:, 3]))
    value, figures = patch_loss(out, batch, 0.5, _options(loss=loss))
    return value, (value, figures)


def _targets(depth):
    """A batch whose points are those that a depth image gives."""
    uv = np.stack(np.meshgrid(np.arange(2.0, 14.0), np.arange(2.0, 10.0)), -1).reshape(-1, 2)
    found = sample_depth(depth, uv)
    assert np.isfinite(found).all()
    ray = np.concatenate([uv / 100.0, np.ones((len(uv), 1))], axis=1)
    return Batch(
        features=jnp.zeros((len(uv), 2)),
        uv=jnp.asarray(uv, jnp.float32),
        target=jnp.asarray(np.where(found > 0, found, np.nan)[:, None] * ray, jnp.float32),
        camera_from_world=jnp.tile(jnp.eye(4), (len(uv), 1, 1)),
        camera=Camera(*(jnp.full(len(uv), x) for x in (100.0, 100.0, 0.0, 0.0)), 0, 0),
        frame=jnp.zeros(len(uv), jnp.int32),
    ), found > 0


@pytest.mark.parametrize("loss", ["coordinate_l1", "coordinate_nll", "reprojection_nll"])
@given(depth=IMAGES)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_depth_of_any_kind_gives_a_finite_loss(loss, depth):
    batch, known = _targets(depth)
    predicted = jnp.tile(jnp.array([0.1, 0.1, 1.5, 0.0]), (len(known), 1))
    gradient, (value, _) = _gradient(predicted, batch, loss)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if loss.startswith("coordinate"):
        assert not np.asarray(gradient)[~known].any()  # a pixel without depth pulls nowhere
        assert np.asarray(gradient)[known].any(axis=1).all()


def test_depth_of_65535_units_is_none(tmp_path):
    units = np.full((12, 16), 65535, np.uint16)
    units[:, 8:] = 2000
    cv2.imwrite(str(tmp_path / "depth.png"), units)
    _, known = _targets(read_depth(tmp_path / "depth.png", UNITS_PER_METRE))
    assert known.any()
    assert known.reshape(8, 12)[:, 7:].all()
    assert not known.reshape(8, 12)[:, :5].any()
