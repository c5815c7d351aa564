"""Identifier tables whose rows are text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec, textual
from gr_jax.identifiers import views as views_module


def ngrams(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    *,
    max_tokens: int | None = None,
    views: str = views_module.BODY,
    view_tokens: int = 30,
    queries_of: Mapping[str, Sequence[str]] | None = None,
) -> codec.IdentifierTable:
    """The n-gram table: each document's own tokens; any substring identifies it.

    Args:
      documents: In the collection's order; row ``i`` is the text of document ``i``.
      vocabulary: Text vocabulary.
      max_tokens: Tokens of a document; the rest is cut.
      views: Further rows of each document, as in ``body+title+pseudo_query``; the body
        is always there.
      view_tokens: Tokens of a title or pseudo-query; the rest is cut.
      queries_of: Pseudo-queries of each document.

    Raises:
      UsageError: If a view is unknown.
      InputError: If no document has a row of a view.
    """
    further = [v for v in views_module.FURTHER if v in views_module.parse(views)]
    ids = [document.id for document in documents]
    body = codec.from_rows(
        codec.NGRAM,
        ids,
        textual.tokens_of_documents(documents, vocabulary, max_tokens),
        vocabulary_size=vocabulary.size,
        vocabulary=vocabulary.fingerprint,
    )
    if not further:
        return body
    more = [
        row
        for view in further
        for row in views_module.rows(
            view, documents, vocabulary, queries_of=queries_of, most=view_tokens
        )
    ]
    return codec.from_rows(
        codec.NGRAM,
        ids,
        [*body.rows(), *(tokens for _, tokens in more)],
        [*range(len(ids)), *(place for place, _ in more)],
        vocabulary_size=vocabulary.size + len(views_module.FURTHER),
        # Documents may well share a title; they collide where their texts are equal.
        collisions=body.collisions,
        text_pieces=vocabulary.size,
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
