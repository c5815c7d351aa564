"""The few distribution functions that intervals and tests need."""

from __future__ import annotations

from typing import Any, cast

# SciPy has no type stubs; this module is the only place that sees it untyped.
from scipy import optimize, stats  # pyright: ignore[reportMissingTypeStubs]

_STATS = cast(Any, stats)
_OPTIMIZE = cast(Any, optimize)


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution.

    Example:
      >>> round(normal_quantile(0.975), 4)
      1.96
    """
    return float(_STATS.norm.ppf(probability))


def student_quantile(probability: float, dof: int) -> float:
    """Quantile of Student's t; at least one degree of freedom is assumed.

    Example:
      >>> round(student_quantile(0.975, 2), 3)
      4.303
    """
    return float(_STATS.t.ppf(probability, max(dof, 1)))


def f_tail(ratio: float, numerator: int, denominator: int) -> float:
    """Probability that an F variable exceeds a ratio."""
    return float(_STATS.f.sf(max(ratio, 0.0), numerator, max(denominator, 1)))


def non_negative_solution(matrix: Any, right: Any) -> Any:
    """Least squares with non-negative unknowns (Lawson & Hanson 1974)."""
    return _OPTIMIZE.nnls(matrix, right)[0]
