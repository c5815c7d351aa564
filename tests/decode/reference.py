"""Slow searches in plain Python: they share no code with the product."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

NextNats = Callable[[Sequence[int]], Sequence[float]]


def beam_search(
    rows: set[tuple[int, ...]],
    next_nats: NextNats,
    *,
    beams: int,
    max_length: int,
    length_penalty: float = 0.0,
) -> list[tuple[tuple[int, ...], float]]:
    """(identifier, log-probability), best first, by the textbook definition.

    Every step takes the best 2M continuations of the live beams; complete ones compete
    for the M results, the best M others go on.
    """
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    done: list[tuple[tuple[int, ...], float]] = []
    children: dict[tuple[int, ...], set[int]] = {}
    for row in rows:
        for depth, token in enumerate(row):
            children.setdefault(row[:depth], set()).add(token)
    for _ in range(max_length):
        candidates = []
        for tokens, score in live:
            nats = next_nats(tokens)
            candidates += [
                ((*tokens, token), score + float(nats[token]))
                for token in sorted(children[tokens])
            ]
        candidates.sort(key=lambda pair: -pair[1])
        top = candidates[: 2 * beams]
        done += [pair for pair in top if pair[0] in rows]
        live = [pair for pair in top if pair[0] not in rows][:beams]
    done.sort(key=lambda pair: -pair[1] / len(pair[0]) ** length_penalty)
    return done[:beams]


def exhaustive(
    rows: set[tuple[int, ...]], next_nats: NextNats, *, beams: int
) -> list[tuple[tuple[int, ...], float]]:
    """Every identifier scored, best first."""
    scored = [
        (row, math.fsum(float(next_nats(row[:n])[row[n]]) for n in range(len(row))))
        for row in rows
    ]
    return sorted(scored, key=lambda pair: -pair[1])[:beams]
