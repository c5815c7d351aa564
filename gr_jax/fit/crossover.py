"""Where one method overtakes another, with an interval that pairs their queries."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from gr_jax.core import errors
from gr_jax.fit import bootstrap, fits, objective
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit import points as points_module
from gr_jax.fit.laws import law, registry

Array = law.Array
Fit = fits.Fit
Optimum = optimum_module.Optimum
_PLACES = 600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crossover:
    """Where method A becomes lower than method B.

    Attributes:
      x: Place, None if the curves do not cross in the range.
      low: Lower end of the 95% interval over the draws that cross.
      high: Upper end.
      share: Share of draws in which they cross.
      is_paired: Whether both methods were resampled by the same queries.
      searched: The range of x that was searched.
    """

    x: float | None
    low: float | None
    high: float | None
    share: float
    is_paired: bool
    searched: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """For the terminal and for files."""
        return dataclasses.asdict(self)


def rebuilt(fit: Fit) -> Optimum:
    """The optimum behind a stored fit, found again from its points.

    Raises:
      InputError: If the law was refused.
    """
    if not fit.is_fitted:
        raise errors.InputError(f"{fit.name}: refused ({fit.reason})")
    points = points_module.make(
        np.array([np.atleast_1d(point["x"]) for point in fit.points]),
        np.array([point["y"] for point in fit.points]),
        weight_R=np.array([point.get("weight", 1.0) for point in fit.points]),
        labels=tuple(str(point["record"]) for point in fit.points),
        axes=tuple(fit.x.split(",")),
        metric=fit.y,
    )
    chosen = objective.Objective(
        **{name: fit.objective[name] for name in ("loss", "residual", "delta")}
    )
    return optimum_module.find(registry.get(fit.law), points, chosen)


def between(
    one: Optimum,
    other: Optimum,
    *,
    one_RQ: Float[np.ndarray, "R Q"] | None = None,
    other_RQ: Float[np.ndarray, "R2 Q"] | None = None,
    reach: float = 10.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Crossover:
    """Where the curve of one method falls below another's, with an interval.

    With the values of both on the same queries, each draw resamples the queries once
    for both: what makes queries hard cancels in the difference. Without them both fits
    are resampled on their own.

    Args:
      one: Method A, a law of one axis.
      other: Method B, in the same axis.
      one_RQ: Values of A's points on the queries.
      other_RQ: Values of B's points on the same queries, in the same order.
      reach: The search goes this many times beyond both ranges.
      resamples: Draws.
      seed: Of the streams.

    Raises:
      InputError: If the laws have more than one axis, or not the same one.
    """
    if one.points.axes != other.points.axes or len(one.points.axes) != 1:
        raise errors.InputError(
            f"crossover: {one.points.axes} and {other.points.axes}: give two laws of "
            "one axis, the same for both"
        )
    axis_R1 = _places(np.concatenate([one.points.x_RA, other.points.x_RA]), reach)
    is_paired = one_RQ is not None and other_RQ is not None
    draws: list[Array] = []
    for place, (found, value_RQ) in enumerate(((one, one_RQ), (other, other_RQ))):
        if is_paired and value_RQ is not None:
            # The queries are drawn first from the stream: one seed, the same queries.
            draws.append(
                bootstrap.queries_and_runs(
                    found, value_RQ, resamples=resamples, seed=seed
                )
            )
        else:
            draws.append(
                bootstrap.parametric(found, resamples=resamples, seed=seed + place)
            )
    return _crossing(
        one.values(axis_R1) - other.values(axis_R1),
        one.values(axis_R1, draws[0]) - other.values(axis_R1, draws[1]),
        axis_R1[:, 0],
        is_paired=is_paired,
    )


def below_level(
    one: Optimum,
    level: float,
    *,
    one_RQ: Float[np.ndarray, "R Q"] | None = None,
    level_Q: Float[np.ndarray, " Q"] | None = None,
    reach: float = 10.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Crossover:
    """Where the curve of a method falls below a rival that has no axis, such as BM25.

    Args:
      one: The method, a law of one axis.
      level: The rival's value.
      one_RQ: Values of the method's points on the queries.
      level_Q: The rival's values on the same queries, in the same order.
      reach: The search goes this many times beyond the range.
      resamples: Draws.
      seed: Of the streams.
    """
    axis_R1 = _places(one.points.x_RA, reach)
    level_B1 = np.full((resamples, 1), level)
    is_paired = one_RQ is not None and level_Q is not None
    if one_RQ is not None and level_Q is not None:
        draw_BP = bootstrap.queries_and_runs(
            one, one_RQ, resamples=resamples, seed=seed
        )
        count_BQ = bootstrap.query_counts(
            level_Q.shape[0], resamples=resamples, seed=seed
        )
        level_B1 = (count_BQ @ level_Q / level_Q.shape[0])[:, None]
    else:
        draw_BP = bootstrap.parametric(one, resamples=resamples, seed=seed)
    return _crossing(
        one.values(axis_R1) - level,
        one.values(axis_R1, draw_BP) - level_B1,
        axis_R1[:, 0],
        is_paired=is_paired,
    )


def _places(x_RA: Array, reach: float) -> Array:
    low, high = float(x_RA[:, 0].min()) / reach, float(x_RA[:, 0].max()) * reach
    return np.asarray(np.geomspace(low, high, _PLACES), dtype=np.float64)[:, None]


def _crossing(
    gap_1R: Array, gap_BR: Array, x_R: Array, *, is_paired: bool
) -> Crossover:
    x_B = _falls_below(gap_BR, x_R)
    crossing_B = x_B[np.isfinite(x_B)]
    best = float(_falls_below(gap_1R, x_R)[0])
    low = high = None
    if crossing_B.size:
        low, high = np.percentile(crossing_B, [2.5, 97.5]).tolist()
    return Crossover(
        x=best if np.isfinite(best) else None,
        low=low,
        high=high,
        share=float(np.isfinite(x_B).mean()),
        is_paired=is_paired,
        searched=(float(x_R[0]), float(x_R[-1])),
    )


def _falls_below(gap_BR: Array, x_R: Array) -> Array:
    """The last place where a gap goes from positive to negative, NaN without one."""
    is_fall_BR = (gap_BR[:, :-1] > 0) & (gap_BR[:, 1:] <= 0)
    last_B = is_fall_BR.shape[1] - 1 - is_fall_BR[:, ::-1].argmax(axis=1)
    rows = np.arange(gap_BR.shape[0], dtype=np.intp)
    before_B, after_B = gap_BR[rows, last_B], gap_BR[rows, last_B + 1]
    width_B = np.where(before_B == after_B, 1.0, before_B - after_B)
    log_x_R = np.log(x_R)
    part_B = before_B / width_B
    value_B = log_x_R[last_B] + part_B * (log_x_R[last_B + 1] - log_x_R[last_B])
    return np.where(is_fall_BR.any(axis=1), np.exp(value_B), np.nan)
