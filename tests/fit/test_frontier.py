"""The planner against exhaustive arithmetic on planted laws."""

from __future__ import annotations

import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.fit import costs, fits, fitting, frontier, objective, points
from gr_jax.fit.laws import law

SQUARES = objective.Objective(loss="squares")
QUICK = fitting.Settings(resamples=200, has_rivals=False, objective=SQUARES)
PRICES = costs.Prices(train=1e-12, query=1e-12, queries=1e6)


@pytest.fixture(scope="module")
def planned() -> fits.Fit:
    x_RA = law.grid([1e5, 3e5, 1e6, 3e6], [1e5, 1e6, 1e7], [1.0, 4.0, 16.0])
    miss_R = 0.1 + 40 * x_RA[:, 0] ** -0.5 + 60 * x_RA[:, 1] ** -0.5
    miss_R = miss_R + 0.3 * x_RA[:, 2] ** -0.8
    noise_R = 0.005 * np.random.default_rng(0).standard_normal(miss_R.size)
    data = points.make(
        x_RA,
        miss_R * np.exp(noise_R),
        axes=("params_non_embedding", "data_tokens", "beam"),
        metric="1-recall@10",
    )
    group = {"max_length": 8}
    return fitting.run(data, "retrieval-joint", settings=QUICK, group=group)


def test_the_cheapest_plan_is_the_cheapest_of_all(planned: fits.Fit) -> None:
    ledger = costs.textbook()
    plan = frontier.cheapest(planned, target=0.3, ledger=ledger, prices=PRICES)
    assert plan is not None
    best = np.inf
    for size, tokens, beam in frontier.grid_of(planned).place_RA:
        p = {name: row["value"] for name, row in planned.params.items()}
        miss = p["E"] + p["A"] * size ** -p["alpha"] + p["B"] * tokens ** -p["beta"]
        miss += p["C"] * beam ** -p["gamma"]
        money = 1e-12 * 6 * size * tokens
        money += 1e6 * 1e-12 * (64 * size + 2 * size * beam * 8)
        if miss <= 0.3:
            best = min(best, money)
    assert plan.money.value == pytest.approx(best, rel=1e-9)
    assert plan.money.low <= plan.money.value <= plan.money.high
    assert plan.reached == 1.0
    assert plan.query_flops == pytest.approx(
        plan.size.value * (64 + 16 * plan.beam.value)
    )
    assert frontier.cheapest(planned, target=0.01, ledger=ledger, prices=PRICES) is None


def test_dearer_queries_want_smaller_models_trained_longer(planned: fits.Fit) -> None:
    ledger = costs.textbook()
    few = costs.Prices(train=1e-12, query=1e-12, queries=1.0)
    many = costs.Prices(train=1e-12, query=1e-12, queries=1e9)
    one = frontier.cheapest(planned, target=0.25, ledger=ledger, prices=few)
    other = frontier.cheapest(planned, target=0.25, ledger=ledger, prices=many)
    assert one is not None
    assert other is not None
    cost = [p.size.value * (64 + 16 * p.beam.value) for p in (one, other)]
    assert cost[1] < cost[0]


def test_larger_budgets_buy_no_worse(planned: fits.Fit) -> None:
    rows = frontier.frontier(
        planned, [1e-9, 30.0, 100.0, 1000.0], ledger=costs.textbook(), prices=PRICES
    )
    assert rows[0]["value"] is None
    values = [row["value"] for row in rows[1:]]
    assert values == sorted(values, reverse=True)
    for row in rows[1:]:
        assert row["low"] <= row["value"] <= row["high"]
        assert row["money"] <= row["budget"]


def test_a_refused_law_and_a_missing_axis_cannot_be_planned_from() -> None:
    x_R = np.geomspace(1e5, 1e8, 8)
    data = points.make(x_R, 1 + (1e4 / x_R) ** 0.5, axes=("params_non_embedding",))
    refused = fitting.run(data.keep(np.arange(8) < 3), "single-power")
    with pytest.raises(errors.InputError, match="refused"):
        frontier.grid_of(refused)
    alone = fitting.run(data, "single-power", settings=QUICK)
    with pytest.raises(errors.InputError, match="data_tokens: None"):
        frontier.grid_of(alone)


def test_the_ledger_is_measured_on_records() -> None:
    records = [
        {
            "params_non_embedding": size,
            "data_tokens": tokens,
            "train_flops": 6.0 * size * tokens + 5e4 * tokens,
            "beam": beam,
            "max_length": 8,
            "inference_flops_per_query": {
                "prefill": 40.0 * size,
                "decode": 16.0 * size * beam,
            },
        }
        for size in (1e5, 1e6, 1e7)
        for tokens in (1e5, 1e6)
        for beam in (1, 8)
    ]
    ledger = costs.measured(records)
    one = np.array([3e6])
    assert ledger.train_flops(one, np.array([2e6]))[0] == pytest.approx(
        6.0 * 3e6 * 2e6 + 5e4 * 2e6, rel=1e-6
    )
    assert ledger.query_flops(one, np.array([4.0]), 8)[0] == pytest.approx(
        40 * 3e6 + 16 * 3e6 * 4, rel=1e-6
    )
    with pytest.raises(errors.InputError, match="no train_flops"):
        costs.measured([])


def test_next_runs_lower_the_variance_as_refitting_does(planned: fits.Fit) -> None:
    candidate_RA = law.grid([1e5, 1e6, 1e7], [1e6, 1e8], [4.0])
    flops_R = 6.0 * candidate_RA[:, 0] * candidate_RA[:, 1]
    target_A = np.array([3e7, 1e8, 16.0])
    picks = frontier.next_runs(planned, candidate_RA, flops_R, target_A, count=3)
    errors_after = [pick["error_after"] for pick in picks]
    assert errors_after == sorted(errors_after, reverse=True)
    assert picks[1]["error_before"] == pytest.approx(picks[0]["error_after"])
    # Information form of the same update: inverse covariance plus j j' / s^2.
    family, setting = planned.bound(np.asarray([picks[0]["x"], target_A.tolist()]))
    slope_2P = family.jacobian(setting, planned.theta()[None])[1][0]
    cover_PP = np.asarray(planned.solver["covariance"])
    free = np.flatnonzero(np.diag(cover_PP) > 0)
    inner = np.linalg.inv(cover_PP[np.ix_(free, free)])
    inner += np.outer(slope_2P[0, free], slope_2P[0, free]) / planned.solver["variance"]
    goal = slope_2P[1, free]
    want = float(np.sqrt(goal @ np.linalg.inv(inner) @ goal))
    assert picks[0]["error_after"] == pytest.approx(want, rel=1e-6)
