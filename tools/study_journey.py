"""What the verbs `study` and `demo` do: run, fit, report."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr_jax.core.progress import Progress
    from gr_jax.study import grid, pricing


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
    fitted = study_fits.fit_study(records, folder=folder, progress=progress)
    fits.write(folder / "fits.json", fitted)
    return html.write(folder, progress=progress)


def _price(args: argparse.Namespace, study: grid.Study) -> int:
    """Hours, FLOPs, disk and money of a study, nothing made."""
    from gr_jax.study import pricing

    assumed = getattr(args, "assume_queries", 1000)
    machine = _machine(args)
    prices = pricing.price(study, queries=assumed)
    rows = [price.to_json(machine) for price in prices]
    names = ("train_flops", "score_flops", "decode_flops")
    names += ("compile_s", "disk_bytes", "hours", "money")
    total = {name: sum(row[name] for row in rows) for name in names}
    if args.json:
        found = {"machine": dataclasses.asdict(machine), "cells": rows, **total}
        print(json.dumps(found))
        return 0
    heads = ("parameters", "train FLOPs", "per query", "minutes", "MB", "money")
    print(f"{'cell':40s} " + " ".join(f"{head:>11s}" for head in heads))
    for row in rows:
        print(
            f"{row['cell']:40s} {row['params_non_embedding']:11,d} "
            f"{row['train_flops']:11.3g} {row['query_flops']:11.3g} "
            f"{row['hours'] * 60:11.1f} {row['disk_bytes'] / 1e6:11.1f} "
            f"{row['money']:11.2f}"
        )
    print(
        f"{len(rows)} cells: {total['train_flops']:.3g} training FLOPs, "
        f"{total['score_flops']:.3g} of scoring, {total['decode_flops']:.3g} of "
        f"decoding\n{total['hours']:.2f} hours ({total['compile_s'] / 3600:.2f} to "
        f"compile), {total['disk_bytes'] / 1e9:.3g} GB, money {total['money']:.2f}"
    )
    print(
        f"supposed: {machine.name}, {machine.flops_per_s:.3g} FLOP/s sustained", end=""
    )
    print("" if study.queries else f"; {assumed} evaluation queries (--assume-queries)")
    return 0


def _machine(args: argparse.Namespace) -> pricing.Machine:
    from gr_jax.study import pricing
    from gr_jax.train import dry_run

    prices = {
        "hour_price": getattr(args, "hour_price", 0.0),
        "exaflop_price": getattr(args, "exaflop_price", 0.0),
    }
    rate: float | None = getattr(args, "rate", None)
    if rate is not None:
        return pricing.Machine(name="as given", flops_per_s=rate, **prices)
    if device := getattr(args, "device", None):
        return pricing.accelerator(device, **prices)
    sustained = pricing.measured_rate() * dry_run.UTILISATION
    name = f"this machine at {dry_run.UTILISATION:.0%} of its matrix products"
    return pricing.Machine(name=name, flops_per_s=sustained, **prices)
