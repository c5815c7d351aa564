"""Attention of whole sequences, with its gradient written out.

The gradient keeps the weights alone, where automatic differentiation also keeps the
scores' exponentials and their sums, and every product in it is a plain batched one.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_LOWEST = float(jnp.finfo(jnp.float32).min)


def averaged(
    query_BTKGd: Float[Array, "B T K G d"],
    key_BSKd: Float[Array, "B S K d"],
    value_BSKd: Float[Array, "B S K d"],
    bias_KTGS: Float[Array, "K T G S"] | None,
    mask: Bool[Array, "B T S"],
) -> Float[Array, "B T K G d"]:
    """The values averaged by a softmax over the keys that each query sees.

    Args:
      query_BTKGd: Queries, scaled; ``G`` of them share a key-value head.
      key_BSKd: Keys.
      value_BSKd: Values.
      bias_KTGS: Added to the scores, or None.
      mask: Which keys a query may see; the first two axes may be 1. A query that sees
        none averages all values, which stays finite.
    """
    out = _averaged(query_BTKGd, key_BSKd, value_BSKd, bias_KTGS, mask)
    return cast(Array, out)


@jax.custom_vjp
def _averaged(
    query_BTKGd: Array, key_BSKd: Array, value_BSKd: Array, bias_KTGS: Any, mask: Array
) -> Array:
    return _forward(query_BTKGd, key_BSKd, value_BSKd, bias_KTGS, mask)[0]


def _forward(
    query_BTKGd: Array, key_BSKd: Array, value_BSKd: Array, bias_KTGS: Any, mask: Array
) -> tuple[Array, Any]:
    # The order of axes is what a batched product yields: batch, left, right.
    scores_BKTGS = jnp.einsum(
        "btkgd,bskd->bktgs",
        query_BTKGd,
        key_BSKd,
        preferred_element_type=jnp.float32,
    )
    if bias_KTGS is not None:
        scores_BKTGS += bias_KTGS[None].astype(jnp.float32)
    scores_BKTGS = jnp.where(mask[:, None, :, None, :], scores_BKTGS, _LOWEST)
    raised_BKTGS = jnp.exp(scores_BKTGS - scores_BKTGS.max(axis=-1, keepdims=True))
    total = raised_BKTGS.sum(axis=-1, keepdims=True)
    weights_BKTGS = (raised_BKTGS / total).astype(query_BTKGd.dtype)
    out = jnp.einsum("bktgs,bskd->btkgd", weights_BKTGS, value_BSKd)
    return out, (query_BTKGd, key_BSKd, value_BSKd, bias_KTGS, weights_BKTGS)


def _backward(kept: Any, gradient_BTKGd: Array) -> tuple[Any, ...]:
    query_BTKGd, key_BSKd, value_BSKd, bias_KTGS, weights_BKTGS = kept
    to_value = jnp.einsum("bktgs,btkgd->bskd", weights_BKTGS, gradient_BTKGd)
    to_weights = jnp.einsum(
        "btkgd,bskd->bktgs",
        gradient_BTKGd,
        value_BSKd,
        preferred_element_type=jnp.float32,
    )
    wide = weights_BKTGS.astype(jnp.float32)
    mean = jnp.sum(wide * to_weights, axis=-1, keepdims=True)
    to_scores = wide * (to_weights - mean)
    to_bias = None
    if bias_KTGS is not None:
        to_bias = to_scores.sum(axis=0).astype(bias_KTGS.dtype)
    to_scores = to_scores.astype(query_BTKGd.dtype)
    to_query = jnp.einsum("bktgs,bskd->btkgd", to_scores, key_BSKd)
    to_key = jnp.einsum("bktgs,btkgd->bskd", to_scores, query_BTKGd)
    return to_query, to_key, to_value, to_bias, None


_averaged.defvjp(_forward, _backward)
