"""A shard's wavelet matrix on device: what `suffix_rows` answers, in a third of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from gr_jax.identifiers import wavelet

Leaf = Any  # An array; its shape is in the field's name.

_WORD_BITS = 32
_BLOCK_SHIFT = wavelet.BLOCK_BITS.bit_length() - 1
_SUPER_SHIFT = wavelet.SUPER_BITS.bit_length() - 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WaveletRows:
    """Wavelet matrix of the tokens that follow each row, padded to a bucket of sizes.

    ``shift_V`` turns a landing on the path of a token into a row of the longer n-gram.
    """

    words_LxEx4: Leaf
    in_block_LxE: Leaf
    super_LxE: Leaf
    zeros_L: Leaf
    shift_V: Leaf

    def successors(
        self, row_BC: Int[Array, "B C"], lo_BC: Int[Array, "B C"], depth_BC: Array
    ) -> tuple[Int[Array, "B C"], Bool[Array, "B C"]]:
        """The dense token that follows each row, and where it comes for the first time.

        Both the row and the first row of its interval go down the path of the row's
        token: they land on the same place if the token does not stand between them.
        """
        del depth_BC  # the rows alone tell
        digits = self.zeros_L.shape[0]

        def descend(level: Array, carry: tuple[Array, Array, Array]) -> Any:
            place_BC, first_BC, token_BC = carry
            ones_BC, bit_BC = self._rank(level, place_BC)
            ones_before_BC, _ = self._rank(level, first_BC)
            zeros = self.zeros_L[level]
            place_BC = jnp.where(bit_BC, zeros + ones_BC, place_BC - ones_BC)
            first_BC = jnp.where(
                bit_BC, zeros + ones_before_BC, first_BC - ones_before_BC
            )
            return place_BC, first_BC, 2 * token_BC + bit_BC.astype(jnp.int32)

        start = (row_BC, lo_BC, jnp.zeros_like(row_BC))
        place_BC, first_BC, token_BC = jax.lax.fori_loop(0, digits, descend, start)
        is_new_BC = (place_BC == first_BC).at[:, 0].set(False)
        return token_BC, is_new_BC

    def narrow(
        self, lo_BC: Array, hi_BC: Array, depth_BC: Array, token_BC: Array
    ) -> tuple[Int[Array, "B C"], Int[Array, "B C"]]:
        """Rows of the n-grams that are longer by ``token_BC``: one backward step."""
        del depth_BC  # the rows alone tell
        bounds_2BC = jnp.stack([lo_BC, hi_BC])
        landed_2BC = self._follow(jnp.stack([token_BC, token_BC]), bounds_2BC)
        first_2BC = landed_2BC + self.shift_V[token_BC][None]
        return first_2BC[0], first_2BC[1]

    def is_ended(self, lo_BM: Array, hi_BM: Array, depth_BM: Array) -> Array:
        """Whether every occurrence stands at the end of its document."""
        del depth_BM  # the rows alone tell
        bounds_2BM = jnp.stack([lo_BM, hi_BM])
        landed_2BM = self._follow(jnp.zeros_like(bounds_2BM), bounds_2BM)
        return landed_2BM[1] - landed_2BM[0] == hi_BM - lo_BM

    def _follow(self, token_2BC: Array, place_2BC: Array) -> Array:
        """Where places land on the paths of tokens."""
        digits = self.zeros_L.shape[0]

        def descend(level: Array, place_2BC: Array) -> Array:
            ones_2BC, _ = self._rank(level, place_2BC)
            is_one = (token_2BC >> (digits - 1 - level)) & 1 == 1
            return jnp.where(
                is_one, self.zeros_L[level] + ones_2BC, place_2BC - ones_2BC
            )

        return jax.lax.fori_loop(0, digits, descend, place_2BC)

    def _rank(self, level: Array, place: Array) -> tuple[Array, Array]:
        """Ones before each place of a level, and whether the place itself holds one."""
        block = place >> _BLOCK_SHIFT
        rest = place & (wavelet.BLOCK_BITS - 1)
        count = self.super_LxE[level, place >> _SUPER_SHIFT]
        count += self.in_block_LxE[level, block].astype(jnp.int32)
        bit = jnp.zeros(place.shape, jnp.uint32)
        for word in range(wavelet.BLOCK_BITS // _WORD_BITS):
            bits = self.words_LxEx4[level, block, word]
            left = jnp.clip(rest - _WORD_BITS * word, 0, _WORD_BITS)
            # A shift by 32 is undefined: a full word is kept by the other branch.
            partial = (jnp.uint32(1) << (left & 31).astype(jnp.uint32)) - jnp.uint32(1)
            kept = jnp.where(left == _WORD_BITS, bits, bits & partial)
            count += jax.lax.population_count(kept).astype(jnp.int32)
            is_here = (rest >> 5) == word
            bit = jnp.where(is_here, bits >> (rest & 31).astype(jnp.uint32), bit)
        return count, (bit & 1) == 1
