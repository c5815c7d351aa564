"""What is saved comes back bit by bit; what is damaged never does."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gr_jax.core import artifacts, errors
from gr_jax.sharding import mesh
from gr_jax.train import checkpoint, loop, settings


def _tree(seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    target = {
        "a": {"kernel": jnp.asarray(generator.normal(size=(8, 4)), jnp.float32)},
        "b": {"scale": jnp.asarray(generator.normal(size=(4,)), jnp.float32)},
    }
    return {"target": target, "state": {"step": jnp.int32(3)}}


def _save(folder: Path, step: int, seed: int = 0, **options: Any) -> Path:
    progress = checkpoint.Progress(step=step, data_tokens=2**40 + step)
    return checkpoint.save(folder, _tree(seed), progress, **options)


def _placed(tree: Any, on: Any, spec: PartitionSpec) -> Any:
    def place(leaf: Any) -> NamedSharding:
        return NamedSharding(on, spec if leaf.ndim == 2 else PartitionSpec())

    return jax.tree.map(place, tree)


def _equal(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_tree_comes_back_on_any_mesh(tmp_path):
    before = mesh.make_mesh(2, 2, 2)
    tree = jax.device_put(
        _tree(), _placed(_tree(), before, PartitionSpec("fsdp", "tensor"))
    )
    checkpoint.save(tmp_path, tree, checkpoint.Progress(step=7, data_tokens=2**40))
    step, manifest, progress = checkpoint.newest(tmp_path) or pytest.fail("none")
    assert (step, manifest.kind, progress.data_tokens) == (7, "checkpoint", 2**40)
    after = mesh.make_mesh(1, 1, 4)
    wanted = _placed(tree, after, PartitionSpec(None, "tensor"))
    back = checkpoint.restore(tmp_path, 7, tree, wanted)
    assert _equal(back, tree)
    assert back["target"]["a"]["kernel"].sharding == wanted["target"]["a"]["kernel"]


def test_params_alone_are_read_as_numpy(tmp_path):
    _save(tmp_path, 1)
    params = checkpoint.read_params(tmp_path)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    assert _equal(params, _tree()["target"])


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        _save(tmp_path, step, keep=2)
    assert checkpoint.steps(tmp_path) == [3, 4]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_every_flipped_bit_is_found_and_named(tmp_path):
    path = _save(tmp_path, 5)
    generator = np.random.default_rng(0)
    checked = 0
    for file in _files(path):
        if file.name == artifacts.MANIFEST or not file.stat().st_size:
            continue
        content = bytearray(file.read_bytes())
        for _ in range(3):
            byte, bit = (
                int(generator.integers(len(content))),
                int(generator.integers(8)),
            )
            content[byte] ^= 1 << bit
            file.write_bytes(content)
            with pytest.raises(errors.ArtifactError, match=file.name):
                checkpoint.check(tmp_path, 5)
            content[byte] ^= 1 << bit
            file.write_bytes(content)
            checked += 1
    assert checked >= 15
    checkpoint.check(tmp_path, 5)


@pytest.mark.parametrize("damage", ["empty", "half", "short", "delete"])
def test_damaged_checkpoint_is_passed_over_with_one_warning(tmp_path, caplog, damage):
    _save(tmp_path, 1)
    path = _save(tmp_path, 2)
    for number, file in enumerate(_files(path)):
        saved, size = file.read_bytes(), file.stat().st_size
        if damage == "delete":
            file.unlink()
        elif size:
            # Without its last byte, a newline, the manifest would still be whole.
            last = 2 if file.name == artifacts.MANIFEST else 1
            cut = {"empty": 0, "half": size // 2, "short": size - last}[damage]
            file.write_bytes(saved[:cut])
        else:
            continue
        caplog.clear()
        with caplog.at_level(logging.WARNING, "gr_jax.train.checkpoint"):
            found = checkpoint.newest(tmp_path)
        assert found is not None
        assert found[0] == 1, (number, file)
        assert len(caplog.records) == 1
        assert file.name in caplog.text
        file.write_bytes(saved)
    assert (checkpoint.newest(tmp_path) or [None])[0] == 2


def test_empty_and_unfinished_folders_are_no_checkpoints(tmp_path, caplog):
    _save(tmp_path, 1)
    (tmp_path / "checkpoint_9").mkdir()
    (tmp_path / ".checkpoint_8.tmp").mkdir()
    assert (checkpoint.newest(tmp_path) or [None])[0] == 1
    checkpoint.clear_leftovers(tmp_path)
    assert not (tmp_path / ".checkpoint_8.tmp").exists()


def test_copy_under_another_step_is_refused(tmp_path):
    path = _save(tmp_path, 4)
    shutil.copytree(path, tmp_path / "checkpoint_6")
    with pytest.raises(errors.ArtifactError, match="copy of checkpoint_4"):
        checkpoint.check(tmp_path, 6)
    assert (checkpoint.newest(tmp_path) or [None])[0] == 4


def test_nothing_is_overwritten_when_none_is_valid(tiny_model, endless, tmp_path):
    path = _save(tmp_path, 4)
    (path / "progress.json").unlink()
    before = [(p, p.stat().st_mtime_ns) for p in _files(path)]
    with pytest.raises(errors.ArtifactError, match=r"progress\.json: missing"):
        loop.train(
            tiny_model(),
            endless,
            settings=settings.TrainSettings(steps=9),
            folder=tmp_path,
        )
    assert [(p, p.stat().st_mtime_ns) for p in _files(path)] == before
    assert not (tmp_path / "lock.json").exists()


@pytest.mark.parametrize("change", ["shape", "type", "missing", "extra"])
def test_other_arrays_are_refused_by_name(tmp_path, change):
    _save(tmp_path, 1)
    tree = _tree()
    if change == "shape":
        tree["target"]["a"]["kernel"] = jnp.zeros((8, 5))
    elif change == "type":
        tree["target"]["a"]["kernel"] = jnp.zeros((8, 4), jnp.bfloat16)
    elif change == "missing":
        tree["target"]["a"]["more"] = jnp.zeros((2,))
    else:
        del tree["target"]["a"]
    placed = _placed(tree, mesh.single_device(), PartitionSpec())
    with pytest.raises(errors.ArtifactError, match="target/a/"):
        checkpoint.restore(tmp_path, 1, tree, placed)


def test_save_that_fails_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    _save(tmp_path, 1)

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts, "write_manifest", full)
    with pytest.raises(errors.ResourceError, match="No space left"):
        _save(tmp_path, 2, seed=1)
    assert checkpoint.steps(tmp_path) == [1]
    assert _equal(checkpoint.read_params(tmp_path), _tree()["target"])
    assert not list(tmp_path.glob(".checkpoint*"))


def test_folder_held_by_another_run_is_refused(tiny_model, endless, tmp_path):
    asked = settings.TrainSettings(steps=2, tensorboard=False)
    with (
        artifacts.locked(tmp_path),
        pytest.raises(errors.UsageError, match=f"process {os.getpid()}"),
    ):
        loop.train(tiny_model(), endless, settings=asked, folder=tmp_path)


def test_folder_that_is_a_file_is_refused_before_the_first_step(
    tiny_model, endless, tmp_path
):
    (tmp_path / "run").write_text("")
    asked = settings.TrainSettings(steps=2, tensorboard=False)
    with pytest.raises(errors.UsageError, match="choose another folder"):
        loop.train(tiny_model(), endless, settings=asked, folder=tmp_path / "run")
