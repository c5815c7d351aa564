"""Where a token stands: T5's relative buckets and LLaMA's rotary angles."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gr_jax.model import config as model_config


def relative_bucket(
    offset_TS: Int[Array, "T S"], *, buckets: int, distance: int, bidirectional: bool
) -> Int[Array, "T S"]:
    """T5's bucket of a key's offset from its query: exact near by, then logarithmic.

    Source: Raffel et al. 2020 (arXiv:1910.10683), section 2.1.

    Args:
      offset_TS: Key position minus query position.
      buckets: Number of buckets.
      distance: Offset from which on all share the last bucket.
      bidirectional: Half of the buckets for later keys; otherwise they share bucket 0
        with the query itself, which causality masks.
    """
    if bidirectional:
        buckets //= 2
        first_TS = jnp.where(offset_TS > 0, buckets, 0)
        back_TS = jnp.abs(offset_TS)
    else:
        first_TS = jnp.zeros_like(offset_TS)
        back_TS = jnp.maximum(-offset_TS, 0)
    exact = buckets // 2
    # The argument is at least 1 where it is used, so the logarithm is finite.
    ratio_TS = jnp.maximum(back_TS, 1).astype(jnp.float32) / exact
    scale = (buckets - exact) / math.log(distance / exact)
    far_TS = exact + (jnp.log(ratio_TS) * scale).astype(jnp.int32)
    far_TS = jnp.minimum(far_TS, buckets - 1)
    return first_TS + jnp.where(back_TS < exact, back_TS, far_TS)


def relative_bias(
    table_HP: Float[Array, "H P"],
    query_T: Int[Array, " T"],
    key_S: Int[Array, " S"],
    *,
    distance: int,
    bidirectional: bool,
) -> Float[Array, "H T S"]:
    """The learned bias of every head for queries and keys at these positions."""
    offset_TS = key_S[None, :] - query_T[:, None]
    bucket_TS = relative_bucket(
        offset_TS,
        buckets=table_HP.shape[1],
        distance=distance,
        bidirectional=bidirectional,
    )
    return jnp.take(table_HP, bucket_TS, axis=1, mode="clip")


def rotary_wavelengths(config: model_config.LlamaConfig) -> np.ndarray:
    """Angle per position of every pair of a head's axes, float32 ``[head_dim / 2]``.

    Source: Su et al. 2021 (arXiv:2104.09864); the scaling is LLaMA 3.1's: wavelengths
    longer than the trained length are stretched by ``factor``, short ones are kept,
    those between are blended.
    """
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim
    rate = 1.0 / np.float32(config.rope_theta) ** exponent
    scaling = config.rope_scaling
    if scaling is None:
        return rate.astype(np.float32)
    turns = scaling.original_length * rate / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return ((1 - blend) * rate / scaling.factor + blend * rate).astype(np.float32)


class Rotation(NamedTuple):
    """Cosines and sines of a block of tokens, ``[B, 1, T, 1, head_dim / 2]``."""

    cos: Any
    sin: Any


def rotation(
    position_BT: Int[Array, "B T"], rate: np.ndarray, *, dtype: str
) -> Rotation:
    """The turn of every token, computed once for all layers and heads."""
    angle = position_BT.astype(jnp.float32)[..., None] * jnp.asarray(rate)[None, None]
    angle = angle[:, None, :, None, :]
    return Rotation(jnp.cos(angle).astype(dtype), jnp.sin(angle).astype(dtype))


def rotate(
    vector: Float[Array, "B M T K d"], turn: Rotation
) -> Float[Array, "B M T K d"]:
    """Queries or keys turned by their positions (first half against second half)."""
    first, second = jnp.split(vector, 2, axis=-1)
    return jnp.concatenate(
        [first * turn.cos - second * turn.sin, second * turn.cos + first * turn.sin],
        axis=-1,
    )
