"""Would this law have predicted the largest runs from the smaller ones?

A bootstrap knows the noise and not that the law is only nearly right, so its intervals
are too narrow beyond the data. Here the law is fitted below a series of cuts and judged
above each; the worst of these tests says by how much to widen.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from gr_jax.fit import distributions
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit import points as points_module
from gr_jax.fit.laws import law

Array = law.Array
Optimum = optimum_module.Optimum
Points = points_module.Points

CUTS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
    """One test: fitted to the smallest configurations, judged on the others.

    Attributes:
      train: Configurations fitted.
      test: Configurations predicted.
      error: Mean absolute relative error above the cut.
      bias: Mean signed relative error, observed minus predicted.
      inside: Share of runs inside the naive 95% interval of a new run.
      factor: What the interval must be multiplied by to hold 95% of them.
    """

    train: int
    test: int
    error: float
    bias: float
    inside: float
    factor: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class RollOut:
    """Tests at a series of cuts.

    Attributes:
      factor: The largest factor of any cut, at least one; one too where there are too
        few configurations for a single test.
      cuts: The tests.
      largest: The largest configuration predicted from all others, if it could be.
    """

    factor: float
    cuts: tuple[Cut, ...]
    largest: dict[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """As stored in `Fit.backtest`."""
        return {
            "factor": self.factor,
            "cuts": [dataclasses.asdict(cut) for cut in self.cuts],
            "largest": self.largest,
            "note": "" if self.cuts else "too few configurations to test on",
        }


def scales(points: Points) -> Array:
    """What orders configurations from small to large: the sum of the axes' logs.

    For size and data this is the order of training compute.
    """
    return np.log(points.x_RA).sum(axis=1)


def half_widths(
    found: Optimum, x_RA: Float[np.ndarray, "R A"], *, is_new_run: bool = True
) -> Array:
    """Half of the naive 95% interval at some places, on the objective's scale.

    By the delta method with Student's t: variance of the fitted mean, and for a new run
    the variance of a residual besides.
    """
    slope_RP = found.slopes(x_RA)
    variance_R = np.einsum("rp,pq,rq->r", slope_RP, found.covariance(), slope_RP)
    if is_new_run:
        variance_R = variance_R + residual_variance(found)
    quantile = distributions.student_quantile(0.5 + _LEVEL / 2, found.dof)
    return quantile * np.sqrt(variance_R)


def residual_variance(found: Optimum) -> float:
    """Variance of a run around the curve, from all residuals, outliers included."""
    weight_R = found.points.weight_R
    total = float((weight_R * found.residual_R**2).sum()) / float(weight_R.sum())
    return total * found.points.distinct() / max(found.dof, 1)


def roll_out(found: Optimum, *, cuts: tuple[float, ...] = CUTS) -> RollOut:
    """Fits below each cut, predicts above it, and scores the naive intervals.

    Args:
      found: The fit of all points; its law and objective are tested.
      cuts: Shares of the configurations that are fitted.
    """
    group_R = found.points.configurations()
    order = _ordered_groups(found.points)
    needed = found.theta_P.size + 2
    counts = sorted({math.ceil(share * len(order)) for share in cuts})
    tests: list[Cut] = []
    for count in counts:
        if needed <= count < len(order):
            is_train_R = np.isin(group_R, order[:count])
            tests.append(_test(found, is_train_R))
    largest: dict[str, float] | None = None
    if len(order) - 1 >= needed:
        largest = leave_largest_out(found)
    factor = max([1.0, *[test.factor for test in tests]])
    return RollOut(factor=factor, cuts=tuple(tests), largest=largest)


def _ordered_groups(points: Points) -> list[int]:
    group_R = points.configurations()
    scale_R = scales(points)
    return sorted(set(group_R.tolist()), key=lambda g: scale_R[group_R == g][0])


def _test(found: Optimum, is_train_R: np.ndarray) -> Cut:
    points = found.points
    train, test = points.keep(is_train_R), points.keep(~is_train_R)
    smaller = optimum_module.refit(found, train)
    residual_R = smaller.residuals_of(test)
    width_R = np.maximum(half_widths(smaller, test.x_RA), 1e-300)
    ratio_R = np.abs(residual_R) / width_R
    relative_R = test.y_R / smaller.values(test.x_RA)[0] - 1.0
    return Cut(
        train=train.distinct(),
        test=test.distinct(),
        error=float(np.abs(relative_R).mean()),
        bias=float(relative_R.mean()),
        inside=float((ratio_R <= 1.0).mean()),
        factor=float(np.quantile(ratio_R, _LEVEL)),
    )


def leave_largest_out(found: Optimum) -> dict[str, float]:
    """The largest configuration as the others predict it, and the relative error."""
    group_R = found.points.configurations()
    is_last_R = group_R == _ordered_groups(found.points)[-1]
    smaller = optimum_module.refit(found, found.points.keep(~is_last_R))
    last = found.points.keep(is_last_R)
    predicted = float(smaller.values(last.x_RA)[0].mean())
    observed = float(last.y_R.mean())
    return {
        "observed": observed,
        "predicted": predicted,
        "error": abs(predicted / observed - 1.0) if observed else float("nan"),
    }
