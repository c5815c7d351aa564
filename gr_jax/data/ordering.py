"""The order of training examples, as a function of (seed, epoch) and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt64

from gr_jax.core import randomness

_RANK_PURPOSE = "fraction"
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


@functools.lru_cache(maxsize=1 << 16)
def rank_of(name: str) -> np.float32:
    """Where an id stands in [0, 1) among all ids; the same in every run and study."""
    rank = np.float32(randomness.rank_of(0, _RANK_PURPOSE, name))
    return min(rank, _BELOW_ONE)


def _mixed(values: UInt64[np.ndarray, " E"]) -> UInt64[np.ndarray, " E"]:
    """SplitMix64's finaliser: a bijection of 64-bit words that scatters them."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def order(examples: int, *, seed: int, epoch: int) -> Int64[np.ndarray, " E"]:
    """The permutation of an epoch, by integer arithmetic alone.

    NumPy may change how its generators shuffle; this stays.
    """
    key = np.uint64(randomness.seed_of(seed, "order", epoch, "low"))
    high = np.uint64(randomness.seed_of(seed, "order", epoch, "high"))
    counter = np.arange(examples, dtype=np.uint64)
    words = _mixed(_mixed(counter ^ (key << np.uint64(32))) ^ high)
    return np.argsort(words, kind="stable")


class Sequence:
    """Rows of any stretch of the endless sequence of epochs; keeps two permutations."""

    def __init__(self, examples: int, seed: int):
        self._examples = examples
        self._seed = seed
        self._kept: dict[int, Int64[np.ndarray, " E"]] = {}

    def _epoch(self, epoch: int) -> Int64[np.ndarray, " E"]:
        if epoch not in self._kept:
            if len(self._kept) > 1:
                self._kept.pop(min(self._kept))
            self._kept[epoch] = order(self._examples, seed=self._seed, epoch=epoch)
        return self._kept[epoch]

    def rows(self, start: int, stop: int) -> Int64[np.ndarray, " B"]:
        """The rows at places start…stop-1."""
        parts: list[np.ndarray] = []
        while start < stop:
            epoch, offset = divmod(start, self._examples)
            part = self._epoch(epoch)[offset : offset + stop - start]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts)


def steps(
    examples: int,
    span: tuple[int, int],
    *,
    batch: int,
    share: slice,
    total: int | None,
    seed: int,
) -> Iterator[Int64[np.ndarray, " B"]]:
    """This host's rows of every step of a span; -1 where the sequence has ended.

    Args:
      examples: Rows of an epoch.
      span: First step, and the one to stop before.
      batch: Rows of a step over all hosts.
      share: Those of this host.
      total: Length of the sequence; None if it has no end.
      seed: Names the orders.
    """
    sequence = Sequence(examples, seed)
    for step in range(*span):
        start, stop = step * batch + share.start, step * batch + share.stop
        real = stop if total is None else max(start, min(stop, total))
        rows_B = np.full(stop - start, -1, np.int64)
        if real > start:
            rows_B[: real - start] = sequence.rows(start, real)
        yield rows_B
