from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.decode import stable_top


def ordered(row: np.ndarray, count: int) -> list[int]:
    """Places of the best entries, the left one of equals first."""
    return sorted(range(row.size), key=lambda place: (-row[place], place))[:count]


@pytest.mark.parametrize(
    ("width", "count"), [(5, 3), (5, 5), (3000, 5), (4096, 8), (2500, 400)]
)
@pytest.mark.parametrize("values", [2, 1000])
def test_best_entries_of_rows_with_many_ties(
    width: int, count: int, values: int
) -> None:
    rng = np.random.default_rng(width + values)
    score_RV = rng.integers(0, values, (6, width)).astype(np.float32)
    score_RV[rng.random((6, width)) < 0.3] = -np.inf
    score_RK, place_RK = stable_top.best_in_rows(jnp.asarray(score_RV), count)
    for row, score_K, place_K in zip(score_RV, score_RK, place_RK, strict=True):
        expected = ordered(row, count)
        np.testing.assert_array_equal(score_K, row[expected])
        np.testing.assert_array_equal(place_K, expected)


def test_a_row_shorter_than_the_count_is_filled() -> None:
    score_RK, place_RK = stable_top.best_in_rows(jnp.array([[1.0, 2.0]]), 4)
    assert score_RK.tolist() == [[2.0, 1.0, -np.inf, -np.inf]]
    assert place_RK.tolist() == [[1, 0, 0, 0]]


def test_merge_drops_repeated_keys_and_orders_ties_by_key() -> None:
    none = stable_top.NO_KEY
    score_BK = jnp.array([[3.0, 1.0, -jnp.inf, 3.0, 3.0, 1.0, 2.0]])
    key_BK = jnp.array([[7, 4, none, 2, 7, 4, 9]], jnp.int32)
    score_BC, key_BC = jax.jit(lambda s, k: stable_top.merge(s, k, 5))(score_BK, key_BK)
    assert key_BC.tolist() == [[2, 7, 9, 4, none]]
    assert score_BC.tolist() == [[3.0, 3.0, 2.0, 1.0, -np.inf]]
