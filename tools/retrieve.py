"""Verb `retrieve`: one query against a trained run, in readable form."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools import cli

SUMMARY = "answer one query with a trained run: rank, title, score, identifiers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument("query", help="what to look for")
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="a study (its largest trained run) or one of its cells",
    )
    parser.add_argument("--beam", type=int, default=10, help="beams (default 10)")
    parser.add_argument(
        "--views",
        metavar="LIST",
        help="n-grams: what is searched and counts, such as body+title*2+unigrams; "
        "default: as the run was decoded first",
    )
    parser.add_argument("-k", type=int, default=10, help="documents shown (default 10)")


def run(args: argparse.Namespace) -> int:
    """Prints the ranked documents of one query."""
    from gr_jax.core import errors
    from gr_jax.study import retriever

    if not args.query.strip():
        raise errors.UsageError("query: '': empty: say what to look for")
    folder = retriever.find_cell(args.run)
    if args.dry_run:
        print(f"would answer with {folder}")
        return 0
    opened = retriever.open_cell(folder)
    found = opened.retrieve(args.query, beam=args.beam, k=args.k, views=args.views)
    if args.json:
        print(json.dumps([hit.to_json() for hit in found], indent=2))
        return 0
    for hit in found:
        print(f"{hit.rank:3d}  {hit.score:10.4f}  {hit.document}  {hit.title}")
        for key in hit.keys:
            weight, text, view = key["weight"], key["text"], key["view"]
            mark = "" if view in ("", "body") else f"  ({view})"
            print(f"                 {weight:8.3f}  {text!r}{mark}")
    if not found:
        print("no document was reached: try a wider --beam")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.main(["retrieve", *sys.argv[1:]]))
