"""Smaller collections out of larger ones, nested by seed."""

from __future__ import annotations

from gr_jax.core import errors, randomness
from gr_jax.data import corpus

_PURPOSE = "sampled documents"


def sample(
    collection: corpus.Collection, documents: int, *, seed: int = 0
) -> corpus.Collection:
    """A collection of some of the documents, with the queries they answer.

    A smaller sample of the same seed is part of a larger one. Judgements of documents
    that are left out go with them, and so do queries without a relevant document left:
    metrics on a sample are those of the smaller task, not an estimate of the whole.

    Args:
      collection: What to choose from.
      documents: How many to keep.
      seed: Names the choice.

    Raises:
      UsageError: If there are not that many documents.
    """
    if not 1 <= documents <= len(collection.documents):
        most = len(collection.documents)
        raise errors.UsageError(f"sample: documents: {documents}: from 1 to {most}")
    ranked = sorted(
        collection.documents,
        key=lambda document: randomness.rank_of(seed, _PURPOSE, document.id),
    )
    kept = {document.id for document in ranked[:documents]}
    qrels: dict[str, corpus.Qrels] = {}
    for split, rows in collection.qrels.items():
        cut = {
            query: {d: grade for d, grade in row.items() if d in kept}
            for query, row in rows.items()
        }
        qrels[split] = {query: row for query, row in cut.items() if any(row.values())}
    asked = {query for rows in qrels.values() for query in rows}
    return corpus.Collection(
        name=f"{collection.name}-{documents}",
        documents=[d for d in collection.documents if d.id in kept],
        queries={id: q for id, q in collection.queries.items() if id in asked},
        qrels=qrels,
        facts={"sampled from": collection.name},
    )
