"""A run from gin-shaped settings: examples in, checkpoints out, LoRA merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gr_jax.core import errors
from gr_jax.data import arrays, batching
from gr_jax.model import ladder
from gr_jax.train import checkpoint, recipe, saved, settings


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
    merged = checkpoint.read_params(tmp_path / "adapted" / saved.MERGED)
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


def _ragged(folder: Path) -> str:
    generator = np.random.default_rng(0)
    sources = [
        generator.integers(4, 30, generator.integers(1, 13)).tolist() for _ in range(40)
    ]
    targets = [[*row[:2], 1] for row in sources]
    names = [f"q{i}" for i in range(40)]
    arrays.save(folder, arrays.from_rows(sources, targets, names, [0] * 40))
    return str(folder)


LAYOUTS = {
    "packed": batching.Layout(pack=True),
    "buckets": batching.Layout(buckets=(6, 12)),
}


def test_packed_rows_are_trained_on_and_kept_on_resume(tmp_path):
    asked = {
        "training": {"steps": 2},
        "data": _ragged(tmp_path / "ragged"),
        "lengths": {"inputs": 12, "targets": 12},
    }
    examples = arrays.load(Path(asked["data"]))
    batches = batching.batches(
        examples,
        LAYOUTS["packed"],
        batch=8,
        source_length=12,
        target_length=12,
        seed=0,
        steps=2,
    )
    segments = [batch["target_segment_BL"] for batch in batches]
    done = recipe.run(_recipe(tmp_path, "run", layout=LAYOUTS["packed"], **asked))
    # More examples than rows, each counted once.
    assert done.examples_seen == sum(int(s.max(axis=1).sum()) for s in segments) > 16
    assert done.data_tokens == sum(int((s > 0).sum()) for s in segments)
    with pytest.raises(errors.UsageError, match=r"batches: .*pack"):
        recipe.run(_recipe(tmp_path, "run", **asked))


def test_buckets_must_end_at_the_source_length(tmp_path):
    with pytest.raises(errors.UsageError, match="length of inputs, 8"):
        _recipe(tmp_path, "run", layout=LAYOUTS["buckets"])


def test_a_checkpoint_folder_is_a_start_whoever_wrote_it(tmp_path):
    done = recipe.run(_recipe(tmp_path, "base"))
    own = tmp_path / "base" / "checkpoint_3"
    theirs = tmp_path / "t5x" / "checkpoint_9"
    tree = {
        "target": jax.device_get(done.params),
        "state": {"step": np.int32(9), "param_states": {"v": np.zeros(3)}},
    }
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
        writer.save(theirs.absolute() / "state", args=ocp.args.PyTreeSave(tree))
    for folder in (tmp_path / "base", own, theirs):
        found = recipe.initial(
            _recipe(tmp_path, "next", initial_checkpoint=str(folder))
        )
        for one, other in zip(
            jax.tree.leaves(found), jax.tree.leaves(done.params), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    deeper = ladder.build("llama", "150k", vocab_size=32)
    with pytest.raises(errors.ArtifactError, match="config"):
        recipe.initial(
            _recipe(tmp_path, "x", model=deeper, initial_checkpoint=str(theirs))
        )
