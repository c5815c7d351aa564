"""Ranking metrics of a run, query by query, with intervals over the queries.

The arithmetic is that of ``ir-measures`` (trec_eval). What is decided here is what
libraries leave open: the order among equal scores, queries that a run lacks, queries
without a relevant document, grades below zero.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import ir_measures

from gr_jax.core import errors, records
from gr_jax.evaluate import significance

Run = Mapping[str, Sequence[tuple[str, float]]]
Qrels = Mapping[str, Mapping[str, int]]
PerQuery = dict[str, dict[str, float]]

_CUTOFF = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a run and its judgements have in common; shown beside every result."""

    queries_judged: int
    queries_missing_from_run: int
    queries_without_relevant: int
    queries_not_judged: int
    relevant_unknown: int
    negative_grades: int
    ties: int


def strictly_ordered(run: Run) -> tuple[dict[str, list[tuple[str, float]]], int]:
    """The run by score, best first, equal scores by document id; and the tied pairs.

    Raises:
      InputError: If a score is not a finite number or a document is listed twice for
        a query.

    Example:
      >>> strictly_ordered({"q": [("b", 1.0), ("a", 1.0), ("c", 2.0)]})
      ({'q': [('c', 2.0), ('a', 1.0), ('b', 1.0)]}, 1)
    """
    ordered: dict[str, list[tuple[str, float]]] = {}
    ties = 0
    for query, hits in run.items():
        if len({document for document, _ in hits}) != len(hits):
            raise errors.InputError(
                errors.fault("run", "query", query, "list every document once")
            )
        for document, score in hits:
            if not math.isfinite(score):
                raise errors.InputError(
                    errors.fault(
                        f"run: query {query}: document {document}",
                        "score",
                        score,
                        "scores must be finite",
                    )
                )
        best = sorted(hits, key=lambda hit: (-hit[1], hit[0]))
        ties += sum(a[1] == b[1] for a, b in itertools.pairwise(best))
        ordered[query] = best
    return ordered, ties


def coverage(
    run: Run, qrels: Qrels, documents: Collection[str] | None = None
) -> Coverage:
    """Counts what does not match between a run, its judgements and the collection.

    Args:
      run: Query to hits.
      qrels: Query to document to grade.
      documents: Ids of the collection; without them documents are not checked.

    Raises:
      InputError: If there are no judgements, if the run answers none of the judged
        queries, or if it returns a document that the collection lacks.
    """
    if not qrels:
        raise errors.InputError("qrels: no judgement: give a split that has some")
    if run and not set(run) & set(qrels):
        raise errors.InputError(
            errors.fault(
                "run",
                "query",
                next(iter(run)),
                "none of the run's queries is judged: are these the right qrels?",
            )
        )
    _, ties = strictly_ordered(run)
    unknown = 0
    if documents is not None:
        known = set(documents)
        unknown = sum(
            grade > 0 and document not in known
            for grades in qrels.values()
            for document, grade in grades.items()
        )
        for query, hits in run.items():
            for document, _ in hits:
                if document not in known:
                    raise errors.InputError(
                        errors.fault(
                            f"run: query {query}",
                            "document",
                            document,
                            "not in the collection: is this the right collection?",
                        )
                    )
    return Coverage(
        queries_judged=len(qrels),
        queries_missing_from_run=sum(query not in run for query in qrels),
        queries_without_relevant=sum(
            not any(g > 0 for g in grades.values()) for grades in qrels.values()
        ),
        queries_not_judged=sum(query not in qrels for query in run),
        relevant_unknown=unknown,
        negative_grades=sum(
            g < 0 for grades in qrels.values() for g in grades.values()
        ),
        ties=ties,
    )


def _judged(
    qrels: Qrels, min_grade: int, without_relevant: Literal["exclude", "zero"]
) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    for query, grades in qrels.items():
        # A grade below zero marks junk: it gains nothing and must not subtract.
        clipped = {document: max(0, int(g)) for document, g in grades.items()}
        has_relevant = any(g >= min_grade for g in clipped.values())
        if has_relevant or without_relevant == "zero":
            judged[query] = clipped
    if not judged:
        raise errors.InputError(
            f"qrels: no query has a document of grade {min_grade} or more"
        )
    return judged


def per_query(
    run: Run,
    qrels: Qrels,
    *,
    ks: Sequence[int] = (1, 5, 10, 100),
    min_grade: int = 1,
    without_relevant: Literal["exclude", "zero"] = "exclude",
) -> PerQuery:
    """Metrics of every judged query; a query that the run lacks scores 0 everywhere.

    ``recall@k`` is the share of a query's relevant documents among its first k hits,
    ``hits@k`` whether one of them is there, ``mrr@10`` the reciprocal rank of the
    first, ``ndcg@10`` has linear gain and the ideal over all judged documents.

    Args:
      run: Query to ``(document, score)``; sorted here by score, then by document id.
      qrels: Query to document to grade.
      ks: Depths of recall and hits.
      min_grade: The least grade that counts as relevant for all but ``ndcg@10``.
      without_relevant: Whether queries without a relevant document are left out or
        count as 0.

    Raises:
      InputError: See `strictly_ordered`; or if no query has a relevant document.

    Example:
      >>> run = {"q": [("d1", 2.0), ("d2", 1.0)]}
      >>> table = per_query(run, {"q": {"d2": 1}}, ks=(1, 5))
      >>> table["q"]["recall@1"], table["q"]["hits@5"], table["q"]["mrr@10"]
      (0.0, 1.0, 0.5)
    """
    judged = _judged(qrels, min_grade, without_relevant)
    ordered, _ = strictly_ordered({q: run[q] for q in judged if q in run})
    # Ranks instead of scores: trec_eval compares in float32 and breaks near ties its
    # own way.
    ranks = {
        query: {document: float(-place) for place, (document, _) in enumerate(hits)}
        for query, hits in ordered.items()
    }
    named = {f"recall@{k}": ir_measures.R(rel=min_grade) @ k for k in ks}
    named |= {f"hits@{k}": ir_measures.Success(rel=min_grade) @ k for k in ks}
    named[f"mrr@{_CUTOFF}"] = ir_measures.RR(rel=min_grade) @ _CUTOFF
    named[f"ndcg@{_CUTOFF}"] = ir_measures.nDCG @ _CUTOFF
    names = {str(measure): name for name, measure in named.items()}
    table = {query: dict.fromkeys(named, 0.0) for query in sorted(judged)}
    found_all = ir_measures.iter_calc(  # pyright: ignore[reportUnknownMemberType]  # partly untyped
        list(named.values()), judged, ranks
    )
    for found in found_all:
        table[found.query_id][names[str(found.measure)]] = float(found.value)
    return table


def evaluate_run(
    run: Run,
    qrels: Qrels,
    *,
    ks: Sequence[int] = (1, 5, 10, 100),
    min_grade: int = 1,
    without_relevant: Literal["exclude", "zero"] = "exclude",
    seed: int,
    resamples: int = 1000,
) -> tuple[dict[str, records.Measure], PerQuery]:
    """Metrics of a run with 95% bootstrap intervals over queries, and per query.

    Args:
      run: Query to ``(document, score)``.
      qrels: Query to document to grade.
      ks: Depths of recall and hits.
      min_grade: See `per_query`.
      without_relevant: See `per_query`.
      seed: Names the resamples.
      resamples: Number of bootstrap draws.

    Raises:
      InputError: See `coverage` and `per_query`.
    """
    coverage(run, qrels)
    table = per_query(
        run,
        qrels,
        ks=ks,
        min_grade=min_grade,
        without_relevant=without_relevant,
    )
    measures = significance.bootstrap_means(table, seed=seed, resamples=resamples)
    return measures, table
