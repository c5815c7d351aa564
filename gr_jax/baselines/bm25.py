"""BM25, plain and with the train queries of each document: the fair rival.

A generative retriever is trained on queries of the very documents it is asked for, so
BM25 over documents that carry their train queries is what it has to beat where queries
come from the same documents, and plain BM25 where they do not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import bm25s
import numpy as np
import Stemmer
from jaxtyping import Float

from gr_jax.core import errors
from gr_jax.data import corpus

Variant = Literal["plain", "train-queries"]

# The library logs every index it builds at a level of its own choosing.
logging.getLogger("bm25s").setLevel(logging.WARNING)


def _texts(collection: corpus.Collection, variant: Variant) -> list[str]:
    texts = [f"{d.title} {d.text}" for d in collection.documents]
    if variant == "plain":
        return texts
    if "train" not in collection.qrels:
        raise errors.InputError(
            f"{collection.name}: no train split: use the plain variant"
        )
    place = {d.id: number for number, d in enumerate(collection.documents)}
    added: list[list[str]] = [[] for _ in texts]
    for query, grades in sorted(collection.qrels["train"].items()):
        for document, grade in sorted(grades.items()):
            if grade > 0 and document in place:
                added[place[document]].append(collection.queries[query].text)
    return [" ".join([text, *more]) for text, more in zip(texts, added, strict=True)]


def _tokenize(texts: Sequence[str]) -> list[list[str]]:
    cut = bm25s.tokenize(
        list(texts),
        lower=True,
        token_pattern=r"(?u)\b\w\w+\b",
        stopwords="en",
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )
    assert isinstance(cut, list)
    return cut


def _best(
    score_N: Float[np.ndarray, " N"], rank_of_id_N: np.ndarray, k: int
) -> np.ndarray:
    """Documents of the k best scores above zero; equal scores in order of their id."""
    matched = np.flatnonzero(score_N > 0)
    if len(matched) > k:
        # Everything that ties with the k-th stays until the ids have decided.
        least = np.partition(score_N[matched], len(matched) - k)[len(matched) - k]
        matched = matched[score_N[matched] >= least]
    order = np.lexsort((rank_of_id_N[matched], -score_N[matched]))
    return matched[order][:k]


def run(
    collection: corpus.Collection,
    split: str,
    k: int = 100,
    *,
    variant: Variant = "plain",
    k1: float = 0.9,
    b: float = 0.4,
) -> dict[str, list[tuple[str, float]]]:
    """The k best documents of every judged query of a split, by BM25.

    Lucene's formula: ``idf = ln(1 + (N - df + 0.5) / (df + 0.5))``, no factor
    ``k1 + 1``; one field, title and text; English stop words and Porter 2 stems.
    Documents that share no term with a query are never returned.

    Args:
      collection: Documents, queries, judgements.
      split: Whose queries are asked.
      k: The most hits of a query.
      variant: Whether a document carries its train queries.
      k1: Saturation of term counts.
      b: Weight of the document's length.

    Raises:
      InputError: If the split or the documents are missing or hold no word.
    """
    if split not in collection.qrels:
        raise errors.InputError(
            errors.fault(
                collection.name, "split", split, f"it has {sorted(collection.qrels)}"
            )
        )
    cut = _tokenize(_texts(collection, variant))
    if not any(cut):
        raise errors.InputError(f"{collection.name}: no document holds a word")
    retriever = bm25s.BM25(method="lucene", k1=k1, b=b)
    retriever.index(cut, show_progress=False)
    asked = sorted(collection.qrels[split])
    queries = _tokenize([collection.queries[query].text for query in asked])
    ids = [d.id for d in collection.documents]
    rank_of_id_N = np.empty(len(ids), np.int64)
    rank_of_id_N[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    found: dict[str, list[tuple[str, float]]] = {}
    for query, words in zip(asked, queries, strict=True):
        known = [word for word in words if word in retriever.vocab_dict]
        if not known:
            found[query] = []
            continue
        score_N = retriever.get_scores(known)
        best = _best(score_N, rank_of_id_N, k)
        found[query] = [(ids[n], float(score_N[n])) for n in best]
    return found
