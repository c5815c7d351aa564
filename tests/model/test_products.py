"""Products and their written-out gradients against plain ones."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import products


@pytest.mark.parametrize(("rows", "columns"), [(3, 7), (7, 3)])
def test_gradients_are_those_of_a_plain_product(rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    x, kernel, weight = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, 4, 5, rows), (rows, columns), (2, 4, 5, columns))
    )

    def total(x: jax.Array, kernel: jax.Array, *, written: bool) -> jax.Array:
        out = products.product(x, kernel) if written else x @ kernel
        return jnp.sum(jnp.sin(out) * weight)

    wanted = jax.value_and_grad(total, (0, 1))(x, kernel, written=False)
    found = jax.value_and_grad(total, (0, 1))(x, kernel, written=True)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_wide_output_of_narrow_operands_has_narrow_gradients() -> None:
    x, kernel = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16)
    assert products.product(x, kernel, "float32").dtype == jnp.float32

    def total(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return products.product(x, kernel, "float32").sum()

    for gradient in jax.grad(total, (0, 1))(x, kernel):
        assert gradient.dtype == jnp.bfloat16


def test_rematerialisation_may_keep_the_product() -> None:
    x, kernel = jnp.ones((2, 3)), jnp.ones((3, 4))

    def block(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sin(products.product(x, kernel)).sum()

    def count(policy: Any) -> int:
        again = jax.checkpoint(block, policy=policy)
        program = jax.jit(jax.value_and_grad(again, (0, 1))).lower(x, kernel)
        return program.as_text().count("dot_general")

    policies = jax.checkpoint_policies
    # Forward once, and one for each operand; computed again where nothing is kept.
    assert count(policies.save_only_these_names(products.NAME)) == 3
    assert count(policies.nothing_saveable) == 4


def test_inner_sums_products_of_rows_in_full_precision() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 2, 3, 40)).astype(np.float32)
    found = products.inner(jnp.asarray(left), jnp.asarray(right))
    wanted = (left.astype(np.float64) * right).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
