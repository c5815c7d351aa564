"""Which of many consecutive segments holds a position: no search over all of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

_BLOCK_BITS = 6


class Segments:
    """Segments laid end to end, such as the documents of a collection.

    A table holds the segment of every 64th position, half a bit a position; the rest
    is a step or two forward, where bisection would jump through all starts.

    Args:
      starts_T: Start of each segment, ascending, and the end of the last one.

    Example:
      >>> Segments(np.array([0, 2, 2, 5])).holding(np.array([0, 1, 2, 4])).tolist()
      [0, 0, 2, 2]
    """

    def __init__(self, starts_T: Int[np.ndarray, " T"]) -> None:
        self._starts_T = starts_T
        first_B = np.arange(starts_T[0], starts_T[-1] + 1, 1 << _BLOCK_BITS)
        segment_B = np.searchsorted(starts_T, first_B, side="right") - 1
        is_short = len(starts_T) < 1 << 31
        self._segment_B = segment_B.astype(np.int32 if is_short else np.int64)

    def holding(self, position_H: Int[np.ndarray, " H"]) -> Int[np.ndarray, " H"]:
        """The segment that holds each position, a number from 0."""
        offset_H = position_H - self._starts_T[0]
        segment_H = self._segment_B.take(offset_H >> _BLOCK_BITS)
        behind = np.flatnonzero(self._starts_T.take(segment_H + 1) <= position_H)
        while len(behind):
            segment_H[behind] += 1
            position = position_H[behind]
            behind = behind[self._starts_T[segment_H[behind] + 1] <= position]
        return segment_H
