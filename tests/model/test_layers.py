"""The written-out gradient of the norm against automatic differentiation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import layers

_EPSILON = 1e-6


def _plain(x: Any, scale_D: Any) -> jax.Array:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    scale = scale_D.reshape((1,) * (x.ndim - 1) + (-1,))
    return wide / jnp.sqrt(mean + _EPSILON) * scale


@pytest.mark.parametrize("rows", [(3,), (2, 1, 5)])
def test_norm_and_its_gradients(rows: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(*rows, 6)) * 3, jnp.float32)
    scale_D = jnp.asarray(rng.normal(size=6), jnp.float32)

    def total(x: Any, scale_D: Any, norm: Any) -> jax.Array:
        return jnp.sin(norm(x, scale_D) * 2).sum()

    def written(x: Any, scale_D: Any) -> jax.Array:
        return layers.rms_normalised(x, scale_D, epsilon=_EPSILON)

    wanted = jax.value_and_grad(total, (0, 1))(x, scale_D, _plain)
    found = jax.value_and_grad(total, (0, 1))(x, scale_D, written)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_narrow_row_has_narrow_gradients_near_the_wide_ones() -> None:
    rng = np.random.default_rng(1)
    wide = jnp.asarray(rng.normal(size=(4, 64)), jnp.bfloat16).astype(jnp.float32)
    weight = jnp.asarray(rng.normal(size=(4, 64)), jnp.float32)
    scale_D = jnp.ones(64)

    def total(x: jax.Array) -> jax.Array:
        out = layers.rms_normalised(x, scale_D, epsilon=_EPSILON)
        return (out.astype(jnp.float32) * weight).sum()

    wanted, found = jax.grad(total)(wide), jax.grad(total)(wide.astype(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    # One rounding of the output and one of the gradient, 2**-9 each of about 3.
    np.testing.assert_allclose(found.astype(jnp.float32), wanted, atol=3e-2)


def test_a_row_of_zeros_has_a_finite_gradient() -> None:
    def total(x: jax.Array) -> jax.Array:
        return layers.rms_normalised(x, jnp.ones(4), epsilon=_EPSILON).sum()

    np.testing.assert_allclose(jax.grad(total)(jnp.zeros((1, 4))), 1e3, rtol=1e-6)
