"""Layers stacked and apart: one model, the same logits."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import families, ladder, stacking


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_there_and_back_and_the_same_logits(family: Any) -> None:
    size = {"t5": "130k", "llama": "25k"}[family]
    apart = ladder.build(family, size, vocab_size=16)
    model = families.build(apart)
    params = jax.device_get(model.init(jax.random.key(0)))
    stacked = families.build(dataclasses.replace(apart, scan_layers=True))
    moved = stacking.arranged(params, is_stacked=True)
    assert jax.tree.structure(moved) == jax.tree.structure(
        jax.eval_shape(stacked.init, jax.random.key(0))
    )
    source, target = jnp.array([[5, 6, 1, 0]]), jnp.array([[7, 8, 1]])
    np.testing.assert_allclose(
        jax.jit(stacked.logits)(moved, source, target),
        jax.jit(model.logits)(params, source, target),
        atol=1e-5,
    )
    for tree in (moved, params):
        back = stacking.arranged(tree, is_stacked=False)
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for one, other in zip(
            jax.tree.leaves(back), jax.tree.leaves(params), strict=True
        ):
            np.testing.assert_array_equal(one, other)
