"""Arrays of a substring index on device, padded to buckets of sizes.

A corpus of the same buckets runs the same compiled program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array

from gr_jax.decode import suffix_rows, wavelet_rows
from gr_jax.identifiers import substring_index, suffix_shard, wavelet_shard

Leaf = Any  # An array; its shape is in the field's name.
Rows = suffix_rows.SuffixRows | wavelet_rows.WaveletRows
Stack = Callable[..., Array]


_LEAST = 64


def bucket(size: int, *, least: int = _LEAST) -> int:
    """Size an array is padded to: sixteen steps between powers of two.

    Example:
      >>> [bucket(n) for n in (1, 64, 65, 1000, 1025)]
      [64, 64, 68, 1024, 1088]
    """
    step = max(1, 1 << max(0, (size - 1).bit_length() - 5))
    return max(least, -(-size // step) * step)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shards:
    """Device arrays of all shards, the shard as leading axis of every leaf."""

    rows: Rows
    depth_start_D: Leaf
    first_row_C: Leaf
    bits_CxV: Leaf


def of_index(
    index: substring_index.SubstringIndex, sharding: NamedSharding | None
) -> Shards:
    """The shards of an index, stacked and put on the device or devices."""
    tables = [shard.contexts for shard in index.shards]

    def stacked(
        arrays: Sequence[np.ndarray], axis: int = 0, least: int = _LEAST
    ) -> Array:
        size = bucket(max(array.shape[axis] for array in arrays), least=least)
        return jax.device_put(
            np.stack([_padded(array, size, axis) for array in arrays]), sharding
        )

    return Shards(
        _rows(index.shards, stacked, index.vocabulary_size),
        jax.device_put(np.stack([t.depth_start_D for t in tables]), sharding),
        stacked([t.first_row_C for t in tables]),
        stacked([t.bits_CxV for t in tables]),
    )


def _rows(
    shards: Sequence[substring_index.Shard], stacked: Stack, vocabulary_size: int
) -> Rows:
    suffixes = [s for s in shards if isinstance(s, suffix_shard.SuffixShard)]
    if suffixes:
        return suffix_rows.SuffixRows(
            stacked([s.text_E for s in suffixes]), stacked([s.rows_E for s in suffixes])
        )
    matrices = [s for s in shards if isinstance(s, wavelet_shard.WaveletShard)]
    levels = [s.matrix.levels for s in matrices]
    shifts = [_padded(s.shift_V, vocabulary_size + 2, 0) for s in matrices]
    return wavelet_rows.WaveletRows(
        stacked([v.words_LxEx4 for v in levels], 1),
        stacked([v.in_block_LxE for v in levels], 1),
        stacked([v.super_LxE for v in levels], 1),
        stacked([s.matrix.zeros_L for s in matrices], least=1),
        stacked(shifts),
    )


def _padded(array: np.ndarray, size: int, axis: int) -> np.ndarray:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return np.pad(array, widths)
