"""Verb `ids`: builds the identifiers of a collection, or says what a table is like."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tools import cli

SUMMARY = "build identifiers of a kind; `ids inspect`: collisions, entropy, lengths"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "action", nargs="?", choices=("build", "inspect"), default="build"
    )
    parser.add_argument("table", nargs="?", type=Path, help="table to inspect")
    parser.add_argument(
        "--collection", type=Path, metavar="DIR", help="BEIR folder of the documents"
    )
    parser.add_argument("--vocabulary", type=Path, metavar="DIR")
    parser.add_argument(
        "--kind", help="ngram, rq, kmeans, atomic, naive, title or pseudo_query"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of the kind, such as levels=4; repeatable",
    )
    parser.add_argument("--seed", type=int, help="of embeddings and clusters")
    parser.add_argument(
        "--queries",
        metavar="SPLIT",
        help="read the queries of this split, never one to be evaluated, as further "
        "text of their documents",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the table goes")


def run(args: argparse.Namespace) -> int:
    """Builds or inspects."""
    from gr_jax.core import errors
    from gr_jax.identifiers import codec, inspection

    if args.action == "inspect":
        if args.table is None:
            raise errors.UsageError("ids inspect: no table: name its folder")
        found = inspection.inspect(codec.load(args.table))
    else:
        for name in ("collection", "vocabulary", "out"):
            if getattr(args, name) is None:
                raise errors.UsageError(f"ids: --{name}: missing: give a folder")
        choice = _choice(args)
        if args.dry_run:
            print(f"would build {choice.kind} identifiers of {args.collection}")
            return 0
        found = inspection.inspect(_built(args, choice))
    value = dataclasses.asdict(found)
    print(json.dumps(value) if args.json else inspection.readable(found))
    return 0


def _choice(args: argparse.Namespace) -> Any:
    from gr_jax.core import errors
    from gr_jax.identifiers import kinds
    from tools import configure

    configure.load_args(args, default="run/ids.gin")
    choice = configure.build(kinds.Choice)
    options = dict(choice.options)
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise errors.UsageError(f"--option: {text!r}: write NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    given = {"kind": args.kind, "seed": args.seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(choice, options=options, **chosen)


def _built(args: argparse.Namespace, choice: Any) -> Any:
    from gr_jax.core import artifacts
    from gr_jax.data import corpus, vocabulary
    from gr_jax.identifiers import kinds

    splits = None if args.queries is None else [args.queries]
    collection = corpus.read_collection(args.collection, splits)
    words = vocabulary.load(args.vocabulary)
    asked: dict[str, list[str]] = {}
    if args.queries is not None:
        for query, documents in collection.relevant(args.queries).items():
            for document in sorted(documents):
                asked.setdefault(document, []).append(collection.queries[query].text)
    table = kinds.build(
        collection.documents,
        words,
        kind=choice.kind,
        seed=choice.seed,
        queries_of=asked or None,
        options=choice.options,
        builder=choice.builder,
    )
    inputs = {"vocabulary": artifacts.digest_of(args.vocabulary)}
    for path in sorted(args.collection.glob("corpus.jsonl*")):
        inputs[path.name] = artifacts.sha256_file(path)
    table.save(
        args.out,
        config={
            "kind": table.kind,
            "options": dict(choice.options),
            "queries": args.queries,
        },
        seeds={"identifiers": choice.seed},
        inputs=inputs,
    )
    return table


if __name__ == "__main__":
    raise SystemExit(cli.main(["ids", *sys.argv[1:]]))
