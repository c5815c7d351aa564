"""From laws to decisions: the cheapest plan, the frontier, the next runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from gr_jax.core import errors
from gr_jax.fit import costs, fits
from gr_jax.fit.laws import law

Array = law.Array
Fit = fits.Fit
_SIZES, _TOKENS = 48, 64
DATA_FIELDS = ("data_tokens", "data_examples", "data_queries")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """One number with its 95% interval over the draws of a fit."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The cheapest model, data and beam that reach a target.

    Attributes:
      size: Non-embedding parameters N.
      tokens: Data D, in what the law counts them: tokens or training pairs.
      beam: Beams M.
      length: Tokens of an identifier, as in the runs behind the law.
      money: Training and all queries.
      train_flops: Of the plan.
      query_flops: Of one query under it.
      reached: Share of the law's draws in which the grid reaches the target at all.
      beyond: How far outside the fitted range the plan lies, per axis (1: inside).
    """

    size: Choice
    tokens: Choice
    beam: Choice
    length: float
    money: Choice
    train_flops: float
    query_flops: float
    reached: float
    beyond: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """For the terminal and for files."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Places a planner may choose, within ``reach`` times the fitted range."""

    place_RA: Array
    column_A: dict[str, int]

    def columns(self, fit: Fit) -> Array:
        """The axes of a fit at every place."""
        return self.place_RA[:, [self.column_A[name] for name in fit.x.split(",")]]


def data_field(fit: Fit) -> str:
    """What a law counts data in; tokens if data are not among its axes."""
    axes = fit.x.split(",")
    return next((name for name in DATA_FIELDS if name in axes), DATA_FIELDS[0])


def _spaced(low: float, high: float, count: int) -> Array:
    return np.asarray(np.geomspace(low, high, count), dtype=np.float64)


def grid_of(
    fit: Fit, *, reach: float = 100.0, beams: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
) -> Grid:
    """Sizes, data and beams around what a fit has seen.

    An axis that the law does not have stays at the value its runs shared, which the
    fit's ``group`` holds.

    Raises:
      InputError: If the law was refused or an axis is neither in it nor in its group.
    """
    if not fit.is_fitted:
        raise errors.InputError(f"{fit.name}: refused ({fit.reason}): nothing to plan")
    axes = fit.x.split(",")
    columns: list[list[float]] = []
    fields = ("params_non_embedding", data_field(fit), "beam")
    for field in fields:
        if field in axes:
            place = axes.index(field)
            low, high = fit.solver["low"][place], fit.solver["high"][place]
            if field == "beam":
                columns.append([float(b) for b in beams if b <= high * reach])
            else:
                count = _SIZES if field == "params_non_embedding" else _TOKENS
                columns.append(_spaced(low, high * reach, count).tolist())
            continue
        value = fit.group.get(field)
        if not isinstance(value, int | float) or value <= 0:
            raise errors.InputError(
                f"{fit.name}: {field}: {value!r}: neither an axis of the law nor "
                "shared by its runs: plan from a law that has it"
            )
        columns.append([float(value)])
    names = {field: i for i, field in enumerate(fields)}
    return Grid(place_RA=law.grid(*columns), column_A=names)


def cheapest(
    fit: Fit,
    *,
    target: float,
    ledger: costs.Ledger,
    prices: costs.Prices,
    grid: Grid | None = None,
) -> Plan | None:
    """The cheapest place at which the law predicts ``target`` or lower.

    The same search under each draw of the fit gives the intervals.

    Args:
      fit: A law of a miss rate or a loss in size, data, beam, or some of them.
      target: Value to reach, such as 1 - recall.
      ledger: FLOPs of training and of a query.
      prices: Money for FLOPs.
      grid: Places to choose from; around the fitted range if not given.

    Returns:
      None if no place of the grid reaches the target.
    """
    grid = grid or grid_of(fit)
    length = float(fit.group.get("max_length") or 1.0)
    money_R = ledger.money(grid.place_RA, length, prices)
    order = np.argsort(money_R, kind="stable")
    x_RA = grid.columns(fit)[order]
    best = _first(fit.predict(x_RA) <= target)[0]
    if best < 0:
        return None
    first_B = _first(fit.predict(x_RA, fit.draws()) <= target)
    reached_B = first_B[first_B >= 0]
    rows = order[reached_B] if reached_B.size else order[[best]]
    chosen = int(order[best])
    place_A = grid.place_RA[chosen]

    def choice(values_R: Array) -> Choice:
        low, high = np.percentile(values_R[rows], [2.5, 97.5]).tolist()
        return Choice(value=float(values_R[chosen]), low=low, high=high)

    size_1, tokens_1, beam_1 = place_A[:, None]
    return Plan(
        size=choice(grid.place_RA[:, 0]),
        tokens=choice(grid.place_RA[:, 1]),
        beam=choice(grid.place_RA[:, 2]),
        length=length,
        money=choice(money_R),
        train_flops=float(ledger.train_flops(size_1, tokens_1)[0]),
        query_flops=float(ledger.query_flops(size_1, beam_1, length)[0]),
        reached=float((first_B >= 0).mean()),
        beyond=_beyond(fit, grid, chosen),
    )


def _first(is_met_BR: np.ndarray) -> np.ndarray:
    """The first true column of each row, -1 where there is none."""
    return np.where(is_met_BR.any(axis=1), is_met_BR.argmax(axis=1), -1)


def _beyond(fit: Fit, grid: Grid, row: int) -> dict[str, float]:
    x_A = grid.columns(fit)[row]
    names = fit.x.split(",")
    return {
        name: float(max(value / high, low / value, 1.0))
        for name, value, low, high in zip(
            names, x_A, fit.solver["low"], fit.solver["high"], strict=True
        )
    }


def frontier(
    fit: Fit,
    budgets: list[float],
    *,
    ledger: costs.Ledger,
    prices: costs.Prices,
    grid: Grid | None = None,
) -> list[dict[str, Any]]:
    """The best value each budget buys, with its interval and where it is."""
    grid = grid or grid_of(fit)
    length = float(fit.group.get("max_length") or 1.0)
    money_R = ledger.money(grid.place_RA, length, prices)
    x_RA = grid.columns(fit)
    best_R, draw_BR = fit.predict(x_RA)[0], fit.predict(x_RA, fit.draws())
    rows: list[dict[str, Any]] = []
    for budget in budgets:
        affordable = np.flatnonzero(money_R <= budget)
        if not affordable.size:
            rows.append({"budget": budget, "value": None})
            continue
        chosen = int(affordable[best_R[affordable].argmin()])
        lowest_B = draw_BR[:, affordable].min(axis=1)
        low, high = np.percentile(lowest_B, [2.5, 97.5]).tolist()
        size, tokens, beam = grid.place_RA[chosen].tolist()
        rows.append(
            {
                "budget": budget,
                "value": float(best_R[chosen]),
                "low": low,
                "high": high,
                "size": size,
                "tokens": tokens,
                "beam": beam,
                "money": float(money_R[chosen]),
                "beyond": _beyond(fit, grid, chosen),
            }
        )
    return rows


def next_runs(
    fit: Fit,
    candidate_RA: Float[np.ndarray, "R A"],
    flops_R: Float[np.ndarray, " R"],
    target_A: Float[np.ndarray, " A"],
    *,
    count: int = 5,
) -> list[dict[str, Any]]:
    r"""Which runs to do next: by fall of the target's variance for each FLOP.

    With covariance :math:`S` of the coordinates, slope :math:`g` of the prediction at
    the target and :math:`j` at a candidate, a run there lowers the variance of the
    prediction by :math:`(g'Sj)^2 / (s^2 + j'Sj)` (V-optimal design). Runs are picked
    one after another, each with those before it taken as done.

    Args:
      fit: A fitted law.
      candidate_RA: Places a run could have.
      flops_R: What each costs.
      target_A: Where the prediction matters.
      count: How many to pick.

    Returns:
      For each pick: place, FLOPs, standard error at the target before and after.
    """
    slope_RP = _slopes(fit, np.asarray(candidate_RA, dtype=np.float64))
    goal_P = _slopes(fit, np.asarray(target_A, dtype=np.float64)[None])[0]
    cover_PP = np.asarray(fit.solver["covariance"], dtype=np.float64)
    variance = float(fit.solver["variance"])
    picks: list[dict[str, Any]] = []
    for _ in range(min(count, len(flops_R))):
        spread_RP = slope_RP @ cover_PP
        own_R = (spread_RP * slope_RP).sum(axis=1)
        fall_R = (spread_RP @ goal_P) ** 2 / (variance + own_R)
        row = int(np.argmax(fall_R / flops_R))
        before = float(goal_P @ cover_PP @ goal_P)
        step_P = spread_RP[row]
        cover_PP = cover_PP - np.outer(step_P, step_P) / (variance + own_R[row])
        after = float(goal_P @ cover_PP @ goal_P)
        picks.append(
            {
                "x": np.asarray(candidate_RA)[row].tolist(),
                "flops": float(flops_R[row]),
                "error_before": max(before, 0.0) ** 0.5,
                "error_after": max(after, 0.0) ** 0.5,
                "fall_per_flop": float(fall_R[row] / flops_R[row]),
            }
        )
    return picks


def _slopes(fit: Fit, x_RA: Array) -> Array:
    """Slopes of the prediction in the coordinates, on the objective's scale."""
    family, setting = fit.bound(x_RA)
    value_1R, slope_1RP = family.jacobian(setting, fit.theta()[None])
    if family.link == "log" and fit.objective.get("residual") == "linear":
        return slope_1RP[0] * np.exp(value_1R[0])[:, None]
    return slope_1RP[0]
