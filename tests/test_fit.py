"""Training stops where it diverges, and what was good is kept."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.training.checkpoints import Checkpoints
from ace_jax.training.fit import fit
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
    return SceneCoordinates(xyz=batch.features @ params["w"], scale=jnp.ones(8))


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
