"""Verb `corpus`: imports, checks and samples collections."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import cli

if TYPE_CHECKING:
    from gr_jax.core import artifacts
    from gr_jax.data import question_files, tfds_collection

SUMMARY = "import, check or sample a collection"
FORMATS = ("beir", "msmarco", "dpr", "trec")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument("action", choices=("import", "check", "sample"))
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="builtin:NAME, tfds:NAME[/CONFIG] or a BEIR folder",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--documents", type=int, help="how many documents to keep")
    parser.add_argument("--seed", type=int, default=0, help="of what is chosen")
    parser.add_argument(
        "--lenient", action="store_true", help="count and skip faulty lines"
    )
    files = parser.add_argument_group("import of other layouts, file by file")
    files.add_argument("--format", choices=FORMATS, help="layout of the files below")
    files.add_argument("--name", help="name of the collection (default: of --out)")
    files.add_argument("--corpus", type=Path, metavar="FILE", help="the documents")
    files.add_argument(
        "--queries",
        action="append",
        default=[],
        metavar="SPLIT=FILE",
        help="queries of a split; repeatable; DPR's .csv files give answers",
    )
    files.add_argument(
        "--qrels",
        action="append",
        default=[],
        metavar="SPLIT=FILE",
        help="judgements of a split, in TREC's columns (BEIR's for beir)",
    )
    tfds = parser.add_argument_group(
        "import of tfds:NAME, prepared on this machine (or by --gin_file=data/tfds.gin)"
    )
    tfds.add_argument("--data-dir", metavar="DIR", help="folder of prepared datasets")
    tfds.add_argument(
        "--manual-dir",
        metavar="DIR",
        help="your files of dpr_nq, dpr_triviaqa, triviaqa_unfiltered or "
        "msmarco_passage, to prepare it from",
    )
    tfds.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="a split and the dataset's name of it; repeatable",
    )
    tfds.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="query, query_id, answers, document_ids, grades, and where rows hold "
        "documents document_id, title, text, and the dataset's field; repeatable",
    )
    tfds.add_argument(
        "--passages", metavar="NAME", help="another dataset that holds the documents"
    )


def run(args: argparse.Namespace) -> int:
    """Does what the flags say, and prints the collection's counts."""
    from gr_jax.core import errors

    if args.action != "check" and args.out is None:
        raise errors.UsageError(f"corpus {args.action}: --out: missing: give a folder")
    if (args.source is None) == (args.format is None):
        raise errors.UsageError("corpus: give a SOURCE, or --format with --corpus")
    if args.dry_run:
        print(f"would {args.action} {args.source or args.corpus} to {args.out}")
        return 0
    if args.action == "check":
        facts = _check(args)
    elif args.source is not None and args.source.startswith("tfds:"):
        facts = _import_tfds(args).facts
    elif args.format is not None:
        facts = _import_files(args).facts
    else:
        facts = _make(args).facts
    print(json.dumps(facts, indent=None if args.json else 2, ensure_ascii=False))
    return 0


def _collection(args: argparse.Namespace) -> Any:
    from gr_jax.data import builtin, corpus

    if args.source.startswith(builtin.PREFIX):
        wanted = None if args.action == "sample" else args.documents
        return builtin.make(args.source, seed=args.seed, documents=wanted)
    return corpus.read_collection(Path(args.source), lenient=args.lenient)


def _check(args: argparse.Namespace) -> dict[str, Any]:
    from gr_jax.data import judgements

    collection = _collection(args)
    return {
        "name": collection.name,
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "splits": judgements.counts(collection.qrels),
        **collection.facts,
    }


def _make(args: argparse.Namespace) -> artifacts.Manifest:
    from gr_jax.core import errors
    from gr_jax.data import builtin, corpus, sampling, synthetic

    config = {"source": args.source, "documents": args.documents}
    is_synthetic = args.source == f"{builtin.PREFIX}{synthetic.NAME}"
    if is_synthetic and args.action == "import":
        world = synthetic.World(args.documents or 1000, args.seed)
        return synthetic.write(args.out, world, config=config)
    collection = _collection(args)
    if args.action == "sample":
        if args.documents is None:
            raise errors.UsageError("corpus sample: --documents: missing: say how many")
        collection = sampling.sample(collection, args.documents, seed=args.seed)
    return corpus.write_collection(
        args.out, collection, config=config, seeds={"collection": args.seed}
    )


def _by_name(words: list[str], flag: str, form: str = "SPLIT=FILE") -> dict[str, str]:
    from gr_jax.core import errors

    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value) or name in found:
            raise errors.UsageError(f"{flag}: {word!r}: write {form}, each once")
        found[name] = value
    return found


def _tfds_source(args: argparse.Namespace) -> tfds_collection.Source:
    from gr_jax.data import tfds_collection, tfds_reading
    from tools import configure

    configure.load_args(args)
    given: dict[str, Any] = {
        "dataset": tfds_reading.Dataset(
            name=args.source.removeprefix(tfds_reading.PREFIX),
            data_dir=args.data_dir,
            manual_dir=args.manual_dir,
        )
    }
    for name, words in (("splits", args.split), ("fields", args.field)):
        if words:
            given[name] = _by_name(words, f"--{name[:-1]}", "OURS=THEIRS")
    if args.passages:
        given["documents"] = args.passages
    return configure.build(tfds_collection.Source, **given)


def _import_tfds(args: argparse.Namespace) -> artifacts.Manifest:
    from gr_jax.core import errors
    from gr_jax.data import tfds_collection

    if args.action != "import":
        remedy = "import it first"
        raise errors.UsageError(
            errors.fault("corpus", args.action, args.source, remedy)
        )
    source = _tfds_source(args)
    return tfds_collection.write(args.out, source, name=args.name, lenient=args.lenient)


def _import_files(args: argparse.Namespace) -> artifacts.Manifest:
    from gr_jax.core import errors
    from gr_jax.data import formats, reading

    if args.corpus is None:
        raise errors.UsageError("corpus import: --corpus: missing: name the documents")
    tally = reading.Tally(lenient=args.lenient)
    splits: dict[str, question_files.Queries] = {
        split: formats.read_queries(args.format, Path(path), tally)
        for split, path in _by_name(args.queries, "--queries").items()
    }
    layout = "beir" if args.format == "beir" else "trec"
    for split, path in _by_name(args.qrels, "--qrels").items():
        if split not in splits:
            raise errors.UsageError(f"--qrels: {split}: give --queries {split}= too")
        splits[split].qrels.update(formats.QRELS[layout](Path(path), tally))
    files = [args.corpus, *args.queries, *args.qrels]
    return formats.write(
        args.out,
        args.name or args.out.name,
        formats.DOCUMENTS[args.format](args.corpus, tally),
        splits,
        tally=tally,
        config={"format": args.format, "files": [str(file) for file in files]},
    )


if __name__ == "__main__":
    raise SystemExit(cli.main(["corpus", *sys.argv[1:]]))
