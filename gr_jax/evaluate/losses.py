"""Stored losses as columns, and the loss and score of a document.

A *loss* is nats a token, lower is better; a *score* is a log-probability, higher is
better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from gr_jax.core import errors, records

DocumentScore = Literal["sum", "mean", "best", "lse"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Losses:
    """Loss records as columns, one row an identifier (E); row order does not matter.

    ``query_E`` counts into ``queries``; ``document_E`` tells a query's documents apart
    (equal numbers of two queries need not be one document). Padding columns are what
    a framework mean would mix in (`compat="slgr"`): summed nats of the padded
    positions, and their number.
    """

    queries: Sequence[str]
    query_E: Int[np.ndarray, " E"]
    document_E: Int[np.ndarray, " E"]
    is_positive_E: Bool[np.ndarray, " E"]
    nll_sum_nats_E: Float[np.ndarray, " E"]
    target_tokens_E: Int[np.ndarray, " E"]
    padding_nats_E: Float[np.ndarray, " E"] | None = None
    padding_tokens_E: Int[np.ndarray, " E"] | None = None


def from_records(losses: Sequence[records.LossRecord]) -> Losses:
    """Columns of loss records.

    Raises:
      InputError: If there are none, or they mix identifier kinds.
    """
    if not losses:
        raise errors.InputError("losses: no loss record: score the run first")
    kinds = sorted({record.identifier_kind for record in losses})
    if len(kinds) > 1:
        raise errors.InputError(
            errors.fault("losses", "identifier_kind", kinds, "give one kind at a time")
        )
    queries = sorted({record.query for record in losses})
    query_index = {query: place for place, query in enumerate(queries)}
    documents = sorted({record.document for record in losses})
    document_index = {document: place for place, document in enumerate(documents)}
    return Losses(
        queries=queries,
        query_E=np.array([query_index[r.query] for r in losses], np.int64),
        document_E=np.array([document_index[r.document] for r in losses], np.int64),
        is_positive_E=np.array([r.is_positive for r in losses], bool),
        nll_sum_nats_E=np.array([r.nll_sum_nats for r in losses], np.float64),
        target_tokens_E=np.array([r.target_tokens for r in losses], np.int64),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Documents:
    """One row a (query, document); rows sorted by query, positives first."""

    query_R: np.ndarray
    is_positive_R: np.ndarray
    loss_R: np.ndarray
    score_R: np.ndarray


def _group(losses: Losses) -> tuple[np.ndarray, np.ndarray]:
    """``(rows sorted by query and document, first row of each document)``."""
    keys = (losses.document_E, ~losses.is_positive_E, losses.query_E)
    order_E = np.lexsort(keys)
    query_E, document_E = losses.query_E[order_E], losses.document_E[order_E]
    is_positive_E = losses.is_positive_E[order_E]
    is_new_E = np.ones(len(order_E), bool)
    is_new_E[1:] = (
        (query_E[1:] != query_E[:-1])
        | (document_E[1:] != document_E[:-1])
        | (is_positive_E[1:] != is_positive_E[:-1])
    )
    return order_E, np.flatnonzero(is_new_E)


def _reduce_score(
    nll_E: np.ndarray, tokens_E: np.ndarray, starts_R: np.ndarray, how: DocumentScore
) -> np.ndarray:
    count_R = np.diff(np.append(starts_R, len(nll_E)))
    if how == "sum":
        return -np.add.reduceat(nll_E, starts_R) / count_R
    if how == "mean":
        return -np.add.reduceat(nll_E, starts_R) / np.add.reduceat(tokens_E, starts_R)
    best_R = np.maximum.reduceat(-nll_E, starts_R)
    if how == "best":
        return best_R
    shifted_E = np.exp(-nll_E - np.repeat(best_R, count_R))
    return best_R + np.log(np.add.reduceat(shifted_E, starts_R))


def _padded_means(
    losses: Losses, order_E: np.ndarray, starts_R: np.ndarray, pad_nats: float
) -> np.ndarray:
    """The framework mean of a document's batch of identifiers, padding mixed in."""
    nll_E = losses.nll_sum_nats_E[order_E]
    tokens_E = losses.target_tokens_E[order_E]
    count_R = np.diff(np.append(starts_R, len(nll_E)))
    if losses.padding_nats_E is not None and losses.padding_tokens_E is not None:
        padding_E = losses.padding_tokens_E[order_E]
        padding_nats_E = losses.padding_nats_E[order_E]
    else:
        longest_R = np.maximum.reduceat(tokens_E, starts_R)
        padding_E = np.repeat(longest_R, count_R) - tokens_E
        padding_nats_E = padding_E * pad_nats
    nats_R = np.add.reduceat(nll_E + padding_nats_E, starts_R)
    return nats_R / np.add.reduceat(tokens_E + padding_E, starts_R)


def of_documents(
    losses: Losses, how: DocumentScore, *, slgr_pad_nats: float | None = None
) -> Documents:
    """Loss and score of every (query, document) pair.

    Args:
      losses: Columns, checked.
      how: See `contrastive.evaluate`.
      slgr_pad_nats: If given, the loss is the framework mean with padding mixed in,
        this much a padded position where the columns do not tell.
    """
    order_E, starts_R = _group(losses)
    nll_E = losses.nll_sum_nats_E[order_E].astype(np.float64)
    tokens_E = losses.target_tokens_E[order_E]
    if slgr_pad_nats is None:
        loss_R = np.add.reduceat(nll_E, starts_R) / np.add.reduceat(tokens_E, starts_R)
    else:
        loss_R = _padded_means(losses, order_E, starts_R, slgr_pad_nats)
    return Documents(
        query_R=losses.query_E[order_E][starts_R],
        is_positive_R=losses.is_positive_E[order_E][starts_R],
        loss_R=loss_R,
        score_R=_reduce_score(nll_E, tokens_E, starts_R, how),
    )


def check(losses: Losses) -> None:
    """Refuses losses that no model can have.

    Raises:
      NumericError: If one is not finite; its query is named.
      InputError: If one is negative, or an identifier has no token.
    """
    if not np.all(np.isfinite(losses.nll_sum_nats_E)):
        place = int(np.flatnonzero(~np.isfinite(losses.nll_sum_nats_E))[0])
        query = losses.queries[int(losses.query_E[place])]
        raise errors.NumericError(
            errors.fault(
                f"losses: query {query}",
                "nll_sum_nats",
                float(losses.nll_sum_nats_E[place]),
                "score it again: a loss must be finite",
            )
        )
    if np.any(losses.nll_sum_nats_E < 0) or np.any(losses.target_tokens_E < 1):
        raise errors.InputError(
            "losses: a negative loss or an identifier without tokens: score again"
        )
