"""Sums of exponentials against float64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import log_sum


@pytest.mark.parametrize("width", [1, 7, 24, 2056, 32_128])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("shift", [0.0, -40.0, 1000.0])
def test_equals_float64(width: int, spread: float, shift: float) -> None:
    rng = np.random.default_rng(width)
    x = (rng.standard_normal((3, 4, width)) * spread + shift).astype(np.float32)
    wide = x.astype(np.float64)
    peak = wide.max(axis=-1)
    want = np.log(np.exp(wide - peak[..., None]).sum(axis=-1)) + peak
    got = np.asarray(log_sum.log_sum_exp(jnp.asarray(x)), np.float64)
    # Two roundings of the result, and 2e-7 of the sum itself.
    np.testing.assert_allclose(got, want, rtol=1.2e-7, atol=2e-7)


def test_ends_of_the_range() -> None:
    low, high = -np.inf, np.finfo(np.float32).max
    rows = [[low] * 4, [low, 2.0, low, low], [high, low, -high, -high], [np.inf] * 4]
    got = log_sum.log_sum_exp(jnp.asarray(rows, jnp.float32))
    np.testing.assert_array_equal(got, np.float32([low, 2.0, high, np.inf]))
