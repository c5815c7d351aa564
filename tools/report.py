"""Verb `report`: one HTML page of a study, with its tables and figures as files."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools import cli

SUMMARY = "one self-contained HTML page of a study, and its tables (CSV), figures (PNG)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--study", type=Path, required=True, metavar="DIR", help="folder of the study"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the report of a study folder."""
    from gr_jax.report import contents, html
    from tools import progress_bars

    if args.dry_run:
        study = contents.read(args.study)
        found = {"records": len(study.rows), "fits": len(study.fits)}
        print(json.dumps(found) if args.json else f"would write {args.study}: {found}")
        return 0
    path = html.write(args.study, progress=progress_bars.bars(args))
    if args.json:
        print(json.dumps({"report": str(path), "bytes": path.stat().st_size}))
    else:
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.main(["report", *sys.argv[1:]]))
