"""Parameters against initialised trees and published totals; FLOPs against XLA."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import gin
import jax
import jax.numpy as jnp
import pytest

from gr_jax.model import accounting, families, ladder
from gr_jax.model import config as model_config
from tools import configure

CONFIGS = Path(__file__).parents[2] / "gin_configs" / "model"
# Totals that Hugging Face reports for the published checkpoints.
PUBLISHED = {
    "t5_1_0_small": 60_506_624,
    "t5_1_0_base": 222_903_552,
    "t5_1_0_large": 737_668_096,
    "t5_1_0_3b": 2_851_598_336,
    "t5_1_0_11b": 11_307_321_344,
    "t5_1_1_small": 76_961_152,
    "t5_1_1_base": 247_577_856,
    "t5_1_1_large": 783_150_080,
    "t5_1_1_xl": 2_849_757_184,
    "t5_1_1_xxl": 11_135_332_352,
    "llama2_7b": 6_738_415_616,
    "llama2_13b": 13_015_864_320,
    "llama2_70b": 68_976_648_192,
    "llama3_1b": 1_235_814_400,
    "llama3_3b": 3_212_749_824,
    "llama3_8b": 8_030_261_248,
    "llama3_70b": 70_553_706_496,
}
# The paper's sizes: total less the input embedding.
PAPER = {
    "t5_1_0_small": 44_057_088,
    "t5_1_0_base": 198_229_248,
    "t5_1_0_large": 704_769_024,
    "t5_1_0_3b": 2_818_699_264,
    "t5_1_0_11b": 11_274_422_272,
    "llama2_7b": 6_607_343_616,
    "llama2_13b": 12_852_024_320,
    "llama2_70b": 68_714_504_192,
}
STRICT = {
    "t5_1_0_small": 44_057_088,
    "llama2_7b": 6_476_271_616,
    "llama2_13b": 12_688_184_320,
    "llama2_70b": 68_452_360_192,
}


def _from_gin(name: str) -> model_config.ModelConfig:
    configure.load([f"model/{name}.gin"], [])
    try:
        return gin.query_parameter("%MODEL").scoped_configurable_fn()
    finally:
        gin.clear_config()


def _tree_counts(config: model_config.ModelConfig) -> dict[str, int]:
    """Parameters of the tree that `init` would make, by whether a table holds them."""
    shapes = jax.eval_shape(families.build(config).init, jax.random.key(0))
    counts = {"embedding": 0, "head": 0, "rest": 0}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        name = jax.tree_util.keystr(path)
        kind = "rest"
        if "embedder" in name:
            kind = "embedding"
        elif "logits" in name:
            kind = "head"
        counts[kind] += math.prod(leaf.shape)
    return counts


def _assert_exact(config: model_config.ModelConfig) -> accounting.Parameters:
    found = accounting.parameters(config)
    counts = _tree_counts(config)
    assert found.embedding == counts["embedding"]
    assert found.head == counts["head"]
    assert found.non_embedding == counts["rest"] == sum(found.components.values())
    assert found.total == sum(counts.values())
    return found


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_totals_are_met_exactly(name: str) -> None:
    found = _assert_exact(_from_gin(name))
    assert found.total == PUBLISHED[name]
    assert found.paper == PAPER.get(name, found.paper)
    assert found.non_embedding == STRICT.get(name, found.non_embedding)


def test_every_size_of_the_shipped_configs_is_tested() -> None:
    sizes = {p.stem for p in CONFIGS.glob("*_*.gin")} - {"t5_1_0", "t5_1_1"}
    assert sizes == set(PUBLISHED)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_ladder_counts_are_exact_and_named_for(family: ladder.Family) -> None:
    strict = []
    for size in ladder.size_names(family):
        found = _assert_exact(ladder.build(family, size, vocab_size=4096))
        strict.append(found.non_embedding)
        number = float(size[:-1]) * {"k": 1e3, "m": 1e6}[size[-1]]
        assert abs(found.non_embedding / number - 1) < 0.07
    assert len(strict) >= 8
    assert strict == sorted(strict)
    assert strict[0] < 0.05e6
    assert strict[-1] > 4.5e6


@pytest.mark.parametrize("head", ["joint", "level"])
@pytest.mark.parametrize("family", ["t5", "llama"])
def test_code_tables_are_counted_as_tables(
    family: ladder.Family, head: model_config.CodeHead
) -> None:
    codes = model_config.CodeTables(levels=3, size=8, head=head)
    config = ladder.build(family, "65k" if family == "t5" else "55k", vocab_size=64)
    found = _assert_exact(dataclasses.replace(config, codes=codes))
    assert found.embedding == 64 * config.embed_dim
    heads = 64 if head == "joint" else 3 * 8
    assert found.head == heads * config.embed_dim


def _wide(family: str) -> model_config.ModelConfig:
    """Wide enough that products are what a model costs."""
    shape = {"embed_dim": 384, "mlp_dim": 1024, "heads": 6, "head_dim": 64}
    if family == "t5":
        return model_config.T5Config(
            vocab_size=512, encoder_layers=2, decoder_layers=2, **shape
        )
    return model_config.LlamaConfig(
        vocab_size=512, layers=3, kv_heads=2, start_token=3, **shape
    )


def _xla_flops(function, *args) -> float:
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("family", ["t5", "llama"])
def test_flops_are_within_five_percent_of_xla(family: str) -> None:
    config = _wide(family)
    model = families.build(config)
    batch, source, target, beams = 2, 24, 12, 3
    params = jax.eval_shape(model.init, jax.random.key(0))
    source_BS = jax.ShapeDtypeStruct((batch, source), jnp.int32)
    target_BL = jax.ShapeDtypeStruct((batch, target), jnp.int32)

    def loss(params, source_BS, target_BL):
        return model.logits(params, source_BS, target_BL).astype("float32").sum()

    forward = accounting.forward_flops(config, source=source, target=target).total
    found = _xla_flops(model.logits, params, source_BS, target_BL)
    assert found == pytest.approx(batch * forward, rel=0.05)

    trained = accounting.train_flops(config, source, target, batch)
    found = _xla_flops(jax.grad(loss), params, source_BS, target_BL)
    assert found == pytest.approx(trained, rel=0.05)

    steps = 8
    parts = accounting.inference_flops(config, source=source, beams=beams, steps=steps)
    found = _xla_flops(model.prefill, params, source_BS)
    assert found == pytest.approx(batch * parts["prefill"], rel=0.05)

    prompt = jax.eval_shape(model.prefill, params, source_BS)
    cache = jax.eval_shape(lambda: model.empty_cache(batch, beams, steps))
    token_BM1 = jax.ShapeDtypeStruct((batch, beams, 1), jnp.int32)
    position = jax.ShapeDtypeStruct((), jnp.int32)
    found = _xla_flops(model.extend, params, prompt, cache, token_BM1, position)
    one_step = (parts["decode"] + parts["head"]) / steps
    assert found == pytest.approx(batch * one_step, rel=0.05)


def test_flops_of_one_layer_by_hand() -> None:
    config = model_config.LlamaConfig(
        vocab_size=7,
        embed_dim=2,
        mlp_dim=5,
        heads=2,
        kv_heads=1,
        head_dim=4,
        layers=1,
        start_token=3,
    )
    # One layer: of the source only keys and values, 2 * D * K * head_dim products.
    flops = accounting.forward_flops(config, source=3, target=2)
    assert flops.source == 2 * 3 * (2 * 2 * 1 * 4)
    kernels = 2 * (2 * 2 * 4) + 2 * (2 * 1 * 4) + 3 * 2 * 5
    scores = 2 * (2 * 4) * (3 + 2)
    assert flops.target == 2 * 2 * (kernels + scores)
    assert flops.head == 2 * 2 * 2 * 7
    parts = accounting.inference_flops(
        config, source=3, beams=4, steps=2, constraint_per_step=10.0
    )
    assert parts["constraint"] == 80.0
    assert parts["head"] == 2 * (4 * 2) * 2 * 7
