from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.decode import top_k


@pytest.mark.parametrize(
    ("size", "count"), [(5, 3), (3, 5), (4096, 2), (5000, 7), (1024, 64)]
)
def test_equals_a_full_sort(size: int, count: int) -> None:
    rng = np.random.default_rng(size)
    score = rng.normal(size=(3, size)).astype(np.float32)
    score[:, rng.random(size) < 0.3] = -np.inf
    score[1] = -np.inf
    best, place = jax.jit(top_k.best, static_argnums=1)(jnp.asarray(score), count)
    want = np.sort(np.pad(score, ((0, 0), (0, count)), constant_values=-np.inf), 1)
    np.testing.assert_array_equal(best, want[:, ::-1][:, :count])
    real = np.asarray(best) > -np.inf
    found = np.take_along_axis(score, np.asarray(place), axis=1)
    np.testing.assert_array_equal(found[real], np.asarray(best)[real])
    for row in range(3):
        places = np.asarray(place)[row][real[row]]
        assert len(set(places.tolist())) == len(places)


def test_groups_count_places_across_groups() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=(2, 40, 8)).astype(np.float32)
    best, place = top_k.best_of_groups(jnp.asarray(score), 5)
    flat = score.reshape(2, -1)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, np.asarray(place), 1), np.asarray(best)
    )
    np.testing.assert_array_equal(best, -np.sort(-flat, axis=1)[:, :5])
