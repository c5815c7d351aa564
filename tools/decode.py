"""Verb `decode`: constrained beam search over the queries of a collection."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tools import cli

SUMMARY = "constrained beam search over queries: identifiers, documents, a TREC run"
_KIND = "beams"
_SCHEMA = 1
_OPTIONS = ("length_penalty", "groups", "diversity", "temperature", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    for name, what in (
        ("model", "folder of a training run, or a cell of a study"),
        ("collection", "BEIR folder with the queries"),
        ("vocabulary", "the vocabulary that spelled the identifiers"),
        ("identifiers", "identifier table"),
        ("index", "constraint index of the table"),
        ("out", "where beams.jsonl and run.trec go"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, required=True, metavar="DIR", help=what
        )
    parser.add_argument("--split", default="test", help="queries to decode")
    parser.add_argument("--queries", type=int, metavar="N", help="decode so many")
    parser.add_argument("--beam", type=int, default=10, help="results a query")
    parser.add_argument("--batch", type=int, default=16, help="queries at a time")
    parser.add_argument(
        "--max-length", type=int, default=10, help="tokens of an n-gram"
    )
    parser.add_argument(
        "--views",
        default="body",
        metavar="LIST",
        help="n-grams: what is searched and counts, such as body+title*2+unigrams",
    )
    parser.add_argument("--length-penalty", type=float, default=0.0)
    parser.add_argument("--groups", type=int, default=1, help="diverse beam search")
    parser.add_argument("--diversity", type=float, default=0.0, metavar="NATS")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="draw samples instead"
    )
    parser.add_argument("--seed", type=int, default=0, help="of samples")
    parser.add_argument(
        "-k", type=int, default=100, help="documents of a query in the run"
    )


def run(args: argparse.Namespace) -> int:
    """Decodes and writes beams and run."""
    from gr_jax.core import errors

    for name in ("beam", "batch", "max_length", "k"):
        if getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise errors.UsageError(f"--{flag}: {getattr(args, name)}: at least 1")
    if args.dry_run:
        print(f"would decode the {args.split} queries of {args.collection}")
        return 0
    facts = _run(args)
    lines = [f"{name:14s} {value}" for name, value in facts.items()]
    print(json.dumps(facts) if args.json else "\n".join(lines))
    return 0


def _run(args: argparse.Namespace) -> dict[str, Any]:
    from gr_jax.core import artifacts
    from gr_jax.data import corpus, vocabulary
    from gr_jax.evaluate import trec
    from gr_jax.identifiers import codec

    words = vocabulary.load(args.vocabulary)
    table = codec.load(args.identifiers)
    table.require_vocabulary(words.fingerprint)
    collection = corpus.read_collection(args.collection, [args.split])
    names = sorted(collection.qrels[args.split])[: args.queries]
    texts = [collection.queries[name].text for name in names]
    begun = time.monotonic()
    ranked = _ngrams if table.is_substring else _codes
    answered = ranked(args, table, words, texts)
    wall_s = time.monotonic() - begun
    with artifacts.staged(args.out) as folder:
        beams = [
            row
            for view, found in answered.found.items()
            for name, each in zip(names, found, strict=True)
            for row in _beams(name, view, each, words)
        ]
        artifacts.write_jsonl(folder / "beams.jsonl", beams)
        documents = zip(names, answered.documents, strict=True)
        trec.write_run(folder / "run.trec", {n: d[: args.k] for n, d in documents})
        facts = {
            "queries": len(names),
            "results": len(beams),
            "wall_s": round(wall_s, 3),
            "batch": answered.batch,
        }
        artifacts.write_manifest(
            folder,
            kind=_KIND,
            schema_version=_SCHEMA,
            config={"split": args.split, "beam": args.beam, "k": args.k}
            | {"max_length": answered.max_length, "views": args.views}
            | {name: getattr(args, name) for name in _OPTIONS},
            seeds={"decode": args.seed},
            inputs={
                name: artifacts.digest_of(getattr(args, name))
                for name in ("identifiers", "index", "vocabulary")
            },
            facts=facts,
        )
    return facts | {"out": str(args.out)}


class _Answered(NamedTuple):
    """What was found: by view, and as documents."""

    found: Mapping[str, list[Any]]
    documents: list[list[tuple[str, float]]]
    batch: int
    max_length: int


def _codes(
    args: argparse.Namespace, table: Any, words: Any, texts: list[str]
) -> _Answered:
    """Documents of the identifiers found, each at its best identifier's score."""
    from gr_jax.decode import prefix_tree, session
    from gr_jax.identifiers import constraint_index, views
    from tools import progress_bars, score

    views.require(table, args.views)
    index = constraint_index.load(args.index)
    model, params = score._model(args.model)
    decoder = session.DecodeSession(
        model,
        params,
        prefix_tree.PrefixTreeConstraint.of(index),
        beams=args.beam,
        batch=args.batch,
        options=session.Options(**{name: getattr(args, name) for name in _OPTIONS}),
    )
    found = decoder.decode(words.encode_sources(texts), progress_bars.bars(args))
    documents = _by_identifier(found, table, index)
    length = decoder.settings.max_length
    return _Answered({table.kind: found}, documents, decoder.batch, length)


def _ngrams(
    args: argparse.Namespace, table: Any, words: Any, texts: list[str]
) -> _Answered:
    """Documents ranked by all n-grams that the searches met."""
    from gr_jax.decode import session
    from gr_jax.identifiers import substring_index, views
    from gr_jax.score import evidence, gathering, rows
    from tools import progress_bars, score

    chosen = views.require(table, args.views)
    index = substring_index.load(args.index)
    model, params = score._model(args.model)
    gatherer = gathering.Gatherer(
        model,
        params,
        table,
        index,
        encode=words.encode_sources,
        batch=args.batch,
        options=session.Options(**{name: getattr(args, name) for name in _OPTIONS}),
    )
    found = gatherer.search(
        chosen,
        texts,
        beams=args.beam,
        max_length=args.max_length,
        keep_history=not args.temperature,
        progress=progress_bars.bars(args),
    )
    gathered = gatherer.keys(found, chosen)
    if views.UNIGRAMS in chosen:
        factor = chosen[views.UNIGRAMS].factor
        gathered = gatherer.with_unigrams(gathered, texts, factor)
    rankings = evidence.aggregate(gathered, rows.corpus_of(table), index)
    documents = [ranking.hits(table.document_ids) for ranking in rankings]
    return _Answered(found, documents, gatherer.batch, args.max_length)


def _beams(query: str, view: str, found: Any, words: Any) -> list[dict[str, Any]]:
    text_pieces = words.size
    return [
        {
            "query": query,
            "view": view,
            "rank": rank,
            "tokens": tokens,
            "text": words.decode([t for t in tokens if t < text_pieces]),
            "logprob": float(found.logprob_M[rank - 1]),
            "length": len(tokens),
            "rows": [
                int(found.item_lo_M[rank - 1]),
                int(found.item_hi_M[rank - 1]),
            ],
            "valid": True,
        }
        for rank, tokens in enumerate(found.identifiers(), start=1)
    ]


def _by_identifier(
    found: list[Any], table: Any, index: Any
) -> list[list[tuple[str, float]]]:
    """Documents of each query's identifiers, ties by document id."""
    runs: list[list[tuple[str, float]]] = []
    for each in found:
        documents: dict[str, float] = {}
        for place in range(each.found):
            rows = index.items(int(each.item_lo_M[place]), int(each.item_hi_M[place]))
            for row in rows.tolist():
                document = table.document_ids[table.row_document_R[row]]
                documents.setdefault(document, float(each.rank_M[place]))
        runs.append(sorted(documents.items(), key=lambda item: (-item[1], item[0])))
    return runs


if __name__ == "__main__":
    raise SystemExit(cli.main(["decode", *sys.argv[1:]]))
