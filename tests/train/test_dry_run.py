"""Plans: exact where they claim to be, near XLA where they estimate."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.model import config, families, ladder
from gr_jax.sharding import mesh
from gr_jax.train import dry_run, recipe, settings
from gr_jax.train import step as steps


def _recipe(
    model: Any, shape: tuple[int, int, int] = (1, 1, 1), **training: Any
) -> Any:
    data, fsdp, tensor = shape
    return recipe.Recipe(
        model=model,
        training=settings.TrainSettings(**{"steps": 1000, **training}),
        data="unread",
        folder="unread",
        batch=64,
        lengths={"inputs": 32, "targets": 16},
        mesh=mesh.MeshShape(data=data, fsdp=fsdp, tensor=tensor),
    )


def test_bytes_of_a_described_mesh_are_those_of_real_shards():
    model = ladder.build("t5", "30k", vocab_size=64)
    asked = _recipe(model, (1, 2, 2))
    # A named device is planned for from shapes, though there are devices here.
    plan = dry_run.plan(asked, device="h100")
    assert plan.method.startswith("estimated from shapes")
    on = mesh.make_mesh(1, 2, 2)
    programs = steps.programs(
        families.build(model), asked.training.for_step(), on, asked.rules, None
    )
    with jax.set_mesh(on):
        state = programs.new_state(programs.new_params(np.uint32(0)), np.uint32(0))
    for tree, planned in (
        (state.params, plan.param_bytes),
        (state.optimizer, plan.optimizer_bytes),
    ):
        shards = [x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree)]
        assert sum(shards) == planned


def test_hours_are_work_over_speed():
    plan = dry_run.plan(
        _recipe(ladder.build("llama", "1m", vocab_size=512)), device="a100"
    )
    assert plan.hours == pytest.approx(1000 * plan.step_flops / (0.4 * 312e12) / 3600)
    assert plan.fits is True


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    "family", ["llama", pytest.param("t5", marks=pytest.mark.slow)]
)
def test_estimated_activations_are_near_those_xla_allocates(family):
    asked = _recipe(ladder.build(family, "230k", vocab_size=1024))
    plan = dry_run.plan(asked)
    assert plan.method == "compiled for the devices here"
    estimated = dry_run.activations(asked, mesh.single_device())
    assert 0.5 < estimated / plan.activation_bytes < 2


def test_70b_needs_more_than_one_device_and_lora_less_than_full():
    model = config.LlamaConfig(
        vocab_size=32000,
        embed_dim=8192,
        mlp_dim=28672,
        heads=64,
        kv_heads=8,
        head_dim=128,
        layers=80,
        start_token=3,
        scan_layers=True,
        remat="full",
        dtype="bfloat16",
    )
    alone = dry_run.plan(_recipe(model), device="h200")
    assert alone.params == 68_976_648_192
    assert alone.param_bytes == 4 * alone.params
    assert alone.fits is False
    split = dry_run.plan(_recipe(model, (1, 8, 8)), device="h200")
    # All kernels split 64 ways; norms and tables less.
    assert split.param_bytes == pytest.approx(alone.param_bytes / 64, rel=0.01)
    lora = settings.LoraSettings(rank=8)
    light = dry_run.plan(_recipe(model, (1, 8, 8), lora=lora), device="h200")
    # A and B of 80 layers' queries (8192 to 8192) and values (8192 to 1024).
    assert light.params_trained == 80 * 8 * (8192 + 8192 + 8192 + 1024)
    assert light.optimizer_bytes < 0.01 * split.optimizer_bytes
    assert math.isclose(light.step_flops, split.step_flops)


def test_unknown_device_and_open_mesh_are_refused():
    asked = _recipe(ladder.build("t5", "30k", vocab_size=64), (0, 2, 1))
    with pytest.raises(errors.UsageError, match="known: a100"):
        dry_run.plan(asked, device="abacus")
    with pytest.raises(errors.UsageError, match="spell out data"):
        dry_run.plan(asked, device="h100")


def test_plan_reads_as_lines():
    asked = _recipe(ladder.build("t5", "30k", vocab_size=65), (1, 1, 2))
    text = dry_run.readable(dry_run.plan(asked, device="tpu-v5e"))
    assert "estimated from shapes" in text
    assert "not split       decoder/logits_dense/kernel, token_embedder" in text
