from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gr_jax.data import arrays, pairs
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
