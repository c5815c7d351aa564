"""Benchmark of the substring index: build, size, and one decoding step against SEAL.

``python -m tools.bench.ngram --tokens 10000000 --seal-checkout PATH`` compares with
SEAL's FM-index; without the flag those rows are left out. In the checkout, build the
extension first: ``python setup.py build_ext --inplace`` (needs sdsl-lite and swig).
SEAL masks and selects with torch, which must be importable too.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUERIES, BEAMS, VOCABULARY, DOCUMENT = 8, 15, 32_000, 140
COUNT = 2 * BEAMS
PREFIXES = (1, 2, 3, 5, 9)
SEAL_BITS = 25.0
SEAL_BUILD_S = 1.0


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/ngram.json``."""
    parser = argparse.ArgumentParser(prog="bench-ngram", description=__doc__)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=0, help="0: the default")
    parser.add_argument("--seal-checkout", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("build/bench/ngram.json"))
    args = parser.parse_args(argv)
    rows = measure(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print("  ".join(f"{key}={_shown(value)}" for key, value in row.items()))
    return 0 if all(row["holds"] is not False for row in rows) else 1


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def text_like(tokens: int, *, seed: int = 0) -> tuple[Any, Any]:
    """A corpus whose bigrams and trigrams repeat as those of text do.

    The next token is one of a few hashed successors of the last two tokens, or of the
    last one, or drawn from Zipf's law; the hash stands for a table.
    """
    import numpy as np

    from gr_jax.core import randomness

    rng = randomness.stream(seed, "bench-ngram")
    documents = max(1, tokens // DOCUMENT)
    weight_V = 1.0 / np.arange(3, VOCABULARY + 3)
    zipf_V = np.cumsum(weight_V) / weight_V.sum()
    text_NL = np.zeros((documents, DOCUMENT), np.int32)
    one = np.zeros(documents, np.uint64)
    two = np.zeros(documents, np.uint64)
    for place in range(DOCUMENT):
        kind = rng.random(documents)
        choice = (rng.pareto(0.7, documents) * 2).clip(0, 4000).astype(np.uint64)
        context = np.where(kind < 0.45, one * 65_599 + two * 2_654_435_761, one * 31)
        mixed = (context + choice * 0x9E3779B97F4A7C15 + 12_345) & (2**64 - 1)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        hashed = ((mixed ^ (mixed >> np.uint64(32))) >> np.uint64(11)) / 2**53
        uniform = np.where(kind < 0.8, hashed, rng.random(documents))
        found = np.searchsorted(zipf_V, uniform).clip(0, VOCABULARY - 1)
        text_NL[:, place] = found
        two, one = one, found.astype(np.uint64)
    starts_T = np.arange(documents + 1, dtype=np.int64) * DOCUMENT
    return text_NL.reshape(-1), starts_T


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of the table."""
    tokens_E, starts_T = text_like(args.tokens)
    seal = None
    seal_s = SEAL_BUILD_S
    if args.seal_checkout is not None:
        seal, seconds = _cpu_s(lambda: SealStep(args.seal_checkout, tokens_E, starts_T))
        seal_s = seconds / tokens_E.size * 1e6
    rows: list[dict[str, Any]] = []
    for is_compact in (False, True):
        rows += _mode(args, tokens_E, starts_T, seal, seal_s, is_compact=is_compact)
    return rows


def _mode(
    args: argparse.Namespace,
    tokens_E: Any,
    starts_T: Any,
    seal: SealStep | None,
    seal_s: float,
    *,
    is_compact: bool,
) -> list[dict[str, Any]]:
    """The rows of the suffix array, or of the compact mode."""
    import jax

    from gr_jax.decode import substring
    from gr_jax.identifiers import substring_index

    name = "compact" if is_compact else "suffix array"
    index, seconds = _cpu_s(
        lambda: substring_index.build(
            tokens_E,
            starts_T,
            vocabulary_size=VOCABULARY,
            window=args.window or None,
            is_compact=is_compact,
        )
    )
    constraint = substring.from_index(index)
    build_s = seconds / tokens_E.size * 1e6
    bits = 8 * index.nbytes / tokens_E.size
    device_bits = 8 * sum(x.nbytes for x in jax.tree.leaves(constraint)) / tokens_E.size
    goal = 21.0 if is_compact else 56.0
    build_goal = None if is_compact else 0.7
    rows = [
        _row(f"{name}: build, CPU s per Mtoken", seal_s, build_s, build_goal, True),
        _row(f"{name}: bits per token", SEAL_BITS, bits, goal, True),
        _row(f"{name}: bits per token on device", SEAL_BITS, device_bits, goal, True),
    ]
    steps = measure_steps(index, constraint, tokens_E, seal, args.rounds)
    for row in steps:
        row["measure"] = f"{name}: {row['measure']}"
        if is_compact:
            row |= {"goal": None, "holds": None}
    return rows + steps


def _cpu_s(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and the CPU time it takes; both builds are one thread."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def _row(
    name: str,
    anchor: float | None,
    ours: float,
    goal: float | None,
    is_limit: bool = False,
) -> dict[str, Any]:
    """One line; the goal is a limit of ours, or else the least ratio."""
    ratio = anchor / ours if anchor is not None else None
    holds = None
    if goal is not None and is_limit:
        holds = ours <= goal
    elif goal is not None and ratio is not None:
        holds = ratio >= goal
    return {
        "measure": name,
        "anchor": anchor,
        "ours": ours,
        "ratio": ratio,
        "goal": goal,
        "holds": holds,
    }


def measure_steps(
    index: Any, constraint: Any, tokens_E: Any, seal: SealStep | None, rounds: int
) -> list[dict[str, Any]]:
    """Milliseconds of one step after the model, by length of the prefix."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from gr_jax.core import randomness
    from gr_jax.decode import substring

    rng = randomness.stream(1, "bench-ngram")
    step = jax.jit(lambda c, *parts: c.propose(*parts, COUNT))
    rows: list[dict[str, Any]] = []
    sums = {"ours": 0.0, "seal": 0.0}
    for length in PREFIXES:
        grams = _contexts(tokens_E, length, rng)
        lo_QZ, hi_QZ = index.find(grams)
        state = substring.SubstringState(
            jnp.asarray(lo_QZ.reshape(QUERIES, BEAMS, -1), jnp.int32),
            jnp.asarray(hi_QZ.reshape(QUERIES, BEAMS, -1), jnp.int32),
            jnp.full((QUERIES, BEAMS), length, jnp.int32),
            jnp.zeros((QUERIES, BEAMS), bool),
        )
        logits = rng.normal(size=(QUERIES, BEAMS, VOCABULARY)) * 2
        logits_BMV = (logits - np.log(np.arange(3, VOCABULARY + 3))).astype(np.float32)
        score_BM = -rng.random((QUERIES, BEAMS)).astype(np.float32)
        device = jax.device_put((logits_BMV, score_BM))
        proposals = jax.block_until_ready(step(constraint, state, *device))
        ours: Callable[[], object] = lambda s=state, d=device: jax.block_until_ready(  # noqa: E731
            step(constraint, s, *d)
        )
        theirs = None
        if seal is not None:
            theirs = seal.step(grams, logits_BMV, score_BM)
            expected = theirs()
            np.testing.assert_allclose(
                proposals.score_BC, expected, rtol=0, atol=1e-4, err_msg=str(length)
            )
        ours_s, seal_s = _interleaved(ours, theirs, rounds)
        anchor = None if theirs is None else 1e3 * seal_s
        rows.append(_row(f"step, prefix {length}, ms", anchor, 1e3 * ours_s, 4.0))
        # Lengths 5 and 9 stand for the six steps from 4 to 9.
        weight = 3 if length in (5, 9) else 1
        sums["ours"] += weight * ours_s
        sums["seal"] += weight * seal_s
    anchor = None if seal is None else 1e3 * sums["seal"]
    rows.append(_row("nine steps after the first, ms", anchor, 1e3 * sums["ours"], 7.0))
    return rows


def _contexts(tokens_E: Any, length: int, rng: Any) -> list[list[int]]:
    """N-grams at random places, none across documents nor at the end of one."""
    documents = tokens_E.size // DOCUMENT
    document = rng.integers(0, documents, QUERIES * BEAMS)
    offset = rng.integers(0, DOCUMENT - length, QUERIES * BEAMS)
    return [tokens_E[p : p + length].tolist() for p in (document * DOCUMENT + offset)]


def _interleaved(
    ours: Callable[[], object], theirs: Callable[[], object] | None, rounds: int
) -> tuple[float, float]:
    """Median seconds of each, run in turns."""
    times: dict[str, list[float]] = {"ours": [], "theirs": [0.0] if not theirs else []}
    for _ in range(rounds):
        for _ in range(5):
            started = time.perf_counter()
            ours()
            times["ours"].append(time.perf_counter() - started)
        if theirs is not None:
            for _ in range(2):
                started = time.perf_counter()
                theirs()
                times["theirs"].append(time.perf_counter() - started)
    return statistics.median(times["ours"]), statistics.median(times["theirs"])


class SealStep:
    """SEAL's FM-index of the same documents, and its work in one step."""

    def __init__(self, checkout: Path, tokens_E: Any, starts_T: Any) -> None:
        """Imports the checkout's index module alone and builds the index."""
        package = types.ModuleType("seal")
        package.__path__ = [str(checkout / "seal")]
        sys.modules["seal"] = package
        module = importlib.import_module("seal.index")
        self.index = module.FMIndex()
        # An end token of its own keeps n-grams inside documents.
        end = VOCABULARY
        self.index.initialize(
            [*tokens_E[a:b].tolist(), end] for a, b in itertools.pairwise(starts_T)
        )

    def step(
        self, grams: list[list[int]], logits_BMV: Any, score_BM: Any
    ) -> Callable[[], Any]:
        """One step: interval and count of each beam, mask, softmax, selection."""
        torch = importlib.import_module("torch")
        logits = torch.from_numpy(logits_BMV.reshape(-1, VOCABULARY))
        scores = torch.from_numpy(score_BM.reshape(-1, 1))

        def run() -> Any:
            logp = torch.log_softmax(logits, dim=-1)
            mask = torch.full_like(logp, float("-inf"))
            lows, highs = [], []
            for gram in grams:
                low, high = self.index.get_range(gram)
                self.index.get_count(gram[:-1])
                lows.append(low)
                highs.append(high)
            found = self.index.get_distinct_count_multi(lows, highs)
            for row, (distinct, _) in enumerate(found):
                legal = [token for token in distinct if token < VOCABULARY]
                mask[row, torch.LongTensor(legal)] = 0.0
            total = (logp + mask + scores).view(QUERIES, -1)
            best, _ = torch.topk(total, COUNT, dim=1)
            return best.numpy()

        return run


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
