"""A catalogue of 10^8 identifiers: built, searched and checked row by row.

Run by `decode` in a process of its own, whose peak memory is then that of this alone;
answers with one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import resource
import time
from typing import Any

import numpy as np

from gr_jax.testing import hash_model

ITEMS, VOCABULARY, LENGTH, BEAMS = 100_000_000, 2048, 8, 10
SOURCES = np.array([[3, 4, 0], [5, 6, 7], [9, 0, 0], [2, 2, 2]], np.int32)


def main() -> int:
    """Prints ``{"bytes", "build_s", "peak_gib", "checked"}``."""
    from gr_jax.decode import prefix_tree, session
    from gr_jax.identifiers import constraint_index
    from tools.bench import decode as bench

    rows_NL = bench.catalogue(ITEMS, VOCABULARY, is_skewed=False, length=LENGTH)
    began = time.perf_counter()
    tree = constraint_index.build_matrix(rows_NL, VOCABULARY)
    answer = {"build_s": time.perf_counter() - began}
    answer["bytes"] = tree.device_bytes / tree.rows
    model: Any = hash_model.HashModel(VOCABULARY)
    constraint = prefix_tree.PrefixTreeConstraint.of(tree)
    decoder = session.DecodeSession(model, {}, constraint, beams=BEAMS)
    found = decoder.decode([row[row > 0].tolist() for row in SOURCES])
    for source, each in zip(SOURCES.tolist(), found, strict=True):
        want = plain_search(model, source, rows_NL)
        got = [tuple(row) for row in each.identifiers()]
        if got != [row for row, _ in want]:
            raise SystemExit("the search differs from a plain one over the rows")
        nats = [score for _, score in want]
        np.testing.assert_allclose(each.logprob_M, nats, rtol=1e-5)
    answer["checked"] = sum(len(each.identifiers()) for each in found)
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer["peak_gib"] = kibibytes / (1 << 20)
    print(json.dumps(answer))
    return 0


def plain_search(
    model: hash_model.HashModel, source: list[int], rows_NL: np.ndarray
) -> list[tuple[tuple[int, ...], float]]:
    """Beam search over the sorted rows themselves, in float64."""
    live = [((), 0.0, 0, len(rows_NL))]
    for depth in range(LENGTH):
        after = []
        for prefix, score, low, high in live:
            nats = model.next_nats(source, prefix)
            column = rows_NL[low:high, depth]
            first = np.flatnonzero(np.diff(column)) + 1
            first = np.concatenate([[0], first, [high - low]])
            for start, end in itertools.pairwise(first):
                token = int(column[start])
                total = score + float(nats[token])
                after.append(((*prefix, token), total, low + start, low + end))
        after.sort(key=lambda entry: -entry[1])
        live = after[:BEAMS]
    return [(prefix, score) for prefix, score, _, _ in live]


if __name__ == "__main__":
    raise SystemExit(main())
