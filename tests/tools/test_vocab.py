from __future__ import annotations

import json
from pathlib import Path

import pytest

from gr_jax.data import corpus, vocabulary
from gr_jax.testing import toy
from tools import cli


def test_train_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.write_collection(tmp_path / "toy", toy.collection())
    given, out = str(tmp_path / "toy"), str(tmp_path / "v")
    words = ["vocab", "--collection", given, "--pieces", "320", "--out", out]
    assert cli.main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["pieces"] == 320
    trained = vocabulary.load(Path(out))
    assert facts["fingerprint"] == trained.fingerprint
    copy = str(tmp_path / "copy")
    assert cli.main(["vocab", "--import", str(trained.path), "--out", copy]) == 0
    assert vocabulary.load(Path(copy)).fingerprint == trained.fingerprint


def test_evaluation_queries_teach_it_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = toy.collection()
    rows = {**plain.queries, "q10": corpus.Query("q10", "zyx " * 50 + "wvu")}
    changed = corpus.Collection("toy", plain.documents, rows, plain.qrels)
    made = []
    for name, collection in (("a", plain), ("b", changed)):
        corpus.write_collection(tmp_path / name, collection)
        words = ["vocab", "--collection", str(tmp_path / name), "--pieces", "320"]
        assert cli.main([*words, "--out", str(tmp_path / f"{name}-v")]) == 0
        made.append(vocabulary.load(tmp_path / f"{name}-v").fingerprint)
    assert made[0] == made[1]


def test_one_source_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["vocab", "--out", str(tmp_path / "v")]) == 2
    assert "either --collection or --import" in capsys.readouterr().err
