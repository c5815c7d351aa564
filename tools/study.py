"""Verb `study`: a grid of runs, each done once, then fits and a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools import cli

SUMMARY = "run a grid of trainings and decodings, fit laws, write the report; resumes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--study", type=Path, required=True, metavar="DIR", help="folder of the study"
    )
    parser.add_argument(
        "--shard", default="0/1", metavar="I/N", help="run every N-th cell from I"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes on this machine"
    )
    parser.add_argument(
        "--no-report", action="store_true", help="stop after the records"
    )
    price = parser.add_argument_group("with --dry-run: what it would cost")
    price.add_argument(
        "--device", metavar="NAME", help="an accelerator (h100, a100, tpu-v5e, ..)"
    )
    price.add_argument(
        "--rate",
        type=float,
        metavar="FLOP/S",
        help="what the machine sustains; measured here without --device",
    )
    price.add_argument(
        "--hour-price", type=float, default=0.0, help="money for an hour of it"
    )
    price.add_argument(
        "--exaflop-price", type=float, default=0.0, help="money for 1e18 FLOPs"
    )
    price.add_argument(
        "--assume-queries",
        type=int,
        default=1000,
        metavar="N",
        help="evaluation queries, where the study takes the whole split",
    )


def run(args: argparse.Namespace) -> int:
    """Runs or resumes a study."""
    from tools import study_journey

    return study_journey.run(args, default=None)


if __name__ == "__main__":
    raise SystemExit(cli.main(["study", *sys.argv[1:]]))
