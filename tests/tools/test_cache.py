from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gr_jax.data import arrays, corpus, pairs
from gr_jax.identifiers import kinds, training_pairs
from gr_jax.testing import toy
from tools import cli


def test_cache_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = toy.small_vocabulary(tmp_path / "v")
    judged = pairs.judged(toy.collection(), "train")
    rows = list(pairs.query_pairs(judged, [[[9, 1]]] * len(judged)))
    pairs.save(
        tmp_path / "p",
        rows,
        collection="toy",
        identifiers="verb",
        target_vocabulary=320,
    )
    words = [
        "cache",
        "--pairs",
        str(tmp_path / "p"),
        "--vocabulary",
        str(tmp_path / "v"),
    ]
    both = ["--cache-dir", str(tmp_path / "c"), "--export", str(tmp_path / "e")]
    assert cli.main([*words, *both, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["exported"]["examples"] == len(rows)
    assert Path(done["cached"][0], "COMPLETED").is_file()
    exported = arrays.load(tmp_path / "e")
    expected = arrays.from_pairs(rows, vocab)
    np.testing.assert_array_equal(exported.source_tokens, expected.source_tokens)
    assert cli.main([*words, "--task", "document", *both]) == 4
    assert "document pairs: 0" in capsys.readouterr().err
    assert cli.main(words) == 2


def test_pairs_of_a_collection_and_a_tensorflow_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = toy.small_vocabulary(tmp_path / "v")
    collection = toy.collection()
    corpus.write_collection(tmp_path / "c", collection)
    table = kinds.build(collection.documents, words, kind="title", seed=0)
    table.save(tmp_path / "i")
    common = ["cache", "--vocabulary", str(tmp_path / "v"), "--json"]
    made = ["--collection", str(tmp_path / "c"), "--identifiers", str(tmp_path / "i")]
    made += ["--pairs", str(tmp_path / "p"), "--shards", "3"]
    assert cli.main([*common, *made, "--export", str(tmp_path / "e")]) == 0
    done = json.loads(capsys.readouterr().out)
    spans = training_pairs.Spans()
    rows = training_pairs.stream(tmp_path / "c", table, words, spans=spans)
    assert done["exported"]["examples"] == len(list(rows))
    assert len(list((tmp_path / "p").glob("document-*-of-00003.tsv"))) == 3
    (tmp_path / "f").mkdir()
    passages = "id\ttext\ttitle\n7\tTea is hot.\tTea\n"
    (tmp_path / "f" / "psgs_w100.tsv").write_text(passages)
    given = ["--tfds", "dpr_nq/passages", "--data-dir", str(tmp_path / "d")]
    given += ["--manual-dir", str(tmp_path / "f"), "--split", "corpus"]
    given += ["--field", "inputs=text", "--field", "targets=title"]
    assert cli.main([*common, *given, "--export", str(tmp_path / "t")]) == 0
    examples = arrays.load(tmp_path / "t")
    assert examples.target(0) == [*words.encode("Tea"), 1]
    capsys.readouterr()
    for wrong in (
        [*given, "--pairs", str(tmp_path / "p"), "--export", "x"],
        [*given, "--cache-dir", "x", "--export", "y"],
        [*made[:2], "--pairs", "p", "--export", "x"],
        [*given[:-1], "targets", "--export", "x"],
    ):
        assert cli.main([*common, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
