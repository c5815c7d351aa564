"""One call from points to a fit with intervals, judgement and everything to plot it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from gr_jax.fit import backtest, bootstrap, fits, judgement, profile, rivals
from gr_jax.fit import objective as objective_module
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit import points as points_module
from gr_jax.fit.laws import law, registry

Array = law.Array
Fit = fits.Fit
Optimum = optimum_module.Optimum
Points = points_module.Points
Uncertainty = Literal["auto", "pairs", "wild", "parametric-t", "profile"]

PAIRS_FROM = bootstrap.PAIRS_FROM
_STORED_DRAWS = 200
_CURVE_POINTS = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a fit is made.

    Attributes:
      objective: What is minimised; None chooses by `optimum.automatic`.
      uncertainty: How intervals are made; ``auto`` is `profile` (coefficients that are
        not coordinates, and bands: ``parametric-t``) below 13 configurations and
        ``pairs`` from there.
      resamples: Resampled fits for intervals and bands.
      seed: Of every stream.
      is_weighted: Weigh points by one over the variance that their intervals tell.
      extrapolate: The curve reaches this many times beyond the largest x.
      null: Value of the metric for a model that knows nothing.
      is_trend_required: Refuse when a constant explains the points as well.
      has_rivals: Fit the other laws of as many axes too, and compare.
      form: Answers to the survey checklist that only the caller knows.
    """

    objective: objective_module.Objective | None = None
    uncertainty: Uncertainty = "auto"
    resamples: int = 1000
    seed: int = 0
    is_weighted: bool = False
    extrapolate: float = 10.0
    null: float | None = None
    is_trend_required: bool = True
    has_rivals: bool = True
    form: dict[str, str] = dataclasses.field(default_factory=dict)


def run(
    points: Points,
    law_name: str,
    *,
    name: str = "",
    settings: Settings | None = None,
    group: dict[str, Any] | None = None,
    query_RQ: Array | None = None,
) -> Fit:
    """Fits a law, or says why not.

    Args:
      points: Configurations with their values; repeats are averaged first.
      law_name: Name in the registry.
      name: What the fit is called in tables.
      settings: How; the defaults serve most cases.
      group: What the runs share, stored as it is.
      query_RQ: The metric of each point on each query, if known: its resampling tells
        how much of the uncertainty is the queries'.

    Returns:
      A fit whose ``status`` is ``fitted``, or ``refused`` with a reason.

    Example:
      >>> x = np.geomspace(1e5, 1e8, 8)
      >>> points = points_module.make(x[:, None], 2.0 + (1e4 / x) ** 0.5)
      >>> run(points, "single-power").params["alpha"]["value"].__round__(6)
      0.5
    """
    settings = settings or Settings()
    family = registry.get(law_name)
    if query_RQ is not None:
        query_RQ = points_module.merge_rows(points, query_RQ)
    points = points_module.merge_repeats(points)
    blank = Fit(
        name=name or f"{points.metric} by {','.join(points.axes)}",
        law=family.name,
        formula=family.formula,
        x=",".join(points.axes),
        y=points.metric,
        status="refused",
        points=_point_rows(points),
        group=dict(group or {}),
        form=dict(settings.form),
    )
    finding = judgement.refusal(family, points, null=settings.null)
    if finding is not None:
        return _refused(blank, finding)
    if settings.is_weighted:
        points = _weighted(family, points, settings)
    chosen = settings.objective or optimum_module.automatic(family, points)
    found = optimum_module.find(family, points, chosen)
    finding = judgement.trend(found) if settings.is_trend_required else None
    if finding is not None:
        return _refused(blank, finding)
    fit = _fitted(blank, found, settings)
    if query_RQ is None:
        return fit
    spread = query_intervals(found, query_RQ, settings)
    return dataclasses.replace(fit, quality={**fit.quality, "queries": spread})


def _weighted(family: law.Law, points: Points, settings: Settings) -> Points:
    is_log = family.link == "log" and bool((points.y_R > 0).all())
    if settings.objective is not None:
        is_log = settings.objective.residual == "log"
    return points_module.weighted_by_errors(points, is_relative=is_log)


def query_intervals(
    found: Optimum, query_RQ: Array, settings: Settings
) -> dict[str, Any]:
    """95% intervals that resampling the queries alone makes, and queries with runs."""
    resamples, seed = settings.resamples, settings.seed
    draws = {
        "alone": bootstrap.two_way(
            found, query_RQ, resamples=resamples, seed=seed, with_runs=False
        ),
        "with_runs": bootstrap.queries_and_runs(
            found, query_RQ, resamples=resamples, seed=seed
        ),
    }
    spread: dict[str, Any] = {"queries": int(query_RQ.shape[1])}
    for label, draws_BP in draws.items():
        table = found.coefficients(draws_BP)
        spread[label] = {
            name: np.percentile(value_B[np.isfinite(value_B)], [2.5, 97.5]).tolist()
            for name, value_B in table.items()
        }
    return spread


def _refused(blank: Fit, finding: judgement.Finding) -> Fit:
    return dataclasses.replace(blank, reason=f"{finding.code}: {finding.message}")


def _fitted(blank: Fit, found: Optimum, settings: Settings) -> Fit:
    made = intervals(found, settings)
    draws_BP = made.draws_BP
    remarks = judgement.warnings(found, made.spans)
    tested = backtest.roll_out(found)
    certificate = dataclasses.asdict(found.certificate)
    thin = slice(None, None, max(1, draws_BP.shape[0] // _STORED_DRAWS))
    return dataclasses.replace(
        blank,
        status="fitted",
        form={**_answers(found), **blank.form},
        warnings=[dataclasses.asdict(remark) for remark in remarks],
        params=made.rows,
        curve=curve(found, draws_BP, settings, factor=tested.factor),
        residuals=found.residual_R.tolist(),
        objective={
            "words": found.objective.describe(),
            "value": found.total,
            **dataclasses.asdict(found.objective),
        },
        method=_method(made.how, found, settings),
        backtest=tested.to_json(),
        certificate={**certificate, "share": found.certificate.share},
        quality={
            "sigma": found.sigma,
            "n": found.points.distinct(),
            "runs": int(found.points.runs_R.sum()),
            "parameters": found.theta_P.size,
            "dof": found.dof,
            "r2": judgement.r_squared(found),
            "aicc": judgement.aicc(found),
            "rivals": [
                rival.to_json()
                for rival in (
                    rivals.compare(found.points) if settings.has_rivals else []
                )
            ],
        },
        solver={
            "coordinates": list(found.family.coordinates),
            "theta": found.theta_P.tolist(),
            "centre": found.setting.centre_A.tolist(),
            "draws": draws_BP[thin].tolist(),
            "covariance": found.covariance().tolist(),
            "variance": backtest.residual_variance(found),
            "low": found.points.x_RA.min(axis=0).tolist(),
            "high": found.points.x_RA.max(axis=0).tolist(),
        },
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """How sure the coefficients are.

    Attributes:
      how: The method.
      rows: Coefficients with 95% intervals, as in `fits.Fit.params`.
      draws_BP: Resampled coordinates.
      spans: Profile intervals of the coordinates, if that is the method.
    """

    how: Uncertainty
    rows: dict[str, dict[str, Any]]
    draws_BP: Array
    spans: list[profile.Interval] | None


def intervals(found: Optimum, settings: Settings) -> Intervals:
    """Intervals by the method of the settings, or by the one that suits the points."""
    how = settings.uncertainty
    if how == "auto":
        how = "profile" if found.points.distinct() < PAIRS_FROM else "pairs"
    spans = profile.intervals(found) if how == "profile" else None
    draws_BP = _draws(found, how, settings)
    rows = coefficients(found, draws_BP, how, spans)
    return Intervals(how=how, rows=rows, draws_BP=draws_BP, spans=spans)


def _answers(found: Optimum) -> dict[str, str]:
    """The survey checklist's questions that the fit itself answers."""
    is_even = bool((found.points.weight_R == found.points.weight_R[0]).all())
    floor = "the law has none"
    if found.family.floor is not None:
        place = found.family.index(found.family.floor)
        low, high = found.setting.low_P[place], found.setting.high_P[place]
        floor = f"{np.exp(low):.3g} to {np.exp(high):.3g}, the largest value seen"
    return {"weights": "equal" if is_even else "as given", "floor": floor}


def _draws(found: Optimum, how: Uncertainty, settings: Settings) -> Array:
    resamples, seed = settings.resamples, settings.seed
    if how == "pairs":
        return bootstrap.pairs(found, resamples=resamples, seed=seed)
    if how == "wild":
        return bootstrap.wild(found, resamples=resamples, seed=seed)
    return bootstrap.parametric(found, resamples=resamples, seed=seed)


def _method(how: Uncertainty, found: Optimum, settings: Settings) -> str:
    count = found.points.distinct()
    words = {
        "pairs": f"{settings.resamples} resamples of the {count} configurations",
        "wild": f"{settings.resamples} wild resamples, signs drawn by configuration",
        "parametric-t": f"{settings.resamples} simulated data sets, spread by "
        f"Student's t with {found.dof} degrees of freedom",
        "profile": f"profile with F threshold ({found.dof} degrees of freedom); bands "
        f"and derived coefficients: {settings.resamples} simulated data sets, spread "
        "by Student's t",
    }[how]
    if settings.uncertainty == "auto":
        side = "fewer than" if count < PAIRS_FROM else "at least"
        words += f"; chosen because there are {side} {PAIRS_FROM} configurations"
    return words


def coefficients(
    found: Optimum,
    draws_BP: Array,
    how: str,
    spans: list[profile.Interval] | None,
) -> dict[str, dict[str, Any]]:
    """Published coefficients with 95% intervals and how each was made."""
    best = found.coefficients()
    spread = found.coefficients(draws_BP)
    rows: dict[str, dict[str, Any]] = {}
    for name, value_1 in best.items():
        value = float(value_1[0])
        place = None if spans is None else _coordinate(found, name)
        if spans is not None and place is not None:
            span = spans[place]
            ends = np.repeat(found.theta_P[None], 2, axis=0)
            ends[:, place] = [span.low, span.high]
            low, high = sorted(found.coefficients(ends)[name].tolist())
            method = "profile"
        else:
            finite_B = spread[name][np.isfinite(spread[name])]
            low, high = np.percentile(finite_B, [2.5, 97.5]).tolist()
            method = "parametric-t" if how == "profile" else how
        rows[name] = {"value": value, "low": low, "high": high, "method": method}
    return rows


def _coordinate(found: Optimum, name: str) -> int | None:
    """The coordinate that alone decides a coefficient, found by moving each."""
    moved = found.theta_P + 0.01 * np.eye(found.theta_P.size)
    value_P = found.coefficients(moved)[name]
    changed = np.flatnonzero(value_P != found.coefficients()[name][0])
    return int(changed[0]) if changed.size == 1 else None


def curve(
    found: Optimum, draws_BP: Array, settings: Settings, *, factor: float
) -> dict[str, Any]:
    """The curve with its bands; for more axes, a curve for each place of the others.

    ``low`` and ``high`` hold the fitted mean, ``run_low`` and ``run_high`` a new run as
    the noise alone would have it, ``wide_low`` and ``wide_high`` a new run as the
    back-test would have it: the naive width times ``factor``.
    """
    log_x_RA = found.setting.log_x_RA
    low, high = float(log_x_RA[:, 0].min()), float(log_x_RA[:, 0].max())
    reach = math.log(settings.extrapolate)
    start = low - 0.05 * (high - low)
    log_x_R: Array = np.linspace(start, high + reach, _CURVE_POINTS)
    x_R: Array = np.exp(log_x_R)
    if log_x_RA.shape[1] == 1:
        return {"x": x_R.tolist(), **_bands(found, draws_BP, x_R[:, None], factor)}
    rest = np.unique(found.points.x_RA[:, 1:], axis=0)
    last = rest.shape[0] - 1
    pick = sorted({round(last * part / 5) for part in range(6)})
    families: list[dict[str, Any]] = []
    for other_A in rest[pick]:
        x_RA = np.column_stack([x_R, np.tile(other_A, (x_R.size, 1))])
        bands = _bands(found, draws_BP, x_RA, factor)
        families.append({"at": other_A.tolist(), "x": x_R.tolist(), **bands})
    return {**families[-1], "families": families}


def _bands(
    found: Optimum, draws_BP: Array, x_RA: Array, factor: float
) -> dict[str, Any]:
    value_BR = found.values(x_RA, draws_BP)
    low_R, high_R = np.percentile(value_BR, [2.5, 97.5], axis=0)
    best_1R = found.values(x_RA)
    width_R = backtest.half_widths(found, x_RA)
    shifts = {
        "run_low": -1.0,
        "run_high": 1.0,
        "wide_low": -factor,
        "wide_high": factor,
    }
    return {
        "y": best_1R[0].tolist(),
        "low": low_R.tolist(),
        "high": high_R.tolist(),
        **{
            name: found.shifted(best_1R, (sign * width_R)[None])[0].tolist()
            for name, sign in shifts.items()
        },
    }


def _point_rows(points: Points) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, label in enumerate(points.labels):
        x: Any = points.x_RA[i].tolist()
        rows.append(
            {
                "x": x[0] if len(x) == 1 else x,
                "y": float(points.y_R[i]),
                "low": float(points.low_R[i]),
                "high": float(points.high_R[i]),
                "record": label,
                "runs": int(points.runs_R[i]),
                "weight": float(points.weight_R[i]),
            }
        )
    return rows
