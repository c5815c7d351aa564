"""Identifier tables whose rows are text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec, textual


def ngrams(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    *,
    max_tokens: int | None = None,
) -> codec.IdentifierTable:
    """The n-gram table: each document's own tokens; any substring identifies it."""
    return codec.from_rows(
        codec.NGRAM,
        [document.id for document in documents],
        textual.tokens_of_documents(documents, vocabulary, max_tokens),
        vocabulary_size=vocabulary.size,
        vocabulary=vocabulary.fingerprint,
    )


def titles(
    documents: Sequence[corpus.Document], vocabulary: vocabularies.Vocabulary
) -> codec.IdentifierTable:
    """Each document by its title; equal titles collide and are listed."""
    return _texts("title", documents, [[d.title] for d in documents], vocabulary)


def naive_strings(
    documents: Sequence[corpus.Document], vocabulary: vocabularies.Vocabulary
) -> codec.IdentifierTable:
    """Each document by the spelling of its id (DSI's naive string identifiers)."""
    return _texts("naive", documents, [[d.id] for d in documents], vocabulary)


def _texts(
    kind: str,
    documents: Sequence[corpus.Document],
    texts: Sequence[Sequence[str]],
    vocabulary: vocabularies.Vocabulary,
) -> codec.IdentifierTable:
    rows: list[list[int]] = []
    row_documents: list[int] = []
    for place, document in enumerate(documents):
        spelt = [tokens for text in texts[place] if (tokens := vocabulary.encode(text))]
        if not spelt:
            remedy = "give every document one, or choose another identifier kind"
            raise errors.InputError(errors.fault(document.id, kind, "", remedy))
        distinct = dict.fromkeys(map(tuple, spelt))
        rows += [[*tokens, vocabularies.EOS] for tokens in distinct]
        row_documents += [place] * len(distinct)
    return codec.from_rows(
        kind,
        [document.id for document in documents],
        rows,
        row_documents,
        vocabulary_size=vocabulary.size,
        has_end=True,
        vocabulary=vocabulary.fingerprint,
    )


def pseudo_queries(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    queries_of: Mapping[str, Sequence[str]],
) -> codec.IdentifierTable:
    """Each document by the queries written for it, one row a query."""
    texts = [queries_of.get(document.id, []) for document in documents]
    return _texts("pseudo_query", documents, texts, vocabulary)
