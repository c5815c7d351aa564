"""What the verbs `study` and `demo` do: run, fit, report."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr_jax.core.progress import Progress
    from gr_jax.study import grid


def run(args: argparse.Namespace, *, default: str | None) -> int:
    """Runs or resumes the configured study in ``args.study``."""
    from gr_jax.core import artifacts, errors
    from gr_jax.study import grid, runner
    from tools import configure, progress_bars

    if default is None and not args.gin_file:
        raise errors.UsageError("--gin_file: none given: say which study to run")
    configure.load_args(args, default=default)
    study = configure.build(grid.Study)
    if args.dry_run:
        return _price(args, study)
    begun = time.monotonic()
    progress = progress_bars.bars(args)
    text = configure.operative()
    if args.workers > 1:
        records = _with_workers(args, study, text, default, progress)
    else:
        shard = runner.Shard.parse(args.shard)
        records = runner.run(
            args.study, study, shard=shard, config_text=text, progress=progress
        )
    if args.no_report:
        return 0
    report = _fit_and_report(args.study, records, args)
    summary = {
        "report": str(report.resolve()),
        "records": len(records),
        "wall_s": round(time.monotonic() - begun, 1),
    }
    artifacts.write_json(args.study / "summary.json", summary)
    if args.json:
        print(json.dumps(summary))
    else:
        print(f"{len(records)} records in {summary['wall_s']:.0f} s")
        print(f"report: {report.resolve()}")
    return 0


def _with_workers(
    args: argparse.Namespace,
    study: grid.Study,
    text: str,
    default: str | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Deals the cells to processes: small models leave cores idle one at a time."""
    from gr_jax.core import errors
    from gr_jax.study import runner

    if args.shard != "0/1":
        raise errors.UsageError("--workers: deals shards itself: leave --shard out")
    runner.prepare_only(args.study, study, config_text=text, progress=progress)
    command = [sys.executable, "-m", "tools.study", "--no-report", "--quiet"]
    command += ["--study", str(args.study)]
    for name in args.gin_file or [default]:
        command += ["--gin_file", str(name)]
    command += [f"--gin.{binding}" for binding in args.gin_bindings]
    others = [
        subprocess.Popen([*command, "--shard", f"{place}/{args.workers}"])
        for place in range(1, args.workers)
    ]
    try:
        shard = runner.Shard(0, args.workers)
        runner.run(args.study, study, shard=shard, config_text=text, progress=progress)
        progress.start("cells of the other workers", len(others))
        codes = []
        for other in others:
            codes.append(other.wait())
            progress.advance()
        progress.finish()
    except BaseException:
        # Each saves what it can and ends; the next start goes on from there.
        for other in others:
            other.terminate()
        for other in others:
            other.wait()
        raise
    if failed := [code for code in codes if code]:
        raise errors.StalledError(
            f"{args.study}: a worker ended with exit code {failed[0]}: its message "
            "stands above; start again to go on"
        )
    return runner.gather_all(args.study, study)


def _fit_and_report(
    folder: Path, records: list[dict[str, Any]], args: argparse.Namespace
) -> Path:
    from gr_jax.fit import fits, study_fits
    from gr_jax.report import html
    from tools import progress_bars

    progress = progress_bars.bars(args)
    fitted = study_fits.fit_study(records, progress=progress)
    fits.write(folder / "fits.json", fitted)
    return html.write(folder, progress=progress)


def _price(args: argparse.Namespace, study: grid.Study) -> int:
    """What a study would train and decode: parameters and FLOPs, nothing made."""
    from gr_jax.study import pricing

    rows = pricing.price(study)
    total = sum(row["train_flops"] for row in rows)
    if args.json:
        print(json.dumps({"cells": rows, "train_flops": total}))
        return 0
    print(f"{'cell':40s} {'parameters':>12s} {'train FLOPs':>12s} {'per query':>10s}")
    for row in rows:
        print(
            f"{row['cell']:40s} {row['params_non_embedding']:12,d} "
            f"{row['train_flops']:12.3g} {row['query_flops']:10.3g}"
        )
    print(f"{len(rows)} cells, {total:.3g} training FLOPs")
    return 0
