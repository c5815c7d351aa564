"""What speaks for and against a fit: back-test, rival laws, queries, as HTML."""

from __future__ import annotations

from typing import Any

from gr_jax.fit import fits as stored_fits
from gr_jax.report import markup, notation

escape = markup.escape


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="judged"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _share(value: Any) -> str:
    return "-" if value is None else f"{value:.1%}"


def backtest(fit: stored_fits.Fit) -> str:
    """Each cut: what was fitted, what was predicted, and what the intervals held."""
    tested = fit.backtest
    if not tested:
        return '<p class="note">Not back-tested.</p>'
    cuts: list[dict[str, Any]] = tested.get("cuts") or []
    largest: dict[str, Any] | None = tested.get("largest")
    told = ""
    if largest:
        told = (
            f'<p class="note">Largest configuration left out: predicted '
            f"{escape(notation.number(largest['predicted']))}, observed "
            f"{escape(notation.number(largest['observed']))}, error "
            f"{_share(largest['error'])}.</p>"
        )
    if not cuts:
        why = str(tested.get("note") or "no cut")
        return told + f'<p class="note">Not back-tested: {escape(why)}.</p>'
    rows = [
        (
            f"{cut['train']} / {cut['test']}",
            _share(cut["error"]),
            _share(cut["inside"]),
            f"{cut['factor']:.2f}",
        )
        for cut in cuts
    ]
    heads = ("fitted / judged", "error", "naive interval held", "factor needed")
    lead = (
        f'<p class="note">Back-test: intervals of a new run are widened '
        f"{tested['factor']:.2f} times, the most that any cut needed.</p>"
    )
    return told + lead + _table(heads, rows)


def rivals(fit: stored_fits.Fit) -> str:
    """Other laws of the same points, by squares."""
    listed: list[dict[str, Any]] = fit.quality.get("rivals") or []
    if not listed:
        return ""
    rows = [
        (
            str(rival["law"]),
            str(rival["parameters"]),
            notation.number(rival["aicc"]),
            _share(rival["largest_error"]),
            f"{rival['weight']:.2f}",
        )
        for rival in listed
    ]
    heads = ("rival law", "parameters", "AICc", "error on the largest", "stacked")
    return _table(heads, rows)


def queries(fit: stored_fits.Fit) -> str:
    """How much of the uncertainty is the queries' and how much the runs' as well."""
    spread: dict[str, Any] = fit.quality.get("queries") or {}
    exponents = [n for n in fit.params if n in ("alpha", "beta", "gamma", "sigma")]
    if not spread or not exponents:
        return ""

    def span(label: str, name: str) -> str:
        low, high = spread[label][name]
        return f"[{notation.number(low)}, {notation.number(high)}]"

    rows = [(n, span("alone", n), span("with_runs", n)) for n in exponents]
    heads = ("95%", f"{spread['queries']} queries resampled", "queries and runs")
    return _table(heads, rows)
