"""The written-out gradient of attention against automatic differentiation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import whole_attention


def _plain(query: Any, key: Any, value: Any, bias: Any, mask: Any) -> jax.Array:
    scores = jnp.einsum("btkgd,bskd->bktgs", query, key)
    if bias is not None:
        scores = scores + bias[None]
    scores = jnp.where(mask[:, None, :, None, :], scores, -1e30)
    return jnp.einsum("bktgs,bskd->btkgd", jax.nn.softmax(scores, axis=-1), value)


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shared_rows", [False, True])
def test_values_and_gradients(segments: int, has_bias: bool, shared_rows: bool) -> None:
    rng = np.random.default_rng(0)
    shapes = ((2, 5, 3, 2, 4), (2, 6, 3, 4), (2, 6, 3, 4), (3, 5, 2, 6))
    query, key, value, bias = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes
    )
    mask = rng.random((2, 1 if shared_rows else 5, 6)) < 0.6
    mask[..., 0] = True
    arguments = (query, key, value, bias if has_bias else None)

    def total(arguments: Any, attend: Any) -> jax.Array:
        return jnp.sin(attend(*arguments, jnp.asarray(mask)) * 3).sum()

    def attend(query: Any, key: Any, value: Any, bias: Any, mask: Any) -> jax.Array:
        # The same keys in one segment or several, of which the first is empty.
        ends = [(0, 6)] if segments == 1 else [(0, 0), (0, 2), (2, 6)]
        parts = tuple(
            whole_attention.Keys(
                key[:, a:z],
                value[:, a:z],
                None if bias is None else bias[..., a:z],
                mask[..., a:z],
            )
            for a, z in ends
        )
        return whole_attention.averaged(query, parts)

    wanted = jax.value_and_grad(total)(arguments, _plain)
    found = jax.value_and_grad(total)(arguments, attend)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    # And without a gradient.
    value = attend(*arguments, jnp.asarray(mask))
    wanted = _plain(*arguments, jnp.asarray(mask))
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)


def test_a_query_without_keys_stays_finite() -> None:
    ones = jnp.ones((1, 2, 1, 4))
    mask = jnp.zeros((1, 1, 2), bool)

    def total(query: jax.Array) -> jax.Array:
        keys = whole_attention.Keys(ones, ones, None, mask)
        return whole_attention.averaged(query, (keys, keys)).sum()

    value, gradient = jax.value_and_grad(total)(jnp.ones((1, 3, 1, 1, 4)))
    assert np.isfinite(float(value))
    assert np.isfinite(np.asarray(gradient)).all()
