"""Verb `index`: the constraint index of an identifier table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tools import cli

SUMMARY = "build the constraint index of identifiers: prefix tree or substrings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--identifiers",
        type=Path,
        required=True,
        metavar="DIR",
        help="identifier table; its kind decides which index is built",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the index goes"
    )
    parser.add_argument(
        "--capacity",
        type=int,
        default=0,
        metavar="ROWS",
        help="tree: leave room for so many rows, so that a grown catalogue needs no "
        "compilation",
    )
    parser.add_argument(
        "--shards", type=int, default=1, help="substrings: parts, by document"
    )
    parser.add_argument(
        "--compact",
        action="store_true",
        help="substrings: wavelet matrix, at most 21 bits a token, slower",
    )


def run(args: argparse.Namespace) -> int:
    """Builds and writes the index; says how large it is."""
    from gr_jax.core import errors
    from gr_jax.identifiers import codec

    if args.shards < 1 or args.capacity < 0:
        raise errors.UsageError(
            f"index: --shards {args.shards}, --capacity {args.capacity}: give at least "
            "1 and 0"
        )
    table = codec.load(args.identifiers)
    if args.dry_run:
        rows = len(table.row_document_R)
        structure = "substring index" if table.is_substring else "prefix tree"
        print(f"would build a {structure} of {rows} rows, {len(table.tokens_E)} tokens")
        return 0
    begun = time.monotonic()
    facts = _substrings(args, table) if table.is_substring else _tree(args, table)
    facts["wall_s"] = round(time.monotonic() - begun, 3)
    facts["index"] = str(args.out)
    lines = [f"{name:16s} {value}" for name, value in facts.items()]
    print(json.dumps(facts) if args.json else "\n".join(lines))
    return 0


def _tree(args: argparse.Namespace, table: Any) -> dict[str, Any]:
    from gr_jax.core import artifacts
    from gr_jax.identifiers import constraint_index

    tree = constraint_index.build(table, capacity=args.capacity)
    tree.save(
        args.out,
        config={"capacity": args.capacity},
        inputs={"identifiers": artifacts.digest_of(args.identifiers)},
    )
    return tree.facts()


def _substrings(args: argparse.Namespace, table: Any) -> dict[str, Any]:
    from gr_jax.core import artifacts
    from gr_jax.identifiers import substring_index
    from tools import progress_bars

    index = substring_index.build(
        table.tokens_E,
        table.row_starts_T,
        vocabulary_size=table.vocabulary_size,
        shards=args.shards,
        is_compact=args.compact,
        report=progress_bars.bars(args),
    )
    index.save(args.out)
    return dict(artifacts.read_manifest(args.out, verify="none").facts)


if __name__ == "__main__":
    raise SystemExit(cli.main(["index", *sys.argv[1:]]))
