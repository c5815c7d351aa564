"""Resampled fits: pairs, wild by configuration, parametric, and queries with runs."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from gr_jax.core import errors, randomness
from gr_jax.fit import descent, distributions
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit.laws import law

Array = law.Array
Optimum = optimum_module.Optimum
# Below this many configurations a pairs resample often holds too few distinct points.
PAIRS_FROM = 13
_TWO_WAY = "fit-two-way"
_LEVERAGE_LEFT = 0.05
_NORMAL = distributions.normal_quantile(0.975)


def counts(points: int, resamples: int, generator: np.random.Generator) -> Array:
    """How often each of some points is drawn, with replacement, in each resample."""
    drawn_BR = generator.integers(points, size=(resamples, points))
    offset_B1 = np.arange(resamples)[:, None] * points
    flat = np.bincount((drawn_BR + offset_B1).ravel(), minlength=resamples * points)
    return flat.reshape(resamples, points).astype(np.float64)


def refits(
    found: Optimum,
    *,
    value_BR: Array | None = None,
    weight_BR: Array | None = None,
    steps: int = 100,
) -> Array:
    """Coordinates (B, P) of fits to other values or other weights.

    Each problem starts at the optimum of the whole; the data decide the rest.
    """
    changes: dict[str, Array] = {}
    if value_BR is not None:
        is_log = found.objective.residual == "log"
        changes["value_BR"] = np.log(value_BR) if is_log else value_BR
    if weight_BR is not None:
        changes["weight_BR"] = weight_BR
    batch = next(iter(changes.values())).shape[0]
    solution = descent.minimise(
        found.family,
        found.setting,
        dataclasses.replace(found.target, **changes),
        np.repeat(found.theta_P[None], batch, axis=0),
        steps=steps,
    )
    return solution.theta_BP


def pairs(
    found: Optimum,
    *,
    resamples: int = 1000,
    seed: int = 0,
    count_BR: Float[np.ndarray, "B R"] | None = None,
) -> Array:
    """Fits to resampled configurations, as count weights and not as gathered rows.

    Args:
      found: The fit of all points.
      resamples: How many.
      seed: Of the stream ``fit-pairs``.
      count_BR: Counts to use instead of drawing them, one column a point.
    """
    if count_BR is None:
        group_R = found.points.configurations()
        generator = randomness.stream(seed, "fit-pairs")
        count_BG = counts(int(group_R.max()) + 1, resamples, generator)
        count_BR = count_BG[:, group_R]
    return refits(found, weight_BR=count_BR * found.points.weight_R)


def parametric(found: Optimum, *, resamples: int = 1000, seed: int = 0) -> Array:
    """Fits to the law plus normal noise of the estimated scale, spread by Student's t.

    The scale comes from few residuals, which a normal interval ignores; deviations
    from the optimum are stretched by the ratio of the two 97.5% quantiles.
    """
    generator = randomness.stream(seed, "fit-parametric")
    count = len(found.points)
    noise_BR = generator.standard_normal((resamples, count)) * found.sigma
    noise_BR /= np.sqrt(found.points.weight_R)
    value_BR = found.shifted(found.values(found.points.x_RA), noise_BR)
    theta_BP = refits(found, value_BR=value_BR)
    return _stretched(found, theta_BP)


def wild(
    found: Optimum,
    *,
    group_R: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Array:
    """Fits to the law plus residuals whose signs are drawn for each configuration.

    Points of one configuration move together, so noise that they share stays shared;
    each keeps its own size, so noise may differ along the axes. Webb's six-point
    weights (Webb 2014) serve the few groups that scaling studies have. A residual is
    divided by sqrt(1 - its leverage), for the part of the noise that the fit took, and
    deviations are stretched by Student's t as in `parametric`.
    """
    group_R = found.points.configurations() if group_R is None else group_R
    groups = int(group_R.max()) + 1
    generator = randomness.stream(seed, "fit-wild")
    levels = np.sqrt(np.array([0.5, 1.0, 1.5]))
    webb = np.concatenate([-levels, levels])
    sign_BG = webb[generator.integers(6, size=(resamples, groups))]
    root_R = np.sqrt(np.maximum(1.0 - leverage(found), _LEVERAGE_LEFT))
    residual_BR = sign_BG[:, group_R] * (found.residual_R / root_R)
    value_BR = found.shifted(found.values(found.points.x_RA), residual_BR)
    return _stretched(found, refits(found, value_BR=value_BR))


def leverage(found: Optimum) -> Array:
    """Share of each residual that the fit takes: diagonal of the hat matrix."""
    slope_RP = found.slopes() * np.sqrt(found.points.weight_R)[:, None]
    basis_RP = np.linalg.svd(slope_RP, full_matrices=False)[0]
    return np.asarray((basis_RP**2).sum(axis=1), dtype=np.float64)


def _stretched(found: Optimum, theta_BP: Array) -> Array:
    stretch = distributions.student_quantile(0.975, found.dof) / _NORMAL
    moved_BP = found.theta_P + stretch * (theta_BP - found.theta_P)
    return np.clip(moved_BP, found.setting.low_P, found.setting.high_P)


def two_way(
    found: Optimum,
    loss_RQ: Float[np.ndarray, "R Q"],
    *,
    resamples: int = 1000,
    seed: int = 0,
    with_runs: bool = True,
) -> Array:
    """Fits to means over resampled queries, with resampled runs.

    All runs share a draw of queries, as they shared the queries: what makes a query
    hard for every model moves all points together and not the curve's shape.

    Args:
      found: The fit of the means over all queries.
      loss_RQ: The metric of each run on each query; its mean is the point's value.
      resamples: How many.
      seed: Of the stream ``fit-two-way``.
      with_runs: Resample the runs too; off, the points stay and only their values move.

    Raises:
      InputError: If the rows are not the points, or their means are not the values.
    """
    if loss_RQ.shape[0] != len(found.points):
        raise errors.InputError(
            f"per-query values: {loss_RQ.shape[0]} runs for {len(found.points)} points"
        )
    gap_R = np.abs(loss_RQ.mean(axis=1) - found.points.y_R)
    if (gap_R > 1e-6 * np.abs(found.points.y_R)).any():
        worst = found.points.labels[int(gap_R.argmax())]
        raise errors.InputError(f"{worst}: mean over queries is not the point's value")
    generator = randomness.stream(seed, _TWO_WAY)
    count_BQ = counts(loss_RQ.shape[1], resamples, generator)
    value_BR = count_BQ @ loss_RQ.T / loss_RQ.shape[1]
    weight_BR = np.repeat(found.points.weight_R[None], resamples, axis=0)
    if with_runs:
        group_R = found.points.configurations()
        count_BG = counts(int(group_R.max()) + 1, resamples, generator)
        weight_BR = weight_BR * count_BG[:, group_R]
    return refits(found, value_BR=value_BR, weight_BR=weight_BR)


def query_counts(queries: int, *, resamples: int, seed: int) -> Array:
    """How often `two_way` draws each query, for methods without a law of their own."""
    return counts(queries, resamples, randomness.stream(seed, _TWO_WAY))


def queries_and_runs(
    found: Optimum,
    loss_RQ: Float[np.ndarray, "R Q"],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Array:
    """Fits whose spread is that of the queries and of the runs together.

    From 13 configurations `two_way`. With fewer, resampled runs hold too few distinct
    places: the deviations that the queries make and those of `parametric` are added,
    which counts what a run does on single queries twice and so errs to the wide side.
    """
    if found.points.distinct() >= PAIRS_FROM:
        return two_way(found, loss_RQ, resamples=resamples, seed=seed)
    query_BP = two_way(found, loss_RQ, resamples=resamples, seed=seed, with_runs=False)
    run_BP = parametric(found, resamples=resamples, seed=seed)
    return np.clip(
        query_BP + run_BP - found.theta_P, found.setting.low_P, found.setting.high_P
    )
