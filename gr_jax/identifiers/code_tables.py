"""Codes made into identifier tables: tokens of each level, suffixes, end tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec, semantic_ids, textual

Queries = Mapping[str, Sequence[str]]


def suffixed(paths: Sequence[Sequence[int]], codes: int) -> list[list[int]]:
    """Paths made distinct by further digits of base ``codes``.

    There are as many digits as the largest group of equal paths needs; where no two
    paths are equal nothing is added. Members of a group are numbered in order.

    Example:
      >>> suffixed([[3], [0], [3]], codes=4)
      [[3, 0], [0, 0], [3, 1]]
    """
    places: dict[tuple[int, ...], int] = {}
    numbers: list[int] = []
    for path in paths:
        number = places.get(tuple(path), 0)
        places[tuple(path)] = number + 1
        numbers.append(number)
    digits, most = 0, max(numbers, default=0)
    while codes**digits <= most:
        digits += 1
    return [
        [*path, *((number // codes**d) % codes for d in reversed(range(digits)))]
        for path, number in zip(paths, numbers, strict=True)
    ]


def from_paths(
    kind: str,
    document_ids: Sequence[str],
    paths: Sequence[Sequence[int]],
    vocabulary: vocabularies.Vocabulary,
    *,
    codes: int,
    unique: bool = True,
) -> codec.IdentifierTable:
    """The table of code paths, one a document.

    Args:
      kind: The kind's name.
      document_ids: Ids in the collection's order.
      paths: Codes in ``[0, codes)`` of each document.
      vocabulary: Text vocabulary; code tokens follow its pieces.
      codes: Codes of a level.
      unique: Whether a suffix tells equal paths apart; otherwise such documents share
        an identifier, and a rank.
    """
    shared: dict[tuple[int, ...], list[str]] = {}
    for name, path in zip(document_ids, paths, strict=True):
        shared.setdefault(tuple(path), []).append(name)
    final = suffixed(paths, codes) if unique else [list(path) for path in paths]
    levels = max(map(len, final), default=0)
    has_end = any(len(path) != levels for path in final)
    end = [vocabularies.EOS] if has_end else []
    rows = [
        [vocabulary.size + depth * codes + code for depth, code in enumerate(path)]
        + end
        for path in final
    ]
    return codec.from_rows(
        kind,
        document_ids,
        rows,
        vocabulary_size=vocabulary.size + levels * codes,
        levels=levels,
        collisions=[group for group in shared.values() if len(group) > 1],
        codes=codes,
        text_pieces=vocabulary.size,
        has_end=has_end,
        vocabulary=vocabulary.fingerprint,
    )


def _texts(
    documents: Sequence[corpus.Document], queries_of: Queries | None
) -> list[str]:
    asked = queries_of or {}
    return [
        " ".join([textual.indexed_text(document), *asked.get(document.id, ())])
        for document in documents
    ]


def residual(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    *,
    levels: int = 4,
    codes: int = 64,
    dims: int = 128,
    seed: int = 0,
    unique: bool = True,
    queries_of: Queries | None = None,
    embeddings: np.ndarray | None = None,
    threads: int = 1,
) -> codec.IdentifierTable:
    """Residual-quantised codes of the documents' TF-IDF embeddings, or of given ones.

    Args:
      documents: In the collection's order.
      vocabulary: Text vocabulary.
      levels: Codes of a document, before a suffix.
      codes: Codes of a level, a power of two.
      dims: Width of the TF-IDF embedding.
      seed: Of embedding and quantiser.
      unique: Whether a suffix tells equal codes apart.
      queries_of: Training queries of each document, read as part of its text.
      embeddings: float32 rows that replace the TF-IDF ones.
      threads: Threads of the quantiser.
    """
    if embeddings is None:
        texts = _texts(documents, queries_of)
        embeddings = semantic_ids.embed_tfidf_svd(texts, dims, seed)
    code_NL = semantic_ids.residual_codes(
        embeddings, levels=levels, codes=codes, seed=seed, threads=threads
    )
    names = [document.id for document in documents]
    paths = code_NL.tolist()
    return from_paths("rq", names, paths, vocabulary, codes=codes, unique=unique)


def hierarchical(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    *,
    codes: int = 10,
    dims: int = 128,
    seed: int = 0,
    queries_of: Queries | None = None,
    embeddings: np.ndarray | None = None,
    threads: int = 1,
) -> codec.IdentifierTable:
    """Hierarchical k-means codes (DSI, NCI), closed by the end token."""
    if codes < 2:
        raise errors.UsageError(
            f"identifiers (kmeans): codes: {codes}: give at least 2"
        )
    if embeddings is None:
        texts = _texts(documents, queries_of)
        embeddings = semantic_ids.embed_tfidf_svd(texts, dims, seed)
    paths = semantic_ids.kmeans_codes(
        embeddings, codes=codes, seed=seed, threads=threads
    )
    names = [document.id for document in documents]
    return from_paths("kmeans", names, paths, vocabulary, codes=codes)


def atomic(
    documents: Sequence[corpus.Document], vocabulary: vocabularies.Vocabulary
) -> codec.IdentifierTable:
    """One token a document (DSI's atomic identifiers)."""
    names = [document.id for document in documents]
    paths = [[place] for place in range(len(names))]
    return from_paths("atomic", names, paths, vocabulary, codes=len(names))
