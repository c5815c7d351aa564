"""Negative documents drawn once and stored, so that every model meets the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from gr_jax.core import artifacts, errors, randomness

KIND = "negatives"
SCHEMA_VERSION = 1
_FILE = "negatives.jsonl"


def draw(
    query_ids: Iterable[str],
    document_ids: Sequence[str],
    relevant: Mapping[str, set[str]],
    *,
    count: int = 256,
    seed: int,
) -> dict[str, list[str]]:
    """Distinct documents, uniformly, none of them relevant to the query.

    The draw for a query depends on the seed, its id and the documents' order, not on
    the other queries. Uniform by rejection: an index already drawn or relevant is
    drawn again.

    Args:
      query_ids: Queries to draw for.
      document_ids: The collection, in its order.
      relevant: Documents never drawn for a query, by query id.
      count: Negatives a query; where fewer documents are left, all of them.
      seed: Names the draw.

    Raises:
      UsageError: If count is not positive.
      InputError: If a document id is there twice.

    Example:
      >>> draw(["q"], ["a", "b", "c"], {"q": {"b"}}, count=2, seed=0)
      {'q': ['a', 'c']}
    """
    if count < 1:
        raise errors.UsageError(f"negatives: count: {count}: ask for at least 1")
    row_of = {document: row for row, document in enumerate(document_ids)}
    if len(row_of) != len(document_ids):
        raise errors.InputError("negatives: document ids: some are there twice: dedupe")
    drawn: dict[str, list[str]] = {}
    for query in query_ids:
        barred = {row_of[d] for d in relevant.get(query, ()) if d in row_of}
        generator = randomness.stream(seed, KIND, query)
        rows = _rows(len(document_ids), barred, count, generator)
        drawn[query] = [document_ids[row] for row in rows]
    return drawn


def _rows(
    documents: int, barred: set[int], count: int, generator: np.random.Generator
) -> list[int]:
    available = documents - len(barred)
    if available <= 2 * count:
        # Rejection would circle among the last few: shuffle all that may be drawn.
        free = np.setdiff1d(np.arange(documents), np.fromiter(barred, np.int64))
        return generator.permutation(free)[:count].tolist()
    rows: dict[int, None] = {}
    while len(rows) < count:
        for row in generator.integers(documents, size=count).tolist():
            if row not in barred and len(rows) < count:
                rows[row] = None
    return list(rows)


def save(
    folder: Path,
    negatives: Mapping[str, Sequence[str]],
    *,
    seed: int,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Stores a draw; ``inputs`` are digests of what it was drawn from."""
    with artifacts.staged(folder) as staged:
        rows = [{"query": q, "documents": list(d)} for q, d in negatives.items()]
        artifacts.write_jsonl(staged / _FILE, rows)
        artifacts.write_manifest(
            staged,
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            seeds={"negatives": seed},
            inputs=inputs,
            facts={
                "queries": len(negatives),
                "smallest": min(map(len, negatives.values()), default=0),
                "largest": max(map(len, negatives.values()), default=0),
            },
        )


def load(folder: Path) -> dict[str, list[str]]:
    """A stored draw, verified.

    Raises:
      ArtifactError: If it is missing or not what was written.
    """
    artifacts.read_manifest(folder, kind=KIND, schema_version=SCHEMA_VERSION)
    rows = artifacts.read_jsonl(folder / _FILE)
    return {str(row["query"]): list(row["documents"]) for row in rows}
