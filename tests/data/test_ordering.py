from __future__ import annotations

import hashlib

import numpy as np
import pytest

from gr_jax.data import ordering


@pytest.mark.parametrize("count", [1, 2, 17, 1000])
def test_an_order_is_a_permutation(count: int) -> None:
    rows = ordering.order(count, seed=3, epoch=1)
    assert sorted(rows.tolist()) == list(range(count))


def test_orders_are_the_same_on_every_machine() -> None:
    rows = ordering.order(1000, seed=7, epoch=2)
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "7212db92f8a76322"


def test_orders_look_random() -> None:
    places = np.stack([ordering.order(50, seed=s, epoch=0) for s in range(2000)])
    counts = np.apply_along_axis(np.bincount, 0, places, minlength=50)
    # Each of 2,500 cells expects 40; chi-square over all has mean 2,401, deviation 69.
    assert abs(((counts - 40) ** 2 / 40).sum() - 2401) < 5 * 69


def test_ranks_are_float32_below_one_and_spread() -> None:
    ranks = np.array([ordering.rank_of(f"q{i}") for i in range(4000)])
    assert ranks.dtype == np.float32
    assert ranks.min() >= 0
    assert ranks.max() < 1
    assert np.abs(np.histogram(ranks, 10, (0, 1))[0] - 400).max() < 5 * 19
