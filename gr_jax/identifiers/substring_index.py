"""Counts and locates any run of tokens of a collection, and says what may follow it.

Documents are separate segments: no n-gram crosses from one into the next.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer

from gr_jax.core import artifacts, errors, progress
from gr_jax.identifiers import segments, shard_texts, suffix_shard, wavelet_shard

KIND = "constraint-index"
STRUCTURE = "substring"
SCHEMA_VERSION = 1
WINDOW = 2048
COMPACT_WINDOW = 4096
MAX_LENGTH = 32

Ngrams = Sequence[Sequence[int]]
Shard = suffix_shard.SuffixShard | wavelet_shard.WaveletShard


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubstringIndex:
    """Every substring of every document, in shards of whole documents.

    ``row_starts_T`` are the documents' starts in the sequence the index was built of;
    ``shard_rows_Z`` the first document of each shard, and their number last.
    """

    vocabulary_size: int
    window: int
    max_length: int
    token_of_dense_V: Int[np.ndarray, " V"]
    row_starts_T: Int[np.ndarray, " T"]
    shard_rows_Z: Int[np.ndarray, " Z"]
    shards: tuple[Shard, ...]

    @property
    def is_compact(self) -> bool:
        """Whether the shards are wavelet matrices and not suffix arrays."""
        return isinstance(self.shards[0], wavelet_shard.WaveletShard)

    @property
    def tokens(self) -> int:
        """Tokens of the collection."""
        return int(self.row_starts_T[-1])

    @property
    def documents(self) -> int:
        """Documents of the collection."""
        return self.row_starts_T.size - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        own = self.token_of_dense_V.nbytes + self.row_starts_T.nbytes
        return own + sum(shard.nbytes for shard in self.shards)

    def find(
        self, ngrams: Ngrams, *, at_document_start: bool = False
    ) -> tuple[Int[np.ndarray, "Q Z"], Int[np.ndarray, "Q Z"]]:
        """First and end row of each n-gram in each shard; equal where it is absent.

        Args:
          ngrams: Token ids; unknown ones occur nowhere, an empty n-gram everywhere.
          at_document_start: Count only the n-grams that begin a document.
        """
        token_QL, length_Q = self._dense(ngrams, at_document_start)
        lo_QZ = np.zeros((length_Q.size, len(self.shards)), np.int64)
        hi_QZ = np.zeros_like(lo_QZ)
        for place, shard in enumerate(self.shards):
            start = shard.whole() if at_document_start else shard.root()
            lo_QZ[:, place], hi_QZ[:, place] = start
            for depth in range(token_QL.shape[1]):
                live_Q = np.flatnonzero(length_Q > depth)
                lo_QZ[live_Q, place], hi_QZ[live_Q, place] = shard.narrow(
                    lo_QZ[live_Q, place],
                    hi_QZ[live_Q, place],
                    depth,
                    token_QL[live_Q, depth],
                )
        return lo_QZ, hi_QZ

    def count(self, ngrams: Ngrams) -> Int[np.ndarray, " Q"]:
        """How often each n-gram occurs in the collection.

        Example:
          >>> index = build(np.array([5, 6, 5]), np.array([0, 3]), vocabulary_size=8)
          >>> index.count([[5], [5, 6], [6, 6]]).tolist()
          [2, 1, 0]
        """
        lo_QZ, hi_QZ = self.find(ngrams)
        count_Q = (hi_QZ - lo_QZ).sum(axis=1)
        is_empty_Q = np.array([len(ngram) == 0 for ngram in ngrams], bool)
        return np.where(is_empty_Q, self.tokens, count_Q)

    def locate(
        self,
        lo_QZ: Int[np.ndarray, "Q Z"],
        hi_QZ: Int[np.ndarray, "Q Z"],
        length_Q: Integer[np.ndarray, " Q"],
        *,
        limit: int,
    ) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " Q+1"]]:
        """Where the n-grams of `find` start in the sequence the index was built of.

        Args:
          lo_QZ: First rows.
          hi_QZ: End rows.
          length_Q: Tokens of each n-gram: rows of a compact index say where it ends.
          limit: Most occurrences of one n-gram; the first in row order are kept.

        Returns:
          ``(position_R, start_Q)``: occurrences of n-gram ``q`` are
          ``position_R[start_Q[q] : start_Q[q + 1]]``.
        """
        width_QZ = np.maximum(hi_QZ - lo_QZ, 0)
        before_QZ = np.cumsum(width_QZ, axis=1) - width_QZ
        take_QZ = np.clip(limit - before_QZ, 0, width_QZ)
        start_Q = np.append(0, np.cumsum(take_QZ.sum(axis=1)))
        position_R = np.empty(int(start_Q[-1]), np.int64)
        within_QZ = start_Q[:-1, None] + np.cumsum(take_QZ, axis=1) - take_QZ
        for place in range(len(self.shards)):
            take_Q = take_QZ[:, place]
            offset_R = _ragged_offsets(take_Q)
            row_R = np.repeat(lo_QZ[:, place], take_Q) + offset_R
            target_R = np.repeat(within_QZ[:, place], take_Q) + offset_R
            length_R = np.repeat(length_Q, take_Q)
            position_R[target_R] = self._positions(place, row_R, length_R)
        return position_R, start_Q

    def document_of(
        self, position_R: Integer[np.ndarray, " R"]
    ) -> Int[np.ndarray, " R"]:
        """The document that holds each position, an index from 0."""
        return np.searchsorted(self.row_starts_T, position_R, side="right") - 1

    def _positions(
        self, place: int, row_R: np.ndarray, length_R: np.ndarray
    ) -> np.ndarray:
        text_R = self.shards[place].text_positions(row_R, length_R)
        return text_R - self._documents[place].holding(text_R) + self._offset(place)

    def _offset(self, place: int) -> int:
        """Where a shard's documents start in the sequence the index was built of."""
        return int(self.row_starts_T[self.shard_rows_Z[place]])

    @functools.cached_property
    def _documents(self) -> tuple[segments.Segments, ...]:
        """Which document, from 1, holds a position of each shard's text.

        A separator counts to the document before it, and the first to none, so that
        what is found at the start of a document, separator included, comes out at its
        first token.
        """
        found: list[segments.Segments] = []
        for place, (first, end) in enumerate(itertools.pairwise(self.shard_rows_Z)):
            starts_T = self.row_starts_T[first : end + 1] - self._offset(place)
            in_text_T = starts_T + np.arange(1, starts_T.size + 1)
            found.append(segments.Segments(np.append(0, in_text_T)))
        return tuple(found)

    def _dense(
        self, ngrams: Ngrams, at_document_start: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """N-grams as a padded array of dense tokens, and their lengths."""
        length_Q = np.array([len(n) for n in ngrams], np.int64)
        flat = np.array([t for n in ngrams for t in n], np.int64)
        # One past the alphabet occurs nowhere, and so does its successor.
        dense = np.searchsorted(self.token_of_dense_V, flat)
        dense = np.minimum(dense, self.token_of_dense_V.size - 1)
        absent = self.token_of_dense_V.size
        dense = np.where(self.token_of_dense_V[dense] == flat, dense, absent)
        dense = np.where(flat < 0, absent, dense)
        first = int(at_document_start)
        length_Q += first
        token_QL = np.zeros((length_Q.size, int(length_Q.max(initial=0))), np.int64)
        is_token_QL = np.arange(token_QL.shape[1])[None, :] < length_Q[:, None]
        if at_document_start and token_QL.size:
            is_token_QL[:, 0] = False
        token_QL[is_token_QL] = dense
        return token_QL, length_Q

    def save(self, folder: Path) -> None:
        """Writes the index as an artefact of kind ``constraint-index``."""
        with artifacts.staged(folder) as place:
            np.save(place / "tokens.npy", self.token_of_dense_V)
            np.save(place / "row_starts.npy", self.row_starts_T)
            np.save(place / "shard_rows.npy", self.shard_rows_Z)
            for number, shard in enumerate(self.shards):
                for name, array in shard.arrays().items():
                    np.save(place / f"shard{number:04d}_{name}.npy", array)
            artifacts.write_manifest(
                place,
                kind=KIND,
                schema_version=SCHEMA_VERSION,
                config={"window": self.window, "max_length": self.max_length},
                facts={
                    "structure": STRUCTURE,
                    "vocabulary_size": self.vocabulary_size,
                    "tokens": self.tokens,
                    "documents": self.documents,
                    "shards": len(self.shards),
                    "is_compact": self.is_compact,
                    "bytes": self.nbytes,
                },
            )


def load(folder: Path, *, verify: artifacts.Verify = "full") -> SubstringIndex:
    """The index of a folder, its large arrays mapped rather than read.

    Raises:
      ArtifactError: If the folder is no substring index or a file is not as written.
    """
    manifest = artifacts.read_manifest(
        folder, kind=KIND, schema_version=SCHEMA_VERSION, verify=verify
    )
    structure = manifest.facts.get("structure")
    if structure != STRUCTURE:
        raise errors.ArtifactError(
            errors.fault(
                folder, "structure", structure, f"a {STRUCTURE} index is needed here"
            )
        )
    shard_rows_Z = np.load(folder / "shard_rows.npy", allow_pickle=False)
    is_compact = manifest.facts["is_compact"]
    kind = wavelet_shard.WaveletShard if is_compact else suffix_shard.SuffixShard
    shards: list[Shard] = []
    for number in range(manifest.facts["shards"]):
        prefix = f"shard{number:04d}_"
        arrays = {
            path.stem.removeprefix(prefix): np.load(
                path, mmap_mode="r", allow_pickle=False
            )
            for path in folder.glob(f"{prefix}*.npy")
        }
        documents = int(shard_rows_Z[number + 1] - shard_rows_Z[number])
        shards.append(kind.of_arrays(arrays, documents))
    return SubstringIndex(
        vocabulary_size=manifest.facts["vocabulary_size"],
        window=manifest.config["window"],
        max_length=manifest.config["max_length"],
        token_of_dense_V=np.load(folder / "tokens.npy", allow_pickle=False),
        row_starts_T=np.load(folder / "row_starts.npy", allow_pickle=False),
        shard_rows_Z=shard_rows_Z,
        shards=tuple(shards),
    )


def build(
    tokens_E: Integer[np.ndarray, " E"],
    row_starts_T: Integer[np.ndarray, " T"],
    *,
    vocabulary_size: int,
    window: int | None = None,
    max_length: int = MAX_LENGTH,
    shards: int = 1,
    is_compact: bool = False,
    report: progress.Progress = progress.SILENT,
) -> SubstringIndex:
    """Indexes every substring of every document.

    Args:
      tokens_E: Tokens of all documents, one after the other.
      row_starts_T: Where each document starts, and the number of tokens last.
      vocabulary_size: Every token is below it.
      window: Widest interval that the decoder reads suffix by suffix; wider contexts
        get a bitmap of ``vocabulary_size`` bits. None: `WINDOW` or `COMPACT_WINDOW`.
      max_length: Longest n-gram, forced beginnings included, that gets bitmaps; longer
        ones are still exact, but read suffix by suffix.
      shards: Parts to cut the collection into, at least; a part never holds more than
        2^28 tokens. Use the number of devices that share the index.
      is_compact: Keep wavelet matrices (19 bits a token at 32 k tokens, and bitmaps)
        instead of suffix arrays (48 bits): the same answers, slower.
      report: Is told of each finished shard.

    Returns:
      The index.

    Raises:
      InputError: If a token is outside the vocabulary, the starts do not cover the
        tokens, there is no token at all, or a document is too long for a shard.

    Example:
      >>> index = build(np.array([5, 6, 5, 7]), np.array([0, 2, 4]), vocabulary_size=8)
      >>> lo, hi = index.find([[5]])
      >>> positions, _ = index.locate(lo, hi, np.array([1]), limit=10)
      >>> index.document_of(np.sort(positions)).tolist()
      [0, 1]
    """
    starts_T = np.asarray(row_starts_T, np.int64)
    _check(tokens_E, starts_T, vocabulary_size)
    is_present_V = np.zeros(vocabulary_size, bool)
    is_present_V[tokens_E] = True
    token_of_dense_V = np.append(-1, np.flatnonzero(is_present_V)).astype(np.int32)
    cuts_Z = shard_texts.cut(starts_T, shards)
    if window is None:
        window = COMPACT_WINDOW if is_compact else WINDOW
    build_shard = wavelet_shard.build if is_compact else suffix_shard.build
    report.start("substring index", cuts_Z.size - 1)
    built: list[Shard] = []
    for first, end in itertools.pairwise(cuts_Z.tolist()):
        text_E = shard_texts.dense(
            tokens_E, starts_T[first : end + 1], token_of_dense_V
        )
        built.append(
            build_shard(
                text_E,
                token_of_dense_V,
                documents=int(end - first),
                vocabulary_size=vocabulary_size,
                window=window,
                max_length=max_length,
            )
        )
        report.advance()
    report.finish()
    return SubstringIndex(
        vocabulary_size=vocabulary_size,
        window=window,
        max_length=max_length,
        token_of_dense_V=token_of_dense_V,
        row_starts_T=starts_T,
        shard_rows_Z=cuts_Z,
        shards=tuple(built),
    )


def _check(tokens_E: np.ndarray, starts_T: np.ndarray, vocabulary_size: int) -> None:
    is_covering = (
        starts_T.size >= 2
        and starts_T[0] == 0
        and starts_T[-1] == tokens_E.size
        and bool(np.all(starts_T[1:] >= starts_T[:-1]))
    )
    if not is_covering:
        raise errors.InputError(
            "substring index: row_starts: not ascending from 0 to the number of tokens "
            f"({tokens_E.size}): give one start a document and the end"
        )
    if tokens_E.size == 0:
        raise errors.InputError("substring index: no tokens: give documents with text")
    low, high = int(tokens_E.min()), int(tokens_E.max())
    if low < 0 or high >= vocabulary_size:
        raise errors.InputError(
            f"substring index: tokens: {low} … {high}: outside the vocabulary of "
            f"{vocabulary_size}: encode with the vocabulary the model uses"
        )


def _ragged_offsets(length_Q: np.ndarray) -> np.ndarray:
    """0 … length-1 for each length, one after the other."""
    end_Q = np.cumsum(length_Q)
    total = int(end_Q[-1]) if end_Q.size else 0
    return np.arange(total) - np.repeat(end_Q - length_Q, length_Q)
