"""The solver against SciPy, at bounds, and at the batch size that hung elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import optimize

from gr_jax.fit import bootstrap, descent, objective, optimum, points
from gr_jax.fit.laws import chinchilla, single_power


def noisy(count: int = 12) -> points.Points:
    x_R = np.geomspace(1e5, 1e8, count)
    noise_R = 0.01 * np.random.default_rng(3).standard_normal(count)
    return points.make(x_R, (1.2 + (3e4 / x_R) ** 0.5) * np.exp(noise_R))


@pytest.mark.parametrize("loss", ["squares", "huber"])
@pytest.mark.parametrize("residual", ["log", "linear"])
def test_the_minimum_is_scipys(loss: str, residual: str) -> None:
    data = noisy()
    delta = 0.008
    chosen = objective.Objective(loss=loss, residual=residual, delta=delta)  # type: ignore[arg-type]
    found = optimum.find(single_power.SinglePower(), data, chosen)
    x_R, y_R = data.x_RA[:, 0] / 1e6, data.y_R

    def total(theta: np.ndarray) -> float:
        curve_R = np.exp(theta[0]) + np.exp(theta[1]) * x_R ** -theta[2]
        gap_R = np.log(y_R / curve_R) if residual == "log" else y_R - curve_R
        if loss == "squares":
            return float(0.5 * (gap_R**2).sum())
        size_R = np.abs(gap_R)
        inner = 0.5 * size_R**2
        return float(
            np.where(size_R <= delta, inner, delta * (size_R - delta / 2)).sum()
        )

    options = {"xatol": 1e-12, "fatol": 1e-18, "maxiter": 20_000, "maxfev": 20_000}
    best = min(
        (
            optimize.minimize(total, start, method="Nelder-Mead", options=options)
            for start in ([0.1, -1.5, 0.5], [0.0, -1.0, 0.3])
        ),
        key=lambda result: result.fun,
    )
    assert found.total <= best.fun * (1 + 1e-7)
    assert found.total == pytest.approx(best.fun, rel=1e-5)
    assert found.coefficients()["alpha"][0] == pytest.approx(best.x[2], rel=1e-3)


def test_absolute_loss_is_the_median_for_a_constant() -> None:
    data = noisy(13)
    absolute = objective.Objective(loss="absolute", delta=1e-5)
    found = optimum.find(single_power.SinglePower(), data, absolute)
    # Three coordinates: an L1 fit passes through three points.
    assert (np.abs(found.residual_R) < 2e-5).sum() >= 3
    squares = optimum.find(
        single_power.SinglePower(), data, objective.Objective(loss="squares")
    )
    assert np.abs(found.residual_R).sum() <= np.abs(squares.residual_R).sum()


def test_small_systems_are_solved_and_singular_ones_do_not_raise() -> None:
    generator = np.random.default_rng(0)
    half_BPP = generator.standard_normal((50, 5, 5))
    matrix_BPP = half_BPP @ half_BPP.swapaxes(1, 2) + 0.1 * np.eye(5)
    right_BP = generator.standard_normal((50, 5))
    want_BP = np.stack(
        [np.linalg.solve(m, r) for m, r in zip(matrix_BPP, right_BP, strict=True)]
    )
    np.testing.assert_allclose(
        descent.solve_linear(matrix_BPP, right_BP), want_BP, 1e-6
    )
    assert descent.solve_linear(np.zeros((2, 3, 3)), np.ones((2, 3))).shape == (2, 3)


def test_coordinates_stay_within_bounds_and_fixed_ones_stay() -> None:
    x_R = np.geomspace(1e3, 1e6, 9)
    data = points.make(x_R, (1e3 / x_R) ** 0.5)
    found = optimum.find(
        single_power.SinglePower(), data, objective.Objective(loss="squares")
    )
    assert found.theta_P[0] >= found.setting.low_P[0]
    fixed_BP = np.array([[False, False, True]])
    start_BP = found.theta_P[None] + np.array([[0.0, 0.3, 0.2]])
    held = descent.minimise(
        found.family, found.setting, found.target, start_BP, fixed_BP=fixed_BP
    )
    assert held.theta_BP[0, 2] == start_BP[0, 2]
    assert held.total_B[0] > found.total


@pytest.mark.timeout(60)
def test_four_thousand_problems_in_one_batch_end() -> None:
    generator = np.random.default_rng(0)
    size, tokens = np.meshgrid(np.geomspace(1e6, 1e9, 8), np.geomspace(1e8, 1e11, 8))
    x_RA = np.stack([size.ravel(), tokens.ravel()], axis=1)
    loss_R = 1.8 + 400 * x_RA[:, 0] ** -0.35 + 2000 * x_RA[:, 1] ** -0.37
    loss_R *= np.exp(0.01 * generator.standard_normal(64))
    found = optimum.find(
        chinchilla.Chinchilla(), points.make(x_RA, loss_R), objective.Objective()
    )
    count_BR = bootstrap.counts(64, 4000, generator)
    target = dataclasses.replace(found.target, weight_BR=count_BR)
    start_BP = np.repeat(found.theta_P[None], 4000, axis=0)
    solved = descent.minimise(found.family, found.setting, target, start_BP)
    assert solved.is_converged_B.mean() > 0.99
    # One of the batch is the same as alone: problems do not touch each other.
    alone = descent.minimise(
        found.family, found.setting, target.rows(slice(7, 8)), start_BP[:1]
    )
    np.testing.assert_allclose(alone.total_B[0], solved.total_B[7], rtol=1e-9)
