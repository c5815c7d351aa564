"""One shard of documents under a forward suffix array: 4 bytes a token and the text."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int, Integer, UInt

from gr_jax.identifiers import suffix_array, wide_contexts

SEPARATOR = 0
"""Dense token before the first document and after each: no n-gram holds it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuffixShard:
    """Sorted suffixes of one text; an n-gram is an interval of their rows.

    ``text_E`` carries as many separators past its end as an n-gram may be long.
    """

    text_E: UInt[np.ndarray, " E"]
    rows_E: Int[np.ndarray, " E"]
    contexts: wide_contexts.WideContexts
    documents: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.text_E.nbytes + self.rows_E.nbytes + self.contexts.nbytes

    def root(self) -> tuple[int, int]:
        """Rows of all suffixes that start with a token of a document."""
        return self.documents + 1, self.rows_E.size

    def whole(self) -> tuple[int, int]:
        """Rows of all suffixes, those that start with a separator first."""
        return 0, self.rows_E.size

    def narrow(
        self,
        lo_Q: Int[np.ndarray, " Q"],
        hi_Q: Int[np.ndarray, " Q"],
        depth: int,
        token_Q: Integer[np.ndarray, " Q"],
    ) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]:
        """Rows of each interval whose token at ``depth`` is ``token_Q``."""
        first_Q = self._lower_bound(lo_Q, hi_Q, depth, token_Q)
        end_Q = self._lower_bound(first_Q, hi_Q, depth, token_Q + 1)
        return first_Q, end_Q

    def _lower_bound(
        self, lo_Q: np.ndarray, hi_Q: np.ndarray, depth: int, token_Q: np.ndarray
    ) -> np.ndarray:
        lo_Q, hi_Q = lo_Q.copy(), hi_Q.copy()
        open_Q = np.flatnonzero(lo_Q < hi_Q)
        while open_Q.size:
            middle = (lo_Q[open_Q] + hi_Q[open_Q]) >> 1
            is_less = self.text_E[self.rows_E[middle] + depth] < token_Q[open_Q]
            lo_Q[open_Q] = np.where(is_less, middle + 1, lo_Q[open_Q])
            hi_Q[open_Q] = np.where(is_less, hi_Q[open_Q], middle)
            open_Q = open_Q[lo_Q[open_Q] < hi_Q[open_Q]]
        return lo_Q

    def text_positions(
        self, row_R: Int[np.ndarray, " R"], length_R: np.ndarray
    ) -> Int[np.ndarray, " R"]:
        """Where in the text the suffix of each row starts."""
        del length_R  # a forward suffix starts where the match starts
        return self.rows_E[row_R].astype(np.int64)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays to save, by name."""
        return {
            "text": self.text_E,
            "rows": self.rows_E,
            **self.contexts.arrays(),
        }

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray], documents: int) -> SuffixShard:
        """The shard whose `arrays` these are."""
        return cls(
            text_E=arrays["text"],
            rows_E=arrays["rows"],
            contexts=wide_contexts.WideContexts.of_arrays(arrays),
            documents=documents,
        )


def build(
    text_E: UInt[np.ndarray, " E"],
    token_of_dense_V: Int[np.ndarray, " V"],
    *,
    documents: int,
    vocabulary_size: int,
    window: int,
    max_length: int,
) -> SuffixShard:
    """Sorts the suffixes of one shard's text and finds its wide contexts.

    Args:
      text_E: Dense tokens; a separator first and after each document.
      token_of_dense_V: Vocabulary entry of each dense token, ascending.
      documents: Documents in the text.
      vocabulary_size: Vocabulary of the decoder.
      window: Widest interval without a bitmap.
      max_length: Longest n-gram.
    """
    rows_E = suffix_array.suffix_array(text_E, alphabet=token_of_dense_V.size)
    padded_E = np.append(text_E, np.zeros(max_length + 1, text_E.dtype))
    contexts = wide_contexts.find_wide_contexts(
        padded_E,
        rows_E,
        token_of_dense_V,
        vocabulary_size=vocabulary_size,
        window=window,
        max_length=max_length,
        padding=documents + 1,
    )
    return SuffixShard(
        text_E=padded_E, rows_E=rows_E, contexts=contexts, documents=documents
    )
