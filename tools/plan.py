"""Verb `plan`: what to train for a target or a budget, and which runs to do next."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gr_jax.fit import costs, fits

SUMMARY = "cheapest size, data and beam for a target or budget; next runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument("--study", type=Path, metavar="DIR", help="a study's folder")
    parser.add_argument(
        "--fits", type=Path, metavar="FILE", help="default: the study's"
    )
    parser.add_argument("--fit", metavar="TEXT", help="part of the name of the law")
    goal = parser.add_argument_group("goal")
    goal.add_argument("--target", type=float, help="recall to reach, between 0 and 1")
    goal.add_argument("--value", type=float, help="value of y to reach, for any metric")
    goal.add_argument("--budget", type=float, nargs="+", help="money: what it buys")
    price = parser.add_argument_group("prices")
    price.add_argument(
        "--train-price", type=float, default=1.0, help="of 1e18 training FLOPs"
    )
    price.add_argument(
        "--query-price", type=float, default=1.0, help="of 1e18 FLOPs of answering"
    )
    price.add_argument("--queries", type=float, default=1e6, help="over the lifetime")
    parser.add_argument(
        "--reach", type=float, default=100.0, help="times beyond the fitted range"
    )
    parser.add_argument("--next", type=int, default=0, help="so many runs to do next")
    rival = parser.add_argument_group("does A overtake B, and where")
    rival.add_argument(
        "--against",
        metavar="TEXT",
        help="B: a baseline's name, or part of a law's name; --fit names A",
    )
    rival.add_argument(
        "--against-study", type=Path, metavar="DIR", help="where B is; default: A's"
    )


def run(args: argparse.Namespace) -> int:
    """Plans from stored fits."""
    from gr_jax.core import errors

    if args.study is None and args.fits is None:
        raise errors.UsageError("plan: give --study DIR or --fits FILE")
    if args.dry_run:
        print(f"would plan from {args.fits or args.study}")
        return 0
    if args.against:
        from tools import overtaking

        result = overtaking.find(args)
        shown = overtaking.shown
    else:
        result = _plans(_chosen(args), args)
        shown = _shown
    print(json.dumps(result) if args.json else shown(result))
    return 0


def _chosen(args: argparse.Namespace) -> fits.Fit:
    """The law to plan from: the one named, or the one of most axes."""
    from gr_jax.core import errors
    from gr_jax.fit import fits

    path: Path = args.fits or args.study / "fits.json"
    every = fits.read(path)
    named = [
        f for f in every if not args.fit or args.fit in f.name or args.fit == f.law
    ]
    fitted = [fit for fit in named if fit.is_fitted]
    if args.target is not None:
        fitted = [fit for fit in fitted if fit.y.startswith("1-")]
    if not fitted:
        reasons = "; ".join(f"{fit.name}: {fit.reason}" for fit in named[:3])
        raise errors.InputError(f"{path}: no fitted law to plan from ({reasons})")
    return max(fitted, key=lambda fit: len(fit.x.split(",")))


def _ledger(args: argparse.Namespace, fit: fits.Fit) -> costs.Ledger:
    from gr_jax.fit import costs, frontier, reading

    if args.study is None:
        return costs.textbook()
    records = [row for _, row in reading.rows(args.study / "records.jsonl")]
    return costs.measured(records, data_field=frontier.data_field(fit))


def _plans(fit: fits.Fit, args: argparse.Namespace) -> dict[str, Any]:
    from gr_jax.core import errors
    from gr_jax.fit import costs, frontier

    prices = costs.Prices(
        train=args.train_price / 1e18,
        query=args.query_price / 1e18,
        queries=args.queries,
    )
    ledger, grid = _ledger(args, fit), frontier.grid_of(fit, reach=args.reach)
    result: dict[str, Any] = {"law": fit.name, "y": fit.y, "warnings": fit.warnings}
    wanted = 1.0 - args.target if args.target is not None else args.value
    if wanted is not None:
        plan = frontier.cheapest(
            fit, target=wanted, ledger=ledger, prices=prices, grid=grid
        )
        result["target"] = wanted
        result["plan"] = None if plan is None else plan.to_json()
    if args.budget:
        result["frontier"] = frontier.frontier(
            fit, args.budget, ledger=ledger, prices=prices, grid=grid
        )
    if args.next:
        result["next"] = _next(fit, args.next, ledger, grid, result)
    if len(result) == 3:
        raise errors.UsageError("plan: give --target, --value, --budget or --next")
    return result


def _next(
    fit: fits.Fit,
    count: int,
    ledger: costs.Ledger,
    grid: Any,
    result: dict[str, Any],
) -> list[dict[str, Any]]:
    """Runs within the fitted range and ten times beyond, judged at the plan's place."""
    import numpy as np

    from gr_jax.fit import frontier

    x_RA = grid.columns(fit)
    near = (x_RA <= 10.0 * np.asarray(fit.solver["high"])).all(axis=1)
    flops = ledger.train_flops(grid.place_RA[:, 0], grid.place_RA[:, 1])
    goal = np.asarray(fit.solver["high"]) * 10.0
    plan = result.get("plan")
    if plan is not None:
        fields = {"params_non_embedding": "size", frontier.data_field(fit): "tokens"}
        goal = np.array(
            [plan[fields.get(name, name)]["value"] for name in fit.x.split(",")]
        )
    return frontier.next_runs(fit, x_RA[near], flops[near], goal, count=count)


def _shown(result: dict[str, Any]) -> str:
    lines = [f"law: {result['law']}"]
    lines += [f"warning {w['code']}: {w['message']}" for w in result["warnings"]]
    if "plan" in result:
        lines += _plan_lines(result)
    for row in result.get("frontier", []):
        if row["value"] is None:
            lines.append(f"budget {row['budget']:.4g}: buys nothing on the grid")
            continue
        lines.append(
            f"budget {row['budget']:.4g}: {result['y']} {row['value']:.4f} "
            f"[{row['low']:.4f}, {row['high']:.4f}] with N {row['size']:.3g}, "
            f"D {row['tokens']:.3g}, beam {row['beam']:.0f}"
        )
    for place, row in enumerate(result.get("next", []), start=1):
        x = ", ".join(f"{value:.3g}" for value in row["x"])
        lines.append(
            f"next {place}: ({x}), {row['flops']:.3g} FLOPs, error at the target "
            f"{row['error_before']:.4g} -> {row['error_after']:.4g}"
        )
    return "\n".join(lines)


def _plan_lines(result: dict[str, Any]) -> list[str]:
    plan = result["plan"]
    if plan is None:
        return [f"{result['y']} {result['target']:.4g}: nowhere on the grid"]
    lines = [f"{result['y']} {result['target']:.4g}, cheapest:"]
    for name in ("size", "tokens", "beam", "money"):
        row = plan[name]
        lines.append(
            f"  {name:7s} {row['value']:10.4g}  [{row['low']:.4g}, {row['high']:.4g}]"
        )
    lines.append(
        f"  {plan['train_flops']:.3g} training FLOPs, {plan['query_flops']:.3g} a "
        f"query, identifiers of {plan['length']:.0f} tokens; reached in "
        f"{plan['reached']:.0%} of the law's draws"
    )
    for axis, times in plan["beyond"].items():
        if times > 1.0:
            lines.append(f"  extrapolates {axis} {times:.3g} times beyond the data")
    return lines


if __name__ == "__main__":
    from tools import cli

    raise SystemExit(cli.main(["plan", *sys.argv[1:]]))
