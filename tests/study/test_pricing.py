"""What a study is said to cost, by arithmetic and against one that was run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gr_jax.core import errors
from gr_jax.model import accounting, ladder
from gr_jax.study import grid, pricing
from gr_jax.train import settings


def study(**changes: object) -> grid.Study:
    given = {
        "collection": "builtin:synthetic",
        "identifiers": ("rq",),
        "sizes": {"t5": ("30k", "65k")},
        "base_sizes": {"t5": "30k"},
        "fractions": (0.5, 1.0),
        "beams": (2, 8),
        "base_beam": 2,
        "training": settings.TrainSettings(steps=10),
        "batch": 8,
        "queries": 50,
        "scored_queries": 20,
        "negatives": 9,
        "code_levels": 3,
        "codes": 16,
        "vocabulary_pieces": 256,
        "source_length": 24,
    }
    return grid.Study(**{**given, **changes})


def test_flops_hours_and_money_are_sums_of_the_parts():
    base, larger, half = pricing.price(study())
    config = ladder.build("t5", "30k", vocab_size=320)  # 256 + 3 * 16, rounded up
    forward = accounting.forward_flops(config, source=24, target=4)
    assert base.train_flops == 3 * 10 * 8 * forward.total
    # One encoding a query, ten scored codes each.
    each = forward.source + 10 * (forward.target + forward.head)
    assert base.score_flops == pytest.approx(20 * each)
    beams = [
        sum(accounting.inference_flops(config, source=24, beams=beam, steps=4).values())
        for beam in (2, 8)
    ]
    assert base.decode_flops == pytest.approx(50 * sum(beams))
    assert half.decode_flops == pytest.approx(50 * beams[0])
    assert base.query_flops == max(beams)
    machine = pricing.Machine(
        name="test", flops_per_s=1e9, hour_price=3.0, exaflop_price=1e9
    )
    work = base.train_flops + base.score_flops + base.decode_flops
    hours = (work / 1e9 + base.compile_s) / 3600
    assert base.hours(machine) == pytest.approx(hours)
    assert base.money(machine) == pytest.approx(3.0 * hours + work / 1e9)
    # Half the data is trained by the program of all of it; another size is not.
    assert half.compile_s == 0.0
    assert larger.compile_s > 0.0


def test_unknown_machines_and_steps_that_follow_the_data_are_refused():
    with pytest.raises(errors.UsageError, match="device: 'abacus'"):
        pricing.accelerator("abacus", hour_price=0.0, exaflop_price=0.0)
    known = pricing.accelerator("h100", hour_price=2.0, exaflop_price=0.0)
    assert known.flops_per_s == pytest.approx(0.4 * 989e12)
    with pytest.raises(errors.UsageError, match="epochs"):
        pricing.price(study(epochs=1.0))


def test_a_study_that_was_run_took_what_was_said(tiny_study: Path) -> None:
    stored = json.loads((tiny_study / "study.json").read_text())
    asked = grid.Study.from_json(stored["study"])
    prices = {price.cell: price for price in pricing.price(asked)}
    for path in tiny_study.glob("cells/*/cell.json"):
        cell = grid.Cell.from_json(json.loads(path.read_text())["cell"])
        said = prices[cell.label]
        lines = (path.parent / "records.jsonl").read_text().splitlines()
        runs = [json.loads(line) for line in lines]
        record = max(runs, key=lambda r: sum(r["inference_flops_per_query"].values()))
        assert said.params_non_embedding == record["params_non_embedding"]
        # A few suffixes and pieces that were not found make the vocabulary another.
        assert said.train_flops == pytest.approx(record["train_flops"], rel=0.05)
        query = sum(record["inference_flops_per_query"].values())
        assert said.query_flops == pytest.approx(query, rel=0.05)
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        taken = sum(file.stat().st_size for file in files)
        assert taken / 1.5 < said.disk_bytes < taken * 1.5, cell.label
