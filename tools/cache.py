"""Verb `cache`: training pairs, tokenised copies of their SeqIO tasks, arrays."""

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
        "--pairs",
        type=Path,
        metavar="DIR",
        help="folder of pairs; made first if --collection is given",
    )
    parser.add_argument(
        "--vocabulary", type=Path, required=True, metavar="DIR", help="of the sources"
    )
    making = parser.add_argument_group("pairs, made while the documents stream by")
    making.add_argument(
        "--collection", type=Path, metavar="DIR", help="BEIR folder of the documents"
    )
    making.add_argument(
        "--identifiers", type=Path, metavar="DIR", help="table that `gr-jax ids` wrote"
    )
    making.add_argument(
        "--shards", type=int, default=1, help="files a kind: what Beam works on"
    )
    tfds = parser.add_argument_group("or two text fields of a TensorFlow dataset")
    tfds.add_argument("--tfds", metavar="NAME", help="NAME[/CONFIG[:VERSION]]")
    tfds.add_argument("--data-dir", metavar="DIR", help="folder of prepared datasets")
    tfds.add_argument(
        "--manual-dir", metavar="DIR", help="your files, for datasets of our own"
    )
    tfds.add_argument("--split", default="train", help="of the dataset")
    tfds.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="inputs, targets, query_id and the dataset's field; repeatable",
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

    if (args.pairs is None) == (args.tfds is None):
        raise errors.UsageError("cache: give --pairs or --tfds")
    if (args.collection is None) != (args.identifiers is None):
        raise errors.UsageError("cache: --collection and --identifiers go together")
    wanted = (args.cache_dir, args.export, args.collection)
    if all(where is None for where in wanted):
        raise errors.UsageError("cache: give --cache-dir, --export or both")
    if args.beam is not None and args.cache_dir is None:
        raise errors.UsageError("cache: --beam: needs --cache-dir")
    if args.tfds is not None and (args.export is None or args.cache_dir is not None):
        raise errors.UsageError("cache: --tfds: give --export, and no --cache-dir")
    if args.dry_run:
        print(f"would write {args.task} of {args.pairs or args.tfds}")
        return 0
    done = _export_tfds(args) if args.tfds is not None else _run(args)
    print(json.dumps(done, indent=None if args.json else 2))
    return 0


def _make_pairs(args: argparse.Namespace) -> None:
    from gr_jax.core import artifacts
    from gr_jax.data import pairs, vocabulary
    from gr_jax.identifiers import codec, training_pairs
    from tools import configure

    configure.load_args(args)
    spans = configure.build(training_pairs.Spans)
    table = codec.load(args.identifiers)
    words = vocabulary.load(args.vocabulary)
    pairs.save(
        args.pairs,
        training_pairs.stream(
            args.collection,
            table,
            words,
            spans=spans,
            queries=args.task in ("query", "both"),
            documents=args.task in ("document", "both"),
        ),
        collection=args.collection.resolve().name,
        identifiers=table.kind,
        target_vocabulary=table.vocabulary_size,
        shards=args.shards,
        seeds={"spans": spans.seed},
        inputs={
            "vocabulary": words.fingerprint,
            "identifiers": artifacts.digest_of(args.identifiers),
        },
    )


def _export_tfds(args: argparse.Namespace) -> dict[str, Any]:
    from gr_jax.core import artifacts, errors
    from gr_jax.data import task_builder, tfds_reading, tfds_task

    fields = dict(word.partition("=")[::2] for word in args.field)
    if not all(fields.values()):
        raise errors.UsageError("cache: --field: write OURS=THEIRS")
    dataset = tfds_reading.Dataset(
        name=args.tfds, data_dir=args.data_dir, manual_dir=args.manual_dir
    )
    task = tfds_task.build(
        "tfds_export",
        dataset,
        args.vocabulary,
        fields=fields,
        splits={"train": args.split},
    )
    task_builder.export(
        task,
        args.export,
        source_length=args.source_length,
        reporter=progress_bars.bars(args),
    )
    facts = artifacts.read_manifest(args.export, verify="none").facts
    return {"exported": {"folder": str(args.export), **facts}}


def _run(args: argparse.Namespace) -> dict[str, Any]:
    import seqio

    from gr_jax.core import artifacts, errors
    from gr_jax.data import caching, pairs, task_builder
    from tasks import collection

    if args.collection is not None and not args.pairs.is_dir():
        _make_pairs(args)
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
