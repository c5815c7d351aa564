"""Attention against a loop over queries, and the fused kernel against the plain one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.model import attention

BATCH, TOKENS, HEADS, KV_HEADS, WIDTH, SHARED, OWN = 2, 3, 4, 2, 8, 5, 3


def _case(beams: int) -> tuple[Any, tuple[attention.Segment, ...]]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    query = normal(BATCH, beams, TOKENS, HEADS, WIDTH)
    mask_B1S = jnp.asarray(np.arange(SHARED)[None] < np.array([[5], [2]]))[:, None]
    shared = attention.Segment(
        normal(BATCH, SHARED, KV_HEADS, WIDTH),
        normal(BATCH, SHARED, KV_HEADS, WIDTH),
        mask_B1S,
        normal(HEADS, TOKENS, SHARED),
    )
    causal = jnp.tril(jnp.ones((TOKENS, OWN), bool))[None]
    own = attention.Segment(
        normal(BATCH, beams, OWN, KV_HEADS, WIDTH),
        normal(BATCH, beams, OWN, KV_HEADS, WIDTH),
        causal,
        normal(HEADS, TOKENS, OWN),
    )
    return query, (shared, own)


def _by_loops(
    query: Any, segments: tuple[attention.Segment, ...], scale: float
) -> np.ndarray:
    query = np.asarray(query, np.float64)
    out = np.zeros(query.shape)
    for b, m, t, h in np.ndindex(*query.shape[:4]):
        scores, values = [], []
        for segment in segments:
            key, value = np.asarray(segment.key), np.asarray(segment.value)
            mask = np.asarray(segment.mask)
            bias = np.asarray(segment.bias)
            for s in range(key.shape[-3]):
                if not mask[min(b, len(mask) - 1), min(t, mask.shape[1] - 1), s]:
                    continue
                place = (b, s) if key.ndim == 4 else (b, m, s)
                kv = h // (HEADS // KV_HEADS)
                dot = query[b, m, t, h] @ key[(*place, kv)] * scale
                scores.append(dot + bias[h, t, s])
                values.append(value[(*place, kv)])
        weights = np.exp(np.array(scores) - max(scores))
        out[b, m, t, h] = weights @ np.array(values) / weights.sum()
    return out


@pytest.mark.parametrize("beams", [1, 3])
def test_shared_and_own_keys_are_one_softmax(beams: int) -> None:
    query, segments = _case(beams)
    found = attention.attend(query, segments, scale=0.5)
    np.testing.assert_allclose(found, _by_loops(query, segments, 0.5), atol=1e-5)


def test_one_segment_alone() -> None:
    query, segments = _case(2)
    for segment in segments:
        found = attention.attend(query, (segment,), scale=1.0)
        wanted = _by_loops(query, (segment,), 1.0)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_scores_far_apart_lose_nothing() -> None:
    """One segment's scores 200 above the other's: no overflow, no NaN."""
    query, (shared, own) = _case(1)
    shared = shared._replace(bias=shared.bias + 200.0)
    found = attention.attend(query, (shared, own))
    np.testing.assert_allclose(found, _by_loops(query, (shared, own), 1.0), atol=1e-4)


def test_fused_kernel_equals_the_plain_path() -> None:
    query, segments = _case(1)

    def total(query: jax.Array, kernel: Any) -> jax.Array:
        return jnp.sin(
            attention.attend(query, segments, scale=0.5, kernel=kernel)
        ).sum()

    for kernel in ("plain", "fused"):
        found = attention.attend(query, segments, scale=0.5, kernel=kernel)
        np.testing.assert_allclose(found, _by_loops(query, segments, 0.5), atol=1e-5)
    plain, fused = (jax.grad(total)(query, kernel) for kernel in ("plain", "fused"))
    np.testing.assert_allclose(plain, fused, atol=1e-5)


def test_flash_is_refused_where_there_is_none() -> None:
    query, segments = _case(1)
    with pytest.raises(errors.UsageError, match="none on cpu"):
        attention.attend(query, segments, kernel="flash")


@pytest.mark.gpu
def test_flash_equals_the_plain_path_on_a_gpu() -> None:
    if jax.default_backend() != "gpu":
        pytest.skip("needs an accelerator")
    query, segments = _case(1)
    segments = tuple(
        attention.Segment(*(x.astype("bfloat16") for x in s[:2]), s.mask, s.bias)
        for s in segments
    )
    query = query.astype("bfloat16")
    plain = attention.attend(query, segments)
    flash = attention.attend(query, segments, kernel="flash")
    np.testing.assert_allclose(plain.astype("float32"), flash, atol=2e-2)
