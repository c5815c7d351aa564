"""Expected against measured: stored values with two-sided tolerances.

An expectation file is JSON: ``{"version": 1, "expected": [...]}``, each entry with a
``name``, the ``command`` that makes the records, ``where`` (fields that choose them),
``metric``, ``value``, ``tolerance`` (absolute), and ``seeds`` (how many records must
match; their mean is compared). A missing score is an error, never a zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from gr_jax.core import artifacts, errors, records

VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expectation:
    """One stored value and how far a measured one may be from it."""

    name: str
    command: str
    where: dict[str, Any]
    metric: str
    value: float
    tolerance: float
    seeds: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """An expectation beside what was measured."""

    expectation: Expectation
    measured: float

    @property
    def difference(self) -> float:
        """Measured minus expected."""
        return self.measured - self.expectation.value

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance, on both sides."""
        return abs(self.difference) <= self.expectation.tolerance


def read(path: Path) -> list[Expectation]:
    """The expectations of a file.

    Raises:
      ArtifactError: If it is missing or of another form; the entry is named.
    """
    read = artifacts.read_json(path)
    value = cast("dict[str, Any]", read if isinstance(read, dict) else {})
    if value.get("version") != VERSION:
        raise errors.ArtifactError(
            f"{path}: version: this version reads {VERSION}: make it anew"
        )
    found: list[Expectation] = []
    listed = cast("list[dict[str, Any]]", value.get("expected") or [])
    for place, entry in enumerate(listed):
        try:
            found.append(Expectation(**entry))
        except TypeError as error:
            raise errors.ArtifactError(f"{path}: expected[{place}]: {error}") from None
    return found


def write(path: Path, expected: Sequence[Expectation]) -> None:
    """Stores expectations."""
    listed = [dataclasses.asdict(one) for one in expected]
    artifacts.write_json(path, {"version": VERSION, "expected": listed})


def _matches(record: records.RunRecord, where: Mapping[str, Any]) -> bool:
    return all(getattr(record, name, None) == value for name, value in where.items())


def compare(
    runs: Sequence[records.RunRecord], expected: Sequence[Expectation]
) -> list[Check]:
    """Every expectation beside the mean of the records it names.

    Raises:
      InputError: If records are missing or too many, or one lacks the metric.
    """
    checks: list[Check] = []
    for one in expected:
        chosen = [run for run in runs if _matches(run, one.where)]
        if len(chosen) != one.seeds:
            raise errors.InputError(
                errors.fault(
                    one.name,
                    "records",
                    len(chosen),
                    f"{one.seeds} wanted: run `{one.command}`",
                )
            )
        values = [
            run.metrics[one.metric].value for run in chosen if one.metric in run.metrics
        ]
        if len(values) != len(chosen):
            raise errors.InputError(
                errors.fault(one.name, "metric", one.metric, "not in every record")
            )
        checks.append(Check(expectation=one, measured=sum(values) / len(values)))
    return checks
