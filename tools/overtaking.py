"""What `gr-jax plan --against` does: where one method overtakes another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr_jax.fit import fits, query_values


def find(args: argparse.Namespace) -> dict[str, Any]:
    """Where the law named by --fit falls below the one, or the rival, of --against."""
    from gr_jax.core import errors
    from gr_jax.evaluate import results
    from gr_jax.fit import crossover, fits, query_values

    if args.study is None or not args.fit:
        raise errors.UsageError("plan: --against: give --study DIR and --fit TEXT")
    home = args.against_study or args.study
    listed = fits.read(args.fits or args.study / "fits.json")
    fit = _only([f for f in listed if "," not in f.x], args.fit, "--fit")
    one, one_table = crossover.rebuilt(fit), _query_table(args.study, fit)
    result = {"law": fit.name, "x_name": fit.x, "y": fit.y}
    baseline = home / "baselines" / args.against
    if baseline.is_dir():
        measures = results.read_metrics(baseline)
        name = fit.y.removeprefix("1-")
        if name not in measures:
            raise errors.InputError(f"{baseline}: no {name}: {', '.join(measures)}")
        value = measures[name].value
        table = query_values.of_baseline(baseline, fit.y)
        one_RQ, level_RQ = query_values.shared(one_table, table)
        found = crossover.below_level(
            one,
            1.0 - value if fit.y.startswith("1-") else value,
            one_RQ=one_RQ,
            level_Q=None if level_RQ is None else level_RQ[0],
        )
        return {**result, "against": args.against, **found.to_json()}
    fits_there = fits.read(home / "fits.json")
    alike = [f for f in fits_there if (f.x, f.y) == (fit.x, fit.y)]
    if home == args.study:
        alike = [f for f in alike if f.name != fit.name]
    rival = _only(alike, args.against, "--against")
    one_RQ, other_RQ = query_values.shared(one_table, _query_table(home, rival))
    found = crossover.between(
        one, crossover.rebuilt(rival), one_RQ=one_RQ, other_RQ=other_RQ
    )
    return {**result, "against": rival.name, **found.to_json()}


def _only(listed: list[fits.Fit], text: str, flag: str) -> fits.Fit:
    from gr_jax.core import errors

    named = [f for f in listed if f.is_fitted and text in f.name]
    if len(named) == 1:
        return named[0]
    if exact := [f for f in named if f.name == text]:
        return exact[0]
    names = "; ".join(f.name for f in (named or listed)) or "none"
    raise errors.UsageError(
        f"plan: {flag}: {text!r}: fits {len(named)} laws of one axis: there are {names}"
    )


def _query_table(study: Path, fit: fits.Fit) -> query_values.Table | None:
    from gr_jax.fit import reading, study_fits

    path = study / "records.jsonl"
    if not path.is_file():
        return None
    records = [row for _, row in reading.rows(path)]
    return study_fits.query_table(study, records, fit)


def shown(result: dict[str, Any]) -> str:
    """The answer in words."""
    head = f"A: {result['law']}\nB: {result['against']}\n"
    paired = "paired by query" if result["is_paired"] else "resampled apart"
    low, high = result["searched"]
    if result["x"] is None:
        return (
            f"{head}{result['y']}: A does not fall below B between {result['x_name']} "
            f"{low:.3g} and {high:.3g}; it does in {result['share']:.0%} of the draws, "
            f"{paired}"
        )
    return (
        f"{head}{result['y']}: A falls below B at {result['x_name']} "
        f"{result['x']:.4g} [{result['low']:.4g}, {result['high']:.4g}] in "
        f"{result['share']:.0%} of the draws, {paired}"
    )
