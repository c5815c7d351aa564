"""``metrics.json`` and ``per_query.jsonl``: what an evaluation leaves behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts, errors, records

METRICS = "metrics.json"
PER_QUERY = "per_query.jsonl"
VERSION = 1


def write(
    folder: Path,
    measures: Mapping[str, records.Measure],
    per_query: Mapping[str, Mapping[str, float]],
    *,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes both files; ``facts`` say what was judged and how."""
    artifacts.write_json(
        folder / METRICS,
        {
            "version": VERSION,
            "metrics": {name: dataclasses.asdict(m) for name, m in measures.items()},
            "facts": dict(facts or {}),
        },
    )
    artifacts.write_jsonl(
        folder / PER_QUERY,
        [{"query": query, "metrics": dict(row)} for query, row in per_query.items()],
    )


def read_metrics(folder: Path) -> dict[str, records.Measure]:
    """The measures of an evaluated folder.

    Raises:
      ArtifactError: If the file is missing or of another form.
    """
    path = folder / METRICS
    value = artifacts.read_json(path)
    try:
        # A bare table of metrics is read too.
        table = value.get("metrics", value)
        return {name: records.Measure(**m) for name, m in table.items()}
    except (TypeError, KeyError, AttributeError):
        raise errors.ArtifactError(f"{path}: not metrics: evaluate anew") from None


def read_per_query(folder: Path) -> dict[str, dict[str, float]]:
    """The metrics of every query of an evaluated folder.

    Raises:
      ArtifactError: If the file is missing or a line is of another form.
    """
    path = folder / PER_QUERY
    table: dict[str, dict[str, float]] = {}
    for number, row in enumerate(artifacts.read_jsonl(path), start=1):
        try:
            # Metrics may also stand beside the query, not below a name of their own.
            beside = {k: v for k, v in row.items() if k != "query"}
            metrics = row.get("metrics", beside)
            table[row["query"]] = {k: float(v) for k, v in metrics.items()}
        except (KeyError, AttributeError, TypeError, ValueError):
            raise errors.ArtifactError(
                errors.fault(f"{path}:{number}", "line", row, "evaluate anew")
            ) from None
    return table
