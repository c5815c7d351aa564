"""Intervals and paired tests over queries, all seeded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import special  # pyright: ignore[reportMissingTypeStubs]  # has no stubs

from gr_jax.core import errors, randomness, records

LEVEL = 0.95
_CHUNK_ENTRIES = 1 << 22


def _resample_counts(
    rng: np.random.Generator, rows: int, queries: int
) -> Int[np.ndarray, "T Q"]:
    """How often each query is drawn in each of ``rows`` resamples."""
    drawn_TQ = rng.integers(0, queries, (rows, queries))
    offset_T1 = np.arange(rows)[:, None] * queries
    counts = np.bincount((drawn_TQ + offset_T1).ravel(), minlength=rows * queries)
    return counts.reshape(rows, queries)


def bootstrap_ratios(
    sums_QK: Float[np.ndarray, "Q K"],
    counts_QK: Float[np.ndarray, "Q K"],
    *,
    seed: int,
    resamples: int = 1000,
) -> list[records.Measure]:
    """Means of K metrics with 95% percentile intervals, queries resampled together.

    A metric may have several terms a query (positive pairs): its mean is the sum of
    the queries' sums over the sum of their counts, and a query is drawn with all its
    terms, which are not independent. The intervals of one call share their resamples.

    Args:
      sums_QK: Sum of a metric's terms for each query.
      counts_QK: Number of those terms; a query may have none, but not all of them.
      seed: Names the resamples.
      resamples: Number of bootstrap draws.

    Returns:
      One measure a column, ``n`` the number of queries.

    Raises:
      InputError: If there is no query.
      NumericError: If a sum is not finite.

    Example:
      >>> bootstrap_ratios(np.ones((4, 1)), np.ones((4, 1)), seed=0)[0].low
      1.0
    """
    queries = len(sums_QK)
    if queries == 0:
        raise errors.InputError("no query to average over: give judgements")
    if not np.all(np.isfinite(sums_QK)):
        raise errors.NumericError("a query's metric is not a finite number")
    values_K = sums_QK.sum(0) / counts_QK.sum(0)
    rng = randomness.stream(seed, "evaluate.bootstrap")
    rows = max(1, min(resamples, _CHUNK_ENTRIES // queries))
    draws: list[np.ndarray] = []
    for start in range(0, resamples, rows):
        weight_TQ = _resample_counts(rng, min(rows, resamples - start), queries)
        weight_TQ = weight_TQ.astype(np.float64)
        # A resample may hold no term at all of a rare metric: it says nothing then.
        with np.errstate(invalid="ignore", divide="ignore"):
            draws.append((weight_TQ @ sums_QK) / (weight_TQ @ counts_QK))
    tail = (1 - LEVEL) / 2
    low_K, high_K = np.nanquantile(np.concatenate(draws), [tail, 1 - tail], axis=0)
    return [
        # Rounding may put the mean of equal values a last digit outside.
        records.Measure(
            value=float(value),
            low=float(min(low, value)),
            high=float(max(high, value)),
            n=queries,
        )
        for value, low, high in zip(values_K, low_K, high_K, strict=True)
    ]


def bootstrap_means(
    per_query: Mapping[str, Mapping[str, float]], *, seed: int, resamples: int = 1000
) -> dict[str, records.Measure]:
    """Mean of every metric over the queries, with 95% bootstrap intervals.

    Args:
      per_query: Query to metric to value; every query has every metric.
      seed: Names the resamples.
      resamples: Number of bootstrap draws.
    """
    queries = sorted(per_query)
    if not queries:
        raise errors.InputError("no query to average over: give judgements")
    names = list(per_query[queries[0]])
    table_QK = np.array([[per_query[q][m] for m in names] for q in queries], float)
    measures = bootstrap_ratios(
        table_QK, np.ones_like(table_QK), seed=seed, resamples=resamples
    )
    return dict(zip(names, measures, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of two runs on the same queries; difference is first minus second."""

    metric: str
    first: float
    second: float
    difference: records.Measure
    wins: int
    losses: int
    ties: int
    p_randomisation: float
    p_t_test: float
    p_holm: float


def randomisation_p(
    difference_Q: Float[np.ndarray, " Q"], *, seed: int, resamples: int = 10_000
) -> float:
    """Two-sided p of Fisher's paired randomisation test on the mean difference.

    Signs are flipped at random; ``(1 + hits) / (1 + resamples)``, never zero. Source:
    Smucker, Allan and Carterette 2007, "A comparison of statistical significance tests
    for information retrieval evaluation".

    Example:
      >>> randomisation_p(np.zeros(5), seed=0)
      1.0
    """
    observed = abs(float(difference_Q.sum()))
    rng = randomness.stream(seed, "evaluate.randomisation")
    rows = max(1, min(resamples, _CHUNK_ENTRIES // max(1, len(difference_Q))))
    hits = 0
    # Sums in another order differ in the last digits: an equal sum is a hit.
    tolerance = 1e-12 * max(1.0, float(np.abs(difference_Q).sum()))
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(difference_Q))
        sign_TQ = rng.integers(0, 2, shape).astype(np.float64) * 2 - 1
        hits += int(np.sum(np.abs(sign_TQ @ difference_Q) >= observed - tolerance))
    return (1 + hits) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method (1979).

    Example:
      >>> holm([0.01, 0.04, 0.03])
      [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _t_test_p(difference_Q: Float[np.ndarray, " Q"]) -> float:
    if len(difference_Q) < 2:
        return 1.0
    error = float(difference_Q.std(ddof=1)) / len(difference_Q) ** 0.5
    mean = float(difference_Q.mean())
    if error == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    tail = special.stdtr(len(difference_Q) - 1, -abs(mean) / error)
    return float(2 * tail)


def compare(
    first: Mapping[str, Mapping[str, float]],
    second: Mapping[str, Mapping[str, float]],
    *,
    metrics: Sequence[str] | None = None,
    seed: int,
    resamples: int = 10_000,
) -> list[Comparison]:
    """Paired comparison of two runs, metric by metric.

    Args:
      first: Query to metric to value.
      second: The same of the other run; the queries must be the same.
      metrics: Which to compare; those that both have, if not given.
      seed: Names the resamples and the flips of sign.
      resamples: Number of each.

    Returns:
      One comparison a metric, p-values also adjusted (Holm) for the metrics compared.

    Raises:
      InputError: If the runs were not judged on the same queries or share no metric.
    """
    if set(first) != set(second):
        missing = sorted(set(first) ^ set(second))
        raise errors.InputError(
            errors.fault(
                "runs", "queries", missing[0], "judge both runs on the same queries"
            )
        )
    queries = sorted(first)
    if metrics is None:
        shared = set(second[queries[0]]) if queries else set[str]()
        metrics = [m for m in first[queries[0]] if m in shared] if queries else []
    if not metrics:
        raise errors.InputError("runs: no query or no metric in common to compare")
    found: list[Comparison] = []
    for name in metrics:
        first_Q = np.array([first[q][name] for q in queries], np.float64)
        second_Q = np.array([second[q][name] for q in queries], np.float64)
        gap_Q = first_Q - second_Q
        (interval,) = bootstrap_ratios(
            gap_Q[:, None], np.ones((len(gap_Q), 1)), seed=seed, resamples=resamples
        )
        found.append(
            Comparison(
                metric=name,
                first=float(first_Q.mean()),
                second=float(second_Q.mean()),
                difference=interval,
                wins=int(np.sum(gap_Q > 0)),
                losses=int(np.sum(gap_Q < 0)),
                ties=int(np.sum(gap_Q == 0)),
                p_randomisation=randomisation_p(gap_Q, seed=seed, resamples=resamples),
                p_t_test=_t_test_p(gap_Q),
                p_holm=1.0,
            )
        )
    adjusted = holm([c.p_randomisation for c in found])
    return [
        dataclasses.replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True)
    ]
