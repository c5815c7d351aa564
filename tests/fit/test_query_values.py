"""Values on single queries, from a study's folder to intervals and crossovers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr_jax.core import artifacts
from gr_jax.fit import fits, fitting, query_values, study_fits
from tools import cli

SIZES = [20_000 * 3**i for i in range(7)]
QUERIES = [f"q{i:03d}" for i in range(120)]
QUICK = fitting.Settings(resamples=200, has_rivals=False)


def write_study(root: Path) -> list[dict[str, Any]]:
    """Two identifier kinds whose miss rates cross, and a rival between them."""
    generator = np.random.default_rng(0)
    hard_Q = np.clip(generator.normal(1.0, 0.35, len(QUERIES)), 0.1, 2.0)
    records: list[dict[str, Any]] = []
    # 0.15 + 12 N^-.3 falls below 0.35 + 4 N^-.3 where 8 N^-.3 = 0.2: N = 40^(1/.3).
    for kind, (floor, scale) in {"rq": (0.15, 12.0), "ngram": (0.35, 4.0)}.items():
        for size in SIZES:
            cell = f"{kind}-{size}"
            own_Q = generator.normal(1.0, 0.02, len(QUERIES))
            miss_Q = (floor + scale * size**-0.3) * hard_Q * own_Q
            folder = root / "cells" / cell / "decode-4-x"
            artifacts.write_jsonl(
                folder / "per_query.jsonl",
                [
                    {"query": q, "recall@10": 1.0 - m}
                    for q, m in zip(QUERIES, miss_Q.tolist(), strict=True)
                ],
            )
            config = {"beam": 4, "max_length": 8, "query_keys": False}
            artifacts.write_json(folder / "manifest.json", {"config": config})
            artifacts.write_jsonl(
                root / "cells" / cell / query_values.CONTRASTIVE,
                [
                    {"query": q, "ce": 2.0 * m}
                    for q, m in zip(QUERIES, miss_Q.tolist(), strict=True)
                ],
            )
            mean = float(miss_Q.mean())
            records.append(record(cell, kind, size, mean))
    artifacts.write_jsonl(root / "records.jsonl", records)
    rival_Q = 0.4 * hard_Q * generator.normal(1.0, 0.02, len(QUERIES))
    artifacts.write_jsonl(
        root / "baselines" / "bm25" / "per_query.jsonl",
        [
            {"query": q, "recall@10": 1.0 - m}
            for q, m in zip(QUERIES, rival_Q.tolist(), strict=True)
        ],
    )
    artifacts.write_json(
        root / "baselines" / "bm25" / "metrics.json",
        {"recall@10": {"value": 1 - rival_Q.mean(), "low": 0.5, "high": 0.7, "n": 120}},
    )
    return records


def record(cell: str, kind: str, size: int, miss: float) -> dict[str, Any]:
    return {
        "cell": cell,
        "collection": "toy",
        "split": "test",
        "arch": "t5",
        "identifier_kind": kind,
        "params_non_embedding": size,
        "data_fraction": 1.0,
        "data_examples": 1000,
        "beam": 4,
        "max_length": 8,
        "rescoring": "none",
        "seed": 0,
        "metrics": {
            "recall@10": {"value": 1 - miss, "low": 0.9 - miss, "high": 1.1 - miss},
            "ce": {"value": 2 * miss, "low": 1.9 * miss, "high": 2.1 * miss},
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    found = study_fits.fit_study(write_study(root), settings=QUICK, folder=root)
    fits.write(root / "fits.json", found)
    return root


def test_a_fit_tells_what_queries_and_runs_each_add(folder: Path) -> None:
    found = fits.read(folder / "fits.json")
    by_size = [f for f in found if f.x == "params_non_embedding" and f.is_fitted]
    assert {f.y for f in by_size} >= {"1-recall@10", "ce"}
    for fit in by_size:
        spread = fit.quality["queries"]
        assert spread["queries"] == len(QUERIES)
        alone, both = spread["alone"]["E"], spread["with_runs"]["E"]
        assert alone[0] <= fit.params["E"]["value"] <= alone[1]
        assert both[1] - both[0] > alone[1] - alone[0]


def test_runs_without_values_or_with_other_queries_have_no_table(folder: Path) -> None:
    runs = [json.loads(line) for line in (folder / "records.jsonl").open()]
    table = query_values.of_runs(folder, runs, "1-recall@10")
    assert table is not None
    assert table.queries == tuple(QUERIES)
    np.testing.assert_allclose(
        table.value_RQ.mean(axis=1),
        [1 - run["metrics"]["recall@10"]["value"] for run in runs],
    )
    swapped = table.on(tuple(reversed(QUERIES)))
    np.testing.assert_array_equal(swapped, table.value_RQ[:, ::-1])
    assert query_values.of_runs(folder, runs, "mrr@10") is None
    other = [{**runs[0], "beam": 32}]
    assert query_values.of_runs(folder, other, "1-recall@10") is None
    fewer = query_values.Table(queries=("q000",), value_RQ=np.ones((1, 1)))
    assert query_values.shared(table, fewer) == (None, None)
    assert query_values.stacked([table, None]) is None


def overtaken(
    folder: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> dict[str, Any]:
    command = ["plan", "--study", str(folder), "--fit", "rq/t5: 1-recall@10 by params"]
    assert cli.main([*command, "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_plan_says_where_one_method_overtakes_another(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = overtaken(folder, capsys, "--against", "ngram/t5")
    truth = 40 ** (1 / 0.3)
    assert found["is_paired"]
    assert found["x"] == pytest.approx(truth, rel=0.4)
    assert found["low"] < truth < found["high"]
    rival = overtaken(folder, capsys, "--against", "bm25")
    # 12 N^-.3 = 0.4 - 0.15.
    assert rival["is_paired"]
    assert rival["x"] == pytest.approx(48 ** (1 / 0.3), rel=0.4)
    assert rival["low"] < rival["x"] < rival["high"]


def test_plan_asks_which_law_is_meant(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", "--study", str(folder), "--fit", "t5", "--against", "bm25"]
    assert cli.main(command) == 2
    assert "there are" in capsys.readouterr().err
