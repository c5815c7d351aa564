"""Adapters: merged equals unmerged, the base stays, only adapters have moments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from gr_jax.core import errors
from gr_jax.model import families, ladder
from gr_jax.sharding import mesh, rules
from gr_jax.train import checkpoint, loop, lora, settings
from gr_jax.train import step as steps

_LORA = settings.LoraSettings(rank=3, alpha=6.0, targets=(r"mlp/w[io]/kernel$",))


def _filled(adapters: Any, seed: int = 0) -> Any:
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(generator.normal(size=x.shape) * 0.2, jnp.float32),
        adapters,
    )


def test_merged_equals_the_adapted_layers_written_out(tiny_model, endless):
    model, batch = tiny_model(), next(endless(0))
    params = model.init(jax.random.key(0))
    adapters = _filled(lora.new(params, _LORA, jax.random.key(1)))
    merged = lora.merge(params, adapters, _LORA)
    found = model.logits(merged, batch["source_BS"], batch["target_BL"])
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    a = jax.tree.map(lambda x: np.asarray(x, np.float64), adapters)["mlp"]
    table = w["token_embedder"]["embedding"]
    bag = table[batch["source_BS"]].sum(1)
    before = np.pad(batch["target_BL"][:, :-1], ((0, 0), (1, 0)))
    x = (table[before] + bag[:, None]) * w["norm"]["scale"]

    def adapted(x: np.ndarray, name: str) -> np.ndarray:
        factors = a[name]["kernel"]
        low = (x @ factors["lora_a"]) @ factors["lora_b"]
        return x @ w["mlp"][name]["kernel"] + 6.0 / 3 * low

    inner = np.asarray(
        jax.nn.gelu(jnp.asarray(adapted(x, "wi"), jnp.float32)), np.float64
    )
    expected = adapted(inner, "wo") @ table.T
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-5)
    assert np.abs(found - model.logits(params, **_named(batch))).max() > 0.1


def _named(batch: Any) -> dict[str, Any]:
    return {name: batch[name] for name in ("source_BS", "target_BL")}


def test_new_adapters_change_nothing(tiny_model):
    params = tiny_model().init(jax.random.key(0))
    adapters = lora.new(params, _LORA, jax.random.key(1))
    merged = lora.merge(params, adapters, _LORA)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(params), strict=True)
    )
    assert np.std(adapters["mlp"]["wi"]["kernel"]["lora_a"]) > 0.1


@pytest.mark.parametrize("family", ["t5", "llama"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_default_targets_are_queries_and_values(family, scan_layers):
    config = ladder.build(family, "1m", vocab_size=64, scan_layers=scan_layers)
    model, asked = families.build(config), settings.LoraSettings(rank=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    paths = lora.targets(shapes, asked)
    assert {path.split("/")[-2] for path in paths} == {"query", "value"}
    adapters = jax.eval_shape(lambda p: lora.new(p, asked, jax.random.key(0)), shapes)
    axes = lora.axes(model.param_axes(), shapes, asked)
    rules.param_specs(adapters, axes, mesh.make_mesh(1, 2, 2), rules.DEFAULT)
    found = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, PartitionSpec))
    assert all(
        len(a.shape) == len(n)
        for a, n in zip(jax.tree.leaves(adapters), found, strict=True)
    )


def test_targets_that_match_nothing_or_a_vector_are_refused(tiny_model):
    params = tiny_model().init(jax.random.key(0))
    with pytest.raises(errors.UsageError, match="no parameter matches"):
        lora.targets(params, settings.LoraSettings(rank=1, targets=("q_proj",)))
    with pytest.raises(errors.UsageError, match="norm/scale"):
        lora.targets(params, settings.LoraSettings(rank=1, targets=("scale",)))


def test_dropout_drops_input_features_and_keeps_the_mean(tiny_model):
    params = tiny_model().init(jax.random.key(0))
    asked = settings.LoraSettings(rank=3, alpha=3, targets=("wi/kernel",), dropout=0.25)
    adapters = _filled(lora.new(params, asked, jax.random.key(1)))
    base = np.asarray(params["mlp"]["wi"]["kernel"])
    whole = (
        np.asarray(lora.merge(params, adapters, asked)["mlp"]["wi"]["kernel"]) - base
    )
    draws = []
    for seed in range(200):
        merged = lora.merge(params, adapters, asked, dropout_key=jax.random.key(seed))
        draws.append(np.asarray(merged["mlp"]["wi"]["kernel"]) - base)
    ratio = np.stack(draws) / whole
    # A row is dropped whole or scaled by 4 / 3.
    np.testing.assert_allclose(
        np.minimum(np.abs(ratio), np.abs(ratio - 4 / 3)), 0, atol=1e-3
    )
    assert abs(np.mean(ratio) - 1) < 0.05


def test_training_moves_adapters_alone_and_resumes(tiny_model, endless, tmp_path):
    model = tiny_model()
    base = jax.device_get(model.init(jax.random.key(5)))
    asked = settings.TrainSettings(
        steps=6, learning_rate=0.05, lora=_LORA, tensorboard=False, log_every=2
    )
    done = loop.train(
        model, endless, settings=asked, folder=tmp_path / "whole", init_params=base
    )
    np.testing.assert_array_equal(done.params["norm"]["scale"], base["norm"]["scale"])
    merged = lora.merge(base, done.adapters, _LORA)
    np.testing.assert_array_equal(
        done.params["mlp"]["wi"]["kernel"], merged["mlp"]["wi"]["kernel"]
    )
    assert np.any(merged["mlp"]["wi"]["kernel"] != base["mlp"]["wi"]["kernel"])
    saved = checkpoint.read_params(tmp_path / "whole")
    assert set(saved) == {"mlp"}
    other = jax.tree.map(lambda x: x + 1, base)
    with pytest.raises(errors.UsageError, match="frozen parameters"):
        loop.train(
            model, endless, settings=asked, folder=tmp_path / "whole", init_params=other
        )
    with pytest.raises(errors.UsageError, match="need a trained model"):
        loop.train(model, endless, settings=asked, folder=tmp_path / "none")


def test_frozen_parameters_take_no_optimizer_memory(tiny_model):
    model, asked = tiny_model(), settings.TrainSettings(steps=1, lora=_LORA)
    programs = steps.programs(
        model, asked.for_step(), mesh.single_device(), rules.DEFAULT, _LORA
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(programs.abstract.optimizer)]
    # Two moments of A (16 x 3, 32 x 3) and B (3 x 32, 3 x 16), and Adam's counter.
    assert sum(sizes) == 2 * (48 + 96 + 96 + 48) + 1


def test_fingerprint_is_the_same_on_every_mesh_and_sees_every_change(tiny_model):
    model = tiny_model()
    params = model.init(jax.random.key(0))
    alone = int(lora.fingerprint(params))
    on = mesh.make_mesh(1, 4, 2)
    shardings = rules.param_shardings(params, model.param_axes(), on, rules.DEFAULT)
    assert int(lora.fingerprint(jax.device_put(params, shardings))) == alone
    kernel = params["mlp"]["wi"]["kernel"]
    swapped = kernel.at[0, 0].set(kernel[0, 1]).at[0, 1].set(kernel[0, 0])
    changed = {**params, "mlp": {**params["mlp"], "wi": {"kernel": swapped}}}
    assert int(lora.fingerprint(changed)) != alone
