"""Verb `cache`: tokenised copies of SeqIO tasks, and their examples as arrays."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from tools import cli, progress_bars

SUMMARY = "cache SeqIO tasks (on Apache Beam if asked), or export them to arrays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--pairs", type=Path, required=True, metavar="DIR", help="folder of pairs"
    )
    parser.add_argument(
        "--vocabulary", type=Path, required=True, metavar="DIR", help="of the sources"
    )
    parser.add_argument("--task", choices=("query", "document", "both"), default="both")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="nested share of the queries"
    )
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="write cached tasks below it"
    )
    parser.add_argument(
        "--beam",
        metavar="ARGUMENTS",
        help="run on Apache Beam with these pipeline arguments ('': its local runner)",
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="write arrays for machines without TF",
    )
    parser.add_argument(
        "--source-length", type=int, help="longest source of the export, end included"
    )


def run(args: argparse.Namespace) -> int:
    """Caches or exports, or both, and prints where."""
    from gr_jax.core import errors

    if args.cache_dir is None and args.export is None:
        raise errors.UsageError("cache: give --cache-dir, --export or both")
    if args.beam is not None and args.cache_dir is None:
        raise errors.UsageError("cache: --beam: needs --cache-dir")
    if args.dry_run:
        print(f"would write {args.task} of {args.pairs}")
        return 0
    done = _run(args)
    print(json.dumps(done, indent=None if args.json else 2))
    return 0


def _run(args: argparse.Namespace) -> dict[str, Any]:
    import seqio

    from gr_jax.core import artifacts, errors
    from gr_jax.data import caching, pairs, task_builder
    from tasks import collection

    content = task_builder.Content(args.pairs, args.vocabulary, args.fraction)
    kinds: list[pairs.Kind] = [
        kind
        for kind in pairs.KINDS
        if args.task in (kind, "both") and content.count(kind)
    ]
    if not kinds:
        raise errors.ArtifactError(f"{args.pairs}: {args.task} pairs: 0: make some")
    reporter = progress_bars.bars(args)
    done: dict[str, Any] = {"content": content.digest}
    if args.cache_dir is not None:
        beam = None if args.beam is None else shlex.split(args.beam)
        done["cached"] = [
            str(
                caching.cache(
                    content, kind, args.cache_dir, beam=beam, reporter=reporter
                )
            )
            for kind in kinds
        ]
    if args.export is not None:
        names = collection.register(
            args.pairs,
            args.vocabulary,
            fraction=args.fraction,
            cache_root=args.cache_dir,
        )
        task_builder.export(
            seqio.get_mixture_or_task(getattr(names, args.task)),
            args.export,
            source_length=args.source_length,
            use_cached=args.cache_dir is not None,
            inputs={"content": content.digest},
            reporter=reporter,
        )
        manifest = artifacts.read_manifest(args.export, verify="none")
        done["exported"] = {"folder": str(args.export), **manifest.facts}
    return done


if __name__ == "__main__":
    raise SystemExit(cli.main(["cache", *sys.argv[1:]]))
