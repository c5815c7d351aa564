"""The figure of a fit: its points by their records, curves, bands and residuals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gr_jax.core import records
from gr_jax.fit import fits as stored_fits
from gr_jax.fit import study_fits
from gr_jax.report import contents, figures, notation

_NEAR_SPANS = 1.0
_MOST_GROUPS = 12


def rows_of_point(
    study: contents.Study, fit: stored_fits.Fit, point: Mapping[str, Any]
) -> list[contents.Row]:
    """The records behind a point: its cells, at its place on the axes."""
    cells = set(str(point.get("record", "")).split("+"))
    rows = [row for row in study.rows if row.record.cell in cells]
    places = _list(point["x"])
    fields = fit.x.split(",")

    def is_there(row: contents.Row) -> bool:
        run = row.record.to_json()
        found = [study_fits.axis_value(run, field) for field in fields]
        return all(
            f is not None and math.isclose(f, p, rel_tol=1e-9)
            for f, p in zip(found, places, strict=True)
        )

    held = {k: v for k, v in fit.group.items() if k in _HELD}
    exact = [
        row
        for row in rows
        if is_there(row) and all(getattr(row.record, k) == v for k, v in held.items())
    ]
    return exact or rows


_HELD = {field.name for field in dataclasses.fields(records.RunRecord)}


def _list(value: Any) -> list[float]:
    if isinstance(value, list):
        return [float(v) for v in cast("list[float]", value)]
    return [float(value)]


def _numbers(values: Any) -> figures.Numbers:
    listed = cast("list[float | None]", values or [])
    return [None if v is None else float(v) for v in listed]


def _groups(fit: stored_fits.Fit) -> list[tuple[str, list[int]]]:
    """Points that share a colour: a place of the further axes, or about one.

    With more places than a legend can hold, each point joins the nearest of the places
    that have a curve.
    """
    others = [tuple(_list(point["x"])[1:]) for point in fit.points]
    places = sorted(set(others))
    second = notation.axis(fit.x.split(",")[-1])
    about = ""
    if len(places) > _MOST_GROUPS:
        families = cast("list[dict[str, Any]]", fit.curve.get("families") or [])
        places = sorted({tuple(_list(one["at"])) for one in families}) or places[:1]
        about = "about "
    groups: dict[int, list[int]] = {place: [] for place in range(len(places))}
    for index, other in enumerate(others):
        nearest = min(range(len(places)), key=lambda p: _gap(places[p], other))
        groups[nearest].append(index)
    return [
        (f"{second} {about}{notation.count(places[p][-1])}" if places[p] else "", found)
        for p, found in groups.items()
    ]


def _gap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Distance of two places in logs."""
    return sum(abs(math.log(a / b)) for a, b in zip(one, other, strict=True))


def _points(study: contents.Study, fit: stored_fits.Fit) -> list[figures.Series]:
    """The fit's points; of a law with two axes, apart by the second."""
    series: list[figures.Series] = []
    for colour, (label, places) in enumerate(_groups(fit)):
        chosen = [fit.points[i] for i in places]
        rows = [rows_of_point(study, fit, point) for point in chosen]
        series.append(
            figures.Series(
                name=label or "measured, 95%",
                kind="points",
                x=[_list(p["x"])[0] for p in chosen],
                y=_numbers([p["y"] for p in chosen]),
                low=_numbers([p.get("low") for p in chosen]),
                high=_numbers([p.get("high") for p in chosen]),
                colour=colour,
                notes=[figures.note(r, p) for r, p in zip(rows, chosen, strict=True)],
                sources=[" ".join(row.source for row in r) for r in rows],
            )
        )
    return series


def _curve(
    curve: Mapping[str, Any], largest: float, colour: int, *, is_named: bool
) -> list[figures.Series]:
    """A curve cut at the largest measured x: solid, then dashed."""
    x = [float(v) for v in curve["x"]]
    columns = {n: _numbers(curve.get(n)) for n in ("y", "low", "high")}
    cut = sum(v <= largest for v in x)
    series: list[figures.Series] = []
    for part, dashed, name in (
        (slice(0, cut + 1), False, "fitted curve"),
        (slice(max(cut, 0), None), True, "extrapolation"),
    ):
        if len(x[part]) < 2:
            continue
        if is_named:
            series += _new_runs(curve, part, colour, is_dashed=dashed)
        if columns["low"]:
            series.append(
                figures.Series(
                    name="95% of the mean" if is_named and not dashed else "",
                    kind="band",
                    x=x[part],
                    y=columns["y"][part],
                    low=columns["low"][part],
                    high=columns["high"][part],
                    colour=colour,
                    dashed=dashed,
                )
            )
        series.append(
            figures.Series(
                name=name if is_named else "",
                kind="line",
                x=x[part],
                y=columns["y"][part],
                colour=colour,
                dashed=dashed,
            )
        )
    return series


def _new_runs(
    curve: Mapping[str, Any], part: slice, colour: int, *, is_dashed: bool
) -> list[figures.Series]:
    """Bands of a new run: widened by the back-test, and as the noise alone has it."""
    series: list[figures.Series] = []
    for kind, name in (("wide", "new run, back-tested"), ("run", "new run, naive")):
        low, high = (_numbers(curve.get(f"{kind}_{end}")) for end in ("low", "high"))
        if low and high:
            series.append(
                figures.Series(
                    name="" if is_dashed else f"95% of a {name}",
                    kind="band",
                    x=[float(v) for v in curve["x"]][part],
                    y=_numbers(curve["y"])[part],
                    low=low[part],
                    high=high[part],
                    colour=colour,
                    dashed=True,
                )
            )
    return series


def _residuals(
    fit: stored_fits.Fit, points: Sequence[figures.Series]
) -> list[figures.Series]:
    if len(fit.residuals) != len(fit.points):
        return []
    series: list[figures.Series] = []
    for shown, (_, chosen) in zip(points, _groups(fit), strict=True):
        series.append(
            dataclasses.replace(
                shown,
                name="",
                y=_numbers([fit.residuals[i] for i in chosen]),
                low=[],
                high=[],
            )
        )
    return series


def _scale(
    series: Sequence[figures.Series], rules: Sequence[figures.Series], *, is_log: bool
) -> tuple[tuple[float, float] | None, list[str]]:
    """The range of values with the rules near them, and the names of the others."""
    ends = [v for s in series for v in (*s.y, *s.low, *s.high) if v is not None]
    if not ends or is_log:
        return None, []
    low, high = min(ends), max(ends)
    reach = _NEAR_SPANS * (high - low)
    off: list[str] = []
    for rule in rules:
        value = rule.y[0]
        if value is None:
            continue
        if low - reach <= value <= high + reach:
            low, high = min(low, value), max(high, value)
        else:
            side = "above" if value > high else "below"
            off.append(f"{rule.name} lies {side}")
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (low - room, high + room), off


def _spans_decade(values: Sequence[float | None]) -> bool:
    real = [v for v in values if v is not None]
    return bool(real) and min(real) > 0 and max(real) > 10 * min(real)


def of_fit(study: contents.Study, fit: stored_fits.Fit, place: int) -> figures.Figure:
    """Points, curve with band, extrapolation, references and residuals of one fit."""
    fields = fit.x.split(",")
    points = _points(study, fit)
    series: list[figures.Series] = []
    if fit.is_fitted and fit.curve:
        largest = max((x for s in points for x in s.x), default=0.0)
        families = cast("list[dict[str, Any]]", fit.curve.get("families") or [])
        others = sorted({tuple(_list(p["x"])[1:]) for p in fit.points})
        if len(others) > _MOST_GROUPS:
            others = sorted({tuple(_list(one["at"])) for one in families})
        for one in families:
            at = tuple(_list(one["at"]))
            colour = others.index(at) if at in others else 0
            plain = {k: v for k, v in one.items() if k not in ("low", "high")}
            series += _curve(plain, largest, colour, is_named=False)
        if not families:
            series += _curve(fit.curve, largest, 0, is_named=True)
    scale = str(fit.objective.get("residual", ""))
    rules = figures.references(study, fit.y)
    is_log = _spans_decade([y for s in points for y in s.y])
    y_range, off_scale = _scale([*points, *series], rules, is_log=is_log)
    return figures.Figure(
        key=f"fit-{place}-{figures.slug(fit.y)}-by-{figures.slug(fields[0])}",
        title=fit.name,
        x_title=notation.axis(fields[0]),
        y_title=notation.axis(fit.y),
        series=[*series, *points, *rules],
        residuals=_residuals(fit, points) if fit.is_fitted else [],
        residual_title="residual (log)" if scale == "log" else "residual",
        x_log=True,
        y_log=is_log,
        y_range=y_range,
        off_scale=off_scale,
    )
