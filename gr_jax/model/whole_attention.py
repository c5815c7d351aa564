"""Attention of whole sequences, with its gradient written out.

Keys may come in several segments (LLaMA's source and target): their scores share one
softmax and are never copied side by side. The gradient keeps the scores' exponentials
alone, and every product in it is a plain batched one whose large operands, those over
queries and keys, are read in the order in which they lie.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gr_jax.model import products

_LOWEST = float(jnp.finfo(jnp.float32).min)


class Keys(NamedTuple):
    """One segment of what queries attend to.

    Attributes:
      key_BSKd: Keys.
      value_BSKd: Values.
      bias_KTGS: Added to the scores, or None.
      mask: Which keys a query may see, ``[B, T, S]``; the first two axes may be 1.
    """

    key_BSKd: Any
    value_BSKd: Any
    bias_KTGS: Any
    mask: Any


def averaged(
    query_BTKGd: Float[Array, "B T K G d"], segments: tuple[Keys, ...]
) -> Float[Array, "B T K G d"]:
    """The values averaged by a softmax over the keys that each query sees.

    Args:
      query_BTKGd: Queries, scaled; ``G`` of them share a key-value head.
      segments: What they attend to. A query that sees no key of any averages all
        values, which stays finite.
    """
    return cast(Array, _averaged(query_BTKGd, segments))


@jax.custom_vjp
def _averaged(query_BTKGd: Array, segments: tuple[Keys, ...]) -> Array:
    return _forward(query_BTKGd, segments)[0]


def _forward(query_BTKGd: Array, segments: tuple[Keys, ...]) -> tuple[Array, Any]:
    scores = [_scores(query_BTKGd, segment) for segment in segments]
    # A segment may be empty (no source at all); then it has no maximum.
    peaks = [s.max(axis=-1, keepdims=True) for s in scores if s.shape[-1]]
    peak = functools.reduce(jnp.maximum, peaks)
    raised = [jnp.exp(s - peak) for s in scores]
    total_BKTG1 = functools.reduce(
        jnp.add, [r.sum(axis=-1, keepdims=True) for r in raised]
    )
    weights = tuple(r.astype(query_BTKGd.dtype) for r in raised)
    weighted = [
        jnp.einsum("bktgs,bskd->bktgd", w, segment.value_BSKd)
        for w, segment in zip(weights, segments, strict=True)
    ]
    out_BKTGd = functools.reduce(jnp.add, weighted)
    # Divided here and not in the weights, which are more.
    out_BKTGd = (out_BKTGd / total_BKTG1).astype(query_BTKGd.dtype)
    out_BTKGd = out_BKTGd.transpose(0, 2, 1, 3, 4)
    return out_BTKGd, (query_BTKGd, segments, weights, total_BKTG1, out_BTKGd)


def _scores(query_BTKGd: Array, segment: Keys) -> Float[Array, "B K T G S"]:
    # The order of axes is what a batched product yields: batch, left, right.
    scores_BKTGS = jnp.einsum(
        "btkgd,bskd->bktgs",
        query_BTKGd,
        segment.key_BSKd,
        preferred_element_type=jnp.float32,
    )
    if segment.bias_KTGS is not None:
        scores_BKTGS += segment.bias_KTGS[None].astype(jnp.float32)
    return jnp.where(segment.mask[:, None, :, None, :], scores_BKTGS, _LOWEST)


def _backward(kept: Any, gradient_BTKGd: Array) -> tuple[Array, tuple[Keys, ...]]:
    query_BTKGd, segments, weights, total_BKTG1, out_BTKGd = kept
    total_BTKG1 = total_BKTG1.transpose(0, 2, 1, 3, 4)
    share_BTKGd = gradient_BTKGd.astype(jnp.float32) / total_BTKG1
    # What the weights' gradients average to, by way of the output: fewer numbers.
    mean_BTKG1 = products.inner(out_BTKGd.astype(jnp.float32), share_BTKGd)
    mean_BKTG1 = mean_BTKG1.transpose(0, 2, 1, 3, 4)
    share_BTKGd = share_BTKGd.astype(query_BTKGd.dtype)
    parts = [
        _segment_backward(query_BTKGd, share_BTKGd, mean_BKTG1, segment, w)
        for segment, w in zip(segments, weights, strict=True)
    ]
    to_query_BKTGd = sum(to_query for to_query, _ in parts)
    to_query_BTKGd = jnp.asarray(to_query_BKTGd).transpose(0, 2, 1, 3, 4)
    return to_query_BTKGd, tuple(to_keys for _, to_keys in parts)


def _segment_backward(
    query_BTKGd: Array,
    share_BTKGd: Array,
    mean_BKTG1: Array,
    segment: Keys,
    weights_BKTGS: Array,
) -> tuple[Float[Array, "B K T G d"], Keys]:
    """Gradients of the queries by one segment, and of the segment."""
    to_value_BKdS = jnp.einsum("btkgd,bktgs->bkds", share_BTKGd, weights_BKTGS)
    to_weights_BKTGS = jnp.einsum(
        "btkgd,bskd->bktgs",
        share_BTKGd,
        segment.value_BSKd,
        preferred_element_type=jnp.float32,
    )
    to_scores_BKTGS = weights_BKTGS.astype(jnp.float32) * (
        to_weights_BKTGS - mean_BKTG1
    )
    to_bias_KTGS = None
    if segment.bias_KTGS is not None:
        to_bias_KTGS = to_scores_BKTGS.sum(axis=0).astype(segment.bias_KTGS.dtype)
    to_scores_BKTGS = to_scores_BKTGS.astype(query_BTKGd.dtype)
    to_query_BKTGd = jnp.einsum("bktgs,bskd->bktgd", to_scores_BKTGS, segment.key_BSKd)
    to_key_BKdS = jnp.einsum("btkgd,bktgs->bkds", query_BTKGd, to_scores_BKTGS)
    to_key_BSKd = to_key_BKdS.transpose(0, 3, 1, 2)
    to_value_BSKd = to_value_BKdS.transpose(0, 3, 1, 2)
    return to_query_BKTGd, Keys(to_key_BSKd, to_value_BSKd, to_bias_KTGS, None)


_averaged.defvjp(_forward, _backward)
