"""A small study folder as the study verb leaves it, made through the record types."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from gr_jax.core import artifacts, records
from gr_jax.evaluate import results
from gr_jax.fit import fits, fitting, study_fits

NEGATIVES = 256
QUERIES = [f"q{i:03d}" for i in range(60)]
NASTY = '</script><script>document.title="owned"</script> & "quotes" \u2028'
_SIZES = {
    "xxs": 52_000,
    "xs": 150_000,
    "s": 430_000,
    "m": 1.2e6,
    "l": 2.9e6,
    "xl": 5.4e6,
}
_FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_BEAMS = (1, 2, 4, 8, 16, 32)


def _measure(value, spread):
    low, high = value - spread, value + spread
    return records.Measure(value=value, low=low, high=high, n=len(QUERIES))


def _fact(value):
    return records.Measure(value=value, low=value, high=value, n=len(QUERIES))


def _metrics(rng, size, fraction, beam, *, is_null):
    ce = 1.1 + (6e4 / size) ** 0.45 + 0.5 * (0.1 / fraction) ** 0.8
    ce *= 1 + 0.01 * rng.normal()
    miss = 0.35 + 0.35 * (6e4 / size) ** 0.4 + 0.1 * (0.1 / fraction) + 0.15 / beam
    miss = min(0.99, miss * (1 + 0.01 * rng.normal()))
    rho = 1.0 + 0.0004 * rng.normal() if is_null else 0.8 + 0.1 * (6e4 / size) ** 0.4
    table = {
        "recall@1": _measure(0.8 * (1 - miss), 0.03),
        "recall@5": _measure(0.95 * (1 - miss), 0.03),
        "recall@10": _measure(1 - miss, 0.03),
        "recall@100": _measure(1 - 0.8 * miss, 0.03),
        "mrr@10": _measure(0.85 * (1 - miss), 0.03),
        "ndcg@10": _measure(0.9 * (1 - miss), 0.03),
        "cgl": _measure(math.log1p(rho / NEGATIVES), 2e-5),
        "rho": _measure(rho, 0.004),
        "ce": _measure(5.4 if is_null else ce, 0.06),
        "ce_calibrated": _measure(5.5 if is_null else 0.9 * ce, 0.06),
        "pairwise_accuracy": _measure(0.5 if is_null else 1 - 0.08 * ce, 0.01),
    }
    nulls = {
        "cgl_null": math.log1p(1 / NEGATIVES),
        "rho_null": 1.0,
        "ce_null": math.log1p(NEGATIVES),
        "pairwise_accuracy_null": 0.5,
    }
    return table | {name: _fact(value) for name, value in nulls.items()}


def _record(rng, arch, kind, name, fraction, beam):
    size = int(_SIZES[name])
    cell = artifacts.content_hash([arch, kind, name, fraction])[:16]
    metrics = _metrics(rng, size, fraction, beam, is_null=kind == "rq")
    control = {"recall@10": _measure(0.21, 0.03), "mrr@10": _measure(0.12, 0.02)}
    return records.RunRecord(
        cell=cell,
        collection="builtin:pydocs",
        split="test",
        arch=arch,
        size_name=name,
        params_total=size + 500_000,
        params_non_embedding=size,
        params_paper=size + 250_000,
        params_trainable=size + 500_000,
        identifier_kind=kind,
        data_fraction=fraction,
        data_examples=int(24_000 * fraction),
        data_queries=int(9_000 * fraction),
        data_tokens=int(190_000 * fraction),
        epochs=4.0,
        steps=1500,
        batch=64,
        train_flops=6.0 * size * 1500 * 64 * 40,
        seed=0,
        beam=beam,
        max_length=8,
        rescoring="none",
        inference_flops_per_query={
            "prefill": 2.0 * size * 30,
            "decode": 2.0 * size * 8 * beam,
        },
        negatives=NEGATIVES,
        metrics=metrics,
        controls={"constant probability": control} if kind == "ngram" else {},
        wall_s={"train": 21.5, "decode": 3.25},
        device=f"cpu {NASTY}",
        hashes={"examples": "c0ffee"},
        commit="0123456789ab",
    )


def _decode_folder(root: Path, record: records.RunRecord, rng) -> None:
    setting = {"beam": record.beam, "max_length": 8, "query_keys": False}
    name = artifacts.content_hash(setting)[:8]
    folder = root / "cells" / record.cell / f"decode-{record.beam}-{name}"
    hits = rng.random(len(QUERIES)) < record.metrics["recall@1"].value
    per_query = {
        q: {"recall@1": float(h), "mrr@10": float(h) or 0.25}
        for q, h in zip(QUERIES, hits, strict=True)
    }
    results.write(folder, record.metrics, per_query)
    lines = []
    for number, query in enumerate(QUERIES[:20]):
        for rank in range(1, 6):
            document = f"d{(number + (rank - 1) * (1 + number % 3)) % 40:03d}"
            keys = [
                {
                    "text": text,
                    "tokens": [11, 12],
                    "logprob": -1.5 * rank,
                    "weight": 9.0 / rank,
                }
                for text in ("returns a sorted list", "key function", NASTY[:24])
            ]
            lines.append(
                {
                    "query": query,
                    "document": document,
                    "rank": rank,
                    "score": 20.0 / rank,
                    "keys": keys[: 4 - rank % 3],
                }
            )
    artifacts.write_jsonl(folder / "evidence.jsonl", lines)
    artifacts.write_manifest(folder, kind="decoding", schema_version=1, config=setting)


def _collection(root: Path) -> None:
    folder = root / "collection"
    documents = [
        {"_id": f"d{i:03d}", "title": f"module.function_{i}", "text": "Sort the rows."}
        for i in range(40)
    ]
    documents[0]["title"] = NASTY
    artifacts.write_jsonl(folder / "corpus.jsonl", documents)
    queries = [
        {"_id": q, "text": f"how to sort rows by the key number {i}"}
        for i, q in enumerate(QUERIES)
    ]
    queries[0]["text"] = NASTY
    artifacts.write_jsonl(folder / "queries.jsonl", queries)
    rows = "".join(f"{q}\td{i % 40:03d}\t1\n" for i, q in enumerate(QUERIES))
    artifacts.write_text(
        folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n" + rows
    )
    artifacts.write_manifest(
        folder,
        kind="collection",
        schema_version=1,
        seeds={"split": 0},
        facts={"documents": 40, "queries": {"test": len(QUERIES)}, "collisions": 0},
    )


def build(root: Path) -> Path:
    """Both families and both kinds by size; data and beams for one of them."""
    rng = np.random.default_rng(0)
    runs = [
        _record(rng, arch, kind, name, 1.0, 8)
        for arch, kind in (("t5", "ngram"), ("t5", "rq"), ("llama", "ngram"))
        for name in _SIZES
    ]
    runs += [_record(rng, "t5", "ngram", "m", f, 8) for f in _FRACTIONS if f < 1]
    runs += [_record(rng, "t5", "ngram", "m", 1.0, b) for b in _BEAMS if b != 8]
    artifacts.write_jsonl(root / "records.jsonl", [run.to_json() for run in runs])
    for run in runs:
        _decode_folder(root, run, rng)
    _collection(root)
    for name, level in (("bm25", 0.55), ("bm25-train-queries", 0.62)):
        hits = rng.random(len(QUERIES)) < level
        results.write(
            root / "baselines" / name,
            {
                "recall@1": _measure(level - 0.1, 0.04),
                "recall@10": _measure(level + 0.2, 0.03),
                "mrr@10": _measure(level, 0.03),
            },
            {
                q: {"recall@1": float(h), "mrr@10": float(h) or 0.3}
                for q, h in zip(QUERIES, hits, strict=True)
            },
        )
    artifacts.write_json(
        root / "study.json", {"study": {"collection": "builtin:pydocs"}}
    )
    lines = [
        json.loads(x) for x in (root / "records.jsonl").read_text().strip().split("\n")
    ]
    found = study_fits.fit_study(lines, settings=fitting.Settings(resamples=60))
    fits.write(root / "fits.json", found)
    return root


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("study"))
