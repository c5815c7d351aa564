"""Wavelet matrix: rank of any symbol in a sequence at little more than its entropy.

One bit vector a binary digit, highest digit first; a vector carries the number of ones
before each block of 128 bits in 16 bits, relative to a count every 65,536 bits.
Source: Claude, Navarro, Ordóñez, "The wavelet matrix" (2015).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt

BLOCK_BITS = 128
SUPER_BITS = 1 << 16
_WORDS = BLOCK_BITS // 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class BitVectors:
    """Bit vectors of one length with rank, one a level."""

    words_LxEx4: UInt[np.ndarray, "L E 4"]
    in_block_LxE: UInt[np.ndarray, "L E"]
    super_LxE: Int[np.ndarray, "L S"]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return (
            self.words_LxEx4.nbytes + self.in_block_LxE.nbytes + self.super_LxE.nbytes
        )

    def rank(self, level: int, place_Q: Integer[np.ndarray, " Q"]) -> np.ndarray:
        """Ones before each place."""
        block_Q = place_Q // BLOCK_BITS
        words_Qx4 = self.words_LxEx4[level, block_Q]
        rest_Q = place_Q % BLOCK_BITS
        taken_Qx4 = np.clip(rest_Q[:, None] - 32 * np.arange(_WORDS)[None, :], 0, 32)
        mask_Qx4 = (
            (np.uint64(1) << taken_Qx4.astype(np.uint64)) - np.uint64(1)
        ).astype(np.uint32)
        ones_Q = np.bitwise_count(words_Qx4 & mask_Qx4).sum(axis=1, dtype=np.int64)
        before_Q = self.super_LxE[level, place_Q // SUPER_BITS].astype(np.int64)
        return before_Q + self.in_block_LxE[level, block_Q] + ones_Q

    def bit(self, level: int, place_Q: Integer[np.ndarray, " Q"]) -> np.ndarray:
        """The bit at each place."""
        word_Q = self.words_LxEx4[
            level, place_Q // BLOCK_BITS, place_Q % BLOCK_BITS // 32
        ]
        return (word_Q >> (place_Q % 32).astype(np.uint32)) & np.uint32(1)


def one_bit_vector(bit_E: Bool[np.ndarray, " E"]) -> BitVectors:
    """A single bit vector with rank."""
    blocks = bit_E.size // BLOCK_BITS + 1
    packed = np.zeros(blocks * BLOCK_BITS // 8, np.uint8)
    found = np.packbits(bit_E, bitorder="little")
    packed[: found.size] = found
    words_Ex4 = packed.view("<u4").astype(np.uint32).reshape(blocks, _WORDS)
    ones_E = np.bitwise_count(words_Ex4).sum(axis=1, dtype=np.int64)
    before_E = np.cumsum(ones_E) - ones_E
    step = SUPER_BITS // BLOCK_BITS
    super_E = before_E[::step]
    in_block_E = before_E - np.repeat(super_E, step)[:blocks]
    return BitVectors(
        words_LxEx4=words_Ex4[None],
        in_block_LxE=in_block_E.astype(np.uint16)[None],
        super_LxE=super_E.astype(np.int32)[None],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveletMatrix:
    """Levels of a wavelet matrix, and the zeros of each."""

    levels: BitVectors
    zeros_L: Int[np.ndarray, " L"]

    @property
    def depth(self) -> int:
        """Binary digits of a symbol."""
        return self.zeros_L.size

    def follow(
        self, symbol_Q: Integer[np.ndarray, " Q"], place_Q: Integer[np.ndarray, " Q"]
    ) -> Int[np.ndarray, " Q"]:
        """Where a place lands when it goes down the path of a symbol.

        The difference of two places' landings is the number of times the symbol stands
        between them.
        """
        place_Q = np.asarray(place_Q, np.int64)
        for level in range(self.depth):
            is_one = (symbol_Q >> (self.depth - 1 - level)) & 1 == 1
            ones_Q = self.levels.rank(level, place_Q)
            place_Q = np.where(is_one, self.zeros_L[level] + ones_Q, place_Q - ones_Q)
        return place_Q

    def read(
        self, place_Q: Integer[np.ndarray, " Q"]
    ) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]:
        """The symbol at each place, and where that place lands on its path."""
        place_Q = np.asarray(place_Q, np.int64)
        symbol_Q = np.zeros_like(place_Q)
        for level in range(self.depth):
            bit_Q = self.levels.bit(level, place_Q).astype(np.int64)
            ones_Q = self.levels.rank(level, place_Q)
            place_Q = np.where(
                bit_Q == 1, self.zeros_L[level] + ones_Q, place_Q - ones_Q
            )
            symbol_Q = 2 * symbol_Q + bit_Q
        return symbol_Q, place_Q


def build(symbol_E: UInt[np.ndarray, " E"], *, alphabet: int) -> WaveletMatrix:
    """The wavelet matrix of a sequence of symbols below ``alphabet``.

    Example:
      >>> matrix = build(np.array([2, 0, 2, 1], np.uint16), alphabet=3)
      >>> ends = matrix.follow(np.array([2, 2]), np.array([0, 3]))
      >>> int(ends[1] - ends[0])
      2
    """
    depth = max(1, (alphabet - 1).bit_length())
    vectors: list[BitVectors] = []
    zeros: list[int] = []
    for level in range(depth):
        digit = symbol_E.dtype.type(depth - 1 - level)
        is_one = ((symbol_E >> digit) & 1).astype(bool)
        vectors.append(one_bit_vector(is_one))
        below_E = symbol_E[~is_one]
        zeros.append(below_E.size)
        symbol_E = np.concatenate([below_E, symbol_E[is_one]])
    return WaveletMatrix(
        levels=BitVectors(
            words_LxEx4=np.concatenate([v.words_LxEx4 for v in vectors]),
            in_block_LxE=np.concatenate([v.in_block_LxE for v in vectors]),
            super_LxE=np.concatenate([v.super_LxE for v in vectors]),
        ),
        zeros_L=np.array(zeros, np.int32),
    )
