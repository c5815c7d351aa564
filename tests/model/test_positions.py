"""Relative buckets from their definition; rotary angles by hand and by invariance."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from gr_jax.model import config as model_config
from gr_jax.model import positions


def _llama(**options) -> model_config.LlamaConfig:
    return model_config.LlamaConfig(
        vocab_size=8,
        embed_dim=8,
        mlp_dim=8,
        heads=1,
        kv_heads=1,
        head_dim=8,
        layers=1,
        start_token=3,
        **options,
    )


def _bucket(offset: int, buckets: int, distance: int, bidirectional: bool) -> int:
    """T5's rule, one offset at a time."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if offset > 0 else 0
        back = abs(offset)
    else:
        back = max(-offset, 0)
    exact = buckets // 2
    if back < exact:
        return first + back
    steps = math.log(back / exact) / math.log(distance / exact) * (buckets - exact)
    return first + min(exact + math.floor(steps + 1e-6), buckets - 1)


def test_buckets_follow_their_definition() -> None:
    offsets = np.arange(-300, 301)
    for buckets, distance in ((32, 128), (8, 12)):
        for bidirectional in (True, False):
            found = positions.relative_bucket(
                jnp.asarray(offsets)[None],
                buckets=buckets,
                distance=distance,
                bidirectional=bidirectional,
            )[0]
            wanted = [
                _bucket(int(o), buckets, distance, bidirectional) for o in offsets
            ]
            assert found.tolist() == wanted


def test_bias_of_a_later_step_is_the_row_of_the_whole() -> None:
    table_HP = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8)), jnp.float32)
    key_S = jnp.arange(9)
    rest = {"distance": 12, "bidirectional": False}
    whole = positions.relative_bias(table_HP, key_S, key_S, **rest)
    step = positions.relative_bias(table_HP, jnp.array([6]), key_S, **rest)
    np.testing.assert_array_equal(whole[:, 6:7], step)


def test_rotation_is_a_turn_of_each_pair() -> None:
    rate = positions.rotary_wavelengths(_llama())
    np.testing.assert_allclose(rate, [1.0, 0.1, 0.01, 0.001], rtol=1e-6)
    vector = jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    turn = positions.rotation(jnp.array([[3]]), rate, dtype="float32")
    found = positions.rotate(vector.reshape(1, 1, 1, 1, 8), turn).reshape(8)
    for i, (a, b) in enumerate(((1, 5), (2, 6), (3, 7), (4, 8))):
        turned = complex(a, b) * complex(math.cos(3 * rate[i]), math.sin(3 * rate[i]))
        np.testing.assert_allclose(found[i], turned.real, atol=1e-5)
        np.testing.assert_allclose(found[i + 4], turned.imag, atol=1e-5)


def test_products_depend_on_distance_alone() -> None:
    rng = np.random.default_rng(1)
    query, key = (jnp.asarray(rng.normal(size=(1, 1, 1, 1, 8))) for _ in range(2))
    rate = positions.rotary_wavelengths(_llama())

    def product(at: int, before: int) -> float:
        turns = [
            positions.rotation(jnp.array([[p]]), rate, dtype="float32")
            for p in (at, before)
        ]
        return float(
            (positions.rotate(query, turns[0]) * positions.rotate(key, turns[1])).sum()
        )

    assert math.isclose(product(5, 2), product(105, 102), abs_tol=1e-4)
    assert not math.isclose(product(5, 2), product(5, 4), abs_tol=1e-2)


def test_scaling_stretches_long_waves_and_keeps_short_ones() -> None:
    scaling = model_config.RopeScaling(factor=8.0, original_length=64)
    plain = positions.rotary_wavelengths(_llama())
    scaled = positions.rotary_wavelengths(_llama(rope_scaling=scaling))
    turns = 64 * plain / (2 * math.pi)
    assert turns[0] > 4.0
    assert scaled[0] == plain[0]
    assert (turns[2:] < 1.0).all()
    np.testing.assert_allclose(scaled[2:], plain[2:] / 8.0, rtol=1e-6)
    # Between: one turn and a bit, blended by how far it is from 1 to 4 turns.
    share = (turns[1] - 1.0) / 3.0
    wanted = (1 - share) * plain[1] / 8.0 + share * plain[1]
    np.testing.assert_allclose(scaled[1], wanted, rtol=1e-5)
