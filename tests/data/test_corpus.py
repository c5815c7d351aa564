from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gr_jax.core import artifacts, errors
from gr_jax.data import corpus, judgements, reading
from gr_jax.testing import toy

HEADER = b"query-id\tcorpus-id\tscore\n"


def document_bytes(id: str = "d1", title: str = "t", text: str = "words") -> bytes:
    return json.dumps({"_id": id, "title": title, "text": text}).encode() + b"\n"


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def documents(tmp_path: Path, data: bytes, **options: bool) -> list[corpus.Document]:
    path = write(tmp_path / "corpus.jsonl", data)
    return list(corpus.read_documents(path, reading.Tally(**options)))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(errors.InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_collection_written_is_read_back_equal(tmp_path: Path) -> None:
    collection = toy.collection()
    corpus.write_collection(tmp_path / "toy", collection, seeds={"made": 3})
    read = corpus.read_collection(tmp_path / "toy")
    assert read.name == "toy"
    assert read.documents == collection.documents
    assert read.queries == collection.queries
    assert read.qrels == collection.qrels
    manifest = artifacts.read_manifest(tmp_path / "toy", kind="collection")
    assert manifest.facts["splits"]["train"] == {"queries": 7, "judgements": 8}


def test_a_changed_collection_is_refused_by_name(tmp_path: Path) -> None:
    corpus.write_collection(tmp_path / "toy", toy.collection())
    path = tmp_path / "toy" / "queries.jsonl"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.ArtifactError, match=r"queries\.jsonl"):
        corpus.read_collection(tmp_path / "toy")


def test_ids_are_kept_byte_for_byte(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    ids = ["007", "7", composed, decomposed, "__proto__", " a b ", "x" * 10_000]
    read = documents(tmp_path, b"".join(document_bytes(id) for id in ids))
    assert [document.id for document in read] == ids


def test_bom_crlf_and_blank_lines_leave_nothing(tmp_path: Path) -> None:
    line = document_bytes(text="words").rstrip(b"\n")
    read = documents(tmp_path, b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n")
    assert read == [corpus.Document("d1", "t", "words")]
    qrels = write(
        tmp_path / "q.tsv", b"\xef\xbb\xbf" + HEADER[:-1] + b"\r\nq\td\t1\r\n"
    )
    assert corpus.read_qrels(qrels) == {"q": {"d": 1}}


def test_unicode_line_separators_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    row = {"_id": "d", "text": text}
    data = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    assert documents(tmp_path, data) == [corpus.Document("d", "", text)]


def test_concatenated_gzip_is_read_whole(tmp_path: Path) -> None:
    data = gzip.compress(document_bytes("a")) + gzip.compress(document_bytes("b"))
    path = write(tmp_path / "corpus.jsonl.gz", data)
    assert [d.id for d in corpus.read_documents(path)] == ["a", "b"]


@pytest.mark.parametrize("kept", [5, 30, -1, -9])
def test_truncated_gzip_is_an_error(tmp_path: Path, kept: int) -> None:
    data = gzip.compress(b"".join(document_bytes(f"d{i}") for i in range(50)))
    path = write(tmp_path / "corpus.jsonl.gz", data[:kept])
    assert "get it anew" in refusal(lambda: list(corpus.read_documents(path)))


def test_suffix_and_content_must_agree(tmp_path: Path) -> None:
    packed = write(tmp_path / "corpus.jsonl", gzip.compress(document_bytes()))
    assert "end in .gz" in refusal(lambda: list(corpus.read_documents(packed)))
    plain = write(tmp_path / "corpus.jsonl.gz", document_bytes())
    assert "corpus.jsonl.gz:1" in refusal(lambda: list(corpus.read_documents(plain)))


def test_equal_repetitions_are_counted_others_name_both_lines(tmp_path: Path) -> None:
    tally = reading.Tally()
    path = write(tmp_path / "corpus.jsonl", document_bytes("a") * 3)
    assert len(list(corpus.read_documents(path, tally))) == 1
    assert tally.counts == {"duplicate documents": 2}
    other = document_bytes("a") + document_bytes("b") + document_bytes("a", text="new")
    message = refusal(lambda: documents(tmp_path, other))
    assert message.startswith(f"{tmp_path / 'corpus.jsonl'}:3: _id: 'a': line 1 has it")


BAD_DOCUMENTS = {
    "broken JSON": (b'{"_id": "a", "text": ', "write one JSON object a line"),
    "array": (b"[1, 2]", "write one JSON object a line"),
    "no id": (b'{"text": "x"}', "_id: missing"),
    "number as id": (b'{"_id": 7, "text": "x"}', "_id: 7: write a string"),
    "null as text": (b'{"_id": "a", "text": null}', "text: None: write a string"),
    "empty id": (b'{"_id": " ", "text": "x"}', "give every row an id"),
    "tab in id": (b'{"_id": "a\\tb", "text": "x"}', "no tabs"),
    "repeated key": (b'{"_id": "a", "_id": "b", "text": "x"}', "'_id' is there twice"),
    "lone surrogate": (b'{"_id": "a", "text": "\\ud800"}', "surrogate"),
    "NUL": (b'{"_id": "a", "text": "\\u0000"}', "NUL"),
    "NaN": (b'{"_id": "a", "text": "x", "score": NaN}', "NaN is not JSON"),
    "deep": (b"[" * 100_000, "write one JSON object a line"),
    "huge integer": (b'{"_id": "a", "text": ' + b"9" * 10_000 + b"}", "JSON object"),
    "not UTF-8": (b'{"_id": "a", "text": "\xff"}', "byte 22"),
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
def test_a_bad_line_is_named_and_lenient_reading_skips_it(
    tmp_path: Path, name: str
) -> None:
    line, part = BAD_DOCUMENTS[name]
    data = document_bytes("first") + line + b"\n" + document_bytes("last")
    message = refusal(lambda: documents(tmp_path, data))
    assert message.startswith(f"{tmp_path / 'corpus.jsonl'}:2: ")
    assert part in message
    assert len(message) < 500
    tally = reading.Tally(lenient=True)
    read = corpus.read_documents(tmp_path / "corpus.jsonl", tally)
    assert [document.id for document in read] == ["first", "last"]
    assert sum(tally.counts.values()) == 1


def test_a_line_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LINE_LIMIT_BYTES", 100)
    data = document_bytes("a") + document_bytes("b", text="x" * 100)
    assert ":2: line: over 100 bytes" in refusal(lambda: documents(tmp_path, data))


def test_empty_documents_are_kept_and_counted(tmp_path: Path) -> None:
    data = document_bytes("a", text=" ") + document_bytes("b", title="", text="")
    tally = reading.Tally()
    path = write(tmp_path / "corpus.jsonl", data)
    assert len(list(corpus.read_documents(path, tally))) == 2
    assert tally.counts["documents without text"] == 2
    assert tally.counts["documents without text and title"] == 1


def test_an_empty_query_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "queries.jsonl", b'{"_id": "q", "text": "  "}\n')
    assert "needs words" in refusal(lambda: list(corpus.read_queries(path)))


BAD_QRELS = {
    "float": (b"q\td\t1.5\n", "score: '1.5': write an integer"),
    "word": (b"q\td\tyes\n", "write an integer"),
    "huge": (b"q\td\t99999999999\n", "too large"),
    "two columns": (b"q\td\n", "columns: 2"),
    "spaces": (b"q d 1\n", "columns: 1"),
    "no document": (b"q\t\t1\n", "corpus-id"),
    "conflict": (b"q\td\t1\nq\td\t2\n", "line 2 has it"),
}


@pytest.mark.parametrize("name", BAD_QRELS)
def test_bad_judgements_are_named(tmp_path: Path, name: str) -> None:
    rows, part = BAD_QRELS[name]
    path = write(tmp_path / "test.tsv", HEADER + rows)
    message = refusal(lambda: corpus.read_qrels(path))
    assert part in message
    assert re.match(rf"{re.escape(str(path))}:[23]: ", message)


def test_judgement_files_without_their_header_are_refused(tmp_path: Path) -> None:
    trec = write(tmp_path / "trec.tsv", b"q1 0 d1 1\nq2 0 d2 1\n")
    assert "TREC judgements" in refusal(lambda: corpus.read_qrels(trec))
    bare = write(tmp_path / "bare.tsv", b"q1\td1\t1\n")
    assert "first line must be" in refusal(lambda: corpus.read_qrels(bare))
    empty = write(tmp_path / "empty.tsv", b"")
    assert "empty" in refusal(lambda: corpus.read_qrels(empty))


def test_negative_grades_become_zero_and_repeated_rows_one(tmp_path: Path) -> None:
    tally = reading.Tally()
    path = write(tmp_path / "t.tsv", HEADER + b"q\td\t-1\nq\te\t2\nq\te\t2\n")
    assert corpus.read_qrels(path, tally) == {"q": {"d": 0, "e": 2}}
    assert tally.counts["negative grades read as 0"] == 1
    assert tally.counts["duplicate judgements"] == 1


def small_folder(tmp_path: Path, qrels: bytes) -> Path:
    folder = tmp_path / "small"
    write(folder / "corpus.jsonl", document_bytes("d"))
    write(folder / "queries.jsonl", b'{"_id":"q","text":"x"}\n{"_id":"r","text":"y"}\n')
    write(folder / "qrels" / "test.tsv", HEADER + qrels)
    return folder


def test_unknown_documents_stay_in_the_denominator(tmp_path: Path) -> None:
    folder = small_folder(tmp_path, b"q\td\t1\nq\tgone\t1\nnobody\td\t1\nr\td\t0\n")
    collection = corpus.read_collection(folder)
    assert collection.name == "small"
    assert collection.relevant("test") == {"q": {"d", "gone"}, "r": set()}
    counts = collection.facts["reader"]
    assert counts["test: queries judged but not in the query file"] == 1
    assert counts["test: queries without a relevant document"] == 1
    kept = "test: judgements of documents not in the corpus (kept, cannot be found)"
    assert counts[kept] == 1


def test_folders_that_are_not_collections_are_refused(tmp_path: Path) -> None:
    assert "not a folder" in refusal(lambda: corpus.read_collection(tmp_path / "no"))
    folder = small_folder(tmp_path, b"q\td\t1\n")
    write(folder / "corpus.jsonl.gz", gzip.compress(document_bytes()))
    assert "keep one" in refusal(lambda: corpus.read_collection(folder))
    (folder / "corpus.jsonl.gz").unlink()
    write(folder / "corpus.jsonl", b"\n")
    assert "no documents" in refusal(lambda: corpus.read_collection(folder))
    (folder / "queries.jsonl").unlink()
    write(folder / "corpus.jsonl", document_bytes("d"))
    assert "missing" in refusal(lambda: corpus.read_collection(folder))
    with pytest.raises(errors.UsageError, match="one of dev"):
        toy.collection().relevant("nosplit")


SEEDS = [
    document_bytes("a") + document_bytes("b", text="é漢"),
    b'{"_id": "q", "text": "x", "metadata": {"k": [1, 2.5, null]}}\n' * 2,
    HEADER + b"q\td\t1\nq\te\t-3\n",
    gzip.compress(document_bytes("a") * 3),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["set", "insert", "cut", "copy"]))
        if kind == "set" and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=8))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 20))]
        else:
            data[place:place] = data[: draw(st.integers(0, 60))]
    return bytes(data)


@settings(
    max_examples=400,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=mutated(), suffix=st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_only_input_errors_leave_the_readers(
    tmp_path: Path, data: bytes, suffix: str
) -> None:
    path = write(tmp_path / f"fuzz{suffix}", data)
    for read in (corpus.read_documents, corpus.read_queries, corpus.read_qrels):
        for lenient in (False, True):
            with contextlib.suppress(errors.InputError):
                list(read(path, reading.Tally(lenient=lenient)))


@pytest.mark.data
def test_shared_collections_have_the_counts_they_state(shared_data: Path) -> None:
    stated = json.loads((shared_data / "squad-1k" / "manifest.json").read_text())
    collection = corpus.read_collection(shared_data / "squad-1k")
    assert len(collection.documents) == stated["corpus"]
    assert len(collection.queries) == stated["queries"]
    counts = judgements.counts(collection.qrels)
    for split, numbers in stated["qrels"].items():
        assert counts[split]["queries"] == numbers["queries"]
        assert counts[split]["judgements"] == numbers["rows"]
    assert collection.facts["reader"] == {}
