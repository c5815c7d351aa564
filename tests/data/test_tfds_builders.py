"""Files in their makers' layouts, through TFDS and SeqIO, to our arrays."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gr_jax.core import errors
from gr_jax.data import arrays, task_builder, tfds_reading, tfds_task, vocabulary
from gr_jax.testing import toy

PASSAGES = 'id\ttext\ttitle\n7\t"Tea is ""hot"" water."\tTea\n9\tRain falls.\tRain\n'
QUESTIONS = [
    {
        "question": "what is tea",
        "answers": ["hot water", "a drink"],
        "positive_ctxs": [{"passage_id": "7"}, {"psg_id": "9"}],
    },
    {"question": "unanswered", "answers": [], "positive_ctxs": []},
    {
        "question": "what falls",
        "answers": ["rain"],
        "positive_ctxs": [{"passage_id": 9}],
    },
]
TRIVIA = {
    "Data": [
        {
            "Answer": {"Aliases": ["UK", "Britain"], "Value": "Britain"},
            "Question": "Which island?",
            "QuestionId": "tc_1",
        },
        {"Question": "No answer here?", "QuestionId": "tc_2"},
    ],
    "Domain": "unfiltered-web",
}
TSV = {
    "collection.tsv": "0\tone passage\n1\tanother one\n",
    "queries.train.tsv": "30\twhich one\n31\tunjudged\n",
    "qrels.train.tsv": "30\t0\t1\t1\n30\t0\t0\t2\n",
    "queries.dev.small.tsv": "40\tlast\n",
}


def written(folder: Path, files: dict[str, str], *, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)
    return folder


def dataset(tmp_path: Path, name: str, files: Path | None) -> tfds_reading.Dataset:
    return tfds_reading.Dataset(
        name=name,
        data_dir=str(tmp_path / "prepared"),
        manual_dir=None if files is None else str(files),
    )


def rows(found: tfds_reading.Dataset, split: str) -> list[dict[str, Any]]:
    builder = tfds_reading.opened(found)
    names = tfds_reading.field_names(builder.info.features)
    return list(tfds_reading.rows(found, builder, split, {n: n for n in names}))


@pytest.mark.parametrize("packed", [False, True])
def test_dpr_files(tmp_path: Path, packed: bool) -> None:
    given = {
        "psgs_w100.tsv": PASSAGES,
        "biencoder-nq-train.json": json.dumps(QUESTIONS, indent=1),
        "nq-test.qa.csv": "who went\t['he', \"she's\"]\n",
    }
    files = written(tmp_path / "files", given, packed=packed)
    passages = rows(dataset(tmp_path, "dpr_nq/passages", files), "corpus")
    assert passages == [
        {"document_id": "7", "title": "Tea", "text": 'Tea is "hot" water.'},
        {"document_id": "9", "title": "Rain", "text": "Rain falls."},
    ]
    # Prepared by now: the files are not needed again.
    queries = dataset(tmp_path, "dpr_nq", files)
    assert rows(queries, "train")[0] == {
        "query_id": "1",
        "query": "what is tea",
        "answers": ["hot water", "a drink"],
        "document_ids": ["7", "9"],
        "grades": [1, 1],
    }
    again = dataset(tmp_path, "dpr_nq", None)
    assert [row["query_id"] for row in rows(again, "train")] == ["1", "3"]
    assert rows(again, "test")[0]["answers"] == ["he", "she's"]


def test_triviaqa_files(tmp_path: Path) -> None:
    files = written(
        tmp_path / "files",
        {
            "unfiltered-web-train.json": json.dumps(TRIVIA, indent=4),
            "biencoder-trivia-dev.json": json.dumps(QUESTIONS),
        },
        packed=True,
    )
    first, second = rows(dataset(tmp_path, "triviaqa_unfiltered", files), "train")
    assert (first["query_id"], first["answers"]) == ("tc_1", ["Britain", "UK"])
    assert (second["query"], second["answers"]) == ("No answer here?", [])
    dev = rows(dataset(tmp_path, "dpr_triviaqa", files), "validation")
    assert [row["document_ids"] for row in dev] == [["7", "9"], ["9"]]


def test_msmarco_files(tmp_path: Path) -> None:
    files = written(tmp_path / "files", TSV)
    passages = rows(dataset(tmp_path, "msmarco_passage/passages", files), "corpus")
    assert [row["text"] for row in passages] == ["one passage", "another one"]
    found = dataset(tmp_path, "msmarco_passage", files)
    train = rows(found, "train")
    assert [row["query_id"] for row in train] == ["30", "31"]
    assert (train[0]["document_ids"], train[0]["grades"]) == (["1", "0"], [1, 2])
    assert rows(found, "validation")[0]["document_ids"] == []


@pytest.mark.parametrize(
    ("name", "file", "text", "where"),
    [
        ("dpr_nq/passages", "psgs_w100.tsv", PASSAGES + "8\tno title\n", ":4: columns"),
        ("dpr_nq", "nq-test.qa.csv", "q\t['a']\nbroken\n", ":2: line"),
        ("dpr_nq", "nq-train.qa.csv", "[]", "one of biencoder"),
        ("dpr_triviaqa", "biencoder-trivia-train.json", "[{}]", ":1: question"),
        ("triviaqa_unfiltered", "unfiltered-web-dev.json", "[]", "begins with 'Data'"),
        ("msmarco_passage/passages", "collection.tsv", "0\ta\n1 b\n", ":2: columns"),
        ("msmarco_passage", "queries.train.tsv", "0\ta\n\n2\n", ":3: columns"),
    ],
)
def test_bad_rows_are_named(
    tmp_path: Path, name: str, file: str, text: str, where: str
) -> None:
    files = written(tmp_path / "files", {file: text})
    if "one of" in where:
        (files / file).rename(files / "other")
    with pytest.raises(errors.InputError) as caught:
        tfds_reading.opened(dataset(tmp_path, name, files))
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


def test_through_seqio_to_arrays(tmp_path: Path) -> None:
    files = written(tmp_path / "files", {"psgs_w100.tsv": PASSAGES})
    words = toy.small_vocabulary(tmp_path / "vocabulary")
    passages = dataset(tmp_path, "dpr_nq/passages", files)
    task = tfds_task.build(
        "dpr_passages",
        passages,
        words.path.parent,
        fields={"inputs": "text", "targets": "title", "query_id": "document_id"},
        splits={"train": "corpus"},
    )
    task_builder.export(task, tmp_path / "examples")
    found = arrays.load(tmp_path / "examples")
    end = vocabulary.EOS
    for row, (text, title, id) in enumerate(
        (('Tea is "hot" water.', "Tea", "7"), ("Rain falls.", "Rain", "9"))
    ):
        assert found.source(row) == [*words.encode(text), end]
        assert found.target(row) == [*words.encode(title), end]
        assert found.query_rank[row] == arrays.rank_of(id)
    for fields, message in (
        ({"inputs": "text"}, "targets: None"),
        ({"inputs": "text", "targets": "titel"}, "it has document_id, text, title"),
    ):
        with pytest.raises(errors.UsageError, match=message):
            tfds_task.build("x", passages, words.path.parent, fields=fields)
