"""Weights out and in by the verbs: a trained run, its export, the import of that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gr_jax.data import arrays
from gr_jax.train import checkpoint
from tools import cli


def _examples(folder: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [generator.integers(4, 30, 5).tolist() for _ in range(16)]
    names = [f"q{i}" for i in range(16)]
    targets = [[*row[:2], 1] for row in rows]
    arrays.save(folder, arrays.from_rows(rows, targets, names, [0] * 16))


def _train(tmp_path: Path, name: str, *more: str) -> list[str]:
    return [
        "train",
        *more,
        f"--gin.MIXTURE_OR_TASK_NAME='{tmp_path / 'examples'}'",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 4}",
        "--gin.TRAIN_STEPS=2",
        f"--gin.MODEL_DIR='{tmp_path / name}'",
        "--gin.BATCH_SIZE=8",
        "--json",
    ]


def _assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_export_import_and_fine_tuning_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _examples(tmp_path / "examples")
    sizes = ["--gin.SIZE='25k'", "--gin.FAMILY='llama'", "--gin.VOCAB_SIZE=32"]
    files = ["--gin_file=model/ladder.gin", "--gin_file=run/train.gin"]
    assert cli.main(_train(tmp_path, "run", *files, *sizes)) == 0
    run, folder, again = (str(tmp_path / n) for n in ("run", "hf", "again"))
    assert cli.main(["export", "--run", run, "--out", folder, "--json"]) == 0
    assert cli.main(["import", "--weights", folder, "--out", again, "--json"]) == 0
    _assert_same(checkpoint.read_params(Path(again)), checkpoint.read_params(Path(run)))
    # Fine-tuned by adapters from the import: the model is the checkpoint's.
    files = ["--gin_file=model/checkpoint.gin", "--gin_file=run/train_lora.gin"]
    start = f"--gin.INITIAL_CHECKPOINT_PATH='{again}'"
    assert cli.main(_train(tmp_path, "lora", *files, start)) == 0
    capsys.readouterr()
    out = str(tmp_path / "hf-lora")
    assert cli.main(["export", "--run", str(tmp_path / "lora"), "--out", out]) == 0
    assert "merged" in capsys.readouterr().out
    config = json.loads((tmp_path / "hf-lora" / "config.json").read_text())
    assert config["model_type"] == "llama"
