"""Benchmark of batches: real tokens a second, padded, by length, and packed.

``python -m tools.bench.batching`` trains one model of the ladder on the same examples
in each layout, in turn, host work included, and prints ratios to padded batches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_VOCABULARY = 4096
_SOURCE, _TARGET = 64, 8
_PACKED_SOURCE, _PACKED_TARGET = 256, 80


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/batching.json``."""
    parser = argparse.ArgumentParser(prog="bench-batching", description=__doc__)
    parser.add_argument("--case", default="t5:1m", help="family:size of the ladder")
    parser.add_argument("--examples", type=Path, help="arrays (default: of pydocs)")
    parser.add_argument("--batch", type=int, default=64, help="padded rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="steps a round")
    parser.add_argument("--out", type=Path, default=Path("build/bench/batching.json"))
    args = parser.parse_args(argv)
    rows = measure(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print("  ".join(f"{key}={_shown(value)}" for key, value in row.items()))
    return 0


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def examples_of_pydocs() -> Any:
    """Queries and passages of this Python's documentation with their n-grams."""
    from gr_jax.data import arrays, builtin, corpus, vocabulary
    from gr_jax.identifiers import codec, kinds, textual, training_pairs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collection = builtin.make("builtin:pydocs", seed=0, documents=1500)
        corpus.write_collection(folder / "c", collection)
        texts = [textual.indexed_text(document) for document in collection.documents]
        words = vocabulary.train(texts, folder / "v", pieces=_VOCABULARY, seed=0)
        table = kinds.build(collection.documents, words, kind=codec.NGRAM, seed=0)
        spans = training_pairs.Spans(of_query=2, max_length=_TARGET)
        pairs = training_pairs.stream(folder / "c", table, words, spans=spans)
        return arrays.from_pairs(pairs, words, source_length=_SOURCE)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a layout: real tokens a second, and what share of places they fill."""
    from gr_jax.data import arrays, batching

    examples = (
        examples_of_pydocs() if args.examples is None else arrays.load(args.examples)
    )
    plain = {"source_length": _SOURCE, "target_length": _TARGET}
    packed = {"source_length": _PACKED_SOURCE, "target_length": _PACKED_TARGET}
    area = args.batch * (_SOURCE + _TARGET)
    rows = max(1, round(area / (_PACKED_SOURCE + _PACKED_TARGET)))
    ways = {
        "padded": (batching.Layout(), {**plain, "batch": args.batch}),
        "buckets": (
            batching.Layout(buckets=(16, 32, 48, 64)),
            {**plain, "batch": args.batch},
        ),
        "packed": (batching.Layout(pack=True), {**packed, "batch": rows}),
    }
    runs = {
        name: _Run(args.case, examples, layout, asked)
        for name, (layout, asked) in ways.items()
    }
    found: dict[str, list[_Round]] = {name: [] for name in runs}
    for name, (layout, _) in ways.items():
        while runs[name].widths < max(1, len(layout.buckets)):
            runs[name].go(1)  # Compiles every width.
    for _ in range(args.rounds):
        for name, run in runs.items():
            found[name].append(run.go(args.steps))
    wall, cpu = (
        {
            name: statistics.median(one.tokens / getattr(one, clock) for one in rounds)
            for name, rounds in found.items()
        }
        for clock in ("wall_s", "cpu_s")
    )
    return [
        {
            "layout": name,
            "model": args.case,
            "real tokens/s": wall[name],
            "ratio": wall[name] / wall["padded"],
            # Of processor time, all threads: holds on a machine that others use too.
            "processor ratio": cpu[name] / cpu["padded"],
            "places filled": sum(r.tokens for r in rounds)
            / sum(r.places for r in rounds),
            "programs": runs[name].widths,
        }
        for name, rounds in found.items()
    ]


class _Round(NamedTuple):
    """Some steps: real tokens, places in the batches, and what they took."""

    tokens: int
    places: int
    wall_s: float
    cpu_s: float


class _Run:
    """Training in one layout that goes on from round to round."""

    def __init__(self, case: str, examples: Any, layout: Any, asked: dict[str, Any]):
        import jax
        import numpy as np

        from gr_jax.data import batching
        from gr_jax.model import families, ladder
        from gr_jax.sharding import mesh, rules
        from gr_jax.train import feed, optimizer, settings
        from gr_jax.train import step as steps

        family, size = case.split(":")
        config = ladder.build(family, size, vocab_size=_VOCABULARY)  # pyright: ignore
        training = settings.TrainSettings(steps=10_000)
        self._mesh = mesh.single_device()
        self._programs = steps.programs(
            families.build(config), training.for_step(), self._mesh, rules.DEFAULT, None
        )
        self._numbers = jax.device_put(
            {k: np.float32(v) for k, v in optimizer.schedule_numbers(training).items()}
        )
        self._seen = [0, 0]

        def batches(start: int) -> Iterator[Any]:
            for batch in batching.batches(
                examples, layout, seed=0, steps=10_000, start_step=start, **asked
            ):
                for name in feed.FIELDS:
                    self._seen[0] += int(np.count_nonzero(batch[name]))
                    self._seen[1] += batch[name].size
                self._widths.add(batch["source_BS"].shape)
                yield batch

        self._widths: set[tuple[int, ...]] = set()
        self._feed = feed.feed(batches, 0, self._programs.batch)
        with jax.set_mesh(self._mesh):
            params = self._programs.new_params(np.uint32(0))
            self._state = self._programs.new_state(params, np.uint32(0))

    @property
    def widths(self) -> int:
        """Shapes of batches met: programs compiled."""
        return len(self._widths)

    def go(self, count: int) -> _Round:
        """Trains on the next batches."""
        import jax

        self._seen[:] = [0, 0]
        begun, cpu = time.perf_counter(), time.process_time()
        with jax.set_mesh(self._mesh):
            for _ in range(count):
                batch, _ = next(self._feed)
                self._state, _ = self._programs.step(
                    self._state, None, batch, self._numbers
                )
            jax.block_until_ready(self._state.step)
        wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        return _Round(self._seen[0], self._seen[1], wall_s, cpu_s)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
