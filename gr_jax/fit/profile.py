"""Profile intervals: how far a coordinate can go before the fit suffers too much."""

from __future__ import annotations

import dataclasses

import numpy as np

from gr_jax.fit import distributions, solve
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit.laws import law

Array = law.Array
Optimum = optimum_module.Optimum
_DOUBLINGS = 24
_HALVINGS = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """Ends of an interval and whether the data, or only a bound, closed each."""

    low: float
    high: float
    is_low_open: bool
    is_high_open: bool


def intervals(found: Optimum, *, level: float = 0.95) -> list[Interval]:
    r"""Profile interval of every coordinate.

    The ends are where the objective, minimised over the other coordinates, has risen by
    :math:`t^2_{\nu} s^2 / 2`: for squares the F threshold on the residual sum, which
    needs no large sample (Bates & Watts 1988, ch. 6). An end that the data do not close
    is left at the coordinate's bound.
    """
    quantile = distributions.student_quantile(0.5 + level / 2, found.dof)
    threshold = found.total + quantile**2 * found.slack
    # Rounding alone moves an objective this much: a perfect fit has a width of zero.
    threshold += 1e-12 * abs(found.total) + 1e-26 * float(found.target.weight_BR.sum())
    ends: list[list[tuple[float, bool]]] = []
    for place in range(found.theta_P.size):
        ends.append([_end(found, place, sign, threshold) for sign in (-1.0, 1.0)])
    return [
        Interval(low=low[0], high=high[0], is_low_open=low[1], is_high_open=high[1])
        for low, high in ends
    ]


def _end(
    found: Optimum, place: int, sign: float, threshold: float
) -> tuple[float, bool]:
    """Where the profile crosses the threshold on one side."""
    best = float(found.theta_P[place])
    limit = float(
        found.setting.high_P[place] if sign > 0 else found.setting.low_P[place]
    )
    trace = _Trace(found, place)
    inside, width = best, 1e-4 * max(1.0, abs(best))
    for _ in range(_DOUBLINGS):
        outside = best + sign * width
        is_limit = (outside - limit) * sign >= 0
        outside = limit if is_limit else outside
        if trace.lowest(outside) > threshold:
            break
        if is_limit:
            return limit, True
        inside, width = outside, width * 2.0
    else:
        return inside, True
    for _ in range(_HALVINGS):
        middle = 0.5 * (inside + outside)
        if trace.lowest(middle) > threshold:
            outside = middle
        else:
            inside = middle
        if abs(outside - inside) <= 1e-6 * max(abs(inside - best), 1e-12):
            break
    return 0.5 * (inside + outside), False


class _Trace:
    """The profile of one coordinate, each point started from the nearest one solved."""

    def __init__(self, found: Optimum, place: int) -> None:
        self._found = found
        self._fixed_P = np.arange(found.theta_P.size) == place
        self._place = place
        self._solved = [found.theta_P]

    def lowest(self, value: float) -> float:
        """The objective with the coordinate held at a value."""
        near = sorted(self._solved, key=lambda t: abs(t[self._place] - value))[:2]
        start_BP = np.stack([*near, self._found.theta_P])
        start_BP[:, self._place] = value
        solution = solve.minimise(
            self._found.family,
            self._found.setting,
            self._found.target,
            start_BP,
            fixed_P=self._fixed_P,
            steps=60,
            tolerance=1e-10,
        )
        best = int(np.argmin(solution.total_B))
        self._solved.append(solution.theta_BP[best])
        return float(solution.total_B[best])
