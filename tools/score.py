"""Verb `score`: teacher-forced losses of (query, document, identifier)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tools import cli

SUMMARY = "teacher-forced loss of relevant and of drawn documents' identifiers"
_KIND = "losses"
_SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    for name, what in (
        ("model", "folder of a training run, or a cell of a study"),
        ("collection", "BEIR folder"),
        ("vocabulary", "the vocabulary that spelled the identifiers"),
        ("identifiers", "identifier table"),
        ("out", "where losses.jsonl goes"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, required=True, metavar="DIR", help=what
        )
    parser.add_argument("--split", default="test", help="queries to score")
    parser.add_argument(
        "--queries", type=int, metavar="N", help="score so many of them"
    )
    parser.add_argument(
        "--negatives", type=Path, metavar="DIR", help="stored draw; or draw --count"
    )
    parser.add_argument("--count", type=int, default=256, help="negatives a query")
    parser.add_argument(
        "--spans", type=int, default=10, help="n-grams of a (query, document)"
    )
    parser.add_argument(
        "--max-length", type=int, default=10, help="tokens of an n-gram"
    )
    parser.add_argument("--seed", type=int, default=0, help="of negatives and n-grams")
    parser.add_argument(
        "--memory-mb", type=int, default=256, help="memory for the logits of one pass"
    )


def run(args: argparse.Namespace) -> int:
    """Scores and writes one record an identifier."""
    from gr_jax.core import errors

    for name in ("count", "spans", "max_length", "memory_mb"):
        if getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise errors.UsageError(f"--{flag}: {getattr(args, name)}: at least 1")
    if args.dry_run:
        print(f"would score the {args.split} queries of {args.collection}")
        return 0
    facts = _run(args)
    lines = [f"{name:12s} {value}" for name, value in facts.items()]
    print(json.dumps(facts) if args.json else "\n".join(lines))
    return 0


def _run(args: argparse.Namespace) -> dict[str, Any]:
    from gr_jax.core import artifacts
    from gr_jax.data import corpus, vocabulary
    from gr_jax.identifiers import codec
    from gr_jax.score import likelihood
    from gr_jax.study import scored
    from tools import progress_bars

    words = vocabulary.load(args.vocabulary)
    table = codec.load(args.identifiers)
    table.require_vocabulary(words.fingerprint)
    collection = corpus.read_collection(args.collection, [args.split])
    model, params = _model(args.model)
    relevant = _relevant(collection, args)
    draw = _negatives(collection, relevant, args)
    with artifacts.staged(args.out) as folder:
        scored.make(
            folder / "scored",
            collection=collection,
            relevant=relevant,
            negatives=draw,
            table=table,
            vocabulary=words,
            spans=args.spans,
            max_length=args.max_length,
            seed=args.seed,
        )
        rows = scored.load(folder / "scored")
        texts = [collection.queries[query].text for query in rows.queries]
        nats = likelihood.identifier_nats(
            model,
            params,
            words.encode_sources(texts),
            rows.identifiers_by_query(),
            logit_bytes=args.memory_mb << 20,
            progress=progress_bars.bars(args),
        )
        artifacts.write_jsonl(folder / "losses.jsonl", _records(rows, nats, table.kind))
        facts = {
            "queries": len(rows.queries),
            "identifiers": len(rows.query_E),
            "tokens": int(sum(counts.sum() for counts in nats.tokens)),
            "nats": float(sum(sums.sum() for sums in nats.nll_sum)),
            "losses": str(args.out / "losses.jsonl"),
        }
        artifacts.write_manifest(
            folder,
            kind=_KIND,
            schema_version=_SCHEMA,
            config={"split": args.split, "spans": args.spans, "count": args.count},
            seeds={"score": args.seed},
            inputs={"identifiers": artifacts.digest_of(args.identifiers)},
            facts={name: facts[name] for name in ("queries", "identifiers", "tokens")},
        )
    return facts


def _relevant(collection: Any, args: argparse.Namespace) -> dict[str, set[str]]:
    from gr_jax.core import errors, randomness

    known = {document.id for document in collection.documents}
    relevant = {
        query: found
        for query, documents in collection.relevant(args.split).items()
        if (found := documents & known)
    }
    if not relevant:
        raise errors.InputError(
            f"{args.collection}: {args.split}: no relevant document"
        )
    ranked = sorted(relevant, key=lambda q: randomness.rank_of(args.seed, "queries", q))
    return {query: relevant[query] for query in sorted(ranked[: args.queries])}


def _negatives(
    collection: Any, relevant: dict[str, set[str]], args: argparse.Namespace
) -> dict[str, list[str]]:
    from gr_jax.core import errors
    from gr_jax.data import negatives

    if args.negatives is None:
        ids = [document.id for document in collection.documents]
        return negatives.draw(relevant, ids, relevant, count=args.count, seed=args.seed)
    stored = negatives.load(args.negatives)
    missing = sorted(set(relevant) - set(stored))
    if missing:
        raise errors.ArtifactError(
            errors.fault(args.negatives, "query", missing[0], "was not drawn for")
        )
    return {query: stored[query] for query in relevant}


def _records(rows: Any, nats: Any, kind: str) -> list[dict[str, Any]]:
    import numpy as np

    from gr_jax.core import records

    sums = np.concatenate(nats.nll_sum).tolist()
    tokens = np.concatenate(nats.tokens).tolist()
    number: dict[tuple[int, int], int] = {}
    found: list[dict[str, Any]] = []
    columns = (rows.query_E, rows.document_E, rows.is_positive_E)
    for place, (query, document, positive) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        n = number.get((query, document), 0)
        number[query, document] = n + 1
        record = records.LossRecord(
            query=rows.queries[query],
            document=rows.documents[document],
            is_positive=positive,
            identifier_kind=kind,
            n=n,
            nll_sum_nats=sums[place],
            target_tokens=tokens[place],
        )
        found.append(dataclasses.asdict(record))
    return found


def _model(folder: Path) -> tuple[Any, Any]:
    """The model of a run's newest checkpoint, and its parameters."""
    from gr_jax.model import families
    from gr_jax.train import saved

    found = saved.find(folder)
    return families.build(found.config), found.params()


if __name__ == "__main__":
    raise SystemExit(cli.main(["score", *sys.argv[1:]]))
