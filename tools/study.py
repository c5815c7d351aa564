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


def run(args: argparse.Namespace) -> int:
    """Runs or resumes a study."""
    from tools import study_journey

    return study_journey.run(args, default=None)


if __name__ == "__main__":
    raise SystemExit(cli.main(["study", *sys.argv[1:]]))
