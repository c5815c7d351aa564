"""What laws are fitted to: points with intervals, one for each configuration."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from gr_jax.core import errors
from gr_jax.fit.laws import law

Array = law.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
    """R measured values at R places.

    Attributes:
      x_RA: One column for each axis of a law, positive.
      y_R: The metric.
      low_R: Lower ends of 95% intervals, NaN where there is none.
      high_R: Upper ends.
      weight_R: Multiplies a point's loss.
      labels: What each point came from: a cell's name, a line of a file.
      axes: Field names of the columns, with units where they have one.
      metric: Field name of y.
      runs_R: How many runs (seeds) were averaged into each point.
    """

    x_RA: Array
    y_R: Array
    low_R: Array
    high_R: Array
    weight_R: Array
    labels: tuple[str, ...]
    axes: tuple[str, ...]
    metric: str
    runs_R: Array

    def __len__(self) -> int:
        return self.y_R.shape[0]

    def configurations(self) -> np.ndarray:
        """For each point the number of its configuration: equal x, equal number."""
        return np.unique(self.x_RA, axis=0, return_inverse=True)[1].reshape(-1)

    def distinct(self) -> int:
        """How many configurations there are: repeats and seeds are not points."""
        return np.unique(self.x_RA, axis=0).shape[0]

    def keep(self, is_kept_R: np.ndarray) -> Points:
        """Some of the points."""
        kept = np.flatnonzero(is_kept_R)
        return dataclasses.replace(
            self,
            x_RA=self.x_RA[kept],
            y_R=self.y_R[kept],
            low_R=self.low_R[kept],
            high_R=self.high_R[kept],
            weight_R=self.weight_R[kept],
            labels=tuple(self.labels[i] for i in kept),
            runs_R=self.runs_R[kept],
        )

    def sigmas(self) -> Array:
        """Standard errors from the 95% intervals, NaN where there is none."""
        return (self.high_R - self.low_R) / (2 * 1.959963984540054)


def make(
    x_RA: Float[np.ndarray, "R A"],
    y_R: Float[np.ndarray, " R"],
    *,
    low_R: Float[np.ndarray, " R"] | None = None,
    high_R: Float[np.ndarray, " R"] | None = None,
    weight_R: Float[np.ndarray, " R"] | None = None,
    labels: tuple[str, ...] | None = None,
    axes: tuple[str, ...] | None = None,
    metric: str = "y",
) -> Points:
    """Points of arrays, checked.

    Raises:
      InputError: If lengths differ, or a number is not finite, or an x is not positive.

    Example:
      >>> len(make(np.array([[1.0], [2.0]]), np.array([3.0, 2.5])))
      2
    """
    x_RA = np.asarray(x_RA, dtype=np.float64)
    x_RA = x_RA[:, None] if x_RA.ndim == 1 else x_RA
    y_R = np.asarray(y_R, dtype=np.float64)
    count = y_R.shape[0]
    missing_R = np.full(count, np.nan)
    one_R = np.ones(count, dtype=np.float64)
    names = axes or tuple(f"x{i}" for i in range(x_RA.shape[1]))
    marks = labels or tuple(str(i) for i in range(count))
    if x_RA.shape[0] != count or len(marks) != count or len(names) != x_RA.shape[1]:
        raise errors.InputError(
            f"points: {x_RA.shape[0]} x, {count} y, {len(marks)} labels, "
            f"{len(names)} axes: give one x, y and label a point, one name a column"
        )
    for row in range(count):
        for name, value in zip(names, x_RA[row], strict=True):
            if not (np.isfinite(value) and value > 0):
                raise errors.InputError(
                    errors.fault(marks[row], name, float(value), "must be positive")
                )
        if not np.isfinite(y_R[row]):
            raise errors.InputError(
                errors.fault(marks[row], metric, float(y_R[row]), "must be a number")
            )
    return Points(
        x_RA=x_RA,
        y_R=y_R,
        low_R=missing_R if low_R is None else np.asarray(low_R, dtype=np.float64),
        high_R=missing_R if high_R is None else np.asarray(high_R, dtype=np.float64),
        weight_R=one_R if weight_R is None else np.asarray(weight_R, np.float64),
        labels=marks,
        axes=names,
        metric=metric,
        runs_R=one_R,
    )


def weighted_by_errors(points: Points, *, is_relative: bool) -> Points:
    """The points with weights of one over the variance of each, of mean one.

    Args:
      points: With 95% intervals, from which the standard errors are taken.
      is_relative: Whether residuals are of logarithms, whose error is the relative one.

    Raises:
      InputError: If a point has no interval, or one of no width.
    """
    error_R = points.sigmas()
    if is_relative:
        error_R = error_R / np.abs(points.y_R)
    for label, error in zip(points.labels, error_R.tolist(), strict=True):
        if not (np.isfinite(error) and error > 0):
            raise errors.InputError(
                f"{label}: no interval to weigh it by: name the columns of its ends, "
                "or weigh all points alike"
            )
    weight_R = points.weight_R / error_R**2
    return dataclasses.replace(points, weight_R=weight_R / weight_R.mean())


def merge_repeats(points: Points) -> Points:
    """One point for each configuration: the mean over its seeds.

    The interval of a mean is the mean interval: seeds share their queries, so
    averaging them does not shrink the error that the queries make.
    """
    rows = _groups(points)

    def mean(values_R: Array) -> Array:
        return np.array([values_R[row].mean() for row in rows])

    return dataclasses.replace(
        points,
        x_RA=np.stack([points.x_RA[row[0]] for row in rows]),
        y_R=mean(points.y_R),
        low_R=mean(points.low_R),
        high_R=mean(points.high_R),
        weight_R=mean(points.weight_R),
        labels=tuple("+".join(points.labels[int(i)] for i in row) for row in rows),
        runs_R=np.array([points.runs_R[row].sum() for row in rows]),
    )


def merge_rows(points: Points, value_RQ: Float[np.ndarray, "R Q"]) -> Array:
    """Rows of a table of the points, averaged as `merge_repeats` averages points."""
    return np.stack([value_RQ[row].mean(axis=0) for row in _groups(points)])


def _groups(points: Points) -> list[npt.NDArray[np.intp]]:
    """Rows of each configuration, in order of their first."""
    group_R = points.configurations()
    return [np.flatnonzero(group_R == g) for g in dict.fromkeys(group_R.tolist())]
