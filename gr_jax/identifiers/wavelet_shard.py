"""One shard of documents as an FM-index: no text and no suffix array are kept.

The index is that of the reversed text, so that one more token at the end of an n-gram
is one step of backward search (Ferragina and Manzini 2000). Every 32nd position of the
text is stored; the others are found by walking at most 31 tokens.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int, Integer, UInt

from gr_jax.identifiers import suffix_array, wavelet, wide_contexts

SAMPLE_STEP = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveletShard:
    """Wavelet matrix of the tokens that follow the sorted (reversed) prefixes.

    ``shift_V`` turns where a row lands in the matrix on the path of a token into the
    row of the longer n-gram. Row ``start_row`` belongs to the whole text.
    """

    matrix: wavelet.WaveletMatrix
    shift_V: Int[np.ndarray, " V"]
    marks: wavelet.BitVectors
    samples_E: Int[np.ndarray, " E"]
    contexts: wide_contexts.WideContexts
    documents: int
    size: int
    start_row: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        own = self.shift_V.nbytes + self.samples_E.nbytes + self.matrix.zeros_L.nbytes
        parts = self.matrix.levels.nbytes + self.marks.nbytes + self.contexts.nbytes
        return own + parts

    def root(self) -> tuple[int, int]:
        """Rows of the n-gram of no tokens."""
        return 0, self.size

    def whole(self) -> tuple[int, int]:
        """All rows."""
        return 0, self.size

    def narrow(
        self,
        lo_Q: Int[np.ndarray, " Q"],
        hi_Q: Int[np.ndarray, " Q"],
        depth: int,
        token_Q: Integer[np.ndarray, " Q"],
    ) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]:
        """Rows of the n-grams that are longer by ``token_Q``."""
        del depth  # the rows alone tell
        is_known = token_Q < self.shift_V.size
        known_Q = np.where(is_known, token_Q, 0)
        shift_Q = self.shift_V[known_Q]
        first_Q = self.matrix.follow(known_Q, lo_Q) + shift_Q
        end_Q = self.matrix.follow(known_Q, hi_Q) + shift_Q
        return first_Q, np.where(is_known, end_Q, first_Q)

    def text_positions(
        self, row_R: Int[np.ndarray, " R"], length_R: np.ndarray
    ) -> Int[np.ndarray, " R"]:
        """Where in the text the match of each row starts; a row says where it ends."""
        position_R = np.zeros(row_R.size, np.int64)
        row_R = np.asarray(row_R, np.int64).copy()
        live_R = np.arange(row_R.size)
        for step in range(SAMPLE_STEP):
            is_marked = self.marks.bit(0, row_R[live_R]) == 1
            done_R = live_R[is_marked]
            place_R = self.marks.rank(0, row_R[done_R])
            position_R[done_R] = self.samples_E[place_R].astype(np.int64) + step
            live_R = live_R[~is_marked]
            if live_R.size == 0:
                break
            row_R[live_R] = self._previous(row_R[live_R])
        return self.size - position_R - length_R

    def _previous(self, row_R: np.ndarray) -> np.ndarray:
        """The row of the reversed text's suffix that is longer by one token."""
        token_R, place_R = self.matrix.read(row_R)
        place_R = place_R + self.shift_V[token_R]
        # The last token of the text, a separator, precedes no row; it sorts first among
        # the separators, and the one that `start_row` shows instead is not there.
        is_moved = (token_R == 0) & (row_R <= self.start_row)
        return place_R + is_moved

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to save, by name."""
        return {
            "words": self.matrix.levels.words_LxEx4,
            "in_block": self.matrix.levels.in_block_LxE,
            "super": self.matrix.levels.super_LxE,
            "zeros": self.matrix.zeros_L,
            "shift": self.shift_V,
            "mark_words": self.marks.words_LxEx4,
            "mark_in_block": self.marks.in_block_LxE,
            "mark_super": self.marks.super_LxE,
            "samples": self.samples_E,
            "sizes": np.array([self.size, self.start_row]),
            **self.contexts.arrays(),
        }

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray], documents: int) -> WaveletShard:
        """The shard whose `arrays` these are."""
        levels = wavelet.BitVectors(
            words_LxEx4=arrays["words"],
            in_block_LxE=arrays["in_block"],
            super_LxE=arrays["super"],
        )
        marks = wavelet.BitVectors(
            words_LxEx4=arrays["mark_words"],
            in_block_LxE=arrays["mark_in_block"],
            super_LxE=arrays["mark_super"],
        )
        return cls(
            matrix=wavelet.WaveletMatrix(levels=levels, zeros_L=arrays["zeros"]),
            shift_V=arrays["shift"],
            marks=marks,
            samples_E=arrays["samples"],
            contexts=wide_contexts.WideContexts.of_arrays(arrays),
            documents=documents,
            size=int(arrays["sizes"][0]),
            start_row=int(arrays["sizes"][1]),
        )


def build(
    text_E: UInt[np.ndarray, " E"],
    token_of_dense_V: Int[np.ndarray, " V"],
    *,
    documents: int,
    vocabulary_size: int,
    window: int,
    max_length: int,
) -> WaveletShard:
    """The compact index of one shard's text; arguments as `suffix_shard.build`."""
    alphabet = token_of_dense_V.size
    reversed_E = np.ascontiguousarray(text_E[::-1])
    rows_E = suffix_array.suffix_array(reversed_E, alphabet=alphabet)
    next_E = reversed_E[rows_E - 1]
    is_marked_E = rows_E % SAMPLE_STEP == 0
    samples_E = rows_E[is_marked_E]
    start_row = int(np.flatnonzero(rows_E == 0)[0])
    del rows_E
    matrix = wavelet.build(next_E, alphabet=alphabet)
    count_V = np.bincount(text_E, minlength=alphabet)
    tokens_V = np.arange(alphabet)
    landing_V = matrix.follow(tokens_V, np.zeros(alphabet, np.int64))
    shift_V = (np.cumsum(count_V) - count_V - landing_V).astype(np.int32)
    contexts = _wide_contexts(
        next_E,
        matrix,
        shift_V,
        token_of_dense_V,
        vocabulary_size=vocabulary_size,
        window=window,
        max_length=max_length,
        documents=documents,
    )
    return WaveletShard(
        matrix=matrix,
        shift_V=shift_V,
        marks=wavelet.one_bit_vector(is_marked_E),
        samples_E=samples_E,
        contexts=contexts,
        documents=documents,
        size=text_E.size,
        start_row=start_row,
    )


def _wide_contexts(
    next_E: np.ndarray,
    matrix: wavelet.WaveletMatrix,
    shift_V: np.ndarray,
    token_of_dense_V: np.ndarray,
    *,
    vocabulary_size: int,
    window: int,
    max_length: int,
    documents: int,
) -> wide_contexts.WideContexts:
    """Child bitmaps of contexts wider than the window, as in `wide_contexts`."""
    alphabet = token_of_dense_V.size
    lo_C, hi_C = np.array([0]), np.array([next_E.size])
    levels: list[tuple[np.ndarray, np.ndarray]] = []
    for depth in range(max_length):
        bits = np.zeros((lo_C.size, (vocabulary_size + 31) // 32), np.uint32)
        parents, tokens, widths = [], [], []
        for parent, (lo, hi) in enumerate(zip(lo_C, hi_C, strict=True)):
            count_V = np.bincount(next_E[lo:hi], minlength=alphabet)
            count_V[0] = 0
            found = np.flatnonzero(count_V)
            entry = token_of_dense_V[found].astype(np.int64)
            wide_contexts.set_bits(bits, np.full(found.size, parent), entry)
            wide = np.flatnonzero(count_V > window)
            parents.append(np.full(wide.size, parent))
            tokens.append(wide)
            widths.append(count_V[wide])
        levels.append((lo_C, bits))
        if lo_C.size == 0:
            continue
        token_C = np.concatenate(tokens)
        first_C = matrix.follow(token_C, lo_C[np.concatenate(parents)])
        first_C = first_C + shift_V[token_C]
        end_C = first_C + np.concatenate(widths)
        if depth == 0 and documents + 1 > window:
            first_C, end_C = np.append(0, first_C), np.append(documents + 1, end_C)
        order_C = np.argsort(first_C)
        lo_C, hi_C = first_C[order_C], end_C[order_C]
    return wide_contexts.of_levels(levels)
