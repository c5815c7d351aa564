"""Crossovers against planted ones, and what pairing the queries is worth."""

from __future__ import annotations

import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.fit import crossover, objective, optimum, points
from gr_jax.fit.laws import law, registry

SQUARES = objective.Objective(loss="squares")


def test_curves_cross_where_they_were_planted_and_pairing_narrows() -> None:
    generator = np.random.default_rng(0)
    x_R = np.geomspace(1e4, 1e8, 14)
    hard_Q = np.exp(0.6 * generator.standard_normal(300))

    def method(floor: float, scale: float) -> np.ndarray:
        level_R = floor + (scale / x_R) ** 0.5
        own_RQ = np.exp(0.05 * generator.standard_normal((14, 300)))
        return level_R[:, None] * hard_Q * own_RQ

    # 1 + (9e4/x)^.5 falls below 1.1 + (4e4/x)^.5 at x = (100 / 0.1)^2 = 1e6.
    one_RQ, other_RQ = method(1.0, 9e4), method(1.1, 4e4)
    one, other = (
        optimum.find(
            registry.get("single-power"), points.make(x_R, v.mean(axis=1)), SQUARES
        )
        for v in (one_RQ, other_RQ)
    )
    paired = crossover.between(
        one, other, one_RQ=one_RQ, other_RQ=other_RQ, resamples=200
    )
    loose = crossover.between(one, other, resamples=200)
    assert paired.is_paired
    assert not loose.is_paired
    assert paired.x == pytest.approx(1e6, rel=0.3)
    assert paired.low is not None
    assert paired.high is not None
    assert paired.low < 1e6 < paired.high
    assert paired.share > 0.9
    never = crossover.between(one, one, resamples=50)
    assert never.x is None


def fitted(value_RQ: np.ndarray, x_R: np.ndarray) -> optimum.Optimum:
    data = points.make(x_R, value_RQ.mean(axis=1))
    return optimum.find(registry.get("single-power"), data, SQUARES)


@pytest.mark.parametrize("count", [8, 14])
def test_a_rival_without_an_axis_is_overtaken_where_it_was_planted(count: int) -> None:
    generator = np.random.default_rng(1)
    x_R = np.geomspace(1e4, 1e8, count)
    hard_Q = np.exp(0.6 * generator.standard_normal(300))
    own_RQ = np.exp(0.05 * generator.standard_normal((count, 300)))
    # 1 + (9e4/x)^.5 is 1.1 at x = 9e6.
    value_RQ = (1.0 + (9e4 / x_R) ** 0.5)[:, None] * hard_Q * own_RQ
    level_Q = 1.1 * hard_Q * np.exp(0.05 * generator.standard_normal(300))
    one = fitted(value_RQ, x_R)
    paired = crossover.below_level(
        one, float(level_Q.mean()), one_RQ=value_RQ, level_Q=level_Q, resamples=300
    )
    loose = crossover.below_level(one, float(level_Q.mean()), resamples=300)
    assert paired.is_paired
    assert not loose.is_paired
    assert paired.x == pytest.approx(9e6, rel=0.35)
    assert paired.low is not None
    assert paired.high is not None
    assert paired.low < 9e6 < paired.high
    # Queries drawn for the curve alone would move it by their own spread.
    shuffled_Q = generator.permutation(level_Q)
    crossed = crossover.below_level(
        one, float(level_Q.mean()), one_RQ=value_RQ, level_Q=shuffled_Q, resamples=300
    )
    assert crossed.share < paired.share
    never = crossover.below_level(one, 0.5, resamples=50)
    assert never.x is None
    assert never.share == 0.0


def test_laws_of_other_axes_do_not_cross() -> None:
    x_R = np.geomspace(1e4, 1e8, 8)
    value_R = 1.0 + (9e4 / x_R) ** 0.5
    one, other = (
        optimum.find(
            registry.get("single-power"), points.make(x_R, value_R, axes=axes), SQUARES
        )
        for axes in (("params_non_embedding",), ("data_examples",))
    )
    with pytest.raises(errors.InputError, match="the same for both"):
        crossover.between(one, other)
    x_RA = law.grid([1e5, 1e6, 1e7], [1e5, 1e6, 1e7])
    value_R = 1.0 + 30 * x_RA[:, 0] ** -0.5 + 40 * x_RA[:, 1] ** -0.5
    joint = optimum.find(
        registry.get("chinchilla"), points.make(x_RA, value_R), SQUARES
    )
    with pytest.raises(errors.InputError, match="one axis"):
        crossover.between(joint, joint)
