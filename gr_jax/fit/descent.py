"""Batched damped Newton inside bounds: thousands of small fits at once, in NumPy.

A step with the true second derivatives is tried first; where it falls short of what it
promised, one with a majorant's (reweighted Gauss-Newton) is tried too and the better is
kept. No LAPACK call is batched: the P x P systems are eliminated by hand, so no thread
pool can hang on them.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent import futures

import numpy as np

from gr_jax.fit import objective as objective_module
from gr_jax.fit import scratch
from gr_jax.fit.laws import law

Array = law.Array
Target = objective_module.Target

CHUNK_NUMBERS = 1 << 16
_DAMPING_START = 1e-3
_DAMPING_MIN = 1e-12
_DAMPING_MAX = 1e10
_DAMPING_SMALL = 1e-6
_EASE = 0.1
_RAISES = (4.0, 10.0)
_PIVOT_MIN = 1e-13
# A step that falls by less than this part of its promise is not trusted alone.
_KEPT_PROMISE = 0.25
_TRUE, _MAJORANT = 0, 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """Where each problem of a batch ended."""

    theta_BP: Array
    total_B: Array
    is_converged_B: np.ndarray
    steps: int


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
    rows = max(1, CHUNK_NUMBERS // max(points, 1))
    slices = [slice(i, min(i + rows, batch)) for i in range(0, batch, rows)]

    def work(part: slice) -> Solution:
        problem = _Problem(
            family=family,
            setting=setting,
            target=target.rows(part),
            fixed_BP=None if fixed_BP is None else fixed_BP[part],
            tolerance=tolerance,
            space=scratch.Scratch(),
        )
        return _descend(problem, theta_BP[part], steps=steps)

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


@dataclasses.dataclass
class _Place:
    """Where problems are, with all that the next step needs."""

    theta_BP: Array
    total_B: Array
    gradient_BP: Array
    curve_BPP: Array
    is_held_BP: np.ndarray
    damping_B2: Array
    is_done_B: np.ndarray

    def rows(self, keep_I: np.ndarray) -> _Place:
        """The same for some of the problems."""
        return _Place(*(getattr(self, name)[keep_I] for name in _FIELDS))

    def put(self, keep_I: np.ndarray, other: _Place) -> None:
        """Takes over where some of the problems are."""
        for name in _FIELDS:
            getattr(self, name)[keep_I] = getattr(other, name)


_FIELDS = [field.name for field in dataclasses.fields(_Place)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Problem:
    """What stays the same while problems of a batch descend."""

    family: law.Law
    setting: law.Setting
    target: Target
    fixed_BP: np.ndarray | None
    tolerance: float
    space: scratch.Scratch

    def rows(self, keep_I: np.ndarray) -> _Problem:
        """The same for some of the problems."""
        return dataclasses.replace(
            self,
            target=self.target.rows(keep_I),
            fixed_BP=None if self.fixed_BP is None else self.fixed_BP[keep_I],
        )

    def at(self, theta_BP: Array, damping_B2: Array) -> _Place:
        """The objective and its slopes, zero where a coordinate cannot move."""
        total_B, gradient_BP, curve_BPP = self.family.newton_parts(
            self.setting, theta_BP, self.target.curves(self.space)
        )
        is_held_BP = (theta_BP <= self.setting.low_P) & (gradient_BP > 0)
        is_held_BP |= (theta_BP >= self.setting.high_P) & (gradient_BP < 0)
        if self.fixed_BP is not None:
            is_held_BP |= self.fixed_BP
        gradient_BP[is_held_BP] = 0.0
        is_done_B = np.zeros(theta_BP.shape[0], dtype=bool)
        return _Place(
            *(theta_BP, total_B, gradient_BP, curve_BPP),
            *(is_held_BP, damping_B2, is_done_B),
        )

    def moved(self, place: _Place, move_BP: Array, kind: int) -> _Place:
        """Where a step leads, inside the bounds, with its kind's damping adapted."""
        trial_BP = place.theta_BP - move_BP
        trial_BP = np.clip(trial_BP, self.setting.low_P, self.setting.high_P)
        is_still_BP = place.is_held_BP | ~np.isfinite(trial_BP)
        trial_BP = np.where(is_still_BP, place.theta_BP, trial_BP)
        damping_B2 = place.damping_B2.copy()
        found = self.at(trial_BP, damping_B2)
        # Each kind has its own damping: near kinks of a robust loss the true curvature
        # overshoots for long while the majorant creeps.
        change_B = np.where(found.total_B < place.total_B, _EASE, _RAISES[kind])
        damping_B = damping_B2[:, kind] * change_B
        damping_B2[:, kind] = np.clip(damping_B, _DAMPING_MIN, _DAMPING_MAX)
        return found

    def majorant(self, theta_BP: Array) -> Array:
        """The other Hessian."""
        return self.family.newton_parts(
            self.setting, theta_BP, self.target.curves(self.space), is_majorant=True
        )[2]


def _descend(problem: _Problem, start_BP: Array, *, steps: int) -> Solution:
    setting, fixed_BP = problem.setting, problem.fixed_BP
    theta_BP = np.clip(start_BP, setting.low_P, setting.high_P)
    if fixed_BP is not None:
        theta_BP = np.where(fixed_BP, start_BP, theta_BP)
    batch, taken = theta_BP.shape[0], 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        whole = problem.at(theta_BP, np.full((batch, 2), _DAMPING_START))
        here, place, open_I = problem, whole, np.arange(batch, dtype=np.intp)
        while taken < steps:
            move_BP, promise_B = _direction(place, place.curve_BPP, _TRUE)
            # Where a hardly damped step could gain nothing, none is taken.
            is_flat_B = promise_B <= problem.tolerance * np.abs(place.total_B)
            place.is_done_B |= is_flat_B & (
                place.damping_B2[:, _TRUE] <= _DAMPING_START
            )
            if place.is_done_B.any():
                whole.put(open_I, place)
                keep_I = np.flatnonzero(~place.is_done_B)
                open_I, move_BP, promise_B = (
                    open_I[keep_I],
                    move_BP[keep_I],
                    promise_B[keep_I],
                )
                here, place = problem.rows(open_I), place.rows(keep_I)
            if not open_I.size:
                break
            place = _step(here, place, move_BP, promise_B)
            taken += 1
        whole.put(open_I, place)
    return Solution(
        theta_BP=whole.theta_BP,
        total_B=whole.total_B,
        is_converged_B=whole.is_done_B,
        steps=taken,
    )


def _direction(place: _Place, curve_BPP: Array, kind: int) -> tuple[Array, Array]:
    """A step by some Hessian, and twice the fall that it promises."""
    size_BP = np.abs(np.einsum("bpp->bp", curve_BPP))
    size_BP = np.maximum(size_BP, 1e-12 * size_BP.max(axis=1, keepdims=True) + 1e-300)
    damped_BPP = _held(curve_BPP, size_BP, place.damping_B2[:, kind], place.is_held_BP)
    move_BP = solve_linear(damped_BPP, place.gradient_BP)
    promise_B = np.abs(np.einsum("bp,bp->b", move_BP, place.gradient_BP))
    return move_BP, np.where(np.isfinite(promise_B), promise_B, np.inf)


def _step(problem: _Problem, place: _Place, move_BP: Array, promise_B: Array) -> _Place:
    best = problem.moved(place, move_BP, _TRUE)
    is_kept_B = place.total_B - best.total_B >= _KEPT_PROMISE * promise_B
    short_I = np.flatnonzero(~is_kept_B)
    if short_I.size:
        second = _second(
            problem.rows(short_I),
            place.rows(short_I),
            best.rows(short_I),
            promise_B[short_I],
        )
        best.put(short_I, second)
    return best


def _second(
    problem: _Problem, place: _Place, first: _Place, promise_B: Array
) -> _Place:
    """The majorant's step where it is lower than the first one, or no step at all."""
    curve_BPP = problem.majorant(place.theta_BP)
    place.damping_B2 = first.damping_B2
    move_BP, other_B = _direction(place, curve_BPP, _MAJORANT)
    best = problem.moved(place, move_BP, _MAJORANT)
    damping_B2 = best.damping_B2.copy()
    first_I = np.flatnonzero(first.total_B < best.total_B)
    best.put(first_I, first.rows(first_I))
    fell_B = place.total_B - best.total_B
    is_fall_B = fell_B > 0
    stay_I = np.flatnonzero(~is_fall_B)
    best.put(stay_I, place.rows(stay_I))
    scale_B = problem.tolerance * np.abs(best.total_B)
    is_small_B = np.maximum(promise_B, other_B) <= scale_B
    is_stuck_B = ~is_fall_B & (damping_B2 >= _DAMPING_MAX).all(axis=1)
    # A vanishing fall ends a problem only when a step was hardly damped.
    is_flat_B = is_fall_B & (fell_B <= scale_B)
    is_flat_B &= damping_B2.min(axis=1) < _DAMPING_SMALL
    best.is_done_B = is_small_B | is_stuck_B | is_flat_B
    best.damping_B2 = damping_B2
    return best


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
