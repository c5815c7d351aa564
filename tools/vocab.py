"""Verb `vocab`: trains or imports a SentencePiece vocabulary."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tools import cli

SUMMARY = "train a SentencePiece vocabulary on a collection, or import one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--collection", type=Path, metavar="DIR", help="BEIR folder to learn from"
    )
    parser.add_argument(
        "--import", dest="model", type=Path, metavar="FILE", help="take this model"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pieces", type=int, help="how many ids (default: 4096)")
    parser.add_argument("--seed", type=int, default=0, help="of the text sample")


def _texts(folder: Path) -> Iterator[str]:
    """Documents and train queries: nothing a model is tested on."""
    from gr_jax.data import corpus

    splits = [split for split in corpus.splits_of(folder) if split == "train"]
    collection = corpus.read_collection(folder, splits)
    for document in collection.documents:
        yield f"{document.title} {document.text}"
    for query in collection.qrels.get("train", {}):
        yield collection.queries[query].text


def run(args: argparse.Namespace) -> int:
    """Makes the vocabulary that the flags name, and prints what it is."""
    from gr_jax.core import artifacts, errors
    from gr_jax.data import vocabulary
    from tools import configure

    if (args.collection is None) == (args.model is None):
        raise errors.UsageError("vocab: give either --collection or --import")
    if args.dry_run:
        print(f"would make {args.out} from {args.collection or args.model}")
        return 0
    if args.model is not None:
        made = vocabulary.adopt(args.model, args.out)
    else:
        configure.load_args(args)
        given = {} if args.pieces is None else {"pieces": args.pieces}
        made = configure.build(
            vocabulary.train,  # type: ignore[arg-type]
            texts=_texts(args.collection),
            folder=args.out,
            seed=args.seed,
            **given,
        )
    manifest = artifacts.read_manifest(args.out)
    facts = {"fingerprint": made.fingerprint, **manifest.facts}
    print(json.dumps(facts, indent=None if args.json else 2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.main(["vocab", *sys.argv[1:]]))
