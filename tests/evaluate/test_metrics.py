"""Metrics against arithmetic and against an oracle that shares no code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.evaluate import metrics

RUN = {
    "q1": [("a", 3.0), ("b", 2.0), ("c", 1.0)],
    "q2": [("b", 5.0), ("d", 5.0), ("a", 1.0)],
    "extra": [("a", 1.0)],
}
QRELS = {"q1": {"b": 1, "z": 1}, "q2": {"d": 2, "a": 1}, "q3": {"c": 1}}


def oracle(run, qrels, ks):
    """The metrics by their definitions, one query at a time."""
    table = {}
    for query, grades in qrels.items():
        grades = {d: max(g, 0) for d, g in grades.items()}
        relevant = {d for d, g in grades.items() if g >= 1}
        if not relevant:
            continue
        hits = sorted(sorted(run.get(query, [])), key=lambda hit: hit[1], reverse=True)
        ranking = [d for d, _ in hits]
        row = {}
        for k in ks:
            found = relevant & set(ranking[:k])
            row[f"recall@{k}"] = len(found) / len(relevant)
            row[f"hits@{k}"] = float(bool(found))
        places = [i for i, d in enumerate(ranking[:10]) if d in relevant]
        row["mrr@10"] = 1 / (places[0] + 1) if places else 0.0
        gains = [
            grades.get(d, 0) / math.log2(i + 2) for i, d in enumerate(ranking[:10])
        ]
        best = sorted(grades.values(), reverse=True)[:10]
        ideal = sum(g / math.log2(i + 2) for i, g in enumerate(best))
        row["ndcg@10"] = sum(gains) / ideal
        table[query] = row
    return table


def test_arithmetic_by_hand():
    table = metrics.per_query(RUN, QRELS, ks=(1, 2))
    assert set(table) == {"q1", "q2", "q3"}
    assert table["q1"]["recall@2"] == 1 / 2
    assert table["q1"]["hits@1"] == 0.0
    assert table["q1"]["mrr@10"] == 1 / 2
    # q2 ties b and d: b comes first by its id, so d (grade 2) is second, a third.
    assert table["q2"]["mrr@10"] == 1 / 2
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    gain = 2 / math.log2(3) + 1 / math.log2(4)
    assert table["q2"]["ndcg@10"] == pytest.approx(gain / ideal, rel=1e-12)
    assert set(table["q3"].values()) == {0.0}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equals_the_oracle_on_random_runs(seed):
    rng = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(15)]
    run, qrels = {}, {}
    for query in range(6):
        chosen = rng.permutation(names)[: rng.integers(0, 15)]
        # Scores from a small set, and differing in the 9th digit: ties of both sorts.
        scores = rng.integers(0, 4, len(chosen)) + 1e-9 * rng.integers(
            0, 3, len(chosen)
        )
        if rng.random() < 0.8:
            run[f"q{query}"] = list(zip(map(str, chosen), scores.tolist(), strict=True))
        judged = rng.permutation(names)[: rng.integers(1, 6)]
        grades = rng.integers(-1, 4, len(judged)).tolist()
        qrels[f"q{query}"] = dict(zip(map(str, judged), grades, strict=True))
    qrels["sure"] = {"d0": 1}
    expected = oracle(run, qrels, (1, 5, 10, 100))
    found = metrics.per_query(run, qrels)
    assert set(found) == set(expected)
    for query, row in expected.items():
        assert found[query] == pytest.approx(row, rel=1e-12, abs=1e-15)


def test_queries_the_run_lacks_lower_the_mean():
    measures, table = metrics.evaluate_run(RUN, QRELS, ks=(1, 2), seed=0, resamples=50)
    assert table["q3"]["recall@2"] == 0.0
    assert measures["recall@2"].value == pytest.approx((0.5 + 0.5 + 0.0) / 3)
    assert measures["recall@2"].n == 3
    measure = measures["mrr@10"]
    assert measure.low <= measure.value <= measure.high


def test_same_seed_same_interval_other_seed_another():
    one, _ = metrics.evaluate_run(RUN, QRELS, seed=1, resamples=25)
    two, _ = metrics.evaluate_run(RUN, QRELS, seed=1, resamples=25)
    assert one == two


def test_queries_without_relevant_documents_are_left_out_or_zero():
    qrels = {"q1": {"a": 1}, "q2": {"b": 0}}
    assert list(metrics.per_query(RUN, qrels)) == ["q1"]
    table = metrics.per_query(RUN, qrels, without_relevant="zero")
    assert table["q2"]["recall@1"] == 0.0
    with pytest.raises(errors.InputError, match="grade 5"):
        metrics.per_query(RUN, qrels, min_grade=5)


def test_min_grade_decides_what_is_relevant():
    assert metrics.per_query(RUN, {"q2": {"d": 2, "b": 1}})["q2"]["hits@1"] == 1.0
    table = metrics.per_query(RUN, {"q2": {"d": 2, "b": 1}}, min_grade=2)
    assert table["q2"]["hits@1"] == 0.0


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(score):
    with pytest.raises(errors.InputError, match="finite"):
        metrics.evaluate_run({"q1": [("a", score)]}, QRELS, seed=0)


def test_twice_the_same_document_is_refused():
    with pytest.raises(errors.InputError, match="once"):
        metrics.per_query({"q1": [("a", 1.0), ("a", 0.5)]}, QRELS)


def test_a_run_of_other_queries_is_an_error_and_never_zero():
    with pytest.raises(errors.InputError, match="none of the run's queries"):
        metrics.evaluate_run({"x": [("a", 1.0)]}, QRELS, seed=0)
    with pytest.raises(errors.InputError, match="no judgement"):
        metrics.evaluate_run(RUN, {}, seed=0)


def test_coverage_counts_what_does_not_match():
    documents = ["a", "b", "c", "d"]
    found = metrics.coverage(RUN, {**QRELS, "q4": {"a": -1}}, documents)
    assert found == metrics.Coverage(
        queries_judged=4,
        queries_missing_from_run=2,
        queries_without_relevant=1,
        queries_not_judged=1,
        relevant_unknown=1,
        negative_grades=1,
        ties=1,
    )
    with pytest.raises(errors.InputError, match="not in the collection"):
        metrics.coverage(RUN, QRELS, ["a", "b"])
