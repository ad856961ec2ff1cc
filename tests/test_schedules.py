"""The one-cycle schedule against PyTorch's values."""

import json

import jax
import numpy as np

from ace_jax.training.schedules import one_cycle


def test_one_cycle_equals_pytorch(shared_dir):
    folder = shared_dir / "golden/ace_g"
    rates = json.loads((folder / "onecycle_5min.json").read_text())["lr_used_at_step_i"]
    schedule = one_cycle(0.002, 1000, warmup=0.3, divide=5.0, final_divide=1000.0)
    found = jax.vmap(schedule)(np.arange(1000))
    np.testing.assert_allclose(found, rates, rtol=1e-4, atol=1e-9)


def test_few_steps_and_steps_past_the_end_are_finite():
    for steps in (1, 2, 5):
        rates = jax.vmap(one_cycle(1e-3, steps))(np.arange(steps + 3))
        assert np.isfinite(rates).all()
        assert (rates >= 0).all()
