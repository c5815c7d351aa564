"""What a finished study holds, and that its parts agree with each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from gr_jax.core import artifacts, records
from gr_jax.data import corpus
from gr_jax.evaluate import metrics, trec
from gr_jax.study import retriever

ROOT = Path(__file__).parent.parent


def read(folder: Path) -> list[records.RunRecord]:
    rows = artifacts.read_jsonl(folder / "records.jsonl")
    return [records.RunRecord.from_json(row) for row in rows]


def rescoring_of(decoding: Path) -> str:
    return artifacts.read_json(decoding / artifacts.MANIFEST)["config"]["rescoring"]


def test_every_cell_has_a_record_with_all_metrics(tiny_study):
    found = read(tiny_study)
    assert {r.identifier_kind for r in found} == {"rq", "ngram"}
    for record in found:
        for name in ("recall@1", "recall@10", "mrr@10", "ndcg@10", "ce", "cgl", "rho"):
            measure = record.metrics[name]
            assert measure.low <= measure.value <= measure.high
        assert record.metrics["ce_null"].value == np.log1p(32)
        assert record.train_flops > 0
        assert set(record.inference_flops_per_query) >= {"prefill", "decode", "head"}
        assert record.params_non_embedding < record.params_paper < record.params_total
    ngram = next(r for r in found if r.identifier_kind == "ngram")
    assert ngram.rescoring == "query-keys"
    for control in ("constant-probability", "query-keys-constant-probability"):
        assert "recall@1" in ngram.controls[control]


def test_stored_metrics_follow_from_the_stored_run(tiny_study):
    collection = corpus.read_collection(tiny_study / "collection")
    for record in read(tiny_study):
        folder = tiny_study / "cells" / record.cell
        for decoding in folder.glob("decode-*"):
            if rescoring_of(decoding) != record.rescoring:
                continue
            run = trec.read_run(decoding / "run.trec").run
            judged = [
                json.loads(line)["query"]
                for line in (decoding / "per_query.jsonl").read_text().splitlines()
            ]
            qrels = {q: collection.qrels["test"][q] for q in judged}
            again, _ = metrics.evaluate_run(run, qrels, seed=0, resamples=200)
            for name in ("recall@10", "mrr@10"):
                assert again[name] == record.metrics[name]


def test_every_returned_document_comes_with_its_identifiers(tiny_study):
    for path in (tiny_study / "cells").glob("*/decode-*/evidence.jsonl"):
        for row in artifacts.read_jsonl(path):
            assert row["keys"], row
            weights = [key["weight"] for key in row["keys"]]
            # The strongest key counts in full; later ones less where they repeat its
            # tokens, so that the rest need not fall. Unigrams only fill places.
            if "unigrams" not in rescoring_of(path.parent):
                assert weights[0] == max(weights)


def test_views_are_decoded_recorded_and_named(tiny_study):
    found = [r for r in read(tiny_study) if r.identifier_kind == "ngram"]
    asked = "body+title*2+pseudo_query^40+unigrams"
    body, all_views = sorted(found, key=lambda r: len(r.rescoring))
    assert body.rescoring == "query-keys"
    assert all_views.rescoring == f"query-keys, {asked}"
    parts = all_views.inference_flops_per_query
    assert parts["decode"] > body.inference_flops_per_query["decode"]
    folders = (tiny_study / "cells" / body.cell).glob("decode-*")
    shown = {
        rescoring_of(f): {
            key["view"]
            for row in artifacts.read_jsonl(f / "evidence.jsonl")
            for key in row["keys"]
        }
        for f in folders
    }
    assert shown["query-keys"] == {"body"}
    known = {"body", "title", "pseudo_query", "unigrams"}
    assert {"body", "pseudo_query"} <= shown[all_views.rescoring] <= known
    opened = retriever.open_cell(tiny_study / "cells" / body.cell)
    hits = opened.retrieve("which colour", beam=4, k=5, views="title^40")
    assert hits
    known = [
        (hit.title, k["text"]) for hit in hits for k in hit.keys if k["view"] == "title"
    ]
    assert known
    # A title may be cut, as it stands in the table.
    assert all(title.startswith(text) for title, text in known)


def test_generated_ngrams_stand_in_the_documents_they_brought(tiny_study):
    cell = next(r.cell for r in read(tiny_study) if r.identifier_kind == "ngram")
    opened = retriever.open_cell(tiny_study / "cells" / cell)
    table = opened.material.identifiers("ngram")
    hits = opened.retrieve("which colour has the river", beam=4, k=5)
    assert hits
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    for hit in hits:
        rows = table.rows_of_document[table.document_index[hit.document]]
        for key in hit.keys:
            length = len(key["tokens"])
            texts = [table.row(row).tolist() for row in rows]
            windows = [text[i : i + length] for text in texts for i in range(len(text))]
            assert key["tokens"] in windows


def test_codes_retrieve_as_json(tiny_study):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tools.retrieve", "a query", "--json"),
            *("--beam", "3", "--run", str(tiny_study)),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    hits = json.loads(done.stdout)
    assert hits
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
