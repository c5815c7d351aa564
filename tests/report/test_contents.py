"""What is read from a study folder, and what is said of a damaged one."""

from __future__ import annotations

import shutil

import pytest

from gr_jax.core import errors
from gr_jax.report import contents, tables


def test_reads_everything(study_folder):
    study = contents.read(study_folder)
    assert len(study.rows) == 28
    assert [row.line for row in study.rows[:2]] == [1, 2]
    assert [b.name for b in study.baselines] == ["bm25", "bm25-train-queries"]
    assert study.baselines[0].source == "baselines/bm25/metrics.json"
    assert [a.path for a in study.artifacts] == ["collection"]
    assert study.problems == []
    assert study.collection == "builtin:pydocs"


def test_a_record_finds_its_own_decoding(study_folder):
    study = contents.read(study_folder)
    found = {contents.decode_folder(study, row) for row in study.rows}
    # Beams of one cell lie in one folder: each record has its own below it.
    assert len(found) == len(study.rows)
    for row in study.rows:
        folder = contents.decode_folder(study, row)
        assert folder.name.startswith(f"decode-{row.record.beam}-")
        assert folder.parent.name == row.record.cell


def test_examples_tell_query_documents_and_reasons(study_folder):
    study = contents.read(study_folder)
    row = tables.best_rows(study)[0]
    shown = contents.examples(study, row, count=4)
    assert [one.query for one in shown] == ["q000", "q005", "q010", "q015"]
    second = shown[1]
    assert second.text == "how to sort rows by the key number 5"
    assert second.relevant == [("d005", "module.function_5")]
    assert [hit.rank for hit in second.hits] == [1, 2, 3, 4, 5]
    assert second.hits[0].is_relevant
    assert second.first_relevant_rank == 1
    assert second.hits[0].keys[0].text == "returns a sorted list"
    assert second.hits[0].keys[0].logprob == -1.5
    assert second.source.endswith("evidence.jsonl:26")


def test_only_records_are_needed(study_folder, tmp_path):
    shutil.copy(study_folder / "records.jsonl", tmp_path)
    study = contents.read(tmp_path)
    assert study.fits == []
    assert len(study.problems) == 2
    assert contents.examples(study, study.rows[0]) == []


def test_damage_is_named(tmp_path):
    with pytest.raises(errors.ArtifactError, match=r"records\.jsonl: missing"):
        contents.read(tmp_path)
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(errors.ArtifactError, match="no record"):
        contents.read(tmp_path)
    (tmp_path / "records.jsonl").write_text('{"cell": "x"}\n')
    with pytest.raises(errors.ArtifactError, match=r"records\.jsonl:1"):
        contents.read(tmp_path)
