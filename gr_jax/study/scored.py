"""What every model of a study is scored on: the same queries, documents, identifiers.

Positives are the relevant documents, negatives one stored draw. Identifiers are the
documents' own codes, or n-grams sampled for the query; both are stored, so that models
differ in nothing but their parameters.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from gr_jax.core import artifacts
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec, textual

KIND = "scored-identifiers"
SCHEMA_VERSION = 1
_ARRAYS = ("query_E", "document_E", "is_positive_E", "tokens", "starts_T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """Rows (query, document, identifier), sorted by query.

    Attributes:
      queries: Ids; ``query_E`` counts into them.
      documents: Ids; ``document_E`` counts into them.
      query_E: Query of each row.
      document_E: Document of each row.
      is_positive_E: Whether the document is relevant to the query.
      tokens: Identifiers end to end.
      starts_T: Row ``e`` is ``tokens[starts_T[e]:starts_T[e + 1]]``.
    """

    queries: list[str]
    documents: list[str]
    query_E: Int[np.ndarray, " E"]
    document_E: Int[np.ndarray, " E"]
    is_positive_E: Bool[np.ndarray, " E"]
    tokens: Int[np.ndarray, " L"]
    starts_T: Int[np.ndarray, " T"]

    def identifiers_by_query(self) -> list[list[list[int]]]:
        """Identifiers of each query, in row order."""
        flat = self.tokens.tolist()
        starts = self.starts_T.tolist()
        rows = [flat[a:b] for a, b in itertools.pairwise(starts)]
        bounds_T = np.searchsorted(self.query_E, np.arange(len(self.queries) + 1))
        bounds = bounds_T.tolist()
        return [rows[a:b] for a, b in itertools.pairwise(bounds)]


def make(
    folder: Path,
    *,
    collection: corpus.Collection,
    relevant: Mapping[str, set[str]],
    negatives: Mapping[str, Sequence[str]],
    table: codec.IdentifierTable,
    vocabulary: vocabularies.Vocabulary,
    spans: int,
    max_length: int,
    seed: int,
) -> None:
    """Samples and stores the rows of one identifier kind.

    Args:
      folder: Written whole or not at all.
      collection: Documents and queries.
      relevant: Positives by query.
      negatives: Negatives by query; its queries are the ones scored.
      table: Identifiers of the documents.
      vocabulary: Text vocabulary.
      spans: N-grams sampled for a (query, document); codes have one row each.
      max_length: Tokens of an n-gram at most.
      seed: Names the sampling.
    """
    documents = [document.id for document in collection.documents]
    place = {name: number for number, name in enumerate(documents)}
    queries = sorted(negatives)
    rows: list[tuple[int, int, bool, list[int]]] = []
    passages: list[textual.Passage] = []
    if table.is_substring:
        passages = textual.passages(collection.documents, vocabulary)
    for number, query in enumerate(queries):
        positives = sorted(d for d in relevant[query] if d in place)
        candidates = [(d, True) for d in positives]
        candidates += [(d, False) for d in negatives[query]]
        if table.is_substring:
            sampled = textual.sample_pairs(
                (
                    (collection.queries[query], passages[place[d]])
                    for d, _ in candidates
                ),
                seed=seed,
                n=spans,
                max_length=max_length,
            )
        else:
            sampled = [
                [table.row(row).tolist() for row in table.rows_of_document[place[d]]]
                for d, _ in candidates
            ]
        for (document, positive), identifiers in zip(candidates, sampled, strict=True):
            rows += [(number, place[document], positive, i) for i in identifiers]
    _save(folder, queries, documents, rows, seed)


def _save(
    folder: Path,
    queries: list[str],
    documents: list[str],
    rows: Sequence[tuple[int, int, bool, list[int]]],
    seed: int,
) -> None:
    lengths_E = np.array([len(row[3]) for row in rows], np.int64)
    flat = np.fromiter((t for row in rows for t in row[3]), np.int32, lengths_E.sum())
    with artifacts.staged(folder) as staged:
        np.savez(
            staged / "rows.npz",
            query_E=np.array([row[0] for row in rows], np.int32),
            document_E=np.array([row[1] for row in rows], np.int32),
            is_positive_E=np.array([row[2] for row in rows], bool),
            tokens=flat,
            starts_T=np.concatenate([[0], np.cumsum(lengths_E)]).astype(np.int64),
        )
        artifacts.write_json(staged / "queries.json", queries)
        artifacts.write_json(staged / "documents.json", documents)
        artifacts.write_manifest(
            staged,
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            seeds={"spans": seed},
            facts={"rows": len(rows), "queries": len(queries)},
        )


def load(folder: Path) -> Scored:
    """Stored rows, verified.

    Raises:
      ArtifactError: If they are missing or not what was written.
    """
    artifacts.read_manifest(folder, kind=KIND, schema_version=SCHEMA_VERSION)
    with np.load(folder / "rows.npz", allow_pickle=False) as stored:
        columns = {name: stored[name] for name in _ARRAYS}
    return Scored(
        queries=artifacts.read_json(folder / "queries.json"),
        documents=artifacts.read_json(folder / "documents.json"),
        **columns,
    )
