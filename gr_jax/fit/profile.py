"""Profile intervals: how far a coordinate can go before the fit suffers too much."""

from __future__ import annotations

import dataclasses

import numpy as np

from gr_jax.fit import descent, distributions
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit.laws import law

Array = law.Array
Optimum = optimum_module.Optimum

_WIDTHS = 22
_ROUNDS = 4
_PLACES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """Ends of an interval, and whether the data or only a bound closed each."""

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
    search = _Search(found, threshold)
    search.run()
    ends = search.ends()
    return [
        Interval(low=low[0], high=high[0], is_low_open=low[1], is_high_open=high[1])
        for low, high in zip(ends[::2], ends[1::2], strict=True)
    ]


class _Search:
    """Brackets all ends at once, then narrows all brackets at once.

    End ``2 p`` is the lower one of coordinate p, ``2 p + 1`` the upper one. For each, a
    point inside the threshold and the nearest known one outside are kept.
    """

    def __init__(self, found: Optimum, threshold: float) -> None:
        self._found, self._threshold = found, threshold
        count = found.theta_P.size
        self._place_E = np.repeat(np.arange(count), 2)
        sign_E = np.tile([-1.0, 1.0], count)
        bound_PE = np.stack([found.setting.low_P, found.setting.high_P], axis=1)
        self._reach_E = np.abs(bound_PE.ravel() - found.theta_P[self._place_E])
        self._sign_E = sign_E
        self._inside_EP = np.repeat(found.theta_P[None], 2 * count, axis=0)
        self._outside_EP = self._inside_EP.copy()
        self._low_E = np.full(2 * count, found.total)
        self._high_E = np.full(2 * count, np.inf)
        self._is_open_E = np.ones(2 * count, dtype=bool)

    def run(self) -> None:
        """Finds the brackets, then narrows them."""
        step_E = np.maximum(self._errors()[self._place_E], 1e-9)
        width_EK = 0.25 * step_E[:, None] * 1.6 ** np.arange(_WIDTHS)
        self._probe(np.minimum(width_EK, self._reach_E[:, None]))
        for _ in range(_ROUNDS):
            inside_E, outside_E = (
                self._distance(self._inside_EP),
                self._distance(self._outside_EP),
            )
            part_K = np.arange(1, _PLACES + 1) / (_PLACES + 1)
            span_E1 = (outside_E - inside_E)[:, None]
            self._probe(inside_E[:, None] + span_E1 * part_K)

    def ends(self) -> list[tuple[float, bool]]:
        """Where the profile crosses the threshold, from the last two points."""
        # The root of the rise is nearly a straight line in the coordinate.
        low_E = np.sqrt(np.maximum(self._low_E - self._found.total, 0.0))
        high_E = np.sqrt(np.maximum(self._high_E - self._found.total, 0.0))
        aim = np.sqrt(self._threshold - self._found.total)
        with np.errstate(invalid="ignore", divide="ignore"):
            part_E = np.clip((aim - low_E) / (high_E - low_E), 0.0, 1.0)
        part_E = np.where(np.isfinite(part_E), part_E, 0.5)
        inside_E = self._value(self._inside_EP)
        outside_E = self._value(self._outside_EP)
        found_E = inside_E + part_E * (outside_E - inside_E)
        found_E = np.where(self._is_open_E, inside_E, found_E)
        return list(zip(found_E.tolist(), self._is_open_E.tolist(), strict=True))

    def _value(self, theta_EP: Array) -> Array:
        return theta_EP[np.arange(theta_EP.shape[0]), self._place_E]

    def _distance(self, theta_EP: Array) -> Array:
        return np.abs(self._value(theta_EP) - self._found.theta_P[self._place_E])

    def _errors(self) -> Array:
        """One standard error of each coordinate."""
        spread_P = np.einsum("pp->p", self._found.covariance())
        return np.sqrt(np.maximum(spread_P, 0.0)) + 1e-12

    def _probe(self, width_EK: Array) -> None:
        """Solves the profile at some distances and tightens the brackets."""
        ends, places = width_EK.shape
        value_EK = (
            self._found.theta_P[self._place_E][:, None]
            + self._sign_E[:, None] * width_EK
        )
        solved_EKP, total_EK = self._profile(value_EK)
        for end in range(ends):
            for place in range(places):
                width = width_EK[end, place]
                if total_EK[end, place] > self._threshold:
                    self._outside_EP[end] = solved_EKP[end, place]
                    self._high_E[end] = total_EK[end, place]
                    self._is_open_E[end] = False
                    break
                if width >= self._distance(self._inside_EP)[end]:
                    self._inside_EP[end] = solved_EKP[end, place]
                    self._low_E[end] = total_EK[end, place]
            else:
                if self._is_open_E[end]:
                    self._outside_EP[end] = self._inside_EP[end]

    def _profile(self, value_EK: Array) -> tuple[Array, Array]:
        """Lowest objective at each value, from the optimum and from the bracket."""
        found = self._found
        ends, places = value_EK.shape
        start_SEKP = np.stack(
            [
                np.broadcast_to(from_EP[:, None], (ends, places, found.theta_P.size))
                for from_EP in (self._inside_EP, self._outside_EP)
            ]
        ).copy()
        rows_E = np.arange(ends, dtype=np.intp)[:, None]
        columns_K = np.arange(places, dtype=np.intp)[None, :]
        start_SEKP[:, rows_E, columns_K, self._place_E[:, None]] = value_EK
        fixed_EP = self._place_E[:, None] == np.arange(found.theta_P.size)
        fixed_SEKP = np.broadcast_to(fixed_EP[None, :, None], start_SEKP.shape)
        count = found.theta_P.size
        solution = descent.minimise(
            found.family,
            found.setting,
            found.target,
            start_SEKP.reshape(-1, count),
            fixed_BP=fixed_SEKP.reshape(-1, count),
            steps=60,
            tolerance=1e-9,
        )
        total_SEK = solution.total_B.reshape(2, ends, places)
        best_EK = total_SEK.argmin(axis=0)
        theta_SEKP = solution.theta_BP.reshape(2, ends, places, count)
        return (
            theta_SEKP[best_EK, rows_E, columns_K],
            total_SEK[best_EK, rows_E, columns_K],
        )
