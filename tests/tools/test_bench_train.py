"""The benchmark of training: which models it covers, and the utilisation it reports."""

from __future__ import annotations

import pytest

from gr_jax.model import accounting, ladder
from tools.bench import train, train_accelerator


def test_every_size_named_for_a_million_is_a_case() -> None:
    cases = train.ladder_cases()
    assert {c for c in cases if c.startswith("t5:")} == {
        f"t5:{size}" for size in ladder.T5_SIZES if "m" in size
    }
    assert {"llama:1m", "llama:1.8m", "llama:2.6m", "llama:4.8m"} <= set(cases)


def test_utilisation_is_useful_work_over_time_and_peak() -> None:
    case = train_accelerator.Case("tiny", "none", batch=2, source=4, target=4)
    config = ladder.build("llama", "25k", vocab_size=64)
    row = train_accelerator.measure(case, config, 1e9, steps=1, rounds=1)
    flops = accounting.train_flops(config, 4, 4, 2)
    assert row["ours"] == pytest.approx(flops / row["step_s"] / 1e9)
    assert row["tokens_per_s"] == pytest.approx(16 / row["step_s"])


def test_a_kernel_that_is_refused_says_why() -> None:
    case = train_accelerator.Case("tiny", "none", batch=2, source=4, target=4)
    config = ladder.build("llama", "25k", vocab_size=64, attention="flash")
    row = train_accelerator.measure(case, config, 1e9, steps=1, rounds=1)
    assert row["ours"] is None
    assert "none on cpu" in row["note"]


@pytest.mark.parametrize("case", train_accelerator.CASES, ids=lambda c: c.name)
def test_the_real_models_are_bf16_and_of_their_size(
    case: train_accelerator.Case,
) -> None:
    config = train_accelerator._config(case, "fused")
    assert (config.dtype, config.attention) == ("bfloat16", "fused")
    assert accounting.parameters(config).total in (783_150_080, 1_235_814_400)
