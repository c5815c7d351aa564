"""Rows of the decoding benchmark, how calls are timed, and the printed table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
_COLUMNS = ("measure", "anchor", "ours", "ratio", "goal", "holds")


def row(
    measure: str,
    anchor: float | None,
    ours: float,
    goal: float | None,
    *,
    ratio: bool = True,
) -> Row:
    """A row; its goal bounds the ratio from below, or ``ours`` from above."""
    factor = anchor / ours if anchor is not None else None
    holds = None
    if goal is not None and not ratio:
        holds = ours <= goal
    elif goal is not None and factor is not None:
        holds = factor >= goal
    return {
        "measure": measure,
        "anchor": anchor,
        "ours": ours,
        "ratio": factor,
        "goal": None if goal is None else f"{'>=' if ratio else '<='} {goal:g}",
        "holds": holds,
    }


def skipped(measure: str, why: str) -> Row:
    """A row that this machine cannot measure."""
    return dict.fromkeys(_COLUMNS) | {"measure": measure, "holds": f"skipped: {why}"}


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text; ``-`` where a peer or a goal is missing."""
    lines = [list(_COLUMNS), *([_shown(r[name]) for name in _COLUMNS] for r in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def interleaved(
    calls: dict[str, Callable[[], Any]], rounds: int, repeats: int = 1
) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns."""
    import jax

    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeats):
                jax.block_until_ready(call())
            times[name].append((time.perf_counter() - began) / repeats)
    return {name: statistics.median(found) for name, found in times.items()}
