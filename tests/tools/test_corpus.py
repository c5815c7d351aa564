from __future__ import annotations

import json
from pathlib import Path

import pytest

from gr_jax.data import corpus, synthetic
from gr_jax.testing import toy
from tools import cli


def facts(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_import_check_and_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.write_collection(tmp_path / "toy", toy.collection())
    given, out = str(tmp_path / "toy"), str(tmp_path / "out")
    assert cli.main(["corpus", "check", given, "--json"]) == 0
    assert facts(capsys)["documents"] == 8
    assert cli.main(["corpus", "sample", given, "--documents", "3", "--out", out]) == 0
    assert facts(capsys)["documents"] == 3
    assert len(corpus.read_collection(Path(out)).documents) == 3
    assert cli.main(["corpus", "import", given, "--out", out]) == 0
    assert corpus.read_collection(Path(out)).documents == toy.collection().documents


def test_the_planted_collection_is_streamed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["corpus", "import", "builtin:synthetic", "--documents", "150"]
    assert cli.main([*words, "--seed", "3", "--out", str(tmp_path / "s")]) == 0
    assert facts(capsys)["documents"] == 150
    expected = synthetic.make(seed=3, documents=150)
    assert corpus.read_collection(tmp_path / "s").documents == expected.documents


def test_files_of_other_layouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "collection.tsv").write_text("0\tone passage\n1\tanother\n")
    (tmp_path / "queries.tsv").write_text("7\twhich one\n")
    (tmp_path / "qrels.tsv").write_text("7\t0\t1\t1\n")
    words = ["corpus", "import", "--format", "msmarco", "--out", str(tmp_path / "m")]
    words += ["--corpus", str(tmp_path / "collection.tsv")]
    words += ["--queries", f"train={tmp_path / 'queries.tsv'}"]
    words += ["--qrels", f"train={tmp_path / 'qrels.tsv'}"]
    assert cli.main(words) == 0
    assert facts(capsys)["splits"] == {"train": {"queries": 1, "judgements": 1}}
    assert corpus.read_collection(tmp_path / "m").qrels == {"train": {"7": {"1": 1}}}


def test_bad_input_and_bad_flags_have_their_exit_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["corpus", "check", str(tmp_path / "no")]) == 3
    assert "not a folder" in capsys.readouterr().err
    for words in (
        ["import", "builtin:pydocs"],
        ["import", "--out", "x"],
        ["import", "builtin:nothing", "--out", "x"],
        ["import", "builtin:synthetic", "--documents", "5", "--out", "x"],
        ["sample", "builtin:synthetic", "--out", "x"],
        ["import", "--format", "trec", "--out", "x"],
        ["import", "--format", "trec", "--corpus", "c", "--queries", "q", "--out", "x"],
        ["import", "--format", "trec", "--corpus", "c", "--qrels", "a=b", "--out", "x"],
    ):
        assert cli.main(["corpus", *words]) == 2, words
        assert capsys.readouterr().err.count("\n") == 1
    assert not Path("x").exists()


def test_datasets_of_our_own_from_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorflow_datasets")
    files = tmp_path / "files"
    files.mkdir()
    (files / "collection.tsv").write_text("0\tone passage\n1\tanother\n")
    (files / "queries.train.tsv").write_text("7\twhich one\n8\tunjudged\n")
    (files / "qrels.train.tsv").write_text("7\t0\t1\t1\n")
    words = ["corpus", "import", "tfds:msmarco_passage", "--manual-dir", str(files)]
    words += ["--data-dir", str(tmp_path / "d"), "--out", str(tmp_path / "m")]
    words += ["--field", "query=query", "--field", "query_id=query_id"]
    words += ["--field", "document_ids=document_ids", "--split", "train=train"]
    words += ["--passages", "msmarco_passage/passages"]
    assert cli.main(words) == 0
    assert facts(capsys)["splits"] == {"train": {"queries": 1, "judgements": 1}}
    assert corpus.read_collection(tmp_path / "m").qrels == {"train": {"7": {"1": 1}}}
    # By gin the same.
    gin = ["--gin_file", "data/tfds.gin", "--gin.SPLITS={'train': 'train'}"]
    gin += ["--gin.PASSAGES='msmarco_passage/passages'"]
    gin += ["--gin.FIELDS={'query': 'query', 'document_ids': 'document_ids'}"]
    assert cli.main([*words[:3], *words[5:9], *gin]) == 0
    assert facts(capsys)["documents"] == 2
    assert cli.main(["corpus", "sample", "tfds:x", "--out", str(tmp_path / "s")]) == 2
