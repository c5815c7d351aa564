"""Which nodes of a prefix tree keep a list of their children, and the lists."""

from __future__ import annotations

import dataclasses

import numpy as np

from gr_jax.identifiers import sorted_rows

NARROW_ROWS = 64
"""An interval of so many rows keeps none: reading the rows is cheaper."""

_EDGE_BYTES = 4.25


@dataclasses.dataclass
class _Level:
    """Nodes of one depth that may become wide, and the edges that lead to them."""

    low: np.ndarray
    high: np.ndarray
    edge: np.ndarray


@dataclasses.dataclass
class Edges:
    """The growing lists of edges of wide nodes, breadth first."""

    tokens: list[np.ndarray]
    rows: list[np.ndarray]
    counts: list[np.ndarray]
    wide: list[np.ndarray]
    total: int = 0


def grow(rows: sorted_rows.SortedRows, at_least: int) -> tuple[Edges, int]:
    """The edges of all wide nodes, and the depth of the first column.

    Up to that depth *all* nodes are wide and no column is stored. It is ``at_least``,
    and grows as long as the edges of the nodes that would rather be narrow take less
    memory than the column that they save.
    """
    edges = Edges([], [], [], [])
    level = _Level(np.array([0]), np.array([rows.count]), np.zeros(0, np.int64))
    first_column, all_wide = 0, True
    for depth in range(rows.max_length):
        is_large = level.high - level.low > NARROW_ROWS
        large = _select(level, is_large)
        row_E, parent_E = rows.children(depth, large.low, large.high)
        count_W = np.bincount(parent_E, minlength=len(large.low))
        is_wide = 2 * count_W <= large.high - large.low
        if all_wide:
            rest = rows.prefixes(depth + 1) - int(count_W[is_wide].sum())
            itemsize = rows.token_bytes
            all_wide = depth < at_least or (
                rest * (_EDGE_BYTES + itemsize) < rows.count * itemsize
            )
        if all_wide:
            large = _select(level, rows.goes_on(level.low, depth))
            row_E, parent_E = rows.children(depth, large.low, large.high)
            count_W = np.bincount(parent_E, minlength=len(large.low))
            first_column = depth + 1
        else:
            row_E = row_E[is_wide[parent_E]]
            large, count_W = _select(large, is_wide), count_W[is_wide]
        if not len(large.low):
            break
        level = _append(rows, edges, depth, large, row_E, count_W)
        if not all_wide:
            level = _select(level, level.high - level.low > NARROW_ROWS)
    return edges, first_column


def _select(level: _Level, keep: np.ndarray) -> _Level:
    edge = level.edge[keep] if level.edge.size else level.edge
    return _Level(level.low[keep], level.high[keep], edge)


def _append(
    rows: sorted_rows.SortedRows,
    edges: Edges,
    depth: int,
    parents: _Level,
    row_E: np.ndarray,
    count_W: np.ndarray,
) -> _Level:
    """Writes one level of edges; returns its children."""
    edges.wide.append(parents.edge)
    edges.counts.append(count_W)
    edges.rows.append(row_E)
    edges.tokens.append(rows.stored_tokens(depth, row_E))
    high_E = np.empty_like(row_E)
    high_E[:-1] = row_E[1:]
    high_E[np.cumsum(count_W) - 1] = parents.high
    number_E = edges.total + np.arange(len(row_E))
    edges.total += len(row_E)
    return _Level(row_E, high_E, number_E)
