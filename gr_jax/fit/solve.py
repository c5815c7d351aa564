"""Batched damped Newton inside bounds: thousands of small fits at once, in NumPy.

Each step offers two candidates, one with the true second derivatives and one with a
majorant's (reweighted Gauss-Newton), and keeps the better. No LAPACK call is batched:
the P x P systems are eliminated by hand, so no thread pool can hang on them.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent import futures

import numpy as np

from gr_jax.fit import objective as objective_module
from gr_jax.fit.laws import law

Array = law.Array
Target = objective_module.Target

AGREEMENT = 1e-6
_CHUNK_NUMBERS = 1 << 15
_DAMPING_START = 1e-3
_DAMPING_MIN = 1e-12
_DAMPING_MAX = 1e10
_DAMPING_SMALL = 1e-6
_RAISES = np.array([10.0, 4.0])
_PIVOT_MIN = 1e-13


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """Where each problem of a batch ended."""

    theta_BP: Array
    total_B: Array
    is_converged_B: np.ndarray
    steps: int


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


def solve_linear(matrix_BPP: Array, right_BP: Array) -> Array:
    """Solutions of B small symmetric systems by elimination without pivoting.

    The rows are first scaled to a unit diagonal; a pivot that vanishes is replaced by a
    tiny one, so a singular system gives a long step, which the caller rejects, instead
    of an error.

    Example:
      >>> matrix_BPP = np.array([[[4.0, 2.0], [2.0, 3.0]]])
      >>> solve_linear(matrix_BPP, np.array([[8.0, 8.0]])).round(9).tolist()
      [[1.0, 2.0]]
    """
    diagonal_BP = np.abs(np.einsum("bpp->bp", matrix_BPP))
    scale_BP = 1.0 / np.sqrt(np.maximum(diagonal_BP, 1e-300))
    work_PPB = (matrix_BPP * scale_BP[:, :, None] * scale_BP[:, None, :]).transpose(
        1, 2, 0
    )
    work_PPB = np.ascontiguousarray(work_PPB)
    right_PB = np.ascontiguousarray((right_BP * scale_BP).T)
    size = right_PB.shape[0]
    for row in range(size):
        pivot_B = work_PPB[row, row]
        tiny_B = np.where(pivot_B < 0, -_PIVOT_MIN, _PIVOT_MIN)
        pivot_B = np.where(np.abs(pivot_B) < _PIVOT_MIN, tiny_B, pivot_B)
        work_PPB[row, row] = pivot_B
        for below in range(row + 1, size):
            factor_B = work_PPB[below, row] / pivot_B
            work_PPB[below, row + 1 :] -= factor_B * work_PPB[row, row + 1 :]
            right_PB[below] -= factor_B * right_PB[row]
    for row in range(size - 1, -1, -1):
        for right in range(row + 1, size):
            right_PB[row] -= work_PPB[row, right] * right_PB[right]
        right_PB[row] /= work_PPB[row, row]
    with np.errstate(over="ignore", invalid="ignore"):
        return right_PB.T * scale_BP


def minimise(
    family: law.Law,
    setting: law.Setting,
    target: Target,
    theta_BP: Array,
    *,
    fixed_BP: np.ndarray | None = None,
    steps: int = 100,
    tolerance: float = 1e-12,
) -> Solution:
    """Follows every start of a batch down to its local optimum.

    Args:
      family: The law.
      setting: The law bound to the points.
      target: Values and weights; one row for all, or one a problem.
      theta_BP: Starts, one a problem.
      fixed_BP: Which coordinates of which problem stay where they start.
      steps: At most so many Newton steps.
      tolerance: A problem ends when a step could gain less than this part of its
        objective.
    """
    batch, points = theta_BP.shape[0], setting.log_x_RA.shape[0]
    rows = max(1, _CHUNK_NUMBERS // max(points, 1))
    slices = [slice(i, min(i + rows, batch)) for i in range(0, batch, rows)]

    def work(part: slice) -> Solution:
        return _descend(
            family,
            setting,
            target.rows(part),
            theta_BP[part],
            fixed_BP=None if fixed_BP is None else fixed_BP[part],
            steps=steps,
            tolerance=tolerance,
        )

    workers = min(len(slices), os.cpu_count() or 1, 8)
    if workers > 1:
        with futures.ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(work, slices))
    else:
        parts = [work(part) for part in slices]
    return Solution(
        theta_BP=np.concatenate([p.theta_BP for p in parts]),
        total_B=np.concatenate([p.total_B for p in parts]),
        is_converged_B=np.concatenate([p.is_converged_B for p in parts]),
        steps=max(p.steps for p in parts),
    )


def _descend(
    family: law.Law,
    setting: law.Setting,
    target: Target,
    start_BP: Array,
    *,
    fixed_BP: np.ndarray | None,
    steps: int,
    tolerance: float,
) -> Solution:
    theta_BP = np.clip(start_BP, setting.low_P, setting.high_P)
    if fixed_BP is not None:
        theta_BP = np.where(fixed_BP, start_BP, theta_BP)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        total_B = target.total(family.predict(setting, theta_BP))
        damping_B2 = np.full((theta_BP.shape[0], 2), _DAMPING_START)
        is_done_B = np.zeros(theta_BP.shape[0], dtype=bool)
        taken = 0
        while taken < steps:
            open_I = np.flatnonzero(~is_done_B)
            if not open_I.size:
                break
            taken += 1
            moved = _step(
                family,
                setting,
                target if open_I.size == is_done_B.size else target.rows(open_I),
                _Place(theta_BP[open_I], total_B[open_I], damping_B2[open_I]),
                fixed_BP=None if fixed_BP is None else fixed_BP[open_I],
                tolerance=tolerance,
            )
            theta_BP[open_I], total_B[open_I] = moved.theta_BP, moved.total_B
            damping_B2[open_I], is_done_B[open_I] = moved.damping_B2, moved.is_done_B
    return Solution(
        theta_BP=theta_BP, total_B=total_B, is_converged_B=is_done_B, steps=taken
    )


@dataclasses.dataclass
class _Place:
    theta_BP: Array
    total_B: Array
    damping_B2: Array
    is_done_B: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))


def _step(
    family: law.Law,
    setting: law.Setting,
    target: Target,
    place: _Place,
    *,
    fixed_BP: np.ndarray | None,
    tolerance: float,
) -> _Place:
    theta_BP, total_B, damping_B2 = place.theta_BP, place.total_B, place.damping_B2
    gradient_BP, true_BPP, majorant_BPP = family.newton_parts(
        setting, theta_BP, target.curves()
    )
    held_BP = (theta_BP <= setting.low_P) & (gradient_BP > 0)
    held_BP |= (theta_BP >= setting.high_P) & (gradient_BP < 0)
    if fixed_BP is not None:
        held_BP |= fixed_BP
    gradient_BP = np.where(held_BP, 0.0, gradient_BP)
    size_BP = np.einsum("bpp->bp", majorant_BPP).copy()
    size_BP = np.maximum(size_BP, 1e-12 * size_BP.max(axis=1, keepdims=True) + 1e-300)
    best_BP, best_B, gain_B = theta_BP, total_B, np.zeros_like(total_B)
    is_fall_B2 = np.zeros(damping_B2.shape, dtype=bool)
    for kind, matrix_BPP in enumerate((majorant_BPP, true_BPP)):
        damped_BPP = _held(matrix_BPP, size_BP, damping_B2[:, kind], held_BP)
        move_BP = solve_linear(damped_BPP, gradient_BP)
        trial_BP = np.clip(theta_BP - move_BP, setting.low_P, setting.high_P)
        if fixed_BP is not None:
            trial_BP = np.where(fixed_BP, theta_BP, trial_BP)
        trial_BP = np.where(np.isfinite(trial_BP), trial_BP, theta_BP)
        trial_B = target.total(family.predict(setting, trial_BP))
        promise_B = np.abs(np.einsum("bp,bp->b", move_BP, gradient_BP))
        gain_B = np.where(np.isfinite(promise_B), np.maximum(gain_B, promise_B), np.inf)
        is_fall_B2[:, kind] = trial_B < total_B
        is_better_B = trial_B < best_B
        best_BP = np.where(is_better_B[:, None], trial_BP, best_BP)
        best_B = np.where(is_better_B, trial_B, best_B)
    is_moved_B = best_B < total_B
    fell_B = total_B - best_B
    is_small_B = gain_B <= tolerance * np.abs(best_B)
    is_stuck_B = ~is_moved_B & (damping_B2 >= _DAMPING_MAX).all(axis=1)
    # A vanishing fall ends a problem only when the step was hardly damped.
    is_flat_B = fell_B <= tolerance * np.abs(best_B)
    is_flat_B &= is_moved_B & (damping_B2[:, 0] < _DAMPING_SMALL)
    # Each candidate has its own damping: near kinks of a robust loss the true
    # curvature overshoots for long while the majorant creeps.
    damping_B2 = np.where(is_fall_B2, damping_B2 * 0.1, damping_B2 * _RAISES)
    return _Place(
        theta_BP=best_BP,
        total_B=best_B,
        damping_B2=np.clip(damping_B2, _DAMPING_MIN, _DAMPING_MAX),
        is_done_B=is_small_B | is_stuck_B | is_flat_B,
    )


def _held(
    matrix_BPP: Array, size_BP: Array, damping_B: Array, held_BP: np.ndarray
) -> Array:
    """The damped matrix with rows and columns of held coordinates made unit."""
    damped_BPP = matrix_BPP.copy()
    diagonal = np.arange(size_BP.shape[1], dtype=np.intp)
    damped_BPP[:, diagonal, diagonal] += damping_B[:, None] * size_BP
    if held_BP.any():
        crossed_BPP = held_BP[:, :, None] | held_BP[:, None, :]
        damped_BPP[crossed_BPP] = 0.0
        damped_BPP[:, diagonal, diagonal] = np.where(
            held_BP, 1.0, damped_BPP[:, diagonal, diagonal]
        )
    return damped_BPP


def screen(
    family: law.Law,
    setting: law.Setting,
    target: Target,
    start_SP: Array,
    *,
    keep: int,
) -> Array:
    """The ``keep`` best starts after a few steps of all, best first."""
    quick = minimise(family, setting, target, start_SP, steps=2, tolerance=0.0)
    order_S = np.argsort(quick.total_B, kind="stable")
    return quick.theta_BP[order_S[:keep]]


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
    keep: int = 64,
    steps: int = 120,
) -> tuple[Array, float, Certificate]:
    """The lowest point found from a grid of starts, with the evidence for it.

    Returns:
      Coordinates (P), the objective there, and how many polished starts agree.
    """
    start_SP = setting.start_SP if start_SP is None else start_SP
    polished = minimise(
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
