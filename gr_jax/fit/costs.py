"""What a model costs to train and a query to answer, as functions of its size."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from gr_jax.core import errors
from gr_jax.fit import distributions
from gr_jax.fit.laws import law

Array = law.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
    """Money for compute.

    Attributes:
      train: For one training FLOP.
      query: For one FLOP of answering.
      queries: Queries answered over the model's lifetime.
    """

    train: float
    query: float
    queries: float


@dataclasses.dataclass(frozen=True)
class Ledger:
    """FLOPs as sums of products, with coefficients measured on records.

    Training: ``t0 N D + t1 D + t2 N + t3``: the second part is embedding and output
    head, the last two serve studies that train for equal steps whatever the data.
    A query: ``q0 N + q1 N M T + q2 M T + q3`` for M beams of T tokens.
    """

    train_4: Array
    query_4: Array

    def train_flops(self, size_R: Array, tokens_R: Array) -> Array:
        """Of a model of N parameters trained on D tokens (or pairs, as measured)."""
        t0, t1, t2, t3 = self.train_4
        return (t0 * size_R + t1) * tokens_R + t2 * size_R + t3

    def query_flops(self, size_R: Array, beam_R: Array, length: float) -> Array:
        """Of one query."""
        beams_R = beam_R * length
        q0, q1, q2, q3 = self.query_4
        return q0 * size_R + q1 * size_R * beams_R + q2 * beams_R + q3

    def money(
        self, place_RA: Float[np.ndarray, "R 3"], length: float, prices: Prices
    ) -> Array:
        """Training plus all queries, at places (N, D, beam)."""
        size_R, tokens_R, beam_R = place_RA.T
        once_R = prices.train * self.train_flops(size_R, tokens_R)
        each_R = prices.query * self.query_flops(size_R, beam_R, length)
        return once_R + prices.queries * each_R


def textbook(*, source: float = 32.0) -> Ledger:
    """The rule of thumb: 6 N D to train, 2 N a token read or written."""
    return Ledger(
        np.array([6.0, 0.0, 0.0, 0.0]), np.array([2.0 * source, 2.0, 0.0, 0.0])
    )


def measured(
    records: list[dict[str, Any]], *, data_field: str = "data_tokens"
) -> Ledger:
    """Coefficients by non-negative least squares of relative errors on records.

    Args:
      records: Runs with ``train_flops`` and ``inference_flops_per_query``.
      data_field: What the law counts data in.

    Raises:
      InputError: If no record has FLOPs.
    """
    train: list[list[float]] = []
    query: list[list[float]] = []
    for record in records:
        size = float(record.get("params_non_embedding") or 0)
        tokens = float(record.get(data_field) or 0)
        flops = float(record.get("train_flops") or 0)
        if size > 0 and tokens > 0 and flops > 0:
            row = [size * tokens, tokens, size, 1.0]
            train.append([value / flops for value in row])
        parts: dict[str, Any] = record.get("inference_flops_per_query") or {}
        answer = sum(float(part) for part in parts.values())
        beams = float(record.get("beam") or 0) * float(record.get("max_length") or 0)
        if size > 0 and answer > 0 and beams > 0:
            row = [size, size * beams, beams, 1.0]
            query.append([value / answer for value in row])
    if not train or not query:
        raise errors.InputError(
            "records: no train_flops or inference_flops_per_query: leave --records out"
        )
    return Ledger(_solve(train), _solve(query))


def _solve(rows: list[list[float]]) -> Array:
    matrix = np.asarray(rows)
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-300)
    solved = distributions.non_negative_solution(matrix / scale, np.ones(len(rows)))
    return np.asarray(solved, dtype=np.float64) / scale
