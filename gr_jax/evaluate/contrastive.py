"""Contrastive metrics, recomputed from stored losses in float64.

Each query has positives (relevant documents) and negatives (one seeded list shared by
every model); each document has identifiers; each identifier has a sum of nats and a
number of target tokens. A *loss* is nats a token, lower is better; a *score* is a log
probability or an inner product, higher is better. The null value of a metric is what it
is when positives and negatives do not differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from gr_jax.core import errors, randomness, records
from gr_jax.evaluate import losses as stored
from gr_jax.evaluate import significance

PAPER_NEGATIVES = 256
_LOG_SCALE_RANGE = (-14.0, 9.0)
_BISECTIONS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
    """Scores of Q queries: P pairs with their positive's score, J negatives a query."""

    queries: Sequence[str]
    pair_query_P: Int[np.ndarray, " P"]
    positive_P: Float[np.ndarray, " P"]
    negative_QJ: Float[np.ndarray, "Q J"]
    is_negative_QJ: Bool[np.ndarray, "Q J"]


def generation_contrast_nats(
    positive_loss_P: Float[np.ndarray, " P"], negative_loss_J: Float[np.ndarray, " J"]
) -> float:
    r"""The paper's CGL of one query: :math:`-\ln\frac{S^-}{S^- + L^+}`.

    :math:`L^+` is the least loss of the positives, :math:`S^-` the sum of the
    negatives' losses, all in nats a token. Null value ``ln(1 + 1/J)``. Source:
    arXiv:2503.18941 and its evaluation script (`reference-behaviour`, 3.2).

    Example:
      >>> float(np.round(generation_contrast_nats(np.ones(1), np.ones(256)), 8))
      0.00389864
    """
    return float(np.log1p(positive_loss_P.min() / negative_loss_J.sum()))


def loss_ratio(
    positive_loss_P: Float[np.ndarray, " P"], negative_loss_J: Float[np.ndarray, " J"]
) -> float:
    r""":math:`\rho = L^+ / \bar L^-` of one query; J (e^CGL - 1), null value 1.

    Example:
      >>> loss_ratio(np.array([3.0, 1.5]), np.array([2.0, 4.0]))
      0.5
    """
    return float(positive_loss_P.min() / negative_loss_J.mean())


def _gaps(
    candidates: Candidates,
) -> tuple[Float[np.ndarray, "P J"], Bool[np.ndarray, "P J"]]:
    """Negative minus positive of every pair, and which of these are real."""
    gap_PJ = candidates.negative_QJ[candidates.pair_query_P]
    gap_PJ = gap_PJ - candidates.positive_P[:, None]
    return gap_PJ, candidates.is_negative_QJ[candidates.pair_query_P]


def contrastive_entropy_nats(
    candidates: Candidates, scale_P: Float[np.ndarray, " P"] | float = 1.0
) -> Float[np.ndarray, " P"]:
    r"""Contrastive entropy of every positive pair, in nats.

    .. math:: -\ln \frac{e^{\beta s^+}}{e^{\beta s^+} + \sum_j e^{\beta s^-_j}}

    One term a pair: the other positives of its query are not in the sum. Null value
    ``ln(1 + J)``. Source: Fang et al. 2024 (arXiv:2403.18684), there with beta = 1.

    Args:
      candidates: Scores, higher better.
      scale_P: beta = 1/temperature, for each pair or for all.
    """
    gap_PJ, is_real_PJ = _gaps(candidates)
    scale_P1 = np.broadcast_to(scale_P, candidates.positive_P.shape)[:, None]
    gap_PJ = np.where(is_real_PJ, gap_PJ * scale_P1, -np.inf)
    # The positive's own term is exp(0): the largest term is never below it.
    largest_P1 = np.maximum(gap_PJ.max(1, keepdims=True), 0.0)
    terms_P = np.exp(gap_PJ - largest_P1).sum(1) + np.exp(-largest_P1[:, 0])
    return largest_P1[:, 0] + np.log(terms_P)


def pairwise_accuracies(candidates: Candidates) -> Float[np.ndarray, " P"]:
    """Share of a pair's negatives that score below its positive; equal counts half."""
    negative_PJ = candidates.negative_QJ[candidates.pair_query_P]
    is_real_PJ = candidates.is_negative_QJ[candidates.pair_query_P]
    positive_P1 = candidates.positive_P[:, None]
    below_PJ = (positive_P1 > negative_PJ) + 0.5 * (positive_P1 == negative_PJ)
    return np.where(is_real_PJ, below_PJ, 0.0).sum(1) / is_real_PJ.sum(1)


def calibrated_scale(candidates: Candidates) -> float:
    """The beta = 1/temperature of least mean contrastive entropy.

    The objective is convex in beta; its slope, the mean over pairs of the gap under the
    softmax, is bisected between e^-14 and e^9: a model that never errs would want an
    infinite beta, one that knows nothing 0.
    """
    gap_PJ, is_real_PJ = _gaps(candidates)

    def slope(log_scale: float) -> float:
        scaled_PJ = np.where(is_real_PJ, gap_PJ * np.exp(log_scale), -np.inf)
        largest_P1 = np.maximum(scaled_PJ.max(1, keepdims=True), 0.0)
        weight_PJ = np.exp(scaled_PJ - largest_P1)
        total_P = weight_PJ.sum(1) + np.exp(-largest_P1[:, 0])
        return float(((weight_PJ * gap_PJ).sum(1) / total_P).mean())

    low, high = _LOG_SCALE_RANGE
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if slope(middle) > 0:
            high = middle
        else:
            low = middle
    return float(np.exp((low + high) / 2))


def candidates_of(
    queries: Sequence[str],
    query_R: Int[np.ndarray, " R"],
    is_positive_R: Bool[np.ndarray, " R"],
    score_R: Float[np.ndarray, " R"],
) -> Candidates:
    """Scores of (query, document) rows, arranged by query.

    What a dense retriever is judged by too: give its inner products.

    Raises:
      InputError: If a query has no positive or no negative.
    """
    total = len(queries)
    has_R = is_positive_R.astype(np.int64)
    positives_Q = np.bincount(query_R, weights=has_R, minlength=total)
    negatives_Q = np.bincount(query_R, weights=1 - has_R, minlength=total)
    for counts_Q, what in ((positives_Q, "positive"), (negatives_Q, "negative")):
        if np.any(counts_Q == 0):
            query = queries[int(np.flatnonzero(counts_Q == 0)[0])]
            raise errors.InputError(
                errors.fault("losses", "query", query, f"score a {what} document too")
            )
    is_negative_R = ~is_positive_R
    rows_R = np.flatnonzero(is_negative_R)
    rows_R = rows_R[np.argsort(query_R[rows_R], kind="stable")]
    count_Q = negatives_Q.astype(np.int64)
    first_Q = np.cumsum(count_Q) - count_Q
    column_R = np.arange(len(rows_R)) - np.repeat(first_Q, count_Q)
    negative_QJ = np.zeros((total, int(count_Q.max())))
    is_negative_QJ = np.zeros(negative_QJ.shape, bool)
    negative_QJ[query_R[rows_R], column_R] = score_R[rows_R]
    is_negative_QJ[query_R[rows_R], column_R] = True
    return Candidates(
        queries=queries,
        pair_query_P=query_R[is_positive_R],
        positive_P=score_R[is_positive_R].astype(np.float64),
        negative_QJ=negative_QJ,
        is_negative_QJ=is_negative_QJ,
    )


def _cross_fitted_scales(candidates: Candidates, seed: int) -> Float[np.ndarray, " Q"]:
    """β of every query, fitted on the half of the queries that it is not in."""
    total = len(candidates.queries)
    ranks = [
        randomness.rank_of(seed, "evaluate.calibration", q) for q in candidates.queries
    ]
    fold_Q = np.zeros(total, np.int64)
    fold_Q[np.argsort(ranks, kind="stable")[total // 2 :]] = 1
    scale_Q = np.ones(total)
    for fold in (0, 1):
        other_P = fold_Q[candidates.pair_query_P] != fold
        half = dataclasses.replace(
            candidates,
            pair_query_P=candidates.pair_query_P[other_P],
            positive_P=candidates.positive_P[other_P],
        )
        scale_Q[fold_Q == fold] = calibrated_scale(half)
    return scale_Q


def _fact(value: float, queries: int) -> records.Measure:
    return records.Measure(value=value, low=value, high=value, n=queries)


def _per_pair_columns(
    candidates: Candidates, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    negatives_P = candidates.is_negative_QJ.sum(1)[candidates.pair_query_P]
    columns = {"ce": contrastive_entropy_nats(candidates)}
    facts = {
        "negatives": float(candidates.is_negative_QJ.sum(1).mean()),
        "positives": len(candidates.positive_P) / len(candidates.queries),
        "ce_null": float(np.log1p(negatives_P).mean()),
        "pairwise_accuracy_null": 0.5,
    }
    if len(candidates.queries) > 1:
        scale_Q = _cross_fitted_scales(candidates, seed)
        columns["ce_calibrated"] = contrastive_entropy_nats(
            candidates, scale_Q[candidates.pair_query_P]
        )
        facts["temperature"] = float(np.exp(-np.log(scale_Q).mean()))
    columns["pairwise_accuracy"] = pairwise_accuracies(candidates)
    return columns, facts


def evaluate_scores(
    candidates: Candidates, *, seed: int, resamples: int = 1000
) -> tuple[dict[str, records.Measure], dict[str, dict[str, float]]]:
    """Contrastive entropy and pairwise accuracy of scores of any retriever.

    Args:
      candidates: Scores of pairs and of their queries' negatives.
      seed: Names the resamples and the halves of the calibration.
      resamples: Number of bootstrap draws over queries.

    Returns:
      ``ce``, ``ce_calibrated`` (β from the other half of the queries; missing for a
      single query), ``pairwise_accuracy``: means over positive pairs, whose queries
      are resampled; and facts without an interval: ``negatives`` and ``positives`` a
      query, ``temperature``, ``ce_null``, ``pairwise_accuracy_null``. And the means of
      each query's pairs.
    """
    columns, facts = _per_pair_columns(candidates, seed)
    total = len(candidates.queries)
    pair_query_P = candidates.pair_query_P
    count_Q = np.bincount(pair_query_P, minlength=total).astype(np.float64)
    sums_QK = np.stack(
        [
            np.bincount(pair_query_P, weights=c, minlength=total)
            for c in columns.values()
        ],
        axis=1,
    )
    counts_QK = np.broadcast_to(count_Q[:, None], sums_QK.shape)
    measures = significance.bootstrap_ratios(
        sums_QK, counts_QK, seed=seed, resamples=resamples
    )
    mean_QK = sums_QK / counts_QK
    per_query = {
        query: dict(zip(columns, map(float, mean_QK[place]), strict=True))
        for place, query in enumerate(candidates.queries)
    }
    found = dict(zip(columns, measures, strict=True))
    return found | {name: _fact(v, total) for name, v in facts.items()}, per_query


def _paper_columns(
    documents: stored.Documents, total: int, compat: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(cgl, rho, negatives)`` of every query: `generation_contrast_nats`."""
    best_Q = np.full(total, np.inf)
    positive_R = documents.is_positive_R
    np.minimum.at(best_Q, documents.query_R[positive_R], documents.loss_R[positive_R])
    query_R = documents.query_R[~positive_R]
    sum_Q = np.bincount(query_R, weights=documents.loss_R[~positive_R], minlength=total)
    count_Q = np.bincount(query_R, minlength=total).astype(np.float64)
    rho_Q = best_Q / (sum_Q / count_Q)
    if compat == "slgr":
        # The script multiplies the mean by 256 however many negatives there are.
        count_Q = np.full(total, float(PAPER_NEGATIVES))
    return np.log1p(rho_Q / count_Q), rho_Q, count_Q


def evaluate(
    losses: stored.Losses | Sequence[records.LossRecord],
    *,
    seed: int,
    resamples: int = 1000,
    document_score: stored.DocumentScore = "sum",
    compat: Literal["none", "slgr"] = "none",
    pad_nats: float = 0.0,
) -> tuple[dict[str, records.Measure], dict[str, dict[str, float]]]:
    """Every contrastive metric of one model on one set of queries.

    ``cgl`` and ``rho`` use the loss of a document, nats a token over all its
    identifiers together, and average over queries; ``ce``, ``ce_calibrated`` and
    ``pairwise_accuracy`` use its score and average over positive pairs (see
    `evaluate_scores`). The headline score is the mean over identifiers of the summed
    log-probability, at temperature 1, so that a dense retriever shares the axis.

    Args:
      losses: Records or columns; one identifier kind.
      seed: Names the resamples and the halves of the calibration.
      resamples: Number of bootstrap draws over queries.
      document_score: How identifiers make a score: ``sum`` (mean of their sums),
        ``mean`` (nats a token, negated), ``best``, ``lse`` (log of summed
        probabilities).
      compat: ``slgr`` mixes padding into the losses of ``cgl`` and ``rho`` and counts
        256 negatives whatever their number, as the paper's code does.
      pad_nats: With ``slgr`` and no padding columns: the loss of a padded position.
        0 is the paper's decoder-only case (padding equals the end token, trained).

    Returns:
      Metrics with intervals, and facts without one (``negatives``, ``positives``,
      ``temperature``, ``cgl_null``, ``rho_null``, ``ce_null``,
      ``pairwise_accuracy_null``); and the metrics of every query.

    Raises:
      InputError: If a query lacks a positive or a negative, or kinds are mixed.
      NumericError: If a loss is not finite.
    """
    if not isinstance(losses, stored.Losses):
        losses = stored.from_records(losses)
    stored.check(losses)
    slgr_pad_nats = pad_nats if compat == "slgr" else None
    documents = stored.of_documents(losses, document_score, slgr_pad_nats=slgr_pad_nats)
    candidates = candidates_of(
        losses.queries, documents.query_R, documents.is_positive_R, documents.score_R
    )
    total = len(losses.queries)
    cgl_Q, rho_Q, count_Q = _paper_columns(documents, total, compat)
    paper_QK = np.stack([cgl_Q, rho_Q], axis=1)
    cgl, rho = significance.bootstrap_ratios(
        paper_QK, np.ones_like(paper_QK), seed=seed, resamples=resamples
    )
    found, per_query = evaluate_scores(candidates, seed=seed, resamples=resamples)
    nulls = {
        "cgl_null": _fact(float(np.log1p(1 / count_Q).mean()), total),
        "rho_null": _fact(1.0, total),
    }
    for place, query in enumerate(losses.queries):
        paper = {"cgl": float(cgl_Q[place]), "rho": float(rho_Q[place])}
        per_query[query] = paper | per_query[query]
    return {"cgl": cgl, "rho": rho, **found, **nulls}, per_query
