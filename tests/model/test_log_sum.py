"""Sums of exponentials against float64, compiled as they are in earnest."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import log_sum


@pytest.fixture(autouse=True)
def optimised() -> Iterator[None]:
    # The compiler's liberties with arithmetic are what these tests are for.
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def compiled(x: np.ndarray) -> np.ndarray:
    # A new function each time, so that nothing compiled with less effort is met.
    return np.asarray(jax.jit(lambda x: log_sum.log_sum_exp(x))(jnp.asarray(x)))


@pytest.mark.parametrize("width", [1, 7, 24, 2056, 32_128])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("shift", [0.0, -40.0, 1000.0])
def test_equals_float64(width: int, spread: float, shift: float) -> None:
    rng = np.random.default_rng(width)
    x = (rng.standard_normal((3, 4, width)) * spread + shift).astype(np.float32)
    wide = x.astype(np.float64)
    peak = wide.max(axis=-1)
    want = np.log(np.exp(wide - peak[..., None]).sum(axis=-1)) + peak
    got = compiled(x).astype(np.float64)
    # Two roundings of the result, and 2e-7 of the sum itself.
    np.testing.assert_allclose(got, want, rtol=1.2e-7, atol=2e-7)


def test_ends_of_the_range() -> None:
    low, high = -np.inf, np.finfo(np.float32).max
    rows = [[low] * 4, [low, 2.0, low, low], [high, low, -high, -high], [np.inf] * 4]
    got = compiled(np.array(rows, np.float32))
    wanted = np.array([low, 2.0, high, np.inf], np.float32)
    np.testing.assert_array_equal(got, wanted)
