from __future__ import annotations

from pathlib import Path

import pytest

from gr_jax.core import errors
from gr_jax.data import corpus, pairs, vocabulary
from gr_jax.testing import toy


def test_judged_pairs_follow_the_judgements() -> None:
    found = pairs.judged(toy.collection(), "train")
    assert [(q.id, d.id) for q, d in found] == [
        *((f"q{i}", f"d{i}") for i in range(1, 7)),
        ("q7", "d7"),
        ("q7", "d4"),
    ]


def test_documents_outside_the_corpus_have_no_pairs() -> None:
    collection = corpus.Collection(
        "c",
        [corpus.Document("d", "", "x")],
        {"q": corpus.Query("q", "y")},
        {"train": {"q": {"gone": 1, "d": 2, "e": 0}}},
    )
    assert [d.id for _, d in pairs.judged(collection, "train")] == ["d"]
    assert pairs.judged(collection, "train", min_grade=3) == []


def test_query_pairs_take_each_identifier() -> None:
    judged = pairs.judged(toy.collection(), "dev")
    rows = list(pairs.query_pairs(judged, [[[5, 1], [6, 1]], [[7, 1]]]))
    assert [(row.query_id, row.document_id, row.target) for row in rows] == [
        ("q8", "d1", [5, 1]),
        ("q8", "d1", [6, 1]),
        ("q9", "d2", [7, 1]),
    ]
    assert rows[0].source == "leaves in hot water"
    with pytest.raises(ValueError, match="zip"):
        list(pairs.query_pairs(judged, [[[5]]]))


def test_passages_cover_a_text_from_end_to_end() -> None:
    words = [f"w{i}" for i in range(100)]
    document = corpus.Document("d", "a title", " ".join(words))
    found = pairs.passages(document, words=32, most=4)
    assert len(found) == 4
    assert all(text.startswith("a title ") for text in found)
    assert all(len(text.split()) == 32 for text in found)
    assert {word for text in found for word in text.split()[2:]} == set(words)
    short = corpus.Document("d", "a title", "few words")
    assert pairs.passages(short) == ["a title few words"]
    bare = corpus.Document("d", "", "")
    assert pairs.passages(bare) == [""]


def test_document_pairs_use_every_identifier_and_passage() -> None:
    document = corpus.Document("d", "", " ".join(map(str, range(40))))
    rows = list(pairs.document_pairs([document], [[[5], [6], [7]]], words=20, most=2))
    assert [row.target for row in rows] == [[5], [6], [7]]
    assert len({row.source for row in rows}) == 2
    assert {(row.kind, row.query_id) for row in rows} == {("document", None)}
    assert list(pairs.document_pairs([document], [[]])) == []
    assert list(pairs.document_pairs([corpus.Document("d", "", "")], [[[5]]])) == []


def some_pairs(vocab: vocabulary.Vocabulary) -> list[pairs.Pair]:
    collection = toy.collection()
    judged = pairs.judged(collection, "train")
    targets = [[[*vocab.encode(d.text)[:3], 1]] for _, d in judged]
    rows = list(pairs.query_pairs(judged, targets))
    by_document = [[[*vocab.encode(d.title), 1]] for d in collection.documents]
    return rows + list(pairs.document_pairs(collection.documents, by_document))


@pytest.mark.parametrize("shards", [1, 3])
def test_stored_pairs_come_back(tmp_path: Path, shards: int) -> None:
    rows = some_pairs(toy.small_vocabulary(tmp_path / "v"))
    pairs.save(
        tmp_path / "p",
        rows,
        collection="toy",
        identifiers="ngram",
        target_vocabulary=320,
        shards=shards,
    )
    read = list(pairs.load(tmp_path / "p"))
    assert sorted(map(str, read)) == sorted(map(str, rows))
    if shards == 1:
        assert list(pairs.load(tmp_path / "p", ["query"])) == rows[:8]


def test_white_space_in_sources_cannot_break_a_line(tmp_path: Path) -> None:
    row = pairs.Pair("a\tb\nc\r\x0bd\u2028e", [5], "query", "q 1", "d\u20001")
    options = {"collection": "c", "identifiers": "i", "target_vocabulary": 9}
    pairs.save(tmp_path / "p", [row], **options)
    (read,) = pairs.load(tmp_path / "p")
    assert read.source == "a b c d e"
    assert (read.query_id, read.document_id) == ("q 1", "d\u20001")


@pytest.mark.parametrize("target", [[], [0], [9], [-1]])
def test_targets_out_of_range_are_refused(tmp_path: Path, target: list[int]) -> None:
    row = pairs.Pair("x", target, "query", "q", "d")
    with pytest.raises(errors.UsageError, match="tokens from 1 to 8"):
        pairs.save(
            tmp_path / "p",
            [row],
            collection="c",
            identifiers="i",
            target_vocabulary=9,
        )
    assert not (tmp_path / "p").exists()
