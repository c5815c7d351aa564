"""Logical axes to mesh axes: order, collisions, sizes that do not divide."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from gr_jax.core import errors
from gr_jax.model import config as model_config
from gr_jax.model import families, ladder
from gr_jax.sharding import mesh, rules


def test_names_become_mesh_axes():
    assert rules.DEFAULT.spec(("vocab", "embed")) == PartitionSpec("tensor", "fsdp")
    assert rules.DEFAULT.spec(("batch", None)) == PartitionSpec(("data", "fsdp"), None)
    assert rules.DEFAULT.spec(("layers", "embed", "mlp")) == PartitionSpec(
        None, "fsdp", "tensor"
    )


def test_first_rule_of_a_name_decides():
    two = rules.Rules((("mlp", "tensor"), ("mlp", "fsdp")))
    assert two.spec(("mlp",)) == PartitionSpec("tensor")


def test_collision_names_both_axes():
    with pytest.raises(errors.UsageError, match=r"'mlp'.*tensor.*'vocab' uses it too"):
        rules.DEFAULT.spec(("vocab", "mlp"))


def test_axis_without_a_rule_is_an_error():
    with pytest.raises(errors.UsageError, match="add a rule"):
        rules.DEFAULT.spec(("depth",))


def test_unknown_mesh_axis_is_an_error():
    with pytest.raises(errors.UsageError, match="mesh axes are data, fsdp, tensor"):
        rules.Rules((("embed", "model"),))


def test_lists_of_gin_become_hashable():
    made = rules.Rules([["batch", ["data", "fsdp"]]])  # pyright: ignore
    assert hash(made) == hash(rules.Rules((("batch", ("data", "fsdp")),)))


def test_size_that_does_not_divide_stays_whole_and_is_listed():
    made = mesh.make_mesh(1, 2, 4)
    shapes = {"a": jnp.zeros((6, 4)), "b": jnp.zeros((8, 3))}
    axes = {"a": ("vocab", "embed"), "b": ("mlp", "kv")}
    specs = rules.param_specs(shapes, axes, made, rules.DEFAULT)
    assert specs == {
        "a": PartitionSpec(None, "fsdp"),
        "b": PartitionSpec("tensor", None),
    }
    assert rules.unsplit(shapes, axes, made, rules.DEFAULT) == ["a"]


def test_parameter_without_names_is_named():
    with pytest.raises(errors.UsageError, match="parameter: inner/b"):
        rules.param_specs(
            {"inner": {"b": jnp.zeros((2, 2))}},
            {"inner": {"b": ("embed",)}},
            mesh.single_device(),
            rules.DEFAULT,
        )


@pytest.mark.parametrize("family", ["t5", "llama"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_default_rules_split_every_kernel_of_both_families(family, scan_layers):
    config = ladder.build(family, "1m", vocab_size=64, scan_layers=scan_layers)
    model = families.build(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    made = mesh.make_mesh(1, 2, 2)
    specs = rules.param_specs(shapes, model.param_axes(), made, rules.DEFAULT)
    for leaf, spec in zip(jax.tree.leaves(shapes), jax.tree.leaves(specs), strict=True):
        if leaf.size >= 64 * 64:
            assert {"fsdp", "tensor"} <= set(spec), spec


def test_default_rules_know_tables_of_codes():
    codes = model_config.CodeTables(levels=2, size=8)
    model = families.build(ladder.build("t5", "30k", vocab_size=32, codes=codes))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    made = mesh.make_mesh(1, 2, 2)
    specs = rules.param_specs(shapes, model.param_axes(), made, rules.DEFAULT)
    split = PartitionSpec(None, "tensor", "fsdp")
    assert specs["code_embedder"]["embedding"] == split
