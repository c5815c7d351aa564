"""Verb `fit`: scaling laws over a study's records or over any table of runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr_jax.fit import fits, fitting, reading

SUMMARY = "scaling laws of a study or of any CSV, with intervals and refusals"
_EPILOGUE_REFUSED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    source = parser.add_argument_group("what to fit")
    source.add_argument("--study", type=Path, metavar="DIR", help="a study's folder")
    source.add_argument("--table", type=Path, metavar="FILE", help="CSV or JSONL")
    source.add_argument(
        "--x",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="axes; columns, or products such as 'FLOP/6/N'",
    )
    source.add_argument("--y", metavar="COLUMN", help="the metric")
    source.add_argument("--law", nargs="+", default=None, help="laws, by name")
    source.add_argument("--low", default="", help="column of the interval's lower end")
    source.add_argument("--high", default="", help="column of its upper end")
    source.add_argument("--weight", default="", help="column of weights")
    source.add_argument("--label", default="", help="column that names a point")
    source.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="COLUMN=TEXT",
        help="keep only these rows",
    )
    source.add_argument("--lenient", action="store_true", help="leave faulty rows out")
    source.add_argument("--list-laws", action="store_true", help="list laws and end")
    how = parser.add_argument_group("how")
    how.add_argument("--loss", choices=("auto", "huber", "squares", "absolute"))
    how.add_argument("--residual", choices=("log", "linear"), default="log")
    how.add_argument("--delta", type=float, default=1e-3, help="of --loss huber")
    how.add_argument(
        "--uncertainty",
        choices=("auto", "pairs", "wild", "parametric-t", "profile"),
        default="auto",
    )
    how.add_argument(
        "--weigh-by-errors",
        action="store_true",
        help="weights of one over the variance that each interval tells",
    )
    how.add_argument("--resamples", type=int, default=1000)
    how.add_argument("--seed", type=int, default=0)
    how.add_argument(
        "--null", type=float, help="the metric of a model that knows nothing"
    )
    how.add_argument("--extrapolate", type=float, default=10.0, help="times the range")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: fits.json")
    parser.add_argument(
        "--no-figures",
        action="store_true",
        help="of a table: write no PNG, SVG and checklist beside the fits",
    )
    parser.add_argument(
        "--form",
        nargs="+",
        default=[],
        metavar="KEY=TEXT",
        help="answers to the survey's checklist: units, runs, policy, losses, "
        "exclusions",
    )


def run(args: argparse.Namespace) -> int:
    """Fits what the flags name; 3 if every law was refused."""
    from gr_jax.core import errors
    from gr_jax.fit import fits
    from gr_jax.fit.laws import registry

    if args.list_laws:
        for name in registry.names():
            print(f"{name:16s} {registry.get(name).formula}")
        return 0
    if (args.study is None) == (args.table is None):
        raise errors.UsageError("fit: give either --study DIR or --table FILE")
    if args.dry_run:
        print(f"would fit {args.study or args.table}")
        return 0
    found = _study(args) if args.study else _table(args)
    default = args.study / "fits.json" if args.study else Path("fits.json")
    out: Path = args.out or default
    fits.write(out, found)
    written = [out]
    if args.table and not args.no_figures:
        written.append(_pictures(out, found))
    if args.json:
        print(json.dumps(fits.to_json(found)))
    else:
        for fit in found:
            print(_shown(fit))
        print(f"wrote {', '.join(map(str, written))}")
    return 0 if any(fit.is_fitted for fit in found) else _EPILOGUE_REFUSED


def _pictures(out: Path, found: list[fits.Fit]) -> Path:
    """A figure of each fit as PNG and SVG, and the checklist, in a folder beside."""
    from gr_jax.core import artifacts
    from gr_jax.report import checklist, contents, drawing, law_figures

    study = contents.of_fits(out.parent, found)
    folder = out.with_suffix("")
    for place, fit in enumerate(found):
        figure = law_figures.of_fit(study, fit, place)
        for suffix in ("png", "svg"):
            drawing.picture(figure, folder / f"{figure.key}.{suffix}")
    artifacts.write_text(folder / "checklist.md", checklist.to_markdown(study))
    return folder


def _settings(args: argparse.Namespace) -> fitting.Settings:
    from gr_jax.fit import fitting, objective

    chosen = None
    if args.loss not in (None, "auto"):
        chosen = objective.Objective(
            loss=args.loss, residual=args.residual, delta=args.delta
        )
    return fitting.Settings(
        objective=chosen,
        uncertainty=args.uncertainty,
        resamples=args.resamples,
        seed=args.seed,
        null=args.null,
        extrapolate=args.extrapolate,
        is_weighted=args.weigh_by_errors,
        form=dict(_pairs(args.form, "--form", "KEY=TEXT")),
    )


def _pairs(texts: list[str], flag: str, form: str) -> tuple[tuple[str, str], ...]:
    from gr_jax.core import errors

    pairs = [text.partition("=") for text in texts]
    if any(not sign for _, sign, _ in pairs):
        raise errors.UsageError(f"fit: {flag}: write {form}")
    return tuple((name, text) for name, _, text in pairs)


def _study(args: argparse.Namespace) -> list[fits.Fit]:
    from gr_jax.fit import reading, study_fits
    from tools import progress_bars

    path = args.study / "records.jsonl"
    records = [row for _, row in reading.rows(path)]
    requests = None
    if args.x or args.y:
        requests = _requests(args)
    return study_fits.fit_study(
        records,
        requests=requests,
        settings=_settings(args),
        folder=args.study,
        progress=progress_bars.bars(args),
    )


def _requests(args: argparse.Namespace) -> tuple[Any, ...]:
    from gr_jax.core import errors
    from gr_jax.fit import study_fits

    if not (args.x and args.y):
        raise errors.UsageError("fit: --x and --y: give both, or neither")
    laws = args.law or ["single-power" if len(args.x) == 1 else "chinchilla"]
    return tuple(
        study_fits.Request(
            x=tuple(args.x), y=args.y, law=law, hold=study_fits.held(tuple(args.x))
        )
        for law in laws
    )


def _table(args: argparse.Namespace) -> list[fits.Fit]:
    from gr_jax.core import errors
    from gr_jax.fit import fitting, reading

    if not (args.x and args.y):
        raise errors.UsageError("fit: --x and --y: name the columns of the table")
    columns = reading.Columns(
        x=tuple(args.x),
        y=args.y,
        low=args.low,
        high=args.high,
        weight=args.weight,
        label=args.label,
        where=_pairs(args.where, "--where", "COLUMN=TEXT"),
    )
    read: reading.Reading = reading.read(args.table, columns, is_lenient=args.lenient)
    for fault in read.faults:
        print(f"left out: {fault}", file=sys.stderr)
    laws = args.law or ["single-power" if len(args.x) == 1 else "chinchilla"]
    filters = " ".join(args.where)
    return [
        fitting.run(
            read.points,
            law,
            name=f"{args.table.name} {filters}: {args.y} by {','.join(args.x)} ({law})",
            settings=_settings(args),
        )
        for law in laws
    ]


def _shown(fit: fits.Fit) -> str:
    """A fit as a paragraph of the terminal."""
    lines = [fit.name, f"  {fit.formula}"]
    if not fit.is_fitted:
        return "\n".join([*lines, f"  refused: {fit.reason}", ""])
    for name, row in fit.params.items():
        lines.append(
            f"  {name:8s} {row['value']:12.6g}  [{row['low']:.5g}, {row['high']:.5g}]  "
            f"{row['method']}"
        )
    quality, seen = fit.quality, fit.certificate
    lines.append(
        f"  {quality['n']} configurations, {quality['runs']} runs, "
        f"{quality['dof']} degrees of freedom (R2 {quality['r2']:.5f} means nothing "
        "without them)"
    )
    lines.append(
        f"  optimum: {seen['agreeing']} of {seen['polished']} starts agree; "
        f"{fit.objective['words']}: {fit.objective['value']:.8g}"
    )
    largest = fit.backtest.get("largest")
    if largest:
        lines.append(f"  largest configuration left out: error {largest['error']:.2%}")
    if fit.backtest.get("cuts"):
        factor = fit.backtest["factor"]
        lines.append(f"  back-test widens intervals of a new run {factor:.2f} times")
    if spread := quality.get("queries"):
        for name in (n for n in fit.params if n in ("alpha", "beta", "gamma", "sigma")):
            (a, b), (c, d) = spread["alone"][name], spread["with_runs"][name]
            lines.append(
                f"  {name} by {spread['queries']} queries alone [{a:.4g}, {b:.4g}], "
                f"by queries and runs [{c:.4g}, {d:.4g}]"
            )
    for rival in quality.get("rivals", []):
        lines.append(
            f"  rival {rival['law']:16s} AICc {rival['aicc']:9.2f}  stacked weight "
            f"{rival['weight']:.2f}  error on the largest {rival['largest_error']:.2%}"
        )
    lines.extend(f"  warning {w['code']}: {w['message']}" for w in fit.warnings)
    return "\n".join([*lines, f"  intervals: {fit.method}", ""])


if __name__ == "__main__":
    from tools import cli

    raise SystemExit(cli.main(["fit", *sys.argv[1:]]))
