"""Attention of beams to keys they share and keys of their own, without copies.

A query's prompt is never repeated for its beams: scores against shared and own keys are
computed apart and joined in the softmax by their maxima and sums.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gr_jax.core import errors
from gr_jax.model import config as model_config
from gr_jax.model import splash, whole_attention


class Segment(NamedTuple):
    """Some of the keys that queries attend to.

    Attributes:
      key: ``[B, S, K, d]`` shared by the beams, or ``[B, M, S, K, d]`` of each beam.
      value: Shaped like ``key``.
      mask: Which keys a query may see; ``[B or 1, T or 1, S]``.
      bias: Added to the scores, or None.
    """

    key: Float[Array, ...]
    value: Float[Array, ...]
    mask: Bool[Array, ...]
    bias: Float[Array, "H T S"] | None = None


class Partial(NamedTuple):
    """Attention to one segment, its softmax not yet divided by its sum."""

    weighted_BMTKGd: Float[Array, "B M T K G d"]
    peak_BMTKG: Float[Array, "B M T K G"]
    total_BMTKG: Float[Array, "B M T K G"]


class Dropout(NamedTuple):
    """Rate and key of dropout on attention weights."""

    rate: float
    key: jax.Array


def attend(
    query_BMTHd: Float[Array, "B M T H d"],
    segments: tuple[Segment, ...],
    *,
    scale: float = 1.0,
    kernel: model_config.Attention = "plain",
    dropout: Dropout | None = None,
    rows: splash.Rows | None = None,
) -> Float[Array, "B M T H d"]:
    """The values averaged by one softmax over the keys of all segments.

    Args:
      query_BMTHd: Queries; heads in the order of their key-value heads.
      segments: What may be attended to.
      scale: Multiplies the scores (T5: 1, LLaMA: ``head_dim ** -0.5``).
      kernel: ``plain``, or for whole sequences (one beam) a fused kernel.
      dropout: Applied to the weights; None in evaluation. Takes the plain path.
      rows: What the masks say, as the TPU's ``flash`` needs it; None takes the plain
        path there.

    Raises:
      UsageError: If ``flash`` has no kernel on this platform, or none with a bias.
    """
    is_whole = query_BMTHd.shape[1] == 1 and dropout is None
    if kernel == "flash" and _platform() == "tpu":
        if any(segment.bias is not None for segment in segments):
            remedy = "T5's position bias has no TPU kernel: use fused"
            raise errors.UsageError(
                errors.fault("model config", "attention", "flash", remedy)
            )
        if is_whole and rows is not None:
            return _by_splash(query_BMTHd * scale, segments, rows)
    elif kernel != "plain" and is_whole:
        return _fused(query_BMTHd, segments, scale=scale, kernel=kernel)
    batch, beams, tokens, heads, width = query_BMTHd.shape
    kv_heads = segments[0].key.shape[-2]
    scaled = query_BMTHd if scale == 1.0 else query_BMTHd * scale
    query = scaled.reshape(batch, beams, tokens, kv_heads, heads // kv_heads, width)
    # One token at a time is decoding: joining the segments would copy its cache.
    if beams == 1 and tokens > 1 and dropout is None:
        return _whole(query, segments).reshape(query_BMTHd.shape)
    parts = [_partial(query, segment, dropout) for segment in segments]
    weighted, total = _joined(parts)
    out = weighted / total.astype(query.dtype)[..., None]
    return out.reshape(batch, beams, tokens, heads, width)


def _joined(parts: list[Partial]) -> tuple[Array, Array]:
    """Weighted values and sums of all segments, relative to one common maximum."""
    if len(parts) == 1:
        return parts[0].weighted_BMTKGd, parts[0].total_BMTKG
    peak = parts[0].peak_BMTKG
    for part in parts[1:]:
        peak = jnp.maximum(peak, part.peak_BMTKG)
    weighted = jnp.zeros_like(parts[0].weighted_BMTKGd)
    total = jnp.zeros_like(peak)
    for part in parts:
        share = jnp.exp(part.peak_BMTKG - peak)
        weighted += part.weighted_BMTKGd * share.astype(weighted.dtype)[..., None]
        total += part.total_BMTKG * share
    return weighted, total


def _partial(
    query: Float[Array, "B M T K G d"], segment: Segment, dropout: Dropout | None
) -> Partial:
    is_shared = segment.key.ndim == 4
    # The order of axes is what a batched product yields: batch, left, right.
    scores = jnp.einsum(
        "bmtkgd,bskd->bkmtgs" if is_shared else "bmtkgd,bmskd->bmktgs",
        query,
        segment.key,
        preferred_element_type=jnp.float32,
    )
    if segment.bias is not None:
        scores += _bias_like(segment.bias, scores, is_shared=is_shared)
    mask = segment.mask[:, None, None, :, None, :]
    # The lowest finite number keeps a row without any key (a padded batch row) finite.
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    peak = jax.lax.stop_gradient(scores.max(axis=-1))
    weights = jnp.exp(scores - peak[..., None])
    total = weights.sum(axis=-1)
    if dropout is not None:
        kept = jax.random.bernoulli(dropout.key, 1 - dropout.rate, weights.shape)
        weights = jnp.where(kept, weights / (1 - dropout.rate), 0.0)
    weighted = jnp.einsum(
        "bkmtgs,bskd->bmtkgd" if is_shared else "bmktgs,bmskd->bmtkgd",
        weights.astype(query.dtype),
        segment.value,
    )
    order = (0, 2, 3, 1, 4) if is_shared else (0, 1, 3, 2, 4)
    return Partial(weighted, peak.transpose(order), total.transpose(order))


def _bias_like(
    bias_HTS: Float[Array, "H T S"], scores: Array, *, is_shared: bool
) -> Float[Array, ...]:
    kv_heads = scores.shape[1 if is_shared else 2]
    bias = _bias_by_group(bias_HTS, kv_heads).astype(jnp.float32)
    if is_shared:
        return bias[None, :, None]
    return bias[None, None]


def _bias_by_group(
    bias_HTS: Float[Array, "H T S"], kv_heads: int
) -> Float[Array, "K T G S"]:
    heads, tokens, keys = bias_HTS.shape
    bias = bias_HTS.reshape(kv_heads, heads // kv_heads, tokens, keys)
    return bias.transpose(0, 2, 1, 3)


def _whole(
    query: Float[Array, "B 1 T K G d"], segments: tuple[Segment, ...]
) -> Float[Array, "B T K G d"]:
    """Attention of the one beam to all segments at once."""
    keys = []
    for segment in segments:
        key, value = _of_one_beam(segment)
        bias = segment.bias
        if bias is not None:
            bias = _bias_by_group(bias, key.shape[2])
        keys.append(whole_attention.Keys(key, value, bias, segment.mask))
    return whole_attention.averaged(query[:, 0], tuple(keys))


def _of_one_beam(segment: Segment) -> tuple[Array, Array]:
    """Keys and values without the axis of beams."""
    if segment.key.ndim == 4:
        return segment.key, segment.value
    return segment.key[:, 0], segment.value[:, 0]


def _as_one(
    segments: tuple[Segment, ...], batch: int, tokens: int
) -> tuple[Array, Array, Array, Array | None]:
    """Keys, values, mask and bias of all segments of one beam, side by side."""
    keys, values = zip(*map(_of_one_beam, segments), strict=True)
    if len(segments) == 1:
        return keys[0], values[0], segments[0].mask, segments[0].bias
    masks = [
        jnp.broadcast_to(s.mask, (batch, tokens, s.mask.shape[-1])) for s in segments
    ]
    bias = None
    found = [s.bias for s in segments if s.bias is not None]
    if found:
        heads = found[0].shape[0]
        biases = [
            jnp.zeros((heads, tokens, s.mask.shape[-1])) if s.bias is None else s.bias
            for s in segments
        ]
        bias = jnp.concatenate(biases, axis=-1)
    key, value = jnp.concatenate(keys, axis=1), jnp.concatenate(values, axis=1)
    return key, value, jnp.concatenate(masks, axis=-1), bias


def _by_splash(
    query_BMTHd: Float[Array, "B M T H d"],
    segments: tuple[Segment, ...],
    rows: splash.Rows,
) -> Float[Array, "B M T H d"]:
    batch, _, tokens = query_BMTHd.shape[:3]
    key, value, _, _ = _as_one(segments, batch, tokens)
    return splash.averaged(query_BMTHd[:, 0], key, value, *rows)[:, None]


def _fused(
    query_BMTHd: Float[Array, "B M T H d"],
    segments: tuple[Segment, ...],
    *,
    scale: float,
    kernel: model_config.Attention,
) -> Float[Array, "B M T H d"]:
    query_BTHd = query_BMTHd[:, 0]
    batch, tokens = query_BTHd.shape[:2]
    key, value, mask, bias_HTS = _as_one(segments, batch, tokens)
    bias = None if bias_HTS is None else bias_HTS[None].astype(query_BTHd.dtype)
    out = jax.nn.dot_product_attention(
        query_BTHd,
        key,
        value,
        bias=bias,
        mask=jnp.broadcast_to(mask, (batch, tokens, mask.shape[-1]))[:, None],
        scale=scale,
        implementation="xla" if kernel == "fused" else _platform_kernel(),
    )
    return out[:, None]


def _platform() -> str:
    """Of the mesh's devices, which a dry run merely describes, or else the host's."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return getattr(device, "platform", None) or jax.default_backend()


def _platform_kernel() -> Literal["cudnn"]:
    platform = _platform()
    if platform == "gpu":
        return "cudnn"
    raise errors.UsageError(
        errors.fault("model config", "attention", "flash", f"none on {platform}: fused")
    )
