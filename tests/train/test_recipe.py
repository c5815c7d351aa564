"""A run from gin-shaped settings: examples in, checkpoints out, LoRA merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.data import arrays
from gr_jax.model import ladder
from gr_jax.train import checkpoint, recipe, settings


def _examples(folder: Path) -> str:
    generator = np.random.default_rng(0)
    rows = [generator.integers(4, 30, 5).tolist() for _ in range(24)]
    examples = arrays.from_rows(
        rows, [[*row[:2], 1] for row in rows], [f"q{i}" for i in range(24)], [0] * 24
    )
    arrays.save(folder, examples)
    return str(folder)


def _recipe(tmp_path: Path, name: str, **changes: Any) -> recipe.Recipe:
    training = {"steps": 3, "tensorboard": False, **changes.pop("training", {})}
    values = {
        "model": ladder.build("llama", "25k", vocab_size=32),
        "training": settings.TrainSettings(**training),
        "data": _examples(tmp_path / "examples"),
        "folder": str(tmp_path / name),
        "batch": 8,
        "lengths": {"inputs": 8, "targets": 4},
    }
    return recipe.Recipe(**{**values, **changes})


def test_run_then_adapt_then_read_the_merged_model(tmp_path):
    done = recipe.run(_recipe(tmp_path, "base"))
    assert done.examples_seen == 24
    assert done.data_tokens == 24 * 3
    lora = settings.LoraSettings(rank=2)
    training = {"lora": lora, "learning_rate": 0.1, "steps": 2}
    adapted = recipe.run(
        _recipe(
            tmp_path,
            "adapted",
            training=training,
            initial_checkpoint=str(tmp_path / "base"),
        )
    )
    merged = checkpoint.read_params(tmp_path / "adapted" / recipe.MERGED)
    pairs = zip(jax.tree.leaves(merged), jax.tree.leaves(adapted.params), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), merged, jax.device_get(done.params)
    )
    found = jax.tree_util.tree_flatten_with_path(moved)[0]
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/") for path, x in found if x
    }
    assert paths
    assert all("query" in path or "value" in path for path in paths)


def test_tokens_the_model_does_not_know_are_refused(tmp_path):
    small = ladder.build("llama", "25k", vocab_size=16)
    with pytest.raises(errors.UsageError, match="tokens below 16"):
        recipe.run(_recipe(tmp_path, "run", model=small))


def test_lengths_need_both_names(tmp_path):
    with pytest.raises(errors.UsageError, match="inputs"):
        _recipe(tmp_path, "run", lengths={"inputs": 3})


def test_other_examples_are_refused_on_resume(tmp_path):
    recipe.run(_recipe(tmp_path, "run"))
    generator = np.random.default_rng(1)
    rows = [generator.integers(4, 30, 5).tolist() for _ in range(24)]
    arrays.save(
        tmp_path / "other",
        arrays.from_rows(rows, [[5, 1]] * 24, [f"q{i}" for i in range(24)], [0] * 24),
    )
    with pytest.raises(errors.UsageError, match="examples"):
        recipe.run(_recipe(tmp_path, "run", data=str(tmp_path / "other")))
