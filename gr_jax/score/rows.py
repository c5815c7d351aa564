"""The rows that keys are looked for in, and the index that finds them there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int, UInt

from gr_jax.identifiers import codec, segments
from gr_jax.score import occurrences

Tokens = Sequence[int]
WIDTH = 32
"""Tokens of a window."""
COMMON = 512
"""Tokens whose documents are known without reading."""
_DOCUMENTS = 4096


class Index(Protocol):
    """What is asked of a substring index; one column a shard."""

    def find(
        self, ngrams: Sequence[Tokens], *, at_document_start: bool = False
    ) -> tuple[Int[np.ndarray, "Q Z"], Int[np.ndarray, "Q Z"]]:
        """Rows of each n-gram in each shard."""
        ...

    def locate(
        self,
        lo_QZ: Int[np.ndarray, "Q Z"],
        hi_QZ: Int[np.ndarray, "Q Z"],
        length_Q: Int[np.ndarray, " Q"],
        *,
        limit: int,
    ) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " T"]]:
        """Places of the first ``limit`` rows of each, and where each one's begin."""
        ...


class Common(NamedTuple):
    """Which documents hold which of the most frequent tokens.

    Attributes:
      bit_V: Number of each of those tokens, -1 for the others.
      bits_NxB: A bit a token, highest first in a byte.
    """

    bit_V: Int[np.ndarray, " V"]
    bits_NxB: UInt[np.ndarray, "N B"]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The rows that keys are looked for in, and whose they are.

    A document may have several rows: its text, and its pseudo-queries. What does not
    depend on a query is worked out once and kept: hold on to the corpus.
    """

    tokens_E: Int[np.ndarray, " E"]
    row_starts_T: Int[np.ndarray, " T"]
    row_document_R: Int[np.ndarray, " R"]
    document_ids: Sequence[str]
    vocabulary_size: int

    @functools.cached_property
    def id_order(self) -> Int[np.ndarray, " N"]:
        """The place of each document in the order of ids; breaks ties."""
        order = sorted(range(len(self.document_ids)), key=self.document_ids.__getitem__)
        place_N = np.empty(len(order), np.int64)
        place_N[order] = np.arange(len(order))
        return place_N

    @functools.cached_property
    def length_R(self) -> Int[np.ndarray, " R"]:  # noqa: N802
        """Tokens of each row."""
        return np.diff(self.row_starts_T)

    @functools.cached_property
    def length_N(self) -> Int[np.ndarray, " N"]:  # noqa: N802
        """Tokens of each document, all its rows together."""
        length_N = np.zeros(len(self.document_ids), np.int64)
        np.add.at(length_N, self.row_document_R, self.length_R)
        return length_N

    @functools.cached_property
    def longest_document(self) -> int:
        """Tokens of the longest document."""
        return int(self.length_N.max(initial=0))

    @functools.cached_property
    def windows(self) -> UInt[np.ndarray, "E W"]:
        """The `WIDTH` tokens from each position on, zeros behind the last.

        A view of a copy of the tokens in as few bytes as they need: rows are copied out
        of it a window at a time, several times faster than token by token.
        """
        width = np.min_scalar_type(max(1, self.vocabulary_size - 1))
        padded_E = np.zeros(len(self.tokens_E) + WIDTH, width)
        padded_E[: len(self.tokens_E)] = self.tokens_E
        return np.lib.stride_tricks.sliding_window_view(padded_E, WIDTH)

    @functools.cached_property
    def common(self) -> Common:
        """The `COMMON` most frequent tokens; 64 bytes a document."""
        count_V = np.bincount(self.tokens_E, minlength=self.vocabulary_size)
        most_B = np.argsort(-count_V, kind="stable")[:COMMON]
        bit_V = np.full(self.vocabulary_size, -1)
        bit_V[most_B] = np.arange(len(most_B))
        bits_NxB = np.zeros((len(self.document_ids), -(-len(most_B) // 8)), np.uint8)
        for first in range(0, len(bits_NxB), _DOCUMENTS):
            document_J = np.arange(first, min(first + _DOCUMENTS, len(bits_NxB)))
            row_R, group_R = self.rows_of(document_J)
            length_R = self.length_R.take(row_R)
            at = occurrences.ranges(self.row_starts_T.take(row_R), length_R)
            bit_X = bit_V.take(self.tokens_E.take(at))
            is_in_JxB = np.zeros((len(document_J), len(most_B)), bool)
            group_X = np.repeat(group_R, length_R)
            is_in_JxB[group_X[bit_X >= 0], bit_X[bit_X >= 0]] = True
            bits_NxB[document_J] = np.packbits(is_in_JxB, axis=1)
        return Common(bit_V, bits_NxB)

    @functools.cached_property
    def _segments(self) -> segments.Segments:
        return segments.Segments(self.row_starts_T)

    def row_of(self, position_H: Int[np.ndarray, " H"]) -> Int[np.ndarray, " H"]:
        """The row that holds each position."""
        return self._segments.holding(position_H)

    @functools.cached_property
    def _document_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by document, and where each document's begin."""
        order_R = np.argsort(self.row_document_R, kind="stable")
        count_N = np.bincount(self.row_document_R, minlength=len(self.document_ids))
        return order_R, np.append(0, np.cumsum(count_N))

    def rows_of(
        self, document_J: Int[np.ndarray, " J"]
    ) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"]]:
        """The rows of documents, and which of the documents each belongs to."""
        order_R, start_T = self._document_rows
        first_J = start_T.take(document_J)
        count_J = start_T.take(document_J + 1) - first_J
        row_R = order_R.take(occurrences.ranges(first_J, count_J))
        return row_R, np.repeat(np.arange(len(document_J)), count_J)

    @functools.cached_property
    def _to_place(self) -> Int[np.ndarray, " R"]:
        """What turns a position of a row into a place of its document."""
        order_R, start_T = self._document_rows
        length_R = self.length_R[order_R]
        before_R = np.cumsum(length_R) - length_R
        document_R = self.row_document_R[order_R]
        shift_R = np.empty(len(order_R), np.int64)
        shift_R[order_R] = before_R - before_R[start_T[document_R]]
        return shift_R - self.row_starts_T[:-1]

    def place_in_document(
        self, position_H: Int[np.ndarray, " H"], row_H: Int[np.ndarray, " H"]
    ) -> Int[np.ndarray, " H"]:
        """Places in the documents, their rows laid end to end."""
        return position_H + self._to_place.take(row_H)


def corpus_of(table: codec.IdentifierTable) -> Corpus:
    """The corpus of an n-gram table."""
    return Corpus(
        table.tokens_E,
        table.row_starts_T,
        table.row_document_R,
        table.document_ids,
        table.vocabulary_size,
    )
