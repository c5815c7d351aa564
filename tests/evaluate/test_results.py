"""What is written reads back; what is not ours is refused."""

from __future__ import annotations

import pytest

from gr_jax.core import errors, records
from gr_jax.evaluate import results

MEASURES = {"recall@1": records.Measure(value=0.1 + 0.2, low=0.1, high=0.4, n=2)}
PER_QUERY = {"q1": {"recall@1": 1 / 3}, "q2": {"recall@1": 0.0}}


def test_round_trip(tmp_path):
    results.write(tmp_path, MEASURES, PER_QUERY, facts={"split": "test"})
    assert results.read_metrics(tmp_path) == MEASURES
    assert results.read_per_query(tmp_path) == PER_QUERY


def test_bare_tables_are_read_too(tmp_path):
    (tmp_path / results.METRICS).write_text(
        '{"recall@1": {"value": 0.5, "low": 0.25, "high": 1.0, "n": 4}}'
    )
    assert results.read_metrics(tmp_path)["recall@1"].high == 1.0
    (tmp_path / results.PER_QUERY).write_text('{"query": "q", "recall@1": 0.5}\n')
    assert results.read_per_query(tmp_path) == {"q": {"recall@1": 0.5}}


def test_other_files_are_refused(tmp_path):
    with pytest.raises(errors.ArtifactError, match="missing"):
        results.read_metrics(tmp_path)
    (tmp_path / results.METRICS).write_text("[]")
    with pytest.raises(errors.ArtifactError, match="not metrics"):
        results.read_metrics(tmp_path)
    (tmp_path / results.PER_QUERY).write_text('{"recall@1": 0.5}\n')
    with pytest.raises(errors.ArtifactError, match=r"per_query\.jsonl:1"):
        results.read_per_query(tmp_path)
