"""Contexts with more occurrences than a window: which tokens follow each of them.

A decoder reads the suffixes of a narrow interval one by one. An interval wider than
the window gets one bit a vocabulary entry instead, found by its depth and first row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, UInt

_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True)
class WideContexts:
    """Child bitmaps of wide contexts, sorted by depth and then by first row.

    ``depth_start_D`` has one entry a depth and a last one: contexts of depth ``d`` are
    ``depth_start_D[d] … depth_start_D[d+1]``. Bit ``t % 32`` of word ``t // 32`` says
    that token ``t`` follows.
    """

    depth_start_D: Int[np.ndarray, " D"]
    first_row_C: Int[np.ndarray, " C"]
    bits_CxV: UInt[np.ndarray, "C words"]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return (
            self.depth_start_D.nbytes + self.first_row_C.nbytes + self.bits_CxV.nbytes
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to save, by name."""
        return {
            "context_depths": self.depth_start_D,
            "context_rows": self.first_row_C,
            "context_bits": self.bits_CxV,
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> WideContexts:
        """The contexts whose `arrays` are among these."""
        return cls(
            depth_start_D=arrays["context_depths"],
            first_row_C=arrays["context_rows"],
            bits_CxV=arrays["context_bits"],
        )


def _run_starts(
    text_E: np.ndarray, rows_E: np.ndarray, lo: int, hi: int, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """First row and token of each run of equal tokens at ``depth`` in ``lo … hi``."""
    starts, tokens = [], []
    previous = -1
    for start in range(lo, hi, _CHUNK):
        found = text_E[rows_E[start : min(start + _CHUNK, hi)] + depth].astype(np.int64)
        is_start = np.empty(found.size, bool)
        is_start[0] = found[0] != previous
        np.not_equal(found[1:], found[:-1], out=is_start[1:])
        previous = int(found[-1])
        at = np.flatnonzero(is_start)
        starts.append(at + start)
        tokens.append(found[at])
    return np.concatenate(starts), np.concatenate(tokens)


def _children(
    text_E: np.ndarray,
    rows_E: np.ndarray,
    lo_C: np.ndarray,
    hi_C: np.ndarray,
    depth: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Runs of the next token inside each interval: parent, token, first and end row."""
    parents, tokens, firsts, ends = [], [], [], []
    # Neighbouring intervals are read together: one pass over at least _CHUNK rows.
    group_C = np.cumsum(hi_C - lo_C) // _CHUNK
    for group in np.unique(group_C):
        members = np.flatnonzero(group_C == group)
        lo, hi = lo_C[members], hi_C[members]
        if members.size == 1:
            first, token = _run_starts(text_E, rows_E, int(lo[0]), int(hi[0]), depth)
            parent = np.zeros(first.size, np.int64)
        else:
            widths = hi - lo
            parent_of_row = np.repeat(np.arange(members.size), widths)
            offset = np.arange(widths.sum()) - np.repeat(
                np.cumsum(widths) - widths, widths
            )
            row = lo[parent_of_row] + offset
            found = text_E[rows_E[row] + depth].astype(np.int64)
            is_start = np.empty(row.size, bool)
            is_start[0] = True
            is_start[1:] = (found[1:] != found[:-1]) | (offset[1:] == 0)
            at = np.flatnonzero(is_start)
            first, token, parent = row[at], found[at], parent_of_row[at]
        is_last = np.append(parent[1:] != parent[:-1], True)
        end = np.append(first[1:], 0)
        end[is_last] = hi[parent[is_last]]
        parents.append(members[parent])
        tokens.append(token)
        firsts.append(first)
        ends.append(end)
    return (
        np.concatenate(parents),
        np.concatenate(tokens),
        np.concatenate(firsts),
        np.concatenate(ends),
    )


def set_bits(bits_CxV: np.ndarray, row: np.ndarray, entry: np.ndarray) -> None:
    """Sets bit ``entry`` of each ``row``; pairs ascend and none comes twice."""
    if row.size == 0:
        return
    word = row * bits_CxV.shape[1] + entry // 32
    is_new = np.append(True, word[1:] != word[:-1])
    at = np.flatnonzero(is_new)
    one = np.uint32(1) << (entry % 32).astype(np.uint32)
    bits_CxV.reshape(-1)[word[at]] = np.bitwise_or.reduceat(one, at)


def find_wide_contexts(
    text_E: UInt[np.ndarray, " E"],
    rows_E: Int[np.ndarray, " E"],
    token_of_dense_V: Int[np.ndarray, " V"],
    *,
    vocabulary_size: int,
    window: int,
    max_length: int,
    padding: int,
) -> WideContexts:
    """Child bitmaps of every context that occurs more than ``window`` times.

    Args:
      text_E: Dense tokens, 0 between documents, followed by at least ``max_length``
        more zeros than ``rows_E`` has entries.
      rows_E: Suffix array of the text before its padding.
      token_of_dense_V: Vocabulary entry of each dense token.
      vocabulary_size: Bits of a bitmap.
      window: Widest interval without a bitmap.
      max_length: Contexts have fewer tokens than this.
      padding: Suffixes that start with the separator: the root leaves them out, but
        they are a context of their own (the beginning of a document).

    Returns:
      Contexts of depth 0 (the root, always present) to ``max_length - 1``.
    """
    words = (vocabulary_size + 31) // 32
    lo_C, hi_C = np.array([padding]), np.array([rows_E.size])
    levels: list[tuple[np.ndarray, np.ndarray]] = []
    for depth in range(max_length):
        bits = np.zeros((lo_C.size, words), np.uint32)
        next_lo, next_hi = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if lo_C.size and hi_C[-1] > lo_C[0]:
            parent, token, first, end = _children(text_E, rows_E, lo_C, hi_C, depth)
            is_token = token > 0
            parent, first, end = parent[is_token], first[is_token], end[is_token]
            set_bits(bits, parent, token_of_dense_V[token[is_token]])
            is_wide = end - first > window
            next_lo, next_hi = first[is_wide], end[is_wide]
        levels.append((lo_C, bits))
        if depth == 0 and padding > window:
            next_lo, next_hi = np.append(0, next_lo), np.append(padding, next_hi)
        lo_C, hi_C = next_lo, next_hi
    return of_levels(levels)


def of_levels(levels: list[tuple[np.ndarray, np.ndarray]]) -> WideContexts:
    """The table of contexts given as (first rows, bitmaps) of each depth from 0."""
    sizes = [rows.size for rows, _ in levels]
    return WideContexts(
        depth_start_D=np.append(0, np.cumsum(sizes)).astype(np.int32),
        first_row_C=np.concatenate([rows for rows, _ in levels]).astype(np.int32),
        bits_CxV=np.concatenate([bits for _, bits in levels]),
    )
