"""Several laws on the same points: which one the data prefer, and by how much."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from gr_jax.fit import backtest, bootstrap, distributions, judgement
from gr_jax.fit import objective as objective_module
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit import points as points_module
from gr_jax.fit.laws import law, registry

Array = law.Array
Points = points_module.Points

BY_AXES = {
    1: ("single-power", "log-linear", "saturating", "shifted-power", "broken-power"),
    2: ("chinchilla", "kaplan-joint-n", "kaplan-joint-d"),
    3: ("retrieval-joint",),
}
_MAX_FOLDS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rival:
    """One law among its rivals, all fitted by the same squares.

    Attributes:
      law: Name in the registry.
      parameters: Coordinates, without the scale of the noise.
      aicc: Corrected Akaike criterion; comparable within one table only.
      rmse: Root mean square residual.
      largest_error: Relative error on the largest configuration, left out.
      weight: Share in the mixture that best predicts points left out.
    """

    law: str
    parameters: int
    aicc: float
    rmse: float
    largest_error: float
    weight: float

    def to_json(self) -> dict[str, Any]:
        """As stored in `Fit.quality`."""
        return dataclasses.asdict(self)


def compare(points: Points, laws: tuple[str, ...] | None = None) -> list[Rival]:
    """Fits every law that the points can support, best AICc first.

    A law needs three points more than it has parameters: with fewer there is no AICc.
    One law alone makes no table.
    All use half the sum of squared residuals of the values themselves, so that a law
    which may cross zero can take part.
    """
    points = points_module.merge_repeats(points)
    wanted = laws or BY_AXES.get(points.x_RA.shape[1], ())
    families = [
        family
        for family in map(registry.get, wanted)
        if judgement.refusal(family, points) is None
        and points.distinct() >= len(family.coordinates) + 3
    ]
    squares = objective_module.Objective(loss="squares", residual="linear")
    found = [optimum_module.find(f, points, squares, keep=24) for f in families]
    if len(found) < 2:
        return []
    left_out_RK = np.stack([_left_out(one) for one in found], axis=1)
    last = int(np.argmax(backtest.scales(points)))
    error_K = np.abs(left_out_RK[last] / points.y_R[last] - 1.0)
    weight_K = stacking_weights(left_out_RK, points.y_R)
    rivals = [
        Rival(
            law=one.family.name,
            parameters=one.theta_P.size,
            aicc=judgement.aicc(one),
            rmse=float(np.sqrt(np.mean(one.residual_R**2))),
            largest_error=float(error),
            weight=float(weight),
        )
        for one, error, weight in zip(found, error_K, weight_K, strict=True)
    ]
    return sorted(rivals, key=lambda rival: rival.aicc)


def _left_out(found: optimum_module.Optimum) -> Array:
    """Each point as the others predict it: weights of zero, all folds in one batch."""
    count = len(found.points)
    folds = min(count, _MAX_FOLDS)
    is_out_FR = np.arange(folds)[:, None] == np.arange(count) % folds
    weight_FR = np.where(is_out_FR, 0.0, found.points.weight_R)
    theta_FP = bootstrap.refits(found, weight_BR=weight_FR, steps=40)
    predicted_FR = found.values(found.points.x_RA, theta_FP)
    return (predicted_FR * is_out_FR).sum(axis=0)


def stacking_weights(
    predicted_RK: Float[np.ndarray, "R K"], observed_R: Float[np.ndarray, " R"]
) -> Array:
    """Weights of K predictions, none negative, summing to one, of least squared error.

    Source: Wolpert 1992; Breiman 1996, stacked regressions.

    Example:
      >>> predicted_RK = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 7.0]])
      >>> stacking_weights(predicted_RK, np.array([1.5, 2.0, 4.0])).round(6).tolist()
      [0.75, 0.25]
    """
    scale = max(float(np.abs(observed_R).max()), 1e-300)
    # A heavy row makes the sum of the weights one.
    heavy = 1e4
    sum_1K = np.full((1, predicted_RK.shape[1]), heavy)
    matrix = np.concatenate([predicted_RK / scale, sum_1K])
    right = np.concatenate([observed_R / scale, [heavy]])
    weight_K = np.asarray(
        distributions.non_negative_solution(matrix, right), dtype=np.float64
    )
    return weight_K / max(float(weight_K.sum()), 1e-300)
