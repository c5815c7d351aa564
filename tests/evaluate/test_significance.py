"""Intervals and tests against SciPy, enumeration and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from gr_jax.core import errors
from gr_jax.evaluate import significance


def test_means_and_ratios_are_those_of_the_sample():
    sums = np.array([[1.0, 2.0], [3.0, 0.0], [5.0, 4.0]])
    counts = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 4.0]])
    mean, ratio = significance.bootstrap_ratios(sums, counts, seed=3, resamples=200)
    assert (mean.value, ratio.value) == (3.0, 1.0)
    assert (ratio.low, ratio.high) == (1.0, 1.0)
    assert mean.low < 3.0 < mean.high
    assert mean.n == 3


def test_interval_matches_the_normal_one_and_chunks_do_not_matter(monkeypatch):
    values = np.random.default_rng(0).normal(2.0, 1.0, (400, 1))
    ones = np.ones_like(values)
    (whole,) = significance.bootstrap_ratios(values, ones, seed=0, resamples=4000)
    half = 1.96 * values.std(ddof=1) / 20
    assert whole.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert whole.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    monkeypatch.setattr(significance, "_CHUNK_ENTRIES", 400 * 7)
    (parts,) = significance.bootstrap_ratios(values, ones, seed=0, resamples=4000)
    # Chunks draw the same numbers; only the order of a sum may differ.
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_nothing_to_average_and_nan_are_refused():
    with pytest.raises(errors.InputError):
        significance.bootstrap_ratios(np.ones((0, 1)), np.ones((0, 1)), seed=0)
    with pytest.raises(errors.NumericError):
        significance.bootstrap_ratios(np.full((2, 1), np.nan), np.ones((2, 1)), seed=0)


def test_randomisation_p_approaches_the_enumerated_one():
    gap = np.array([0.4, 0.1, -0.2, 0.3, 0.5, 0.05, -0.1, 0.2])
    flips = np.array(list(itertools.product([-1, 1], repeat=len(gap))))
    exact = np.mean(np.abs(flips @ gap) >= abs(gap.sum()) - 1e-12)
    found = significance.randomisation_p(gap, seed=0, resamples=40_000)
    assert found == pytest.approx(exact, abs=0.01)
    assert significance.randomisation_p(np.full(30, 0.5), seed=0) < 0.001


def test_holm_against_its_definition():
    p = [0.001, 0.2, 0.012, 0.04]
    # Sorted: 0.001·4, 0.012·3, 0.04·2, 0.2·1, never falling.
    assert significance.holm(p) == pytest.approx([0.004, 0.2, 0.036, 0.08])
    assert significance.holm([0.6, 0.7]) == [1.0, 1.0]


def test_compare_counts_wins_and_agrees_with_scipy():
    rng = np.random.default_rng(1)
    first = {f"q{i}": {"m": float(x)} for i, x in enumerate(rng.random(40))}
    second = {
        q: {"m": row["m"] - 0.1 * (i % 3)} for i, (q, row) in enumerate(first.items())
    }
    (found,) = significance.compare(first, second, seed=0, resamples=2000)
    assert (found.wins, found.losses, found.ties) == (26, 0, 14)
    queries = sorted(first)
    p = stats.ttest_rel(
        [first[q]["m"] for q in queries], [second[q]["m"] for q in queries]
    ).pvalue
    assert found.p_t_test == pytest.approx(p, rel=1e-9)
    assert found.difference.value == pytest.approx(found.first - found.second)
    assert found.p_randomisation < 0.01
    (back,) = significance.compare(second, first, seed=0, resamples=2000)
    assert (back.wins, back.losses) == (0, 26)


def test_compare_refuses_other_queries():
    with pytest.raises(errors.InputError, match="same queries"):
        significance.compare({"a": {"m": 1.0}}, {"b": {"m": 1.0}}, seed=0)
