"""Streamed pairs are those of a collection held whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gr_jax.core import errors, randomness
from gr_jax.data import corpus, pairs
from gr_jax.identifiers import codec, kinds, textual, training_pairs
from gr_jax.testing import toy

SPANS = training_pairs.Spans(seed=3, of_query=4, of_document=2, max_length=5)


@pytest.mark.parametrize("kind", [codec.NGRAM, "title"])
def test_pairs_of_a_folder(tmp_path: Path, kind: str) -> None:
    collection = toy.collection()
    corpus.write_collection(tmp_path / "c", collection)
    words = toy.small_vocabulary(tmp_path / "v")
    table = kinds.build(collection.documents, words, kind=kind, seed=0)
    found = list(training_pairs.stream(tmp_path / "c", table, words, spans=SPANS))
    judged = pairs.judged(collection, "train")
    passages = {p.id: p for p in textual.passages(collection.documents, words)}
    if kind == codec.NGRAM:
        by_query = textual.sample_pairs(
            ((query, passages[document.id]) for query, document in judged),
            seed=3,
            n=4,
            max_length=5,
        )
        of_documents = [
            pairs.Pair(source, target, "document", None, id)
            for id, passage in passages.items()
            for source, target in textual.document_spans(
                passage, randomness.stream(3, "document spans", id), n=2, max_length=5
            )
            if source
        ]
    else:
        rows = {
            id: [table.row(row).tolist() for row in table.rows_of_document[place]]
            for place, id in enumerate(table.document_ids)
        }
        by_query = [rows[document.id] for _, document in judged]
        targets = [rows[document.id] for document in collection.documents]
        of_documents = list(pairs.document_pairs(collection.documents, targets))
    assert found == [*of_documents, *pairs.query_pairs(judged, by_query)]
    assert judged
    assert of_documents


def test_a_table_of_other_documents_is_refused(tmp_path: Path) -> None:
    collection = toy.collection()
    corpus.write_collection(tmp_path / "c", collection)
    words = toy.small_vocabulary(tmp_path / "v")
    documents = collection.documents
    for given in (documents[:-1], [*documents[1:], documents[0]]):
        table = kinds.build(given, words, kind="title", seed=0)
        with pytest.raises(errors.ArtifactError, match="anew"):
            list(training_pairs.stream(tmp_path / "c", table, words, spans=SPANS))
    table = kinds.build(documents, words, kind="title", seed=0)
    more = dataclasses.replace(table, document_ids=[*table.document_ids, "more"])
    with pytest.raises(errors.ArtifactError, match=r"documents: "):
        list(training_pairs.stream(tmp_path / "c", more, words, spans=SPANS))
