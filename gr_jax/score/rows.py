"""The rows that keys are looked for in, and the index that finds them there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Int

from gr_jax.identifiers import codec
from gr_jax.score import occurrences

Tokens = Sequence[int]
_BLOCK_BITS = 6
_BLOCK = 1 << _BLOCK_BITS


class Index(Protocol):
    """What is asked of a substring index; one column a shard."""

    def find(
        self, ngrams: Sequence[Tokens], *, at_document_start: bool = False
    ) -> tuple[Int[np.ndarray, "Q Z"], Int[np.ndarray, "Q Z"]]:
        """Rows of each n-gram in each shard."""
        ...

    def locate(
        self, lo_QZ: Int[np.ndarray, "Q Z"], hi_QZ: Int[np.ndarray, "Q Z"], limit: int
    ) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " T"]]:
        """Places of the first ``limit`` rows of each, and where each one's begin."""
        ...


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The rows that keys are looked for in, and whose they are.

    A document may have several rows: its text, and its pseudo-queries.
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
    def _row_of_block(self) -> Int[np.ndarray, " B"]:
        """The row that holds the first token of every 64."""
        first_B = np.arange(0, len(self.tokens_E), _BLOCK)
        return np.searchsorted(self.row_starts_T, first_B, side="right") - 1

    def row_of(self, position_H: Int[np.ndarray, " H"]) -> Int[np.ndarray, " H"]:
        """The row that holds each position; no search over all rows."""
        row_H = self._row_of_block.take(position_H >> _BLOCK_BITS)
        behind = np.flatnonzero(self.row_starts_T.take(row_H + 1) <= position_H)
        while len(behind):
            row_H[behind] += 1
            position = position_H[behind]
            behind = behind[self.row_starts_T[row_H[behind] + 1] <= position]
        return row_H

    @functools.cached_property
    def _document_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows sorted by document, and where each document's begin."""
        order_R = np.argsort(self.row_document_R, kind="stable")
        count_N = np.bincount(self.row_document_R, minlength=len(self.document_ids))
        return order_R, np.append(0, np.cumsum(count_N))

    def rows_of(self, document_J: Int[np.ndarray, " J"]) -> Int[np.ndarray, " R"]:
        """The rows of documents, those of a document together."""
        order_R, start_T = self._document_rows
        first_J = start_T.take(document_J)
        count_J = start_T.take(document_J + 1) - first_J
        return order_R.take(occurrences.ranges(first_J, count_J))


def corpus_of(table: codec.IdentifierTable) -> Corpus:
    """The corpus of an n-gram table."""
    return Corpus(
        table.tokens_E,
        table.row_starts_T,
        table.row_document_R,
        table.document_ids,
        table.vocabulary_size,
    )
