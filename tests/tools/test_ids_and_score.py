"""Verbs `ids` and `score` on the toy collection, from folders to folders."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from gr_jax.core import artifacts
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec
from gr_jax.model import config as model_config
from gr_jax.model import families, ladder
from gr_jax.testing import toy
from gr_jax.train import checkpoint
from tools import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("toy")
    corpus.write_collection(made / "collection", toy.collection())
    vocabularies.train(toy.texts(), made / "vocabulary", pieces=320)
    return made


def _ids(folder: Path, kind: str, *more: str) -> int:
    words = ["ids", "--collection", str(folder / "collection"), "--kind", kind]
    words += ["--vocabulary", str(folder / "vocabulary"), "--out", str(folder / kind)]
    return cli.main([*words, *more])


def test_ids_are_built_and_inspected(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--option", "levels=2", "--option", "codes=4", "--queries", "train"]
    assert _ids(folder, "rq", *options, "--json") == 0
    built = json.loads(capsys.readouterr().out)
    assert built["documents"] == 8
    assert built["shared_groups"] == 0
    table = codec.load(folder / "rq")
    assert table.documents_of(3) == ["d4"]
    assert cli.main(["ids", "inspect", str(folder / "rq")]) == 0
    assert "8 identifiers of 8 documents" in capsys.readouterr().out


def test_faults_end_with_their_codes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ids(folder, "nonsense") == 2
    assert "'nonsense': one of" in capsys.readouterr().err
    assert _ids(folder, "rq", "--option", "codes=64") == 3
    assert "at most 8" in capsys.readouterr().err
    assert cli.main(["ids", "inspect", str(folder / "nowhere")]) == 4


def _losses(folder: Path, kind: str, *more: str) -> list[dict]:
    out = folder / f"losses-{kind}"
    words = ["score", "--model", str(folder / "run"), "--out", str(out)]
    for name in ("collection", "vocabulary"):
        words += [f"--{name}", str(folder / name)]
    words += ["--identifiers", str(folder / kind), "--count", "3", "--spans", "2"]
    assert cli.main([*words, *more]) == 0
    artifacts.read_manifest(out, kind="losses")
    return artifacts.read_jsonl(out / "losses.jsonl")


def test_losses_are_those_of_the_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ids(folder, "ngram") == 0
    vocabulary = vocabularies.load(folder / "vocabulary")
    config = ladder.build("t5", "30k", vocab_size=vocabulary.size)
    model = families.build(config)
    params = model.init(jax.random.key(0))
    checkpoint.save(
        folder / "run",
        {"target": params},
        checkpoint.Progress(step=1),
        config={"run": {"model": model_config.to_json(config)}},
    )
    losses = _losses(folder, "ngram", "--json")
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    # Three test queries with 4 relevant documents, 3 negatives each, 2 spans each.
    assert len(losses) == (4 + 9) * 2 == facts["identifiers"]
    assert sum(loss["is_positive"] for loss in losses) == 8
    for loss in losses:
        # An untrained model knows little more than the size of the vocabulary.
        mean = loss["nll_sum_nats"] / loss["target_tokens"]
        assert math.isfinite(mean)
        assert 0.3 < mean / math.log(vocabulary.size) < 4
    again = _losses(folder, "ngram")
    np.testing.assert_array_equal(
        [loss["nll_sum_nats"] for loss in losses],
        [loss["nll_sum_nats"] for loss in again],
    )


def test_another_vocabulary_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ids(folder, "ngram") == 0
    vocabularies.train(toy.texts(), folder / "other", pieces=300)
    words = ["score", "--model", str(folder), "--out", str(folder / "no")]
    words += ["--collection", str(folder / "collection")]
    words += ["--vocabulary", str(folder / "other")]
    assert cli.main([*words, "--identifiers", str(folder / "ngram")]) == 4
    assert "build the identifiers anew" in capsys.readouterr().err
    assert not (folder / "no").exists()
