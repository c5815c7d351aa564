"""One step: accumulation, clipping, spikes, meshes, constraints in the program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import config, families, ladder
from gr_jax.sharding import mesh, rules
from gr_jax.train import feed, optimizer, settings
from gr_jax.train import step as steps


def _programs(model: Any, asked: settings.TrainSettings, on: Any) -> steps.Programs:
    return steps.programs(model, asked.for_step(), on, rules.DEFAULT, None)


def _run(
    model: Any, batches: Any, asked: settings.TrainSettings, on: Any = None
) -> tuple[Any, list[dict[str, Any]]]:
    on = mesh.single_device() if on is None else on
    programs = _programs(model, asked, on)
    numbers = {k: jnp.float32(v) for k, v in optimizer.schedule_numbers(asked).items()}
    seen = []
    with jax.set_mesh(on):
        params = programs.new_params(np.uint32(1))
        state = programs.new_state(params, np.uint32(2))
        for _, batch in zip(range(asked.steps), batches, strict=False):
            placed = feed.put(batch, programs.batch)
            state, metrics = programs.step(state, None, placed, numbers)
            seen.append(jax.device_get(metrics))
    return jax.device_get(state), seen


def _settings(**changes: Any) -> settings.TrainSettings:
    return settings.TrainSettings(**{"steps": 3, "learning_rate": 0.02, **changes})


def test_accumulation_changes_nothing_but_memory(tiny_model, endless):
    one, seen = _run(tiny_model(), endless(0), _settings())
    four, again = _run(tiny_model(), endless(0), _settings(accumulation=4))
    # Halves of rows have fewer tokens: a mean of means would differ.
    np.testing.assert_allclose(
        [m["nats"] for m in seen], [m["nats"] for m in again], rtol=1e-6
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
        one.params,
        four.params,
    )


def test_first_step_is_adam_written_out(tiny_model, endless):
    model, batch = tiny_model(), next(endless(0))
    asked = _settings(steps=1, clip_norm=0.5, schedule="constant")
    programs = _programs(model, asked, mesh.single_device())
    before = jax.device_get(programs.new_params(np.uint32(1)))
    after, seen = _run(model, iter([batch]), asked)

    def mean_nats(params: Any) -> jax.Array:
        logits = model.logits(params, batch["source_BS"], batch["target_BL"])
        logp = jax.nn.log_softmax(logits)
        picked = jnp.take_along_axis(logp, batch["target_BL"][..., None], -1)[..., 0]
        return -jnp.sum(picked * (batch["target_BL"] != 0)) / 56

    gradient = jax.grad(mean_nats)(before)
    norm = float(np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient))))
    np.testing.assert_allclose(seen[0]["gradient_norm"], norm, rtol=1e-5)
    # Bias-corrected moments of the first step are g and g^2.
    expected = jax.tree.map(
        lambda p, g: p - 0.02 * (g * 0.5 / norm) / (np.abs(g * 0.5 / norm) + 1e-8),
        before,
        gradient,
    )
    assert norm > 0.5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), after.params, expected
    )


def test_spike_is_skipped_and_forgotten(tiny_model, endless):
    def with_spike() -> Any:
        for step, batch in enumerate(endless(0)):
            if step == 6:
                # Unlearned targets after many equal ones: the loss jumps.
                yield {**batch, "target_BL": 31 - batch["target_BL"] % 31}
            else:
                ones = np.ones_like(batch["target_BL"])
                yield {**batch, "target_BL": ones}

    asked = _settings(steps=8, spike_sigma=6.0, spike_window=4, learning_rate=0.05)
    state, seen = _run(tiny_model(), with_spike(), asked)
    assert [bool(m["is_spike"]) for m in seen] == [False] * 6 + [True, False]
    assert int(state.optimizer.count) == 7
    spike = seen[6]["nats"] / seen[6]["tokens"]
    assert np.max(state.recent_T) < spike


MESHES = [(8, 1, 1), (1, 8, 1), (1, 1, 2), (2, 2, 2)]
_TABLE = "largest relative difference of 5 losses from one device"


def _axes(sizes: tuple[int, int, int]) -> str:
    named = zip(("data", "fsdp", "tensor"), sizes, strict=True)
    return " x ".join(f"{name} {size}" for name, size in named if size > 1)


def _apart(split: list[dict[str, Any]], alone: list[dict[str, Any]]) -> float:
    pairs = zip(split, alone, strict=True)
    return float(np.max([abs(a["nats"] / b["nats"] - 1) for a, b in pairs]))


@pytest.mark.parametrize("sizes", MESHES)
def test_losses_are_equal_on_every_mesh(tiny_model, endless, sizes, figure):
    asked = _settings(steps=5)
    model = tiny_model()
    _, alone = _run(model, endless(0), asked)
    _, split = _run(model, endless(0), asked, mesh.make_mesh(*sizes))
    apart = _apart(split, alone)
    figure(_TABLE, "tiny T5", _axes(sizes), apart)
    assert apart <= 1e-5
    assert [int(m["tokens"]) for m in split] == [int(m["tokens"]) for m in alone]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", MESHES)
@pytest.mark.parametrize(("family", "size"), [("t5", "30k"), ("llama", "25k")])
def test_families_lose_equally_on_every_mesh(endless, family, size, sizes, figure):
    model = families.build(ladder.build(family, size, vocab_size=64))
    asked = _settings(steps=5)
    _, alone = _run(model, endless(0), asked)
    _, split = _run(model, endless(0), asked, mesh.make_mesh(*sizes))
    apart = _apart(split, alone)
    figure(_TABLE, f"{family} {size}", _axes(sizes), apart)
    assert apart <= 1e-5


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_lowered_step_holds_the_sharding_constraints(family, endless):
    # Under `with mesh:` they would silently be none: dependencies of Flax and JAX.
    size = {"t5": "30k", "llama": "25k"}[family]
    built = families.build(ladder.build(family, size, vocab_size=64))
    model, asked, on = built, _settings(), mesh.make_mesh(2, 2, 2)
    programs = _programs(model, asked, on)
    numbers = {k: jnp.float32(v) for k, v in optimizer.schedule_numbers(asked).items()}
    with jax.set_mesh(on):
        batch = feed.put(next(endless(0)), programs.batch)
        step: Any = programs.step
        text = step.lower(programs.abstract, None, batch, numbers).as_text()
    # A constraint forward and its transpose backward. T5: two look-ups, two blocks of
    # the encoder's layer, three of the decoder's; LLaMA: two look-ups, two layers of
    # two blocks for the target, one for the source (its last only makes keys).
    forward = {"t5": 2 + 2 + 3, "llama": 2 + 2 * 2 + 2}[family]
    assert text.count("sharding_constraint") >= 2 * forward


def test_tables_of_codes_train_under_the_default_rules():
    """RIPOR's head: a table a level, its other levels impossible, and smoothing."""
    codes = config.CodeTables(levels=2, size=8, head="level")
    model = families.build(
        ladder.build("llama", "25k", vocab_size=16 + 2 * 8, codes=codes)
    )
    rng = np.random.default_rng(0)
    target = np.stack([16 + rng.integers(0, 8, 8), 24 + rng.integers(0, 8, 8)], 1)
    batch = {
        "source_BS": rng.integers(2, 16, (8, 4), dtype=np.int32),
        "target_BL": target.astype(np.int32),
    }
    asked = _settings(steps=8, label_smoothing=0.1)
    _, seen = _run(model, iter([batch] * 8), asked, mesh.make_mesh(2, 1, 2))
    nats = [float(m["nats"] / m["tokens"]) for m in seen]
    assert all(bool(m["is_finite"]) for m in seen)
    assert nats[-1] < 0.8 * nats[0]
    assert abs(nats[0] - np.log(8)) < 1.0


def test_parameters_and_moments_are_split_by_the_rules(tiny_model):
    on = mesh.make_mesh(1, 4, 2)
    programs = _programs(tiny_model(), _settings(), on)
    with jax.set_mesh(on):
        state = programs.new_state(programs.new_params(np.uint32(0)), np.uint32(0))
    for tree in (state.params, state.optimizer.mu, state.optimizer.nu):
        table = tree["token_embedder"]["embedding"]
        assert table.addressable_shards[0].data.shape == (16, 4)
        assert tree["mlp"]["wo"]["kernel"].addressable_shards[0].data.shape == (16, 4)
