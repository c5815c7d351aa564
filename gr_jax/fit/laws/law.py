"""What a law is to the solver: a prediction, its slopes, its bounds, its starts.

A law works in *coordinates*: logarithms centred on the data, which keeps amplitude and
exponent apart. Coefficients, as papers print them, are derived by `coefficients`.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gr_jax.fit import scratch

Array = npt.NDArray[np.float64]
Link = Literal["log", "identity"]

_DIFFERENCE = 1e-5
EXPONENT_MAX = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A law bound to a data set: where it is centred, where coordinates may lie."""

    log_x_RA: Array
    centre_A: Array
    low_P: Array
    high_P: Array
    start_SP: Array
    features: Any = None


class Law(abc.ABC):
    """A family of curves with finitely many coordinates.

    Attributes:
      name: Key of the registry, stored with every fit.
      formula: As printed in tables.
      source: Where the form comes from.
      axes: What the columns of x are, in order.
      coordinates: Names of the solver's coordinates.
      exponents: The coordinates that are exponents: judged for sitting on a bound.
      link: Whether `predict` returns ln y (``log``) or y itself (``identity``).
      floor: Name of the coordinate that is ln of the irreducible part, if there is one.
      axis_values: Values that each axis must have: with two, a power and a floor are
        three unknowns for two numbers.
    """

    name: str
    formula: str
    source: str
    axes: tuple[str, ...]
    coordinates: tuple[str, ...]
    exponents: tuple[str, ...]
    link: Link = "log"
    floor: str | None = None
    axis_values: int = 3

    @abc.abstractmethod
    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> Setting:
        """Centres the law on data and derives bounds and starts from its ranges."""

    @abc.abstractmethod
    def coefficients(self, setting: Setting, theta_BP: Array) -> dict[str, Array]:
        """Published coefficients of B points, by name."""

    @abc.abstractmethod
    def jacobian(self, setting: Setting, theta_BP: Array) -> tuple[Array, Array]:
        """Prediction (B, R) and its slopes in the coordinates (B, R, P)."""

    def predict(self, setting: Setting, theta_BP: Array) -> Array:
        """Prediction (B, R), on the scale that `link` says."""
        return self.jacobian(setting, theta_BP)[0]

    def newton_parts(
        self,
        setting: Setting,
        theta_BP: Array,
        curves: Curves,
        *,
        is_majorant: bool = False,
    ) -> NewtonParts:
        """The objective, its gradient and one of its two Hessians.

        ``curves`` maps the prediction to the objective and its derivatives in it; the
        Hessian is the true one, or a majorant's, which is never indefinite.
        """
        value_BR, slope_BRP = self.jacobian(setting, theta_BP)
        total_B, first_BR, second_BR = curves(value_BR, is_majorant=is_majorant)
        transposed_BPR = slope_BRP.swapaxes(1, 2)
        gradient_BP = (transposed_BPR @ first_BR[..., None])[..., 0]
        curve_BPP = transposed_BPR @ (second_BR[..., None] * slope_BRP)
        if not is_majorant:
            curve_BPP = curve_BPP + self._bend(setting, theta_BP, first_BR)
        return total_B, gradient_BP, curve_BPP

    def _bend(self, setting: Setting, theta_BP: Array, first_BR: Array) -> Array:
        # Second derivatives by central differences of exact slopes: they steer the
        # step only; the gradient, and so the optimum, is exact.
        rows: list[Array] = []
        for place in range(theta_BP.shape[1]):
            step_BP = np.zeros_like(theta_BP)
            step_BP[:, place] = _DIFFERENCE * np.maximum(
                1.0, np.abs(theta_BP[:, place])
            )
            up_BRP = self.jacobian(setting, theta_BP + step_BP)[1]
            down_BRP = self.jacobian(setting, theta_BP - step_BP)[1]
            width_B1 = 2.0 * step_BP[:, place, None]
            total_BP = ((up_BRP - down_BRP).swapaxes(1, 2) @ first_BR[..., None])[
                ..., 0
            ]
            rows.append(total_BP / width_B1)
        bend_BPP = np.stack(rows, axis=1)
        return 0.5 * (bend_BPP + bend_BPP.swapaxes(1, 2))

    def index(self, coordinate: str) -> int:
        """Place of a coordinate."""
        return self.coordinates.index(coordinate)

    def at(self, setting: Setting, x_RA: Array) -> Setting:
        """The same centre and bounds with other points, to predict there."""
        return dataclasses.replace(
            setting, log_x_RA=np.log(x_RA), features=self.features_of(setting, x_RA)
        )

    def features_of(self, setting: Setting, x_RA: Array) -> Any:
        """What a law precomputes about points; nothing by default."""
        return None


class Curves:
    """An objective and its slopes in the prediction; implemented by `objective`.

    What a call returns holds until the next call: it lies in ``space``.
    """

    def __init__(self, space: scratch.Scratch) -> None:
        self.space = space

    def __call__(
        self, value_BR: Array, *, is_majorant: bool
    ) -> tuple[Array, Array, Array]:
        """The objective (B), its first and second derivatives (B, R).

        The second derivative is the true one or a majorant's.
        """
        raise TypeError("an objective supplies this")


NewtonParts = tuple[Array, Array, Array]


def grid(*columns: list[float]) -> Array:
    """All combinations of some values, one row each."""
    mesh = np.meshgrid(*[np.asarray(c, dtype=np.float64) for c in columns])
    return np.stack([m.ravel() for m in mesh], axis=1)


def safe_log(y_R: Array) -> Array:
    """Logarithms, zeros and negative values taken as a thousandth of the lowest above.

    Only ranges and starts are made of these; a value that is not positive never meets a
    logarithm in an objective.
    """
    lowest = float(y_R[y_R > 0].min())
    return np.log(np.where(y_R > 0, y_R, 1e-3 * lowest))


def setting_of(
    x_RA: Array,
    *,
    bounds: list[tuple[float, float]],
    start_SP: Array,
    centre_A: Array | None = None,
) -> Setting:
    """A setting from bounds and starts, centred on the mean logs."""
    log_x_RA = np.log(x_RA)
    if centre_A is None:
        centre_A = np.asarray(log_x_RA.mean(axis=0), dtype=np.float64)
    low_P, high_P = (
        np.asarray(side, dtype=np.float64) for side in zip(*bounds, strict=True)
    )
    return Setting(
        log_x_RA=log_x_RA,
        centre_A=centre_A,
        low_P=low_P,
        high_P=high_P,
        start_SP=np.clip(start_SP, low_P, high_P),
    )


def shares(start_BK: Array) -> tuple[Array, Array]:
    """Log of a sum of exponentials over the last axis, and the part of each."""
    top_B1 = start_BK.max(axis=-1, keepdims=True)
    part_BK = np.exp(start_BK - top_B1)
    sum_B1 = part_BK.sum(axis=-1, keepdims=True)
    return (top_B1 + np.log(sum_B1))[..., 0], part_BK / sum_B1
