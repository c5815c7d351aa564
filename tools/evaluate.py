"""Verb `evaluate`: metrics of a run with intervals, and two runs against each other."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import cli

if TYPE_CHECKING:
    from gr_jax.core import records
    from gr_jax.evaluate import significance

SUMMARY = "metrics of a run or of losses, with intervals; --against: paired tests"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument("--run", type=Path, metavar="FILE", help="TREC run file")
    parser.add_argument(
        "--qrels", type=Path, metavar="FILE", help="judgements, TREC or BEIR"
    )
    parser.add_argument(
        "--losses", type=Path, metavar="FILE", help="losses.jsonl of a scored model"
    )
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="another run: paired tests"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write metrics.json, per_query.jsonl"
    )
    parser.add_argument(
        "--k", type=int, nargs="+", default=[1, 5, 10, 100], help="depths of recall"
    )
    parser.add_argument(
        "--min-rel", type=int, default=1, help="least grade that counts as relevant"
    )
    parser.add_argument(
        "--without-relevant",
        choices=("exclude", "zero"),
        default="exclude",
        help="queries that have no relevant document (default: exclude)",
    )
    parser.add_argument(
        "--compat", choices=("none", "slgr"), default="none", help="of --losses"
    )
    parser.add_argument(
        "--lenient", action="store_true", help="skip and count faulty lines"
    )
    parser.add_argument("--seed", type=int, default=0, help="of resampling")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap draws")


def run(args: argparse.Namespace) -> int:
    """Evaluates what the flags name."""
    from gr_jax.core import errors

    if (args.run is None) == (args.losses is None):
        raise errors.UsageError("evaluate: give either --run with --qrels, or --losses")
    if args.run is not None and args.qrels is None:
        raise errors.UsageError("--qrels: missing: a run is judged by judgements")
    if args.against is not None and args.run is None:
        raise errors.UsageError("--against: needs --run")
    if args.dry_run:
        print(f"would evaluate {args.run or args.losses}")
        return 0
    if args.losses is not None:
        return _losses(args)
    return _runs(args)


def _losses(args: argparse.Namespace) -> int:
    from gr_jax.core import artifacts, errors, records
    from gr_jax.evaluate import contrastive

    try:
        losses = [records.LossRecord(**r) for r in artifacts.read_jsonl(args.losses)]
    except TypeError as error:
        raise errors.ArtifactError(f"{args.losses}: {error}: score anew") from None
    measures, per_query = contrastive.evaluate(
        losses, seed=args.seed, resamples=args.resamples, compat=args.compat
    )
    facts = {"losses": str(args.losses), "compat": args.compat, "seed": args.seed}
    _show(args, measures, per_query, facts, [])
    return 0


def _runs(args: argparse.Namespace) -> int:
    from gr_jax.evaluate import metrics, significance, trec

    strict = not args.lenient
    judged = trec.read_qrels(args.qrels, strict=strict)

    def evaluate(path: Path) -> tuple[Any, Any, Any]:
        read = trec.read_run(path, strict=strict)
        coverage = metrics.coverage(read.run, judged.qrels)
        found, per_query = metrics.evaluate_run(
            read.run,
            judged.qrels,
            ks=args.k,
            min_grade=args.min_rel,
            without_relevant=args.without_relevant,
            seed=args.seed,
            resamples=args.resamples,
        )
        facts = {**dataclasses.asdict(coverage), "lines_skipped": read.skipped}
        return found, per_query, facts

    measures, per_query, facts = evaluate(args.run)
    facts |= {
        "run": str(args.run),
        "qrels": str(args.qrels),
        "min_grade": args.min_rel,
        "without_relevant": args.without_relevant,
        "seed": args.seed,
    }
    compared: list[significance.Comparison] = []
    if args.against is not None:
        _, other, _ = evaluate(args.against)
        compared = significance.compare(per_query, other, seed=args.seed)
    _show(args, measures, per_query, facts, compared)
    return 0


def _show(
    args: argparse.Namespace,
    measures: dict[str, records.Measure],
    per_query: dict[str, dict[str, float]],
    facts: dict[str, Any],
    compared: list[significance.Comparison],
) -> None:
    from gr_jax.evaluate import results

    if args.out is not None:
        results.write(args.out, measures, per_query, facts=facts)
    if args.json:
        value = {
            "metrics": {name: dataclasses.asdict(m) for name, m in measures.items()},
            "facts": facts,
            "against": [dataclasses.asdict(c) for c in compared],
        }
        print(json.dumps(value, indent=2, ensure_ascii=False))
        return
    for name, m in measures.items():
        print(f"{name:22s} {m.value:10.6f}  [{m.low:.6f}, {m.high:.6f}]  n={m.n}")
    for name, value in facts.items():
        print(f"# {name}: {value}")
    for c in compared:
        print(
            f"{c.metric:22s} {c.difference.value:+10.6f}  "
            f"[{c.difference.low:+.6f}, {c.difference.high:+.6f}]  "
            f"wins {c.wins}  losses {c.losses}  ties {c.ties}  "
            f"p {c.p_randomisation:.4g} (Holm {c.p_holm:.4g}, t {c.p_t_test:.4g})"
        )


if __name__ == "__main__":
    raise SystemExit(cli.main(["evaluate", *sys.argv[1:]]))
