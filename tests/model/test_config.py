"""Configs: what is refused, and that JSON keeps everything."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from gr_jax.core import errors
from gr_jax.model import config as model_config
from gr_jax.model import families, ladder, llama, protocol, t5

CODES = model_config.CodeTables(levels=2, size=8, head="level")
T5 = ladder.build("t5", "230k", vocab_size=64, codes=CODES, dtype="bfloat16")
SCALING = model_config.RopeScaling(factor=8.0)
LLAMA = ladder.build("llama", "230k", vocab_size=64, rope_scaling=SCALING)


@pytest.mark.parametrize("config", [T5, LLAMA])
def test_json_keeps_every_field(config: model_config.ModelConfig) -> None:
    value = json.loads(json.dumps(model_config.to_json(config)))
    assert model_config.from_json(value) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("heads", 0),
        ("dtype", "float8"),
        ("remat", "some"),
        ("attention", "fast"),
        ("dropout_rate", 1.0),
        ("mlp_activations", ("swish",)),
        ("vocab_size", 16),
        ("start_token", 64),
        ("relative_buckets", 6),
    ],
)
def test_values_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(errors.UsageError, match=f"T5Config: {field}"):
        dataclasses.replace(T5, **{field: value})


def test_llama_refuses_heads_that_do_not_divide_and_odd_widths() -> None:
    with pytest.raises(errors.UsageError, match="kv_heads"):
        dataclasses.replace(LLAMA, kv_heads=4)
    with pytest.raises(errors.UsageError, match="head_dim"):
        dataclasses.replace(LLAMA, head_dim=15)


def test_unknown_families_fields_and_sizes_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="family"):
        model_config.from_json({"family": "gpt"})
    value = {**model_config.to_json(LLAMA), "layerz": 3}
    with pytest.raises(errors.UsageError, match="layerz"):
        model_config.from_json(value)
    with pytest.raises(errors.UsageError, match="use one of 30k"):
        ladder.build("t5", "9m", vocab_size=64)


def test_a_config_finds_its_model() -> None:
    assert families.build(T5) == t5.T5(T5)
    assert families.build(LLAMA) == llama.Llama(LLAMA)
    assert isinstance(families.build(T5), protocol.GenerativeModel)
    # A model is a static argument of compiled functions.
    assert hash(families.build(LLAMA)) == hash(families.build(LLAMA))
