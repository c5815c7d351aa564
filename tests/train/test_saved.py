"""The model of a folder: runs, merged adapters, imports and cells are told apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr_jax.core import artifacts, errors
from gr_jax.model import config as model_config
from gr_jax.model import ladder
from gr_jax.train import checkpoint, saved

CONFIG = ladder.build("llama", "25k", vocab_size=32)
JSON = model_config.to_json(CONFIG)


def _write(folder: Path, value: float, config: dict[str, Any], step: int = 3) -> None:
    tree = {"target": {"w": np.full((2,), value, np.float32)}}
    checkpoint.save(folder, tree, checkpoint.Progress(step=step), config=config, keep=9)


def _value(found: saved.Saved) -> float:
    return float(found.params()["w"][0])


def test_a_run_says_its_recipe_and_an_import_its_model(tmp_path: Path) -> None:
    _write(tmp_path / "run", 1.0, {"model": "Llama(..)", "run": {"model": JSON}})
    stored = {"model": JSON, "stored_dtype": "bfloat16"}
    _write(tmp_path / "import", 2.0, stored, step=0)
    run, imported = saved.find(tmp_path / "run"), saved.find(tmp_path / "import")
    assert (run.config, run.step, run.stored_dtype) == (CONFIG, 3, "float32")
    assert (imported.config, imported.stored_dtype) == (CONFIG, "bfloat16")
    assert (_value(run), _value(imported)) == (1.0, 2.0)
    assert saved.model_of(str(tmp_path / "run")) == CONFIG


def test_adapters_are_passed_over_for_the_merged_model(tmp_path: Path) -> None:
    _write(tmp_path / "run", 1.0, {"run": {"model": JSON}})
    _write(tmp_path / "run" / saved.MERGED, 5.0, {"run": {"model": JSON}})
    assert _value(saved.find(tmp_path / "run")) == 5.0


def test_a_cell_is_its_training(tmp_path: Path) -> None:
    content = {"cell": {"family": "llama"}, "model": dataclasses.asdict(CONFIG)}
    artifacts.write_json(tmp_path / "cell" / "cell.json", content)
    _write(tmp_path / "cell" / "train", 7.0, {"model": "Llama(..)", "run": {}})
    found = saved.find(tmp_path / "cell")
    assert (found.config, _value(found)) == (CONFIG, 7.0)


def test_an_older_step_can_be_named(tmp_path: Path) -> None:
    for step in (1, 2):
        _write(tmp_path / "run", float(step), {"run": {"model": JSON}}, step=step)
    assert _value(saved.find(tmp_path / "run", 1)) == 1.0
    assert _value(saved.find(tmp_path / "run")) == 2.0


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ArtifactError, match="no checkpoint"):
        saved.find(tmp_path / "none")
    _write(tmp_path / "run", 1.0, {"model": "BagModel(..)", "run": {}})
    with pytest.raises(errors.ArtifactError, match="model: not recorded"):
        saved.find(tmp_path / "run")
