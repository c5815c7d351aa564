"""Batches of sources of like length, padded to one of a few widths.

An epoch's examples, in an order of its own, are sorted by bucket and cut into batches;
what is left over of one bucket begins the next one's first batch, so an epoch has as
many batches as without buckets and each example comes once. The batches are then
shuffled. An epoch's plan is a function of (seed, epoch) alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from gr_jax.core import randomness
from gr_jax.data import ordering


class Plan:
    """Rows and source width of every step; keeps one epoch's plan.

    Args:
      source_E: Source tokens of each example.
      buckets: Widths, ascending; sources longer than the last are cut to it.
      batch: Rows of a batch.
      seed: Names the orders.
    """

    def __init__(
        self,
        source_E: Int64[np.ndarray, " E"],
        buckets: Sequence[int],
        *,
        batch: int,
        seed: int,
    ):
        self._widths = np.array(buckets)
        last = len(buckets) - 1
        self._bucket_E = np.minimum(np.searchsorted(self._widths, source_E), last)
        self._batch = batch
        self._seed = seed
        self._epoch = -1
        self._sorted_E = np.zeros(0, np.int64)
        self._order = np.zeros(0, np.int64)

    @property
    def steps(self) -> int:
        """Batches of an epoch; the last of the longest bucket may be part empty."""
        return -(-len(self._bucket_E) // self._batch)

    def _prepare(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        order = ordering.order(len(self._bucket_E), seed=self._seed, epoch=epoch)
        by_bucket = np.argsort(self._bucket_E[order], kind="stable")
        self._sorted_E = order[by_bucket]
        seed = randomness.seed_of(self._seed, "order of batches")
        self._order = ordering.order(self.steps, seed=seed, epoch=epoch)
        self._epoch = epoch

    def step(self, step: int) -> tuple[Int64[np.ndarray, " B"], int]:
        """The examples of a step (-1 where there is none) and its source width."""
        epoch, place = divmod(step, self.steps)
        self._prepare(epoch)
        first = int(self._order[place]) * self._batch
        chosen = self._sorted_E[first : first + self._batch]
        rows_B = np.full(self._batch, -1, np.int64)
        rows_B[: len(chosen)] = chosen
        return rows_B, int(self._widths[self._bucket_E[chosen].max()])
