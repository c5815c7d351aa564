"""Verb `demo`: the whole journey on the built-in collection, on a laptop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools import cli

SUMMARY = "the whole journey on the built-in collection: train to report in minutes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--study",
        type=Path,
        default=Path("runs/demo"),
        metavar="DIR",
        help="folder of the study (default runs/demo)",
    )
    # One process uses both cores of a laptop; a second one was measured to be slower.
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default 1)"
    )
    parser.set_defaults(shard="0/1", no_report=False)


def run(args: argparse.Namespace) -> int:
    """Runs or resumes the demonstration study."""
    from tools import study_journey

    return study_journey.run(args, default="sweep/demo.gin")


if __name__ == "__main__":
    raise SystemExit(cli.main(["demo", *sys.argv[1:]]))
