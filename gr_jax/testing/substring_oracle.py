"""N-grams of a collection by looking everywhere: the oracle of the substring index."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

Documents = list[list[int]]


def random_documents(
    seed: int, *, vocabulary_size: int, documents: int = 24, tokens: int = 500
) -> Documents:
    """Documents of random lengths; the first tokens of the vocabulary come most."""
    rng = np.random.default_rng(seed)
    text = (vocabulary_size * rng.random(tokens) ** 2.5).astype(int)
    cuts = np.sort(rng.integers(0, tokens + 1, documents - 1))
    return [part.tolist() for part in np.split(text, cuts)]


def flat(
    documents: Documents,
) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " T"]]:
    """The tokens of all documents, and where each starts."""
    tokens_E = np.array([t for d in documents for t in d], np.int32)
    return tokens_E, np.cumsum([0, *map(len, documents)])


def occurrences(documents: Documents, gram: list[int]) -> list[tuple[int, int]]:
    """(document, offset) of each occurrence of an n-gram, in order.

    Example:
      >>> occurrences([[1, 2, 1], [2, 1]], [2, 1])
      [(0, 1), (1, 0)]
    """
    return [
        (number, offset)
        for number, document in enumerate(documents)
        for offset in range(len(document) - len(gram) + 1)
        if document[offset : offset + len(gram)] == gram
    ]


def followers(
    documents: Documents, gram: list[int], *, at_document_start: bool = False
) -> dict[int, int]:
    """Each token that follows an n-gram, and how often; -1 for a document's end.

    Example:
      >>> followers([[1, 2, 1], [2, 1, 3]], [1])
      {2: 1, -1: 1, 3: 1}
    """
    found: dict[int, int] = {}
    for number, offset in occurrences(documents, gram):
        if at_document_start and offset:
            continue
        end = offset + len(gram)
        token = documents[number][end] if end < len(documents[number]) else -1
        found[token] = found.get(token, 0) + 1
    return found
