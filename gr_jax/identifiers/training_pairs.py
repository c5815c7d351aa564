"""The training pairs of a collection, while its documents stream by.

Memory holds the identifier table, the queries and, for n-grams, the passages of judged
documents; never the corpus.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from gr_jax.core import errors, randomness
from gr_jax.data import corpus, judgements, pairs, reading
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec, textual, views

SPLIT = "train"
_SOURCE_WORDS = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spans:
    """N-grams drawn as identifiers; other kinds have theirs in the table.

    Attributes:
      seed: Of the draws.
      of_query: N-grams of each training query and its document.
      of_document: Pairs of each document with itself.
      max_length: Tokens of an n-gram.
    """

    seed: int = 0
    of_query: int = 10
    of_document: int = 10
    max_length: int = 8


def stream(
    folder: Path,
    table: codec.IdentifierTable,
    vocabulary: vocabularies.Vocabulary,
    *,
    spans: Spans,
    queries: bool = True,
    documents: bool = True,
) -> Iterator[pairs.Pair]:
    """Document pairs in the corpus's order, then query pairs in the judgements'.

    Args:
      folder: BEIR folder; a judged document that the corpus lacks is left out.
      table: Identifiers of exactly its documents, in its order.
      vocabulary: That spelled them.
      spans: For n-grams.
      queries: Whether the pairs of the split `SPLIT` are wanted.
      documents: Whether pairs of documents are wanted.

    Raises:
      InputError: If the collection is faulty.
      ArtifactError: If the table is of other documents, or of another vocabulary.
    """
    table.require_vocabulary(vocabulary.fingerprint)
    wanted = _Judged(folder) if queries else None
    rows = _Rows(table)
    is_ngram = table.kind == codec.NGRAM
    further = views.of_table(table)
    path = corpus.file_of(folder, "corpus")
    count = 0
    for place, document in enumerate(corpus.read_documents(path)):
        _check_place(table, place, document.id, path)
        count += 1
        is_judged = wanted is not None and document.id in wanted.documents
        passage = None
        if is_ngram and (documents or is_judged):
            (passage,) = textual.passages([document], vocabulary)
        if documents and passage is not None:
            yield from _document_spans(passage, spans)
            if further:
                yield from _document_views(document, rows.views_of(place))
        elif documents:
            own = [rows.of(place)]
            yield from pairs.document_pairs([document], own)
        if wanted is not None and is_judged:
            wanted.found[document.id] = passage or rows.of(place)
            if further:
                wanted.views[document.id] = rows.views_of(place)
    if count != len(table.document_ids):
        remedy = f"the table has {len(table.document_ids)}: build it anew"
        raise errors.ArtifactError(errors.fault(path, "documents", count, remedy))
    if wanted is not None:
        yield from wanted.pairs(spans, vocabulary)


def _check_place(
    table: codec.IdentifierTable, place: int, document: str, path: Path
) -> None:
    if place >= len(table.document_ids) or table.document_ids[place] != document:
        remedy = "the identifiers are of other documents: build them anew"
        raise errors.ArtifactError(errors.fault(path, "_id", document, remedy))


class _Rows:
    """The rows of each document of a table, by its place."""

    def __init__(self, table: codec.IdentifierTable):
        document_R = table.row_document_R
        self._table = table
        self._order_R = np.argsort(document_R, kind="stable")
        self._bounds_T = np.searchsorted(
            document_R[self._order_R], np.arange(len(table.document_ids) + 1)
        )

    def of(self, place: int) -> list[list[int]]:
        chosen: Int[np.ndarray, " R"] = self._order_R[
            self._bounds_T[place] : self._bounds_T[place + 1]
        ]
        return [self._table.row(row).tolist() for row in chosen.tolist()]

    def views_of(self, place: int) -> list[tuple[str, list[int]]]:
        """The rows of further views, each without the token that begins it."""
        named = (
            (views.view_of(self._table, row[0]), row[1:]) for row in self.of(place)
        )
        return [(view, row) for view, row in named if view != views.BODY]


def _document_spans(passage: textual.Passage, spans: Spans) -> Iterator[pairs.Pair]:
    drawn = textual.document_spans(
        passage,
        randomness.stream(spans.seed, "document spans", passage.id),
        n=spans.of_document,
        max_length=spans.max_length,
    )
    for source, target in drawn:
        if source:
            yield pairs.Pair(source, target, "document", None, passage.id)


def _document_views(
    document: corpus.Document, rows: Sequence[tuple[str, list[int]]]
) -> Iterator[pairs.Pair]:
    """The first words of a document with each of its titles and pseudo-queries."""
    text = " ".join(document.text.split()[:_SOURCE_WORDS])
    for view, tokens in rows if text else ():
        source = views.source(view, text)
        yield pairs.Pair(source, tokens, "document", None, document.id)


class _Judged:
    """Queries of the training split, and what is found of their documents."""

    def __init__(self, folder: Path):
        path = folder / "qrels" / f"{SPLIT}.tsv"
        qrels = judgements.read(path, reading.Tally()) if path.is_file() else {}
        self._relevant: dict[str, list[str]] = {
            query: [document for document, grade in row.items() if grade >= 1]
            for query, row in qrels.items()
        }
        self._queries = {
            query.id: query
            for query in corpus.read_queries(corpus.file_of(folder, "queries"))
            if query.id in self._relevant
        }
        self.documents = {d for row in self._relevant.values() for d in row}
        self.found: dict[str, textual.Passage | list[list[int]]] = {}
        self.views: dict[str, list[tuple[str, list[int]]]] = {}

    def pairs(
        self, spans: Spans, vocabulary: vocabularies.Vocabulary
    ) -> Iterator[pairs.Pair]:
        """Every judged query with every document found for it."""
        for id, documents in self._relevant.items():
            query = self._queries.get(id)
            for document in documents:
                if query is None or document not in self.found:
                    continue
                targets = self._targets(query, self.found[document], spans)
                judged = [(query, corpus.Document(document, "", ""))]
                yield from pairs.query_pairs(judged, [targets])
                yield from self._of_views(query, document, vocabulary)

    def _of_views(
        self, query: corpus.Query, document: str, vocabulary: vocabularies.Vocabulary
    ) -> Iterator[pairs.Pair]:
        """A query with the titles and other pseudo-queries of its document."""
        rows = self.views.get(document, [])
        text = " ".join(query.text.split())
        own = vocabulary.encode(text) if rows else []
        # A pseudo-query may be cut, so its beginning tells whose it is.
        is_own = [
            v == views.PSEUDO_QUERY and own[: len(t) - 1] == t[:-1] for v, t in rows
        ]
        others = [row for row, same in zip(rows, is_own, strict=True) if not same]
        # Alone, a query has nothing to learn but itself.
        asked = others if any(v == views.PSEUDO_QUERY for v, _ in others) else rows
        for view, tokens in asked:
            source = views.source(view, text)
            yield pairs.Pair(source, tokens, "query", query.id, document)

    def _targets(
        self,
        query: corpus.Query,
        found: textual.Passage | list[list[int]],
        spans: Spans,
    ) -> Sequence[Sequence[int]]:
        if not isinstance(found, textual.Passage):
            return found
        (targets,) = textual.sample_pairs(
            [(query, found)],
            seed=spans.seed,
            n=spans.of_query,
            max_length=spans.max_length,
        )
        return targets
