"""Benchmark of training: tokens a second against transformers and PyTorch.

``python -m tools.bench.train`` runs the step of the training loop and the rival's in
turn on the same machine, model, batch and threads, and prints ratios. The rival needs
an interpreter with torch and transformers: this one, or ``--torch-python``. Where JAX
has an accelerator it measures utilisation there instead (`train_accelerator`).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REQUIRED = 1.0
_VOCABULARY = 4192


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/train.json``."""
    parser = argparse.ArgumentParser(prog="bench-train", description=__doc__)
    parser.add_argument("--cases", nargs="+", help="default: the ladder from 1M on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--source", type=int, default=32)
    parser.add_argument("--target", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "adafactor"))
    parser.add_argument(
        "--torch-compile", action="store_true", help="the rival under torch.compile"
    )
    parser.add_argument(
        "--torch-python",
        default=os.environ.get("GR_JAX_TORCH_PYTHON", sys.executable),
        help="interpreter that has torch and transformers",
    )
    parser.add_argument(
        "--accelerator",
        action="store_true",
        help="utilisation of T5-large and LLaMA 1B; the default where there is one",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/train.json"))
    args = parser.parse_args(argv)
    from gr_jax.core import allocator

    allocator.keep_freed_pages()  # as `gr-jax train` does
    if args.accelerator or _has_accelerator():
        return _on_accelerator(args)
    mine = args.torch_python == sys.executable
    if mine and importlib.util.find_spec("torch") is None:
        print("bench-train: no torch here: give --torch-python", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    for case in args.cases or ladder_cases():
        rows += measure(case, args)
        # What is done is kept when a later case fails.
        _report(rows, args.out, new=3)
    return 0 if all(row["holds"] for row in rows) else 1


def _has_accelerator() -> bool:
    import jax

    return jax.default_backend() != "cpu"


def _on_accelerator(args: argparse.Namespace) -> int:
    from tools.bench import train_accelerator

    if not _has_accelerator():
        print("bench-train: --accelerator: none is here: skipped", file=sys.stderr)
        return 0
    rows = train_accelerator.rows(steps=args.steps, rounds=args.rounds)
    _report(rows, args.out, new=len(rows))
    return 0 if all(row["holds"] for row in rows) else 1


def _report(rows: list[dict[str, Any]], out: Path, *, new: int) -> None:
    """Prints the last rows and writes all."""
    for row in rows[-new:]:
        shown = (f"{key}={_shown(value)}" for key, value in row.items())
        print("  ".join(shown), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")


def ladder_cases() -> list[str]:
    """``family:size`` of every size of the ladder named for a million or more."""
    from gr_jax.model import ladder

    return [
        f"{family}:{size}"
        for family in ("t5", "llama")
        for size in ladder.size_names(family)
        if size.endswith("m")
    ]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def measure(case: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one model: speed, distance to the matrix products, compile time."""
    import numpy as np

    from gr_jax.core import randomness
    from gr_jax.model import accounting, ladder

    family, size = case.split(":")
    config = ladder.build(family, size, vocab_size=_VOCABULARY)  # pyright: ignore
    rng = randomness.stream(0, "bench train")
    shapes = ((args.batch, args.source), (args.batch, args.target))
    source, target = (rng.integers(4, _VOCABULARY, s, dtype=np.int32) for s in shapes)
    ours, compile_s = _ours(config, source, target, args.optimizer)
    rival, params = _rival(args, family, config, source, target)
    counted = accounting.parameters(config).total
    assert params == counted, f"{case}: {params} parameters there, {counted} here"
    times: dict[str, list[float]] = {"ours": [], "anchor": []}
    ours(args.steps)
    rival(args.steps)
    for _ in range(args.rounds):
        times["ours"].append(ours(args.steps) / args.steps)
        times["anchor"].append(rival(args.steps) / args.steps)
    rival(0)
    mine, theirs = (statistics.median(times[name]) for name in ("ours", "anchor"))
    tokens = args.batch * (args.source + args.target)
    flops = accounting.train_flops(config, args.source, args.target, args.batch)
    bound = flops / _product_rate()
    return [
        {
            "measure": f"{case} tokens/s",
            "anchor": tokens / theirs,
            "ours": tokens / mine,
            "ratio": theirs / mine,
            "goal": REQUIRED,
            "holds": theirs / mine >= REQUIRED,
        },
        {
            "measure": f"{case} step s over matrix products alone",
            "anchor": bound,
            "ours": mine,
            "ratio": mine / bound,
            "goal": None,
            "holds": True,
        },
        {
            "measure": f"{case} compile s",
            "anchor": None,
            "ours": compile_s,
            "ratio": None,
            "goal": None,
            "holds": True,
        },
    ]


def _ours(
    config: Any, source: Any, target: Any, optimizer_name: str = "adamw"
) -> tuple[Any, float]:
    import jax
    import numpy as np

    from gr_jax.model import families
    from gr_jax.sharding import mesh, rules
    from gr_jax.train import feed, optimizer, settings
    from gr_jax.train import step as steps

    asked = settings.TrainSettings(
        steps=10_000,
        optimizer=optimizer_name,  # pyright: ignore
    )
    on = mesh.single_device()
    programs = steps.programs(
        families.build(config), asked.for_step(), on, rules.DEFAULT, None
    )
    numbers = jax.device_put(
        {k: np.float32(v) for k, v in optimizer.schedule_numbers(asked).items()}
    )
    batch = feed.put({"source_BS": source, "target_BL": target}, programs.batch)
    begun = time.perf_counter()
    with jax.set_mesh(on):
        held = [programs.new_state(programs.new_params(np.uint32(0)), np.uint32(0))]
        program: Any = programs.step
        step = program.lower(held[0], None, batch, numbers).compile()
    compile_s = time.perf_counter() - begun

    def run(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            held[0], _ = step(held[0], None, batch, numbers)
        jax.block_until_ready(held[0].step)
        return time.perf_counter() - begun

    return run, compile_s


def _rival(
    args: argparse.Namespace, family: str, config: Any, source: Any, target: Any
) -> tuple[Any, int]:
    script = Path(__file__).with_name("train_torch.py")
    process = subprocess.Popen(
        [args.torch_python, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    talk, listen = process.stdin, process.stdout
    asked = {
        "family": family,
        "model": dataclasses.asdict(config),
        "source": source.tolist(),
        "target": target.tolist(),
        "threads": os.cpu_count(),
        "optimizer": args.optimizer,
        "compile": args.torch_compile,
    }
    print(json.dumps(asked), file=talk, flush=True)
    params = json.loads(listen.readline())["params"]

    def run(count: int) -> float:
        if not count:
            talk.close()
            process.wait()
            return 0.0
        print(count, file=talk, flush=True)
        return float(json.loads(listen.readline())["seconds"])

    return run, params


def _product_rate() -> float:
    """FLOP/s of a large float32 matrix product on this device."""
    import jax
    import jax.numpy as jnp

    side = 1024
    x = jnp.ones((side, side), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(x).block_until_ready()
    begun = time.perf_counter()
    for _ in range(10):
        product(x).block_until_ready()
    return 10 * 2.0 * side**3 / (time.perf_counter() - begun)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
