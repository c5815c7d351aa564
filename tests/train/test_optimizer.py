"""Rates and updates against optax's own assembled optimizers and schedules."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from gr_jax.train import optimizer, settings


def _rates(schedule: str, **changes: Any) -> list[float]:
    asked = settings.TrainSettings(
        steps=100,
        schedule=schedule,
        learning_rate=0.5,
        **changes,  # pyright: ignore
    )
    numbers = {k: jnp.float32(v) for k, v in optimizer.schedule_numbers(asked).items()}
    return [
        float(optimizer.learning_rate(jnp.int32(t), numbers, schedule=asked.schedule))
        for t in range(100)
    ]


def test_cosine_and_linear_are_those_of_optax():
    cosine = optax.cosine_decay_schedule(0.5, 100, alpha=0.2)
    linear = optax.linear_schedule(0.5, 0.1, 100)
    np.testing.assert_allclose(
        _rates("cosine", final_fraction=0.2), [cosine(t) for t in range(100)], rtol=1e-5
    )
    np.testing.assert_allclose(
        _rates("linear", final_fraction=0.2), [linear(t) for t in range(100)], rtol=1e-5
    )


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_warm_up_rises_in_even_steps_to_the_peak(schedule):
    rates = _rates(schedule, warmup_steps=10)
    np.testing.assert_allclose(rates[:10], 0.5 * np.arange(1, 11) / 10, rtol=1e-6)
    assert max(rates) == rates[9] == pytest.approx(0.5)


def test_inverse_sqrt_after_the_warm_up():
    rates = _rates("inverse_sqrt", warmup_steps=25)
    assert rates[99] == pytest.approx(0.5 * (25 / 100) ** 0.5)


def _steps(
    asked: settings.TrainSettings, params: Any, gradients: list[Any], decayed: Any
) -> Any:
    transformation = optimizer.transformation(asked.for_step())
    state = transformation.init(params)
    for gradient in gradients:
        directions, state = transformation.update(gradient, state, params)
        params = optimizer.apply(
            params,
            directions,
            rate=jnp.float32(asked.learning_rate),
            weight_decay=asked.weight_decay,
            decayed=decayed,
        )
    return params


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_updates_are_those_of_optax(name):
    generator = np.random.default_rng(0)
    # 130 x 140 is large enough for Adafactor to factor its second moment.
    shapes = {"kernel": (130, 140), "scale": (5,)}
    make = lambda: {  # noqa: E731
        k: jnp.asarray(generator.normal(size=s), jnp.float32) for k, s in shapes.items()
    }
    params, gradients = make(), [make() for _ in range(4)]
    asked = settings.TrainSettings(
        steps=4,
        optimizer=name,
        learning_rate=0.01,
        weight_decay=0.1 if name == "adamw" else 0.0,
    )
    decayed = {"kernel": True, "scale": False}
    if name == "adamw":
        theirs = optax.adamw(0.01, b2=0.99, weight_decay=0.1, mask=decayed)
    else:
        theirs = optax.adafactor(0.01)
    expected, state = params, theirs.init(params)
    for gradient in gradients:
        update, state = theirs.update(gradient, state, expected)
        expected = optax.apply_updates(expected, update)
    found = _steps(asked, params, gradients, decayed)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7),
        found,
        expected,
    )


def test_only_matrices_decay_also_under_a_scan():
    axes = {
        "kernel": PartitionSpec("embed", "mlp"),
        "scale": PartitionSpec("embed"),
        "stacked_scale": PartitionSpec("layers", "embed"),
        "stacked_kernel": ("layers", "embed", "mlp"),
    }
    assert optimizer.is_decayed(axes) == {
        "kernel": True,
        "scale": False,
        "stacked_scale": False,
        "stacked_kernel": True,
    }
