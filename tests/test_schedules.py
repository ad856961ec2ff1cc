"""The one-cycle schedule against PyTorch's values."""

import jax
import numpy as np
from repository import GOLDEN

from ace_jax.training.schedules import one_cycle


def test_one_cycle_equals_pytorch():
    rates = np.load(GOLDEN / "one_cycle.npz")["rates"]
    schedule = one_cycle(0.002, 1000, warmup=0.3, divide=5.0, final_divide=1000.0)
    found = jax.vmap(schedule)(np.arange(1000))
    np.testing.assert_allclose(found, rates, rtol=1e-4, atol=1e-9)


def test_few_steps_and_steps_past_the_end_are_finite():
    for steps in (1, 2, 5):
        rates = jax.vmap(one_cycle(1e-3, steps))(np.arange(steps + 3))
        assert np.isfinite(rates).all()
        assert (rates >= 0).all()
