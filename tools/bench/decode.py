"""Benchmark of trees and of whole decoding, against peers measured in turn.

``python -m tools.bench.decode`` measures memory, build and steps of the prefix tree.
``--static-checkout DIR`` (a clone of github.com/youtube/static-constraint-decoding)
adds STATIC's figures for the same catalogues; ``--torch-python EXE`` (an interpreter
with torch and transformers) adds ``generate`` with ``prefix_allowed_tokens_fn``. All
run on one core; trust ratios, not times. A goal without its peer is not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_STEPS = (
    # measure, vocabulary, skewed, depth, (batch, beams), STATIC's dense layers, goal
    ("second level, exact", 2048, False, 1, (8, 70), 2, 3.0),
    ("skewed level", 2048, True, 2, (8, 70), 2, 3.0),
    ("V=32k skewed level", 32_768, True, 1, (2, 70), 1, 4.0),
    ("narrow level", 2048, False, 2, (2, 70), 2, 1.0),
    ("narrow level", 2048, False, 3, (8, 70), 2, 1.0),
    ("narrow level", 2048, False, 5, (8, 10), 2, 0.9),
)


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/decode.json``."""
    parser = argparse.ArgumentParser(prog="bench-decode", description=__doc__)
    parser.add_argument("--static-checkout", type=Path, metavar="DIR")
    parser.add_argument("--torch-python", type=Path, metavar="EXE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--large", action="store_true", help="build 10^7 identifiers")
    parser.add_argument(
        "--only", choices=("build", "steps", "decode", "prompt", "share")
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/decode.json"))
    args = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    parts: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
        "build": build_rows,
        "steps": step_rows,
        "decode": decode_rows,
        "prompt": prompt_rows,
        "share": share_rows,
    }
    rows: list[Row] = []
    for name, part in parts.items():
        if args.only in (None, name):
            for row in part(args):
                rows.append(row)
                print("  ".join(f"{k}={_shown(v)}" for k, v in row.items()), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(row["holds"] is not False for row in rows) else 1


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(
    measure: str, anchor: float | None, ours: float, goal: float, *, ratio: bool = True
) -> Row:
    """A row of the table; without ``ratio`` the goal bounds our own figure."""
    factor = anchor / ours if anchor is not None else None
    judged = factor if ratio else -ours
    bound = goal if ratio else -goal
    holds = None if judged is None else judged >= bound
    return {
        "measure": measure,
        "anchor": anchor,
        "ours": ours,
        "ratio": factor,
        "goal": goal,
        "holds": holds,
    }


def interleaved(
    calls: dict[str, Callable[[], Any]], rounds: int, repeats: int = 1
) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns."""
    import jax

    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeats):
                jax.block_until_ready(call())
            times[name].append((time.perf_counter() - began) / repeats)
    return {name: statistics.median(found) for name, found in times.items()}


def catalogue(items: int, vocabulary: int, *, is_skewed: bool, length: int = 8) -> Any:
    """Sorted random codes; skewed ones follow Zipf's law."""
    import numpy as np

    from gr_jax.core import randomness
    from gr_jax.identifiers import sorted_rows

    rng = randomness.stream(0, "bench catalogue", items, vocabulary, int(is_skewed))
    if is_skewed:
        share = np.cumsum(1.0 / np.arange(1, vocabulary + 1))
        draw = rng.random((items, length)) * share[-1]
        codes_NL = np.searchsorted(share, draw).astype(np.uint16)
    else:
        codes_NL = rng.integers(0, vocabulary, (items, length), dtype=np.uint16)
    columns = np.ascontiguousarray(codes_NL.T)
    return codes_NL[sorted_rows.sorted_order(columns, vocabulary)]


def _static(args: argparse.Namespace) -> Any:
    """STATIC's two modules, or None without a checkout."""
    if args.static_checkout is None:
        return None
    sys.path.insert(0, str(args.static_checkout))
    from static_decoding import csr_utils, decoding_jax  # type: ignore[import-not-found]

    return csr_utils.build_static_index, decoding_jax.generate_and_apply_logprobs_mask


def build_rows(args: argparse.Namespace) -> list[Row]:
    """Bytes an identifier and seconds to build from sorted rows."""
    from gr_jax.identifiers import constraint_index

    static = _static(args)
    rows: list[Row] = []
    for items, goal in ((args.items, 18.0), *([(10_000_000, 15.0)] * args.large)):
        codes_NL = catalogue(items, 2048, is_skewed=False)
        anchor_s = anchor_bytes = None
        if static is not None:
            began = time.perf_counter()
            arrays = static[0](codes_NL.astype("int64"), 2048, 2)
            anchor_s = time.perf_counter() - began
            sizes = [getattr(array, "nbytes", 0) for array in arrays]
            anchor_bytes = sum(sizes) / items
            del arrays
        tree = constraint_index.build_matrix(codes_NL, 2048)
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            constraint_index.build_matrix(codes_NL, 2048)
            seconds.append(time.perf_counter() - began)
        ours = tree.device_bytes / tree.rows
        name = f"tree of {items:.0e} identifiers"
        rows.append(_row(f"{name}, bytes each", anchor_bytes, ours, goal, ratio=False))
        limit = 1.0 * items / 10_000_000
        built_s = min(seconds)
        name = f"{name}, s to build, sorted"
        rows.append(_row(name, anchor_s, built_s, limit, ratio=False))
    return rows


def step_rows(args: argparse.Namespace) -> list[Row]:
    """One step after the model: logits to beams."""
    import jax

    from gr_jax.decode import prefix_tree
    from gr_jax.identifiers import constraint_index
    from tools.bench import decode_steps

    static = _static(args)
    rows: list[Row] = []
    for measure, vocabulary, is_skewed, depth, (batch, beams), dense, goal in _STEPS:
        codes_NL = catalogue(args.items, vocabulary, is_skewed=is_skewed)
        tree = constraint_index.build_matrix(codes_NL, vocabulary)
        constraint = prefix_tree.PrefixTreeConstraint.of(tree)
        step = decode_steps.draw(codes_NL, vocabulary, depth, batch, beams)
        state = decode_steps.tree_state(tree, step)
        propose = jax.jit(lambda c, s, x, y, m: c.propose(s, x, y, m), static_argnums=4)
        calls: dict[str, Callable[[], Any]] = {
            "ours": lambda f=propose, c=constraint, s=state, x=step, m=beams: f(
                c, s, x.logits_BMV, x.score_BM, m
            )
        }
        if static is not None:
            calls["static"] = decode_steps.static_step(static, codes_NL, step, dense)
            decode_steps.require_equal(calls["ours"]().score_BC, calls["static"]()[0])
        found = interleaved(calls, args.rounds, repeats=10)
        name = f"{measure}, depth {depth}, {batch}x{beams}, V={vocabulary}, s"
        rows.append(_row(name, found.get("static"), found["ours"], goal))
    return rows


def decode_rows(args: argparse.Namespace) -> list[Row]:
    """Whole constrained decoding against `transformers`."""
    from tools.bench import decode_whole

    found = decode_whole.measure(args.torch_python, args.rounds)
    peer = found.get("transformers")
    return [
        _row("constrained decode, 8x10, V=32k, S=32, s", peer, found["ours"], 2.5),
        _row("the same without jump-forward, s", peer, found["no jump"], 2.5),
    ]


def prompt_rows(args: argparse.Namespace) -> list[Row]:
    """Decoding steps with the prompt shared, and replicated for each beam."""
    from tools.bench import decode_whole

    found = decode_whole.measure_prompt(512, args.rounds)
    return [
        _row(
            "8 decoder steps, prompt of 512, 8x10, s",
            found["replicated"],
            found["shared"],
            2.0,
        )
    ]


def share_rows(args: argparse.Namespace) -> list[Row]:
    """Part of a decode step that the constraint takes, with a 60M model."""
    from tools.bench import decode_whole

    found = decode_whole.measure_share(args.items, args.rounds)
    share = found["constraint"] / (found["model"] + found["constraint"])
    name = f"constraint's share of a step, 60M model, {args.items:.0e} items, 8x10"
    return [_row(name, None, share, 0.05, ratio=False)]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
