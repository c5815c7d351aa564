from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.data import corpus, formats, question_files, reading

PASSAGES = (
    "id\ttext\ttitle\n"
    '1\t"He said ""go"" BULLET:::: and\u00a0went."\tA title\n'
    "2\tPlain text\tB\n"
)
QUESTIONS = [
    {
        "question": "who went",
        "answers": ["he"],
        "positive_ctxs": [{"passage_id": "1"}, {"psg_id": 2}],
    },
    {"question": "who stayed", "answers": ["she"], "positive_ctxs": []},
    {"question": "what is plain", "answers": [], "positive_ctxs": [{"psg_id": 2}]},
]
TREC = """<DOC>
<DOCNO> FT-1 </DOCNO>
<HEADLINE>Tea
prices</HEADLINE>
<TEXT>
<P>Tea rose.</P>
Coffee fell.
</TEXT>
</DOC>
<DOC>
<DOCNO>FT-2</DOCNO>
<TEXT>Milk.</TEXT>
</DOC>
"""
TOPICS = """<top>
<num> Number: 301
<title> tea and coffee

<desc> Description:
What of it.
</top>
"""


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def everything(read: Callable[[Path, reading.Tally], Any], path: Path) -> None:
    found = read(path, reading.Tally())
    if not isinstance(found, question_files.Queries | dict):
        list(found)


def refusal(read: Callable[[Path, reading.Tally], Any], path: Path) -> str:
    with pytest.raises(errors.InputError) as caught:
        everything(read, path)
    return str(caught.value)


def test_ms_marco(tmp_path: Path) -> None:
    tally = reading.Tally()
    path = write(tmp_path / "collection.tsv", '0\tA "quoted" passage\n1\tAnother\n')
    assert list(formats.msmarco_documents(path, tally)) == [
        corpus.Document("0", "", 'A "quoted" passage'),
        corpus.Document("1", "", "Another"),
    ]
    path = write(tmp_path / "queries.tsv", "7\twhat is it\n")
    assert formats.msmarco_queries(path, tally).queries["7"].text == "what is it"
    path = write(tmp_path / "bad.tsv", "0\tok\n1\ta\tb\n")
    message = refusal(formats.msmarco_documents, path)
    assert "bad.tsv:2: columns: 3: write 2 columns" in message


def test_trec_judgements(tmp_path: Path) -> None:
    path = write(tmp_path / "qrels", "301 0 FT-1 2\n301\tQ0\tFT-2\t-1\n")
    tally = reading.Tally()
    assert formats.trec_qrels(path, tally) == {"301": {"FT-1": 2, "FT-2": 0}}
    beir = write(tmp_path / "beir", "query-id\tcorpus-id\tscore\n")
    assert "beir:1: columns: 3" in refusal(formats.trec_qrels, beir)


def test_trec_documents_and_topics(tmp_path: Path) -> None:
    tally = reading.Tally()
    path = write(tmp_path / "docs", TREC)
    assert list(formats.trec_documents(path, tally)) == [
        corpus.Document("FT-1", "Tea prices", "Tea rose. Coffee fell."),
        corpus.Document("FT-2", "", "Milk."),
    ]
    topics = formats.trec_topics(write(tmp_path / "topics", TOPICS), tally)
    assert topics.queries == {"301": corpus.Query("301", "tea and coffee")}
    cut = write(tmp_path / "cut", TREC[:-7])
    assert "never closed" in refusal(formats.trec_documents, cut)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_dpr(tmp_path: Path, suffix: str) -> None:
    tally = reading.Tally()
    path = write(tmp_path / f"psgs_w100.tsv{suffix}", PASSAGES)
    assert list(formats.dpr_documents(path, tally)) == [
        corpus.Document("1", "A title", 'He said "go" and went.'),
        corpus.Document("2", "B", "Plain text"),
    ]
    path = write(tmp_path / f"train.json{suffix}", json.dumps(QUESTIONS, indent=1))
    found = question_files.dpr_questions(path, tally)
    assert found.qrels == {"1": {"1": 1}, "3": {"2": 1}}
    assert found.answers == {"1": ["he"], "3": []}
    assert tally.counts["questions without a passage"] == 1
    both = question_files.dpr_questions(path, tally, positives=2)
    assert both.qrels["1"] == {"1": 1, "2": 1}


def test_dpr_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "who went\t['he', \"O'Neil\"]\n")
    found = question_files.dpr_answers(path, reading.Tally())
    assert found.answers == {"1": ["he", "O'Neil"]}
    for line in ("who\t[1", "who\t__import__('os')", "who", "\t['a']"):
        bad = write(tmp_path / "b.csv", line + "\n")
        assert "b.csv:1" in refusal(question_files.dpr_answers, bad)


def test_json_arrays_are_read_item_by_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question_files, "_CHUNK_CHARACTERS", 8)
    items = [{"a": [1, "]"]}, "x,[", 3.5, None, []]
    for indent in (None, 1, 4):
        path = write(tmp_path / "a.json", json.dumps(items, indent=indent))
        assert list(question_files.json_items(path, reading.Tally())) == list(
            enumerate(items, start=1)
        )
    for bad in ('{"a": 1}', "[1, 2", "[1, }", "", "x"):
        path = write(tmp_path / "b.json", bad)
        assert "b.json" in refusal(question_files.json_items, path)


def test_an_imported_folder_reads_back(tmp_path: Path) -> None:
    tally = reading.Tally()
    passages = write(tmp_path / "p.tsv", PASSAGES)
    train = question_files.dpr_questions(
        write(tmp_path / "t", json.dumps(QUESTIONS)), tally
    )
    test = question_files.dpr_answers(
        write(tmp_path / "a", "who went\t['he']\n"), tally
    )
    formats.write(
        tmp_path / "nq",
        "nq",
        formats.dpr_documents(passages, tally),
        {"train": train, "test": test},
        tally=tally,
    )
    read = corpus.read_collection(tmp_path / "nq")
    assert read.name == "nq"
    # Both splits number their questions from 1: the split tells them apart.
    assert set(read.queries) == {"train-1", "train-3", "test-1"}
    assert read.qrels["train"] == {"train-1": {"1": 1}, "train-3": {"2": 1}}
    answers = (tmp_path / "nq" / "answers" / "test.jsonl").read_text()
    assert json.loads(answers) == {"query": "test-1", "answers": ["he"]}


def test_a_fault_leaves_no_folder(tmp_path: Path) -> None:
    tally = reading.Tally()
    documents = formats.msmarco_documents(write(tmp_path / "c", "0\ta\n1\n"), tally)
    with pytest.raises(errors.InputError):
        formats.write(tmp_path / "out", "x", documents, {}, tally=tally)
    with pytest.raises(errors.InputError, match="no documents"):
        formats.write(tmp_path / "out", "x", iter([]), {}, tally=tally)
    assert not (tmp_path / "out").exists()


@settings(
    max_examples=150,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.sampled_from([PASSAGES, json.dumps(QUESTIONS), TREC, TOPICS, "q\t['a']"]),
    place=st.integers(0, 300),
    noise=st.text(max_size=6),
    cut=st.integers(0, 9),
)
def test_only_input_errors_leave_the_readers(
    tmp_path: Path, seed: str, place: int, noise: str, cut: int
) -> None:
    text = seed[:place] + noise + seed[place + cut :]
    path = tmp_path / "fuzz"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    readers = [*formats.DOCUMENTS.values(), *formats.QUERIES.values()]
    for read in [*readers, *formats.QRELS.values()]:
        for lenient in (False, True):
            try:
                found = read(path, reading.Tally(lenient=lenient))
                if not isinstance(found, question_files.Queries | dict):
                    list(found)
            except errors.InputError:
                continue
