"""What a fit minimises: a sum over points of a loss of residuals, and its slopes."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from gr_jax.core import errors
from gr_jax.fit import scratch
from gr_jax.fit.laws import law

Array = law.Array
Loss = Literal["huber", "squares", "absolute"]
Residual = Literal["log", "linear"]

# The normal distribution's efficiency of a Huber loss is 95% at this many sigmas.
HUBER_SIGMAS = 1.345
_TINY = 1e-300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    r"""Sum over points of :math:`w \rho(r)`, never the mean: tolerances are of the sum.

    Attributes:
      loss: ``huber``: half squares up to ``delta``, linear beyond; ``squares``: half
        squares; ``absolute``: the Huber loss of a vanishing ``delta``, divided by it.
      residual: Of logarithms (relative errors) or of the values.
      delta: Width of the quadratic part, in units of the residual.
    """

    loss: Loss = "huber"
    residual: Residual = "log"
    delta: float = 1e-3

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise errors.UsageError(f"objective: delta: {self.delta}: must be positive")

    def describe(self) -> str:
        """A phrase for tables and reports."""
        scale = "log residuals" if self.residual == "log" else "residuals"
        if self.loss == "huber":
            return f"sum of Huber (delta {self.delta:.4g}) over {scale}"
        if self.loss == "squares":
            return f"half the sum of squares of {scale}"
        return f"sum of absolute {scale}"

    def rho(self, residual_BR: Array) -> Array:
        """Loss of each residual."""
        if self.loss == "squares":
            return 0.5 * residual_BR * residual_BR
        slope_BR = np.clip(residual_BR, -self.delta, self.delta)
        value_BR = slope_BR * (residual_BR - 0.5 * slope_BR)
        return value_BR if self.loss == "huber" else value_BR / self.delta

    def influence(self, residual_BR: Array) -> tuple[Array, Array]:
        """Slope and second derivative of `rho`."""
        if self.loss == "squares":
            return residual_BR, np.ones_like(residual_BR)
        slope_BR = np.clip(residual_BR, -self.delta, self.delta)
        inside_BR = (slope_BR == residual_BR).astype(np.float64)
        if self.loss == "huber":
            return slope_BR, inside_BR
        return slope_BR / self.delta, inside_BR / self.delta

    def majorant(self, residual_BR: Array) -> Array:
        """Second derivative of the parabola above `rho` that touches it there."""
        if self.loss == "squares":
            return np.ones_like(residual_BR)
        size_BR = np.maximum(np.abs(residual_BR), self.delta)
        return (self.delta if self.loss == "huber" else 1.0) / size_BR


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Values to fit with their weights, on the scale a law predicts.

    ``value_BR`` and ``weight_BR`` have one row, or one for each problem of a batch.
    """

    objective: Objective
    link: law.Link
    value_BR: Array
    weight_BR: Array

    def rows(self, keep_B: np.ndarray | slice) -> Target:
        """The same for some problems of the batch."""
        value_BR, weight_BR = self.value_BR, self.weight_BR
        if value_BR.shape[0] > 1:
            value_BR = value_BR[keep_B]
        if weight_BR.shape[0] > 1:
            weight_BR = weight_BR[keep_B]
        return dataclasses.replace(self, value_BR=value_BR, weight_BR=weight_BR)

    def residuals(self, prediction_BR: Array) -> Array:
        """Observed minus predicted, on the objective's scale."""
        if self.objective.residual == "linear" and self.link == "log":
            return self.value_BR - np.exp(prediction_BR)
        return self.value_BR - prediction_BR

    def total(self, prediction_BR: Array) -> Array:
        """The objective of each problem."""
        return self.sum(self.objective.rho(self.residuals(prediction_BR)))

    def sum(self, rho_BR: Array) -> Array:
        """The weighted sum of each problem, infinite where it is no number."""
        total_B = np.einsum("br,br->b", rho_BR, self.weight_BR)
        return np.where(np.isfinite(total_B), total_B, np.inf)

    def curves(self, space: scratch.Scratch | None = None) -> law.Curves:
        """The derivatives that a law needs for a Newton step."""
        return _TargetCurves(self, space or scratch.Scratch())


class _TargetCurves(law.Curves):
    def __init__(self, target: Target, space: scratch.Scratch) -> None:
        super().__init__(space)
        self._target = target

    def __call__(
        self, value_BR: Array, *, is_majorant: bool
    ) -> tuple[Array, Array, Array]:
        """The objective and its derivatives in the prediction."""
        target, chosen = self._target, self._target.objective
        residual_BR = self._residuals(value_BR)
        first_BR, second_BR, rho_BR = (
            self.space.take(name, value_BR.shape) for name in ("first", "second", "rho")
        )
        if chosen.loss == "squares":
            np.copyto(first_BR, residual_BR)
            second_BR.fill(1.0)
        else:
            np.clip(residual_BR, -chosen.delta, chosen.delta, out=first_BR)
            if is_majorant:
                np.abs(residual_BR, out=second_BR)
                np.maximum(second_BR, chosen.delta, out=second_BR)
                np.divide(chosen.delta, second_BR, out=second_BR)
            else:
                np.equal(first_BR, residual_BR, out=second_BR)
        # rho = slope (r - slope / 2), inside and outside of delta.
        np.multiply(first_BR, -0.5, out=rho_BR)
        rho_BR += residual_BR
        rho_BR *= first_BR
        weight_BR = target.weight_BR
        if chosen.loss == "absolute":
            weight_BR = weight_BR / chosen.delta
        total_B = np.einsum("br,br->b", rho_BR, weight_BR)
        first_BR *= weight_BR
        np.negative(first_BR, out=first_BR)
        second_BR *= weight_BR
        if chosen.residual == "linear" and target.link == "log":
            level_BR = np.exp(value_BR, out=residual_BR)
            first_BR *= level_BR
            second_BR *= level_BR
            second_BR *= level_BR
            if not is_majorant:
                second_BR += first_BR
        return np.where(np.isfinite(total_B), total_B, np.inf), first_BR, second_BR

    def _residuals(self, value_BR: Array) -> Array:
        residual_BR = self.space.take("residual", value_BR.shape)
        target = self._target
        if target.objective.residual == "linear" and target.link == "log":
            np.exp(value_BR, out=residual_BR)
            return np.subtract(target.value_BR, residual_BR, out=residual_BR)
        return np.subtract(target.value_BR, value_BR, out=residual_BR)


def target_of(
    objective: Objective, link: law.Link, y_R: Array, weight_R: Array
) -> Target:
    """Values and weights as a law with this link needs them.

    Raises:
      UsageError: If the law predicts values and the objective wants logarithms.
    """
    if link == "identity" and objective.residual == "log":
        raise errors.UsageError(
            "objective: residual: 'log': this law can cross zero, use 'linear'"
        )
    value_BR = np.atleast_2d(np.log(y_R) if objective.residual == "log" else y_R)
    return Target(
        objective=objective,
        link=link,
        value_BR=value_BR,
        weight_BR=np.atleast_2d(weight_R),
    )


def robust_sigma(residual_R: Array, *, lost: int) -> float:
    """Scale of residuals from the median absolute one, for ``lost`` parameters.

    Example:
      >>> round(robust_sigma(np.array([-1.0, 1.0, -1.0, 1.0]), lost=0), 4)
      1.4826
    """
    count = residual_R.shape[0]
    inflation = np.sqrt(count / max(count - lost, 1))
    return float(1.4826 * np.median(np.abs(residual_R)) * inflation)
