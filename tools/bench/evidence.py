"""Benchmark of evidence: plain Python against the array operations, same rankings.

``python -m tools.bench.evidence`` aggregates keys shaped like the history of a beam
search (30 keys a step, 9 steps, and 15 final beams) over a synthetic collection, with
both implementations in turn, and checks that documents and scores agree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

VOCABULARY = 32_000
STEPS, CANDIDATES, BEAMS = 9, 30, 15
GOAL = 100.0


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/evidence.json``."""
    parser = argparse.ArgumentParser(prog="bench-evidence", description=__doc__)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench/evidence.json"))
    args = parser.parse_args(argv)
    rows = measure(args.tokens, args.queries, args.rounds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print("  ".join(f"{key}={_shown(value)}" for key, value in row.items()))
    return 0 if all(row["holds"] for row in rows) else 1


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def keys_of_query(tokens_E: Any, starts_T: Any, seed: int) -> Any:
    """Keys like the history of one search: prefixes of spans of a few documents."""
    import numpy as np

    from gr_jax.core import randomness
    from gr_jax.score import keys

    rng = randomness.stream(seed, "bench evidence keys")
    documents = rng.integers(len(starts_T) - 1, size=10)
    spans = []
    for document in rng.choice(documents, size=CANDIDATES).tolist():
        begin, end = int(starts_T[document]), int(starts_T[document + 1])
        place = int(rng.integers(begin, end - STEPS))
        spans.append(tuple(tokens_E[place : place + STEPS].tolist()))
    made = [span[:length] for length in range(1, STEPS + 1) for span in spans]
    made += spans[:BEAMS]
    step = -rng.gamma(1.0, 0.6, size=len(made))
    logprob_K = step * np.array([len(key) for key in made])
    return keys.merged(keys.Keys(tokens=made, logprob_K=logprob_K))


def with_rows(query: Any, index: Any) -> Any:
    """The keys with their rows of the index, as the decoder hands them on."""
    import dataclasses

    lo_KZ, hi_KZ = index.find(query.tokens)
    return dataclasses.replace(query, lo_KZ=lo_KZ, hi_KZ=hi_KZ)


def measure(tokens: int, queries: int, rounds: int) -> list[dict[str, Any]]:
    """One row a setting: seconds a query of both, and their ratio."""
    import numpy as np

    from gr_jax.identifiers import substring_index
    from gr_jax.score import evidence, keys, rows
    from gr_jax.testing import evidence_oracle
    from tools.bench import ngram

    tokens_E, starts_T = ngram.text_like(tokens)
    documents = len(starts_T) - 1
    names = [f"d{place:08d}" for place in range(documents)]
    index = substring_index.build(tokens_E, starts_T, vocabulary_size=VOCABULARY)
    owner = np.arange(documents)
    corpus = rows.Corpus(tokens_E, starts_T, owner, names, VOCABULARY)

    def count(key: tuple[int, ...], at_start: bool) -> int:
        return len_of[key, at_start]

    def positions(key: tuple[int, ...], at_start: bool) -> list[int]:
        lo, hi = index.find([key], at_document_start=at_start)
        length = np.array([len(key)])
        return index.locate(lo, hi, length, limit=int((hi - lo).sum()))[0].tolist()

    plain = evidence_oracle.Aggregator(
        [row.tolist() for row in np.split(tokens_E, starts_T[1:-1])],
        owner.tolist(),
        names,
        count,
        positions,
    )
    asked = [keys_of_query(tokens_E, starts_T, seed) for seed in range(queries)]
    every = sorted({key for query in asked for key in query.tokens})
    counted = index.count(every).tolist()
    # Both are given what the decoder knows: how often each key occurs, and which rows.
    asked = [with_rows(query, index) for query in asked]
    len_of = {(key, False): n for key, n in zip(every, counted, strict=True)}
    made: list[dict[str, Any]] = []
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("all settings of the paper", {}),
        ("no frequent key", {"skip_count": 1500}),
    )
    for name, options in cases:
        settings = keys.Settings(**options)
        slow, fast = [], []
        for round_number in range(rounds):
            began = time.process_time()
            found = evidence.aggregate(asked, corpus, index, settings=settings)
            fast.append((time.process_time() - began) / queries)
            few = range(round_number, queries, max(1, queries // 4))
            began = time.process_time()
            expected = {
                q: plain.rank(asked[q].tokens, asked[q].logprob_K.tolist(), **options)
                for q in few
            }
            slow.append((time.process_time() - began) / len(few))
            for q, ranked in expected.items():
                _require_equal(found[q].hits(names), ranked)
        anchor, ours = statistics.median(slow), statistics.median(fast)
        made.append(
            {
                "measure": f"evidence, {name}, {tokens:.0e} tokens, s a query",
                "anchor": anchor,
                "ours": ours,
                "ratio": anchor / ours,
                "goal": GOAL,
                "holds": anchor / ours >= GOAL,
            }
        )
    return made


def _require_equal(
    found: list[tuple[str, float]], expected: list[tuple[str, float, Any]]
) -> None:
    names = [name for name, _ in found] == [name for name, _, _ in expected]
    worst = max(
        (abs(s / t - 1) for (_, s), (_, t, _) in zip(found, expected, strict=False)),
        default=0.0,
    )
    if not names or worst > 1e-9:
        raise SystemExit(f"rankings differ (scores by {worst:.1e})")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
