"""Hugging Face folders in: streamed, exact, and refused where anything is odd."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from gr_jax.core import errors
from gr_jax.model import config as model_config
from gr_jax.model import families, hf_export, hf_import

SHAPE: dict[str, Any] = {
    "vocab_size": 11,
    "embed_dim": 8,
    "mlp_dim": 12,
    "heads": 4,
    "head_dim": 2,
}
T5 = model_config.T5Config(**SHAPE, encoder_layers=1, decoder_layers=2)
SCALING = model_config.RopeScaling(factor=8.0)
LLAMA = model_config.LlamaConfig(
    **SHAPE, layers=2, kv_heads=2, start_token=3, rope_scaling=SCALING, rope_theta=5e5
)
T5_PLAIN = model_config.T5Config(
    **SHAPE,
    encoder_layers=1,
    decoder_layers=1,
    mlp_activations=("relu",),
    tied_head=True,
)


def _random_params(config: model_config.ModelConfig) -> Any:
    shapes = jax.eval_shape(families.build(config).init, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
    )


def _assert_same(found: Any, wanted: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shard_bytes", [10**9, 600])
@pytest.mark.parametrize("config", [T5, T5_PLAIN, LLAMA], ids=["t5", "t5_1_0", "llama"])
def test_round_trip_is_bit_equal(
    config: model_config.ModelConfig, shard_bytes: int, tmp_path: Path
) -> None:
    params = _random_params(config)
    folder = tmp_path / "model"
    hf_export.save(folder, config, params, shard_bytes=shard_bytes)
    shards = list(folder.glob("*.safetensors"))
    assert (len(shards) == 1) == (shard_bytes == 10**9)
    imported = hf_import.load(folder)
    assert imported.config == config
    assert imported.stored_dtype == "float32"
    _assert_same(imported.params, params)


def test_files_come_back_byte_equal_from_bfloat16(tmp_path: Path) -> None:
    params = jax.tree.map(
        lambda leaf: leaf.astype(ml_dtypes.bfloat16).astype(np.float32),
        _random_params(LLAMA),
    )
    one, two = tmp_path / "one", tmp_path / "two"
    hf_export.save(one, LLAMA, params, dtype="bfloat16")
    imported = hf_import.load(one)
    assert imported.stored_dtype == "bfloat16"
    _assert_same(imported.params, params)
    dtype = imported.stored_dtype
    hf_export.save(two, imported.config, imported.params, dtype=dtype)
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_stacked_layers_read_the_same_file(tmp_path: Path) -> None:
    params = _random_params(LLAMA)
    hf_export.save(tmp_path / "model", LLAMA, params)
    stacked = hf_import.load(tmp_path / "model", scan_layers=True)
    for i in range(LLAMA.layers):
        row = jax.tree.map(
            lambda leaf, i=i: leaf[i], stacked.params["decoder"]["layers"]
        )
        _assert_same(row, params["decoder"][f"layers_{i}"])
    hf_export.save(tmp_path / "again", stacked.config, stacked.params)
    files = [tmp_path / name / "model.safetensors" for name in ("model", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    hf_export.save(tmp_path / "m", LLAMA, _random_params(LLAMA))
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(errors.ArtifactError, match="pickled weights can run code"):
        hf_import.load(tmp_path / "m")


def _edited(tmp_path: Path, change: Any) -> Path:
    """A saved model with its tensors changed by ``change``."""
    folder = tmp_path / "m"
    hf_export.save(folder, LLAMA, _random_params(LLAMA))
    path = folder / "model.safetensors"
    tensors = safetensors_numpy.load_file(path)
    change(tensors)
    safetensors_numpy.save_file(tensors, path)
    return folder


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = _edited(tmp_path, lambda t: t.pop("model.norm.weight"))
    with pytest.raises(errors.ArtifactError, match=r"model\.norm\.weight: no such"):
        hf_import.load(folder)


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.q_proj.bias": np.zeros(8, np.float32)}
    folder = _edited(tmp_path, lambda t: t.update(extra))
    with pytest.raises(errors.ArtifactError, match=r"q_proj\.bias: not a tensor of"):
        hf_import.load(folder)


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    extra = {"model.layers.1.mlp.up_proj.weight": np.zeros((8, 12), np.float32)}
    folder = _edited(tmp_path, lambda t: t.update(extra))
    with pytest.raises(errors.ArtifactError, match=r"up_proj\.weight: shape"):
        hf_import.load(folder)


def test_buffers_that_old_files_hold_are_skipped(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(1, np.float32)}
    folder = _edited(tmp_path, lambda t: t.update(extra))
    assert hf_import.load(folder).config == LLAMA


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "gpt2", "t5, mt5 and llama can be read"),
        ("attention_bias", True, "only models without"),
        ("hidden_act", "gelu", "silu is read"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}, "default and llama3"),
    ],
)
def test_other_models_are_refused(
    key: str, value: Any, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    hf_export.save(folder, LLAMA, _random_params(LLAMA))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(errors.InputError, match=message):
        hf_import.load(folder)


def test_rope_settings_of_transformers_five_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    hf_export.save(folder, LLAMA, _random_params(LLAMA))
    path = folder / "config.json"
    value = json.loads(path.read_text())
    rope = {**value.pop("rope_scaling"), "rope_theta": value.pop("rope_theta")}
    path.write_text(json.dumps({**value, "rope_parameters": rope}))
    assert hf_import.load(folder).config == LLAMA


def test_a_shard_may_not_lie_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    hf_export.save(folder, LLAMA, _random_params(LLAMA), shard_bytes=600)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = "../other.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(errors.ArtifactError, match="name files beside it"):
        hf_import.load(folder)


def test_tables_of_codes_have_no_such_form(tmp_path: Path) -> None:
    codes = model_config.CodeTables(levels=2, size=3)
    config = model_config.T5Config(
        **SHAPE, encoder_layers=1, decoder_layers=1, codes=codes
    )
    with pytest.raises(errors.UsageError, match="no Hugging Face form"):
        hf_export.save(tmp_path / "m", config, _random_params(config))


_MEASURE = """
import resource, sys
from pathlib import Path
import jax
from gr_jax.model import families, hf_import

def resident_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {l.split(":")[0]: int(l.split()[1]) * 1024 for l in lines if "kB" in l}

small = hf_import.load(Path(sys.argv[1]))
before = resident_bytes()["VmRSS"]
Path("/proc/self/clear_refs").write_text("5")
big = hf_import.load(Path(sys.argv[2]))
after = resident_bytes()
params = sum(leaf.nbytes for leaf in jax.tree.leaves(big.params))
print(after["VmHWM"] - before, params)
"""


def test_memory_stays_under_parameters_and_a_shard(tmp_path: Path) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is measured through Linux's /proc")
    small, big = tmp_path / "small", tmp_path / "big"
    hf_export.save(small, LLAMA, _random_params(LLAMA))
    wide = model_config.LlamaConfig(
        vocab_size=4000,
        embed_dim=512,
        mlp_dim=2048,
        heads=8,
        kv_heads=8,
        head_dim=64,
        layers=3,
        start_token=3,
    )
    hf_export.save(big, wide, _random_params(wide), shard_bytes=18_000_000)
    shard = max(path.stat().st_size for path in big.glob("*.safetensors"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_MEASURE), str(small), str(big)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, params = map(int, done.stdout.split())
    assert params > 60e6
    assert grown < params + 1.3 * shard
