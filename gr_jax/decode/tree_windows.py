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
    batch, beams, vocabulary = logits_BMV.shape
    offset_11C = jnp.arange(width)[None, None, :]
    row_BMC = state.low[:, :, None] + offset_11C
    token_BMC = tree.token(state.depth[:, :, None], row_BMC)
    begins_BMC = row_BMC < state.high[:, :, None]
    if width > 1:
        before_BMC = jnp.pad(token_BMC[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
        begins_BMC &= (offset_11C == 0) | (token_BMC != before_BMC)
    beam_1M1 = jnp.arange(beams)[None, :, None]
    place_BMC = beam_1M1 * vocabulary + jnp.clip(token_BMC, 0, vocabulary - 1)
    logit_BE = top_k.take(
        logits_BMV.reshape(batch, -1), place_BMC.reshape(batch, beams * width)
    )
    score_BMC = gain_BM[:, :, None] + logit_BE.reshape(token_BMC.shape)
    score_BMC = jnp.where(begins_BMC, score_BMC, -jnp.inf)
    score_BC, slot_BC = top_k.best(score_BMC.reshape(batch, -1), count)
    parent_BC = slot_BC // width
    first_BC, last_BC = (top_k.take(x, parent_BC) for x in (state.low, state.high))
    token_BC = top_k.take(token_BMC.reshape(batch, -1), slot_BC)
    low_BC = first_BC + slot_BC % width
    if width == 1:
        high_BC = low_BC + 1
    elif width <= _COUNTED:
        window_BCx = (parent_BC * width)[:, :, None] + offset_11C
        beside_BE = top_k.take(
            token_BMC.reshape(batch, -1), window_BCx.reshape(batch, -1)
        )
        same_BCx = beside_BE.reshape(window_BCx.shape) == token_BC[:, :, None]
        same_BCx &= first_BC[:, :, None] + offset_11C < last_BC[:, :, None]
        high_BC = low_BC + same_BCx.sum(axis=2, dtype=jnp.int32)
    else:
        depth_BC = top_k.take(state.depth, parent_BC)
        high_BC = tree.run_end(depth_BC, token_BC, low_BC, last_BC)
    narrow_BC = jnp.full_like(low_BC, tree_arrays.NARROW)
    return tree_arrays.Children(
        score_BC, parent_BC, token_BC, low_BC, high_BC, narrow_BC
    )
