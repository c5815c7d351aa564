"""Tables of titles, ids and pseudo-queries: rows, end tokens, collisions."""

from __future__ import annotations

import pytest

from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import text_tables


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> vocabularies.Vocabulary:
    folder = tmp_path_factory.mktemp("vocabulary") / "toy"
    return vocabularies.train(["Same one two three Alone"], folder, pieces=280)


def test_titles_collide_and_queries_do_not(
    vocabulary: vocabularies.Vocabulary,
) -> None:
    documents = [corpus.Document(i, "Same", f"text {i}") for i in ("a", "b")]
    table = text_tables.titles(documents, vocabulary)
    assert table.collisions == [["a", "b"]]
    assert table.row(0).tolist() == [*vocabulary.encode("Same"), vocabularies.EOS]
    asked = {"a": ["one", "one", "two"], "b": ["three"]}
    several = text_tables.pseudo_queries(documents, vocabulary, asked)
    assert several.rows_of_document == [[0, 1], [2]]
    assert text_tables.naive_strings(documents, vocabulary).collisions == []


def test_empty_documents_are_named(vocabulary: vocabularies.Vocabulary) -> None:
    empty = [corpus.Document("void", "", " \t ")]
    with pytest.raises(errors.InputError, match="void: text"):
        text_tables.ngrams(empty, vocabulary)
    with pytest.raises(errors.InputError, match="void: title"):
        text_tables.titles(empty, vocabulary)
    alone = text_tables.ngrams([corpus.Document("d4", "Alone", "")], vocabulary)
    assert alone.rows()[0].tolist() == vocabulary.encode("Alone")
