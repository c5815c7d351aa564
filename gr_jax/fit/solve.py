"""From a grid of starts to the lowest optimum, with the evidence that it is one.

The starts are screened: ranked where they lie, then after a few steps. The best are
followed to the end, and how many of them meet says how far to trust the answer.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from gr_jax.fit import descent
from gr_jax.fit.laws import law

Array = law.Array
Target = descent.Target

AGREEMENT = 1e-6
_SCREENED = 8
_RANKED_ON = 48


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """How many polished starts found the same optimum.

    Attributes:
      starts: Starts that were screened.
      polished: Starts that were followed to the end.
      agreeing: Of those, how many end within ``tolerance`` of the lowest objective.
      tolerance: Relative to the objective.
    """

    starts: int
    polished: int
    agreeing: int
    tolerance: float = AGREEMENT

    @property
    def share(self) -> float:
        """Agreeing starts over polished ones."""
        return self.agreeing / self.polished


def screen(
    family: law.Law,
    setting: law.Setting,
    target: Target,
    start_SP: Array,
    *,
    keep: int,
) -> Array:
    """The ``keep`` best starts, best first.

    All are ranked by the objective where they lie, on a part of the points that spans
    their values; a few steps of the better ones (eight times as many as are kept) rank
    those anew, on all points.
    """
    best_SP = start_SP
    if start_SP.shape[0] > _SCREENED * keep:
        few, some = _spanning(family, setting, target)
        rows = max(1, descent.CHUNK_NUMBERS // few.log_x_RA.shape[0])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            rank_S = np.concatenate(
                [
                    some.total(family.predict(few, start_SP[i : i + rows]))
                    for i in range(0, start_SP.shape[0], rows)
                ]
            )
        best_SP = start_SP[np.argsort(rank_S, kind="stable")[: _SCREENED * keep]]
    best_SP = np.unique(best_SP, axis=0)
    quick = descent.minimise(family, setting, target, best_SP, steps=2, tolerance=0.0)
    order_S = np.argsort(quick.total_B, kind="stable")
    return quick.theta_BP[order_S[:keep]]


def _spanning(
    family: law.Law, setting: law.Setting, target: Target
) -> tuple[law.Setting, Target]:
    """A law and its target on at most `_RANKED_ON` points, spread over the values."""
    points = setting.log_x_RA.shape[0]
    count = min(points, _RANKED_ON)
    places = (np.arange(count, dtype=np.intp) * (points - 1)) // max(count - 1, 1)
    chosen = np.argsort(target.value_BR[0], kind="stable")[places]
    few = family.at(setting, np.exp(setting.log_x_RA[chosen]))
    return few, dataclasses.replace(
        target,
        value_BR=target.value_BR[:, chosen],
        weight_BR=target.weight_BR[:, chosen],
    )


def _rounding(target: Target) -> float:
    """An objective this small is a perfect fit: relative residuals of 1e-9."""
    scale = 1.0
    if target.objective.residual == "linear":
        scale = float(np.abs(target.value_BR).max())
    return 0.5 * float(target.weight_BR.sum()) * (1e-9 * scale) ** 2


def optimum(
    family: law.Law,
    setting: law.Setting,
    target: Target,
    *,
    start_SP: Array | None = None,
    keep: int = 32,
    steps: int = 120,
) -> tuple[Array, float, Certificate]:
    """The lowest point found from a grid of starts, with the evidence for it.

    Returns:
      Coordinates (P), the objective there, and how many polished starts agree.
    """
    start_SP = setting.start_SP if start_SP is None else start_SP
    polished = descent.minimise(
        family,
        setting,
        target,
        screen(family, setting, target, start_SP, keep=keep),
        steps=steps,
    )
    best = int(np.argmin(polished.total_B))
    lowest = float(polished.total_B[best])
    near_B = polished.total_B <= lowest * (1.0 + AGREEMENT) + _rounding(target)
    certificate = Certificate(
        starts=start_SP.shape[0],
        polished=polished.total_B.shape[0],
        agreeing=int(near_B.sum()),
    )
    return polished.theta_BP[best], lowest, certificate
