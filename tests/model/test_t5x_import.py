"""T5X checkpoints of both layouts, written here by what T5X itself writes with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from flax import serialization

from gr_jax.core import errors
from gr_jax.model import config as model_config
from gr_jax.model import families, t5x_import

CONFIG = model_config.T5Config(
    vocab_size=11,
    embed_dim=8,
    mlp_dim=12,
    heads=2,
    head_dim=4,
    encoder_layers=1,
    decoder_layers=1,
)


def _random_params() -> dict[str, Any]:
    shapes = jax.eval_shape(families.build(CONFIG).init, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
    )


def _write_orbax(folder: Path, params: dict[str, Any]) -> Path:
    path = folder / "checkpoint_7"
    tree = {
        "target": params,
        "state": {"step": np.int32(7), "param_states": {"v": np.zeros(3, np.float32)}},
    }
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
        writer.save(path.absolute() / "state", args=ocp.args.PyTreeSave(tree))
    return path


def _write_legacy(folder: Path, params: dict[str, Any]) -> Path:
    """A msgpack index; kernels as zarr arrays beside it, small leaves inside it."""
    path = folder / "checkpoint_9"
    path.mkdir()

    def stored(key_path: Any, leaf: np.ndarray) -> Any:
        keys = [key.key for key in key_path]
        if leaf.ndim < 2:
            return leaf
        name = ".".join(["target", *keys])
        asked = {
            "driver": "zarr",
            "dtype": "float32",
            "kvstore": {"driver": "file", "path": str(path / name)},
            "metadata": {"shape": list(leaf.shape), "compressor": {"id": "gzip"}},
        }
        tensorstore.open(asked, create=True).result().write(leaf).result()
        kvstore = {"driver": "gfile", "path": f"{name}/"}
        return {"driver": "zarr", "dtype": "float32", "kvstore": kvstore}

    target = jax.tree_util.tree_map_with_path(stored, params)
    content = {"version": 3, "optimizer": {"target": target, "state": {"step": 9}}}
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    return path


@pytest.mark.parametrize("write", [_write_orbax, _write_legacy])
def test_both_layouts_come_back_bit_equal(write: Any, tmp_path: Path) -> None:
    params = _random_params()
    found = t5x_import.load(write(tmp_path, params), CONFIG)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_are_those_of_t5x() -> None:
    """The tree of t5x/examples/t5/network.py, written out."""
    attention = {"query", "key", "value", "out"}
    params = _random_params()
    assert set(params) == {"token_embedder", "encoder", "decoder"}
    assert set(params["encoder"]) == {"relpos_bias", "layers_0", "encoder_norm"}
    layer = params["encoder"]["layers_0"]
    assert set(layer) == {
        "pre_attention_layer_norm",
        "attention",
        "pre_mlp_layer_norm",
        "mlp",
    }
    assert set(layer["mlp"]) == {"wi_0", "wi_1", "wo"}
    assert set(params["decoder"]) == {
        "relpos_bias",
        "layers_0",
        "decoder_norm",
        "logits_dense",
    }
    layer = params["decoder"]["layers_0"]
    assert set(layer) == {
        "pre_self_attention_layer_norm",
        "self_attention",
        "pre_cross_attention_layer_norm",
        "encoder_decoder_attention",
        "pre_mlp_layer_norm",
        "mlp",
    }
    assert set(layer["encoder_decoder_attention"]) == attention
    assert layer["self_attention"]["query"]["kernel"].shape == (8, 8)
    assert params["encoder"]["relpos_bias"]["rel_embedding"].shape == (2, 32)


def test_another_config_is_refused_by_name(tmp_path: Path) -> None:
    path = _write_legacy(tmp_path, _random_params())
    wider = dataclasses.replace(CONFIG, mlp_dim=16)
    with pytest.raises(errors.ArtifactError, match=r"mlp/w.*shape.*by config"):
        t5x_import.load(path, wider)
    deeper = dataclasses.replace(CONFIG, encoder_layers=2)
    with pytest.raises(errors.ArtifactError, match=r"encoder/layers_1.*missing"):
        t5x_import.load(path, deeper)


def test_specs_may_not_leave_the_folder(tmp_path: Path) -> None:
    params = _random_params()
    path = _write_legacy(tmp_path, params)
    outside = {"driver": "zarr", "kvstore": {"driver": "file", "path": "../../etc"}}
    content = {"version": 3, "optimizer": {"target": {"token_embedder": outside}}}
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    with pytest.raises(errors.ArtifactError, match="only zarr arrays beside it"):
        t5x_import.load(path, CONFIG)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.ArtifactError, match="checkpoint_<step>"):
        t5x_import.load(tmp_path, CONFIG)
    (tmp_path / "checkpoint").write_bytes(b"\x93not msgpack")
    with pytest.raises(errors.ArtifactError, match="cannot be read"):
        t5x_import.load(tmp_path, CONFIG)
