"""Tolerances on both sides, and missing scores that are errors."""

from __future__ import annotations

import dataclasses

import pytest

from gr_jax.core import errors
from gr_jax.report import contents, reproduction


@pytest.fixture
def runs(study_folder):
    return [row.record for row in contents.read(study_folder).rows]


def expectation(runs, **changes):
    first = runs[0]
    base = reproduction.Expectation(
        name="smallest",
        command="gr-jax study",
        where={"cell": first.cell, "beam": first.beam},
        metric="ce",
        value=first.metrics["ce"].value,
        tolerance=1e-9,
    )
    return dataclasses.replace(base, **changes)


def test_holds_within_and_fails_on_either_side(runs):
    value = runs[0].metrics["ce"].value
    for off, holds in ((0.0, True), (0.09, True), (0.11, False), (-0.11, False)):
        one = expectation(runs, value=value + off, tolerance=0.1)
        (check,) = reproduction.compare(runs, [one])
        assert check.holds is holds
        assert check.difference == pytest.approx(-off)


def test_missing_scores_are_errors(runs):
    with pytest.raises(errors.InputError, match="1 wanted"):
        reproduction.compare(runs, [expectation(runs, where={"cell": "other"})])
    with pytest.raises(errors.InputError, match="not in every record"):
        reproduction.compare(runs, [expectation(runs, metric="other")])
    with pytest.raises(errors.InputError, match="2 wanted"):
        reproduction.compare(runs, [expectation(runs, seeds=2)])


def test_mean_over_seeds(runs):
    two = [runs[0], dataclasses.replace(runs[1], cell=runs[0].cell)]
    value = (two[0].metrics["ce"].value + two[1].metrics["ce"].value) / 2
    (check,) = reproduction.compare(two, [expectation(runs, seeds=2, value=value)])
    assert check.holds


def test_round_trip_and_other_files(tmp_path, runs):
    path = tmp_path / "expected.json"
    reproduction.write(path, [expectation(runs)])
    assert reproduction.read(path) == [expectation(runs)]
    path.write_text('{"version": 9}')
    with pytest.raises(errors.ArtifactError, match="version"):
        reproduction.read(path)
    path.write_text('{"version": 1, "expected": [{"name": "x"}]}')
    with pytest.raises(errors.ArtifactError, match=r"expected\[0\]"):
        reproduction.read(path)
