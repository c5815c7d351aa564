"""Titles and pseudo-queries as rows of n-gram tables, and as training pairs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gr_jax.core import errors
from gr_jax.data import corpus, pairs
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec, kinds, substring_index, training_pairs, views
from gr_jax.testing import toy

ALL = "body+title+pseudo_query"
ASKED = {"d1": ["what is made from leaves"], "d4": ["what is baked", "what  is baked"]}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> vocabularies.Vocabulary:
    return toy.small_vocabulary(tmp_path_factory.mktemp("views") / "v")


def _table(words: vocabularies.Vocabulary, **options: object) -> codec.IdentifierTable:
    documents = toy.collection().documents
    return kinds.build(
        documents, words, kind="ngram", queries_of=ASKED, options=options
    )


def test_further_rows_stand_behind_the_documents(
    words: vocabularies.Vocabulary,
) -> None:
    documents = toy.collection().documents
    plain, table = _table(words), _table(words, views=ALL, view_tokens=4)
    assert [r.tolist() for r in table.rows()[:8]] == [r.tolist() for r in plain.rows()]
    assert table.vocabulary_size == words.size + 2
    want = [[words.size, *words.encode(d.title)[:4], 1] for d in documents]
    asked = ("what is made from leaves", "what is baked")
    want += [[words.size + 1, *words.encode(text)[:4], 1] for text in asked]
    assert [r.tolist() for r in table.rows()[8:]] == want
    assert table.row_document_R.tolist() == [*range(8), *range(8), 0, 3]
    longest_title = max(len(row) for row in want[:8]) - 1
    assert views.of_table(table) == {"title": longest_title, "pseudo_query": 5}
    assert views.of_table(plain) == {}


def test_what_is_missing_is_named(words: vocabularies.Vocabulary) -> None:
    documents = [dataclasses.replace(d, title="") for d in toy.collection().documents]
    options = {"views": "body+title"}
    with pytest.raises(errors.InputError, match="no document has a title"):
        kinds.build(documents, words, kind="ngram", options=options)
    options = {"views": "body+pseudo_query"}
    with pytest.raises(errors.InputError, match="no document has a query"):
        kinds.build(toy.collection().documents, words, kind="ngram", options=options)
    # One title is enough: documents without one have the other views alone.
    documents[2] = dataclasses.replace(documents[2], title="Cocoa")
    table = kinds.build(documents, words, kind="ngram", options={"views": "body+title"})
    assert table.row_document_R.tolist()[8:] == [2]
    with pytest.raises(errors.UsageError, match="no pseudo_query rows"):
        views.require(table, "body+pseudo_query")
    codes = dataclasses.replace(table, kind="title")
    with pytest.raises(errors.UsageError, match="use ngram"):
        views.require(codes, "title")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "boddy",
        "body+body",
        "title*x",
        "title*0",
        "title*inf",
        "title^-1",
        "unigrams",
    ],
)
def test_a_choice_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="views"):
        views.parse(text)


def test_equal_titles_do_not_collide(words: vocabularies.Vocabulary) -> None:
    documents = [
        dataclasses.replace(d, title="Food") for d in toy.collection().documents
    ]
    table = kinds.build(documents, words, kind="ngram", options={"views": "body+title"})
    assert table.collisions == []
    index = substring_index.build(
        table.tokens_E, table.row_starts_T, vocabulary_size=table.vocabulary_size
    )
    whole = [words.size, *words.encode("Food"), 1]
    assert index.count([whole]).tolist() == [8]


def test_training_pairs_of_views(
    tmp_path: Path, words: vocabularies.Vocabulary
) -> None:
    collection = toy.collection()
    corpus.write_collection(tmp_path / "c", collection)
    asked = {
        document: [collection.queries[q].text for q in queries]
        for document, queries in {"d4": ("q4", "q7"), "d1": ("q1",)}.items()
    }
    plain, table = (
        kinds.build(
            collection.documents,
            words,
            kind="ngram",
            queries_of=asked,
            options={"views": choice},
        )
        for choice in ("body", ALL)
    )
    spans = training_pairs.Spans(of_query=2, of_document=2)
    before, after = (
        list(training_pairs.stream(tmp_path / "c", each, words, spans=spans))
        for each in (plain, table)
    )
    known = {(p.source, tuple(p.target)) for p in before}
    more = [p for p in after if (p.source, tuple(p.target)) not in known]
    assert len(after) == len(before) + len(more)

    def whole(text: str) -> list[int]:
        return [*words.encode(text), vocabularies.EOS]

    q1, q4, q7 = (collection.queries[q].text for q in ("q1", "q4", "q7"))
    of_query = [p for p in more if p.kind == "query"]
    assert [p for p in of_query if p.document_id in ("d1", "d4")] == [
        # Alone, a query is its own target; otherwise its neighbours are.
        pairs.Pair(f"title: {q1}", whole("Tea"), "query", "q1", "d1"),
        pairs.Pair(f"query: {q1}", whole(q1), "query", "q1", "d1"),
        pairs.Pair(f"title: {q4}", whole("Bread"), "query", "q4", "d4"),
        pairs.Pair(f"query: {q4}", whole(q7), "query", "q4", "d4"),
        pairs.Pair(f"title: {q7}", whole("Bread"), "query", "q7", "d4"),
        pairs.Pair(f"query: {q7}", whole(q4), "query", "q7", "d4"),
    ]
    text = collection.documents[0].text
    assert [p for p in more if p.kind == "document" and p.document_id == "d1"] == [
        pairs.Pair(f"title: {text}", whole("Tea"), "document", None, "d1"),
        pairs.Pair(f"query: {text}", whole(q1), "document", None, "d1"),
    ]
