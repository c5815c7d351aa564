"""Children of narrow beams: a few sorted rows, read as one window a beam."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from gr_jax.decode import top_k, tree_arrays

_COUNTED = 16


def children(
    tree: tree_arrays.TreeArrays,
    state: tree_arrays.TreeState,
    logits_BMV: Float[Array, "B M V"],
    gain_BM: Float[Array, "B M"],
    *,
    width: int,
    count: int,
) -> tree_arrays.Children:
    """Children of beams of at most ``width`` rows, all narrow."""
    batch = gain_BM.shape[0]
    offset_11C = jnp.arange(width)[None, None, :]
    row_BMC = state.low[:, :, None] + offset_11C
    token_BMC = tree.token(state.depth[:, :, None], row_BMC)
    is_inside_BMC = row_BMC < state.high[:, :, None]
    before_BMC = jnp.pad(token_BMC[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
    begins_BMC = is_inside_BMC & ((offset_11C == 0) | (token_BMC != before_BMC))
    logit_BMC = jnp.take_along_axis(logits_BMV, token_BMC, axis=2, mode="clip")
    score_BMC = jnp.where(begins_BMC, gain_BM[:, :, None] + logit_BMC, -jnp.inf)
    score_BC, slot_BC = top_k.best(score_BMC.reshape(batch, -1), count)
    parent_BC = slot_BC // width
    token_BC = top_k.take(token_BMC.reshape(batch, -1), slot_BC)
    low_BC = top_k.take(state.low, parent_BC) + slot_BC % width
    if width <= _COUNTED:
        parent_BC1 = parent_BC[:, :, None]
        beside_BCx = jnp.take_along_axis(
            token_BMC, parent_BC1, axis=1, mode="promise_in_bounds"
        )
        inside_BCx = jnp.take_along_axis(
            is_inside_BMC, parent_BC1, axis=1, mode="promise_in_bounds"
        )
        same_BCx = inside_BCx & (beside_BCx == token_BC[:, :, None])
        high_BC = low_BC + same_BCx.sum(axis=2, dtype=jnp.int32)
    else:
        high_BC = tree.run_end(
            top_k.take(state.depth, parent_BC),
            token_BC,
            low_BC,
            top_k.take(state.high, parent_BC),
        )
    narrow_BC = jnp.full_like(low_BC, tree_arrays.NARROW)
    return tree_arrays.Children(
        score_BC, parent_BC, token_BC, low_BC, high_BC, narrow_BC
    )
