"""Benchmark of trees and of whole decoding, against peers measured in turn.

``python -m tools.bench.decode`` measures memory, build, steps and searches with the
prefix tree, on one core. ``--static-checkout DIR`` (a clone of
github.com/youtube/static-constraint-decoding) adds STATIC's figures for the same
catalogues; ``--torch-python EXE`` (an interpreter with torch and transformers) adds
``generate`` with ``prefix_allowed_tokens_fn``. Trust ratios, not times. A goal without
its peer is not judged. Where JAX has an accelerator, the rows that have goals there are
measured on it by a process of their own; elsewhere they are skipped and say so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gr_jax.core import allocator
from tools.bench import decode_table

Row = decode_table.Row
_NARROW = "narrow level"
_STEPS = (
    # measure, vocabulary, skewed, depth, (batch, beams), STATIC's dense layers, goal
    ("second level, exact", 2048, False, 1, (8, 70), 2, 3.0),
    (_NARROW, 2048, False, 2, (2, 70), 2, 1.0),
    (_NARROW, 2048, False, 3, (8, 70), 2, 1.0),
    (_NARROW, 2048, False, 5, (8, 10), 2, 0.9),
    (_NARROW, 2048, False, 3, (1, 10), 2, 0.9),
    ("skewed level", 2048, True, 2, (8, 70), 2, 3.0),
    ("V=32k skewed level", 32_768, True, 1, (2, 70), 1, 4.0),
)
_PARTS = ("build", "steps", "decode", "prompt", "share", "accelerator")


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/decode.json``."""
    parser = argparse.ArgumentParser(prog="bench-decode", description=__doc__)
    parser.add_argument("--static-checkout", type=Path, metavar="DIR")
    parser.add_argument("--torch-python", type=Path, metavar="EXE")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--large", action="store_true", help="build 10^7 identifiers")
    parser.add_argument("--huge", action="store_true", help="build and search 10^8")
    parser.add_argument("--only", choices=_PARTS, action="append")
    parser.add_argument("--out", type=Path, default=Path("build/bench/decode.json"))
    parser.add_argument("--on-accelerator", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    allocator.keep_freed_pages()  # as `gr-jax decode` does
    if not args.on_accelerator:
        os.environ["JAX_PLATFORMS"] = "cpu"
        if hasattr(os, "sched_setaffinity"):
            args.cores = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {max(args.cores)})
    parts: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
        "build": build_rows,
        "steps": step_rows,
        "decode": decode_rows,
        "prompt": prompt_rows,
        "share": share_rows,
        "accelerator": accelerator_rows,
    }
    rows: list[Row] = []
    for name in args.only or _PARTS:
        rows += parts[name](args)
        print(f"bench-decode: {name}: done", file=sys.stderr, flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    if not args.on_accelerator:
        print(decode_table.table(rows))
    return 0 if all(row["holds"] is not False for row in rows) else 1


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
    """STATIC's builder and kernel, or None without a checkout."""
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
            parts = [getattr(array, "nbytes", 0) for array in arrays]
            anchor_bytes = sum(parts) / items
            del arrays
        seconds, sizes = [], []
        for _ in range(3):
            began = time.perf_counter()
            tree = constraint_index.build_matrix(codes_NL, 2048)
            seconds.append(time.perf_counter() - began)
            sizes.append(tree.device_bytes / tree.rows)
            del tree
        name = f"tree of {items:.0e} identifiers"
        rows.append(
            decode_table.row(
                f"{name}, bytes each", anchor_bytes, max(sizes), goal, ratio=False
            )
        )
        name, limit = f"{name}, s to build, sorted", items / 10_000_000
        built_s = min(seconds)
        rows.append(decode_table.row(name, anchor_s, built_s, limit, ratio=False))
        del codes_NL
    return [*rows, *(huge_rows() if args.huge else [])]


def huge_rows() -> list[Row]:
    """10^8 identifiers, built and searched by a process of their own."""
    command = [sys.executable, "-m", "tools.bench.decode_huge"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(answer.stdout)
    name = f"tree of 1e+08 identifiers ({found['checked']} results checked)"
    wanted = (("bytes each", "bytes", 15.0), ("s to build, sorted", "build_s", 10.0))
    rows = [
        decode_table.row(f"{name}, {what}", None, found[key], goal, ratio=False)
        for what, key, goal in wanted
    ]
    peak = f"{name}, GiB at most, catalogue included"
    return [*rows, decode_table.row(peak, None, found["peak_gib"], None)]


def step_rows(args: argparse.Namespace) -> list[Row]:
    """One step after the model: logits to beams."""
    from gr_jax.decode import prefix_tree
    from gr_jax.identifiers import constraint_index
    from tools.bench import decode_steps

    static = _static(args)
    rows: list[Row] = []
    known: dict[tuple[int, bool], Any] = {}
    for measure, vocabulary, is_skewed, depth, (batch, beams), dense, goal in _STEPS:
        if (vocabulary, is_skewed) not in known:
            codes_NL = catalogue(args.items, vocabulary, is_skewed=is_skewed)
            tree = constraint_index.build_matrix(codes_NL, vocabulary)
            index = static and static[0](codes_NL.astype("int64"), vocabulary, dense)
            known = {(vocabulary, is_skewed): (codes_NL, tree, index)}
        codes_NL, tree, index = known[vocabulary, is_skewed]
        steps = decode_steps.draw(codes_NL, vocabulary, depth, batch, beams)
        constraint = prefix_tree.PrefixTreeConstraint.of(tree)
        sides = {"ours": decode_steps.our_side(tree, constraint, steps)}
        if static is not None:
            sides["static"] = decode_steps.static_side(static[1], index, steps, dense)
        calls = {name: decode_steps.many(steps, side) for name, side in sides.items()}
        if static is not None:
            decode_steps.require_equal(calls["ours"](), calls["static"]())
        found = decode_table.interleaved(calls, args.rounds)
        ours, peer = found["ours"], found.get("static")
        name = f"{measure}, depth {depth}, {batch}x{beams}, V={vocabulary}, ms"
        one_ms = 1e3 / decode_steps.REPEATS
        peer_ms = None if peer is None else peer * one_ms
        rows.append(decode_table.row(name, peer_ms, ours * one_ms, goal))
    return rows


def decode_rows(args: argparse.Namespace) -> list[Row]:
    """Whole constrained decoding against `transformers`, and what jumps give."""
    from tools.bench import decode_whole

    found = decode_whole.measure(args.torch_python, args.rounds)
    peer, goal = found.get("transformers"), 10.0 if args.on_accelerator else 2.5
    ours, plain = found["ours"], found["no jump"]
    return [
        decode_table.row("constrained decode, 8x10, V=32k, S=32, s", peer, ours, goal),
        decode_table.row("the same, no jump-forward, s", peer, plain, None),
        decode_table.row("default against no jump-forward, s", plain, ours, None),
    ]


def prompt_rows(args: argparse.Namespace) -> list[Row]:
    """Searches with the prompt's keys shared, and replicated for each beam."""
    from tools.bench import decode_prompt, decode_whole

    rows: list[Row] = []
    families = {"T5": decode_whole.model_of, "LLaMA": decode_whole.llama_of}
    for family, make in families.items():
        found = decode_prompt.measure(make, 512, max(3, args.rounds // 2))
        for what, more in (("search after prefill", 0.0), ("both", found["prefill"])):
            rows.append(
                decode_table.row(
                    f"{family}, prompt of 512, 8x10, {what}, s",
                    found["replicated"] + more,
                    found["shared"] + more,
                    2.0,
                )
            )
        name = f"{family}, prompt of 512, 8 queries, prefill, s"
        rows.append(decode_table.row(name, None, found["prefill"], None))
    found = decode_whole.measure(args.torch_python, max(3, args.rounds // 2), 512)
    peer = found.get("transformers")
    name = "T5, prompt of 512, 8x10, whole decode, s"
    return [*rows, decode_table.row(name, peer, found["ours"], 2.0)]


def share_rows(args: argparse.Namespace) -> list[Row]:
    """Part of a search's time that the constraint takes, logsumexp included."""
    from tools.bench import decode_share

    shape = decode_share.LARGE if args.on_accelerator else decode_share.SMALL
    name, goal = ("T5-large", 0.01) if args.on_accelerator else ("60M model", 0.05)
    found = decode_share.measure(shape, args.items, max(3, args.rounds // 2))
    whole = found["model"] + found["propose"]
    name = f"constraint's share of a step, {name}, {args.items:.0e} items, 8x10"
    own = max(0.0, found["propose"] - found["logsumexp"])
    rows = [(name, found["propose"]), (f"{name}, less logsumexp", own)]
    return [
        decode_table.row(measure, None, part / whole, goal, ratio=False)
        for measure, part in rows
    ]


def accelerator_rows(args: argparse.Namespace) -> list[Row]:
    """What has a goal on an accelerator, measured there, or skipped."""
    if args.on_accelerator:
        import jax

        if jax.default_backend() == "cpu":
            names = ("steps", "whole decode", "prompt of 512", "constraint's share")
            return [
                decode_table.skipped(f"accelerator: {name}", "no accelerator")
                for name in names
            ]
        parts = (step_rows, decode_rows, prompt_rows, share_rows)
        rows = [row for part in parts for row in part(args)]
        return [row | {"measure": f"accelerator: {row['measure']}"} for row in rows]
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        command = [sys.executable, "-m", "tools.bench.decode", "--on-accelerator"]
        command += ["--only", "accelerator", "--out", answer.name]
        command += ["--rounds", str(args.rounds), "--items", str(args.items)]
        for flag in ("static_checkout", "torch_python"):
            if getattr(args, flag):
                command += [f"--{flag.replace('_', '-')}", str(getattr(args, flag))]
        environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
        subprocess.run(command, env=environment, check=False)
        return json.loads(Path(answer.name).read_text())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
