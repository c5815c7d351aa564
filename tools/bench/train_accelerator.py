"""Model FLOPs utilisation of training on an accelerator: T5-large and a 1B LLaMA.

Part of ``python -m tools.bench.train``; a row each for the attention kernels that the
platform has. Utilisation is useful work (`accounting.train_flops`, rematerialisation
not counted) over the time of a step and the maker's dense bf16 peak.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

REQUIRED = 0.40
KERNELS = ("plain", "fused", "flash")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model of ``gin_configs/model`` and the batch it is trained on."""

    name: str
    gin_file: str
    batch: int
    source: int
    target: int
    remat: str = "none"


CASES = (
    Case("t5-1.1-large", "model/t5_1_1_large.gin", batch=64, source=512, target=128),
    Case(
        "llama-3-1b",
        "model/llama3_1b.gin",
        batch=16,
        source=896,
        target=128,
        remat="dots",
    ),
)


def rows(*, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of all cases; a kernel that the platform refuses says why."""
    import jax

    from gr_jax.train import dry_run

    kind = jax.devices()[0].device_kind
    device = dry_run.of_kind(kind)
    peak = None if device is None else device.peak_flops
    found = []
    for case in CASES:
        tried = [
            measure(case, _config(case, kernel), peak, steps=steps, rounds=rounds)
            for kernel in KERNELS
        ]
        best = max((row["ours"] or 0.0) for row in tried)
        # One kernel is enough: the goal is the model's, not each kernel's.
        found += [{**row, "holds": best >= REQUIRED} for row in tried]
    return found


def _config(case: Case, kernel: str) -> Any:
    import gin

    from tools import configure

    bindings = [f"REMAT = '{case.remat}'", f"ATTENTION = '{kernel}'"]
    configure.load([case.gin_file], bindings)
    try:
        return gin.query_parameter("%MODEL").scoped_configurable_fn()
    finally:
        gin.clear_config()


def measure(
    case: Case, config: Any, peak: float | None, *, steps: int, rounds: int
) -> dict[str, Any]:
    """The utilisation of one model and kernel, or the reason why there is none."""
    import jax
    import numpy as np

    from gr_jax.core import randomness
    from gr_jax.model import accounting
    from tools.bench import train

    rng = randomness.stream(0, "bench train")
    shapes = ((case.batch, case.source), (case.batch, case.target))
    source, target = (
        rng.integers(4, config.vocab_size, s, dtype=np.int32) for s in shapes
    )
    row: dict[str, Any] = {
        "measure": f"{case.name} {config.attention} MFU on {jax.devices()[0]}",
        "anchor": peak,
        "ours": None,
        "ratio": None,
        "goal": REQUIRED,
    }
    try:
        ours, compile_s = train._ours(config, source, target)
        ours(steps)
        seconds = statistics.median(ours(steps) / steps for _ in range(rounds))
    except Exception as error:  # a row says what each kernel does
        return {**row, "note": str(error).splitlines()[0][:160]}
    flops = accounting.train_flops(config, case.source, case.target, case.batch)
    tokens = case.batch * (case.source + case.target)
    return {
        **row,
        "ours": None if peak is None else flops / seconds / peak,
        "tokens_per_s": tokens / seconds,
        "step_s": seconds,
        "compile_s": compile_s,
        "date": time.strftime("%Y-%m-%d"),
    }
