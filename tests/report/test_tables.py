"""Tables: every number is the record's, and CSV files hold it exactly."""

from __future__ import annotations

import csv
import io

import pytest

from gr_jax.report import checklist, contents, tables


@pytest.fixture
def study(study_folder):
    return contents.read(study_folder)


def lookup(study, cell):
    """The value a cell points at, found again by its source and pointer."""
    file, _, line = cell.source.partition(":")
    if file == "records.jsonl":
        value = study.row_at(int(line)).record.to_json()
    else:
        (baseline,) = [b for b in study.baselines if b.source == cell.source]
        value = {"metrics": {n: vars(m) for n, m in baseline.measures.items()}}
    if cell.pointer == "cell":
        return float(line)
    for name in cell.pointer.split("."):
        value = value[name]
    if cell.pointer == "inference_flops_per_query":
        return sum(value.values())
    return value["value"] if isinstance(value, dict) else value


@pytest.mark.parametrize("make", [tables.retrieval, tables.all_cells])
def test_every_number_is_the_one_it_points_at(study, make):
    table = make(study)
    numbers = [c for row in table.rows for c in row if c.value is not None]
    assert len(numbers) > 40
    for cell in numbers:
        assert cell.source
        assert cell.value == lookup(study, cell)


def test_retrieval_has_rivals_best_cells_and_controls(study):
    table = tables.retrieval(study)
    assert table.row_kinds[:2] == ["baseline", "baseline"]
    assert table.row_kinds.count("best") == 3
    assert table.row_kinds.count("control") == 2
    best = {}
    for row in study.rows:
        key = tables.family_of(row.record)
        best[key] = max(best.get(key, 0.0), row.record.metrics["mrr@10"].value)
    shown = [
        row[9].value
        for row, kind in zip(table.rows, table.row_kinds, strict=True)
        if kind == "best"
    ]
    assert shown == sorted(best.values(), reverse=True)


def test_csv_reads_back_exactly(study):
    table = tables.all_cells(study)
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(table))))
    assert len(rows) == len(study.rows)
    for row, line in zip(study.rows, rows, strict=True):
        measure = row.record.metrics["ce"]
        assert float(line["contrastive entropy (nats)"]) == measure.value
        assert float(line["contrastive entropy (nats) low"]) == measure.low
        assert line["source"] == row.source


def test_fits_table_shows_refusals(study):
    table = tables.fits(study)
    assert len(table.rows) == len(study.fits)
    refused = [
        row[-1].text
        for row, kind in zip(table.rows, table.row_kinds, strict=True)
        if kind == "refused"
    ]
    assert refused
    assert all("refused: " in text for text in refused)


def test_paired_comparison_uses_the_same_queries(study):
    found = tables.paired(study, resamples=100)
    assert {(rival) for _, rival, _, _ in found} == {"bm25", "bm25-train-queries"}
    for _, _, _, compared in found:
        for c in compared:
            assert c.wins + c.losses + c.ties == 60


def test_checklist_answers_from_what_is_stored(study):
    answers = dict(checklist.answers(study))
    assert len(answers) == 12
    assert "28 records of 23 trained cells" in answers["Number and range of runs"]
    assert "seeds 0" in answers["Number and range of runs"]
    assert "N: non-embedding parameters" in answers["Units and definitions of N, D, C"]
