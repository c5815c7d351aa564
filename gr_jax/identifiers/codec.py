"""Identifiers and documents, both ways, with the collisions listed.

Codes get token ids of their own behind the text pieces, one range a level:
``token = text_pieces + level * codes + code``. Rows of one length need no end token;
rows of varying length carry it as their last token, so a row is exactly what a model
learns to generate. An n-gram table holds the documents' own token sequences: any short
substring of a row identifies the document, and the rows carry no end token.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from gr_jax.core import artifacts, errors

MANIFEST_KIND = "identifiers"
SCHEMA_VERSION = 1
NGRAM = "ngram"


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdentifierTable:
    """Every identifier of a collection as one ragged array of tokens.

    Attributes:
      kind: ``ngram``, ``rq``, ``title``, …
      document_ids: Ids in the collection's order; a document's place is its index.
      tokens_E: Tokens of all rows, one behind the other.
      row_starts_T: Row ``r`` is ``tokens_E[row_starts_T[r]:row_starts_T[r + 1]]``.
      row_document_R: Index of the document that each row identifies.
      vocabulary_size: Text pieces and code tokens together.
      levels: Tokens of a code, its suffix included; 0 where rows are text.
      collisions: Groups of documents whose identifier was the same; a suffix may have
        told them apart afterwards.
      codes: Tokens of each code level; 0 where rows are text.
      text_pieces: Size of the text vocabulary, where the code tokens begin.
      has_end: Whether every row ends with the vocabulary's end token.
      vocabulary: Fingerprint of the text vocabulary.
    """

    kind: str
    document_ids: list[str]
    tokens_E: Int[np.ndarray, " E"]
    row_starts_T: Int[np.ndarray, " T"]
    row_document_R: Int[np.ndarray, " R"]
    vocabulary_size: int
    levels: int = 0
    collisions: list[list[str]] = dataclasses.field(default_factory=list)
    codes: int = 0
    text_pieces: int = 0
    has_end: bool = False
    vocabulary: str = ""

    @property
    def is_substring(self) -> bool:
        """Whether any substring of a row identifies its document."""
        return self.kind == NGRAM

    @property
    def max_length(self) -> int:
        """Tokens of the longest row."""
        return int(np.diff(self.row_starts_T).max(initial=0))

    def row(self, row: int) -> Int[np.ndarray, " L"]:
        """The tokens of one row (a view)."""
        return self.tokens_E[self.row_starts_T[row] : self.row_starts_T[row + 1]]

    def rows(self) -> list[Int[np.ndarray, " L"]]:
        """The tokens of every row (views)."""
        return np.split(self.tokens_E, self.row_starts_T[1:-1])

    @functools.cached_property
    def rows_of_document(self) -> list[list[int]]:
        """The rows of each document, by its index."""
        rows: list[list[int]] = [[] for _ in self.document_ids]
        for row, document in enumerate(self.row_document_R.tolist()):
            rows[document].append(row)
        return rows

    @functools.cached_property
    def document_index(self) -> dict[str, int]:
        """The index of each document id."""
        return {name: place for place, name in enumerate(self.document_ids)}

    @functools.cached_property
    def _rows_of_tokens(self) -> dict[bytes, list[int]]:
        places: dict[bytes, list[int]] = {}
        for place, row_L in enumerate(self.rows()):
            places.setdefault(row_L.tobytes(), []).append(place)
        return places

    def rows_of(self, tokens: Sequence[int]) -> list[int]:
        """The rows that are exactly these tokens (none: an unknown identifier)."""
        return self._rows_of_tokens.get(np.asarray(tokens, np.int32).tobytes(), [])

    def documents_of_tokens(self, tokens: Sequence[int]) -> list[str]:
        """The documents of an identifier, in the collection's order."""
        indices = {int(self.row_document_R[row]) for row in self.rows_of(tokens)}
        return [self.document_ids[index] for index in sorted(indices)]

    def documents_of(self, row: int) -> list[str]:
        """The documents that share the identifier of a row, in collection order."""
        return self.documents_of_tokens(self.row(row).tolist())

    def require_vocabulary(self, fingerprint: str) -> None:
        """Refuses a vocabulary other than the one that spelled the identifiers.

        Raises:
          ArtifactError: If the fingerprints differ.
        """
        if self.vocabulary and fingerprint != self.vocabulary:
            raise errors.ArtifactError(
                f"identifiers ({self.kind}): vocabulary {self.vocabulary[:12]} is not "
                f"the one given ({fingerprint[:12]}): build the identifiers anew"
            )

    def save(
        self,
        folder: Path,
        *,
        config: Mapping[str, object] | None = None,
        seeds: Mapping[str, int] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        """Writes the table as a folder with a manifest, whole or not at all."""
        with artifacts.staged(folder) as temporary:
            np.save(temporary / "tokens.npy", self.tokens_E)
            np.save(temporary / "row_starts.npy", self.row_starts_T)
            np.save(temporary / "row_document.npy", self.row_document_R)
            artifacts.write_json(temporary / "documents.json", self.document_ids)
            artifacts.write_json(temporary / "collisions.json", self.collisions)
            artifacts.write_manifest(
                temporary,
                kind=MANIFEST_KIND,
                schema_version=SCHEMA_VERSION,
                config=config,
                seeds=seeds,
                inputs=inputs,
                facts={name: getattr(self, name) for name in _FACTS}
                | {
                    "documents": len(self.document_ids),
                    "rows": len(self.row_document_R),
                    "colliding_documents": sum(map(len, self.collisions)),
                },
            )


_FACTS = (
    "kind",
    "vocabulary_size",
    "levels",
    "codes",
    "text_pieces",
    "has_end",
    "vocabulary",
)


def from_rows(
    kind: str,
    document_ids: Sequence[str],
    rows: Iterable[Sequence[int] | np.ndarray],
    row_documents: Sequence[int] | None = None,
    *,
    vocabulary_size: int,
    levels: int = 0,
    collisions: list[list[str]] | None = None,
    codes: int = 0,
    text_pieces: int = 0,
    has_end: bool = False,
    vocabulary: str = "",
) -> IdentifierTable:
    """A table from one token list a row.

    Args:
      kind: The kind's name.
      document_ids: Ids in the collection's order.
      rows: Tokens of each row, the end token included where rows carry one.
      row_documents: Index of each row's document; row ``i`` is document ``i`` if None.
      vocabulary_size: Text pieces and code tokens together.
      levels: Tokens of a code; 0 where rows are text.
      collisions: Groups of colliding documents; found from equal rows if None.
      codes: Tokens of each code level.
      text_pieces: Size of the text vocabulary.
      has_end: Whether every row ends with the end token.
      vocabulary: Fingerprint of the text vocabulary.

    Raises:
      InputError: If there is no document, an id occurs twice, a row is empty or holds a
        token outside the vocabulary, or a document has no row.

    Example:
      >>> table = from_rows("rq", ["a", "b"], [[5, 7], [5, 8]], vocabulary_size=9)
      >>> table.documents_of_tokens([5, 8]), table.row(0).tolist()
      (['b'], [5, 7])
    """
    lists = [np.asarray(row, np.int32) for row in rows]
    places = range(len(lists)) if row_documents is None else row_documents
    row_document_R = np.asarray(places, np.int32)
    lengths_R = np.array([len(row) for row in lists], np.int64)
    _check(kind, document_ids, lists, row_document_R, vocabulary_size)
    table = IdentifierTable(
        kind=kind,
        document_ids=list(document_ids),
        tokens_E=np.concatenate(lists),
        row_starts_T=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_R)]),
        row_document_R=row_document_R,
        vocabulary_size=vocabulary_size,
        levels=levels,
        collisions=collisions or [],
        codes=codes,
        text_pieces=text_pieces or vocabulary_size,
        has_end=has_end,
        vocabulary=vocabulary,
    )
    if collisions is None:
        return dataclasses.replace(table, collisions=shared_identifiers(table))
    return table


def shared_identifiers(table: IdentifierTable) -> list[list[str]]:
    """Groups of documents that share an identifier, in the collection's order."""
    groups: list[list[str]] = []
    for rows in table._rows_of_tokens.values():
        documents = sorted({int(table.row_document_R[row]) for row in rows})
        if len(documents) > 1:
            groups.append([table.document_ids[index] for index in documents])
    return groups


def load(folder: Path, *, verify: artifacts.Verify = "full") -> IdentifierTable:
    """The table of a folder.

    Raises:
      ArtifactError: If a file is missing, changed, or of another version.
    """
    manifest = artifacts.read_manifest(
        folder, kind=MANIFEST_KIND, schema_version=SCHEMA_VERSION, verify=verify
    )
    return IdentifierTable(
        document_ids=artifacts.read_json(folder / "documents.json"),
        tokens_E=np.load(folder / "tokens.npy", allow_pickle=False),
        row_starts_T=np.load(folder / "row_starts.npy", allow_pickle=False),
        row_document_R=np.load(folder / "row_document.npy", allow_pickle=False),
        collisions=artifacts.read_json(folder / "collisions.json"),
        **{name: manifest.facts[name] for name in _FACTS},
    )


def _check(
    kind: str,
    document_ids: Sequence[str],
    rows: Sequence[np.ndarray],
    row_document_R: Int[np.ndarray, " R"],
    vocabulary_size: int,
) -> None:
    if not document_ids:
        raise errors.InputError(f"identifiers ({kind}): no document: give a collection")
    if len(set(document_ids)) != len(document_ids):
        raise errors.InputError(
            f"identifiers ({kind}): a document id occurs twice: make ids unique"
        )
    if len(rows) != len(row_document_R):
        raise errors.InputError(
            f"identifiers ({kind}): {len(rows)} rows for {len(row_document_R)} places"
        )
    for row, document in zip(rows, row_document_R.tolist(), strict=True):
        name = document_ids[document]
        if not len(row):
            raise errors.InputError(
                errors.fault(name, f"identifier ({kind})", "", "no token: give it text")
            )
        if row.min() < 0 or row.max() >= vocabulary_size:
            remedy = f"tokens are below {vocabulary_size}: use the matching vocabulary"
            raise errors.InputError(
                errors.fault(name, f"identifier ({kind})", row.tolist(), remedy)
            )
    missing = np.setdiff1d(np.arange(len(document_ids)), row_document_R)
    if len(missing):
        raise errors.InputError(
            errors.fault(document_ids[int(missing[0])], kind, None, "has no identifier")
        )
