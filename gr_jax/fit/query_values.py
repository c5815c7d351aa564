"""Values of runs on each query, as a study's folder keeps them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gr_jax.core import artifacts, records
from gr_jax.evaluate import results
from gr_jax.fit.laws import law

Array = law.Array
Record = dict[str, Any]
# Metrics of losses, beside those of each decoding.
CONTRASTIVE = "contrastive.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Values (R, Q) of runs, on queries in the order of ``queries``."""

    queries: tuple[str, ...]
    value_RQ: Array

    def on(self, queries: tuple[str, ...]) -> Array:
        """The columns of some queries.

        Raises:
          KeyError: If one is not there.
        """
        places = {query: place for place, query in enumerate(self.queries)}
        return self.value_RQ[:, [places[query] for query in queries]]


def of_runs(study: Path, runs: list[Record], y: str) -> Table | None:
    """Values of runs of a study, one row a run; None where one has none.

    Args:
      study: The study's folder.
      runs: Its records.
      y: A metric, or ``1-NAME`` for the miss rate of one.
    """
    rows = [_of_run(study, run, y) for run in runs]
    found = [row for row in rows if row]
    if not found or len(found) < len(rows):
        return None
    queries = tuple(sorted(found[0]))
    if any(set(row) != set(queries) for row in found):
        return None
    value_RQ = np.array([[row[query] for query in queries] for row in found])
    return Table(queries=queries, value_RQ=value_RQ)


def stacked(tables: Sequence[Table | None]) -> Table | None:
    """One row for each table, the mean of its runs; None unless all have one."""
    found = [table for table in tables if table is not None]
    if not found or len(found) < len(tables):
        return None
    queries = found[0].queries
    if any(table.queries != queries for table in found):
        return None
    value_RQ = np.stack([table.value_RQ.mean(axis=0) for table in found])
    return Table(queries=queries, value_RQ=value_RQ)


def shared(one: Table | None, other: Table | None) -> tuple[Array | None, Array | None]:
    """Both tables on the queries of both; None for both without any."""
    if one is None or other is None or set(one.queries) != set(other.queries):
        return None, None
    return one.value_RQ, other.on(one.queries)


def of_baseline(folder: Path, y: str) -> Table | None:
    """Values of a rival, in one row; None where it has none."""
    if not (folder / results.PER_QUERY).is_file():
        return None
    row = _column(results.read_per_query(folder), y)
    if not row:
        return None
    queries = tuple(sorted(row))
    return Table(queries=queries, value_RQ=np.array([[row[q] for q in queries]]))


def _of_run(study: Path, run: Record, y: str) -> dict[str, float]:
    cell = study / "cells" / str(run.get("cell"))
    for folder in sorted(cell.glob("decode-*")):
        if _is_of(folder, run):
            return _column(results.read_per_query(folder), y) or _losses(cell, y)
    return {}


def _losses(cell: Path, y: str) -> dict[str, float]:
    path = cell / CONTRASTIVE
    if not path.is_file():
        return {}
    rows = {row.pop("query"): row for row in artifacts.read_jsonl(path)}
    return _column(rows, y)


def _is_of(folder: Path, run: Record) -> bool:
    """Whether a decoding is the one a record tells of."""
    path = folder / artifacts.MANIFEST
    if not path.is_file():
        return False
    config: dict[str, Any] = artifacts.read_json(path).get("config") or {}
    rescoring = records.rescoring_of(config)
    return config.get("beam") == run.get("beam") and rescoring == run.get("rescoring")


def _column(table: Mapping[str, Mapping[str, float]], y: str) -> dict[str, float]:
    name, is_miss = y.removeprefix("1-"), y.startswith("1-")
    if not table or any(name not in row for row in table.values()):
        return {}
    return {q: 1.0 - row[name] if is_miss else row[name] for q, row in table.items()}
