"""Figures as data: one description drawn both by plotly (page) and matplotlib (PNG)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from gr_jax.core import records
from gr_jax.fit import fits as stored_fits
from gr_jax.fit import study_fits
from gr_jax.report import contents, notation, tables

Kind = Literal["points", "line", "band", "rule"]
Numbers = list[float | None]
_NEAR_SPANS = 1.0
_RIVALS = (4, 5, 1)
_MOST_GROUPS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One mark of a figure.

    Attributes:
      name: What the legend says; empty: not in the legend.
      kind: Points with intervals, a line, a band between ``low`` and ``high``, or a
        rule: a horizontal line at ``y[0]``.
      x: Places; unused by a rule.
      y: Values.
      low: Lower ends; empty without intervals.
      high: Upper ends.
      colour: Number of a colour of the palette; None: grey.
      dashed: Whether a line is dashed (extrapolated, or a reference).
      notes: What hovering a point says.
      sources: Where each point was read.
    """

    name: str
    kind: Kind
    x: list[float]
    y: Numbers
    low: Numbers = dataclasses.field(default_factory=list[float | None])
    high: Numbers = dataclasses.field(default_factory=list[float | None])
    colour: int | None = None
    dashed: bool = False
    notes: list[str] = dataclasses.field(default_factory=list[str])
    sources: list[str] = dataclasses.field(default_factory=list[str])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """Series over one x axis, and below them residuals where there are any.

    ``y_range`` is what is shown first; rules far outside it are named in
    ``off_scale`` instead, so that they do not flatten the points.
    """

    key: str
    title: str
    x_title: str
    y_title: str
    series: list[Series]
    residuals: list[Series] = dataclasses.field(default_factory=list[Series])
    residual_title: str = "residual"
    x_log: bool = True
    y_log: bool = False
    y_range: tuple[float, float] | None = None
    off_scale: list[str] = dataclasses.field(default_factory=list[str])


def slug(name: str) -> str:
    """A name as part of a file name."""
    kept = "".join(c if c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part)


def null_value(study: contents.Study, y: str) -> float | None:
    """What a model that knows nothing would score, as the records store it."""
    name = f"{notation.bare(y)}_null"
    for row in study.rows:
        if name in row.record.metrics:
            return row.record.metrics[name].value
    return None


# --------------------------------------------------------------- points and records


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


def _numbers(values: Any) -> Numbers:
    listed = cast("list[float | None]", values or [])
    return [None if v is None else float(v) for v in listed]


def _note(rows: Sequence[contents.Row], point: Mapping[str, Any]) -> str:
    if not rows:
        return f"{point.get('record', '')}"
    record = rows[0].record
    where = ", ".join(row.source for row in rows)
    seeds = f" · mean of {len(rows)} seeds" if len(rows) > 1 else ""
    return (
        f"{record.arch} {record.size_name} · {record.identifier_kind} · "
        f"{notation.count(record.data_examples)} examples · beam {record.beam}"
        f"{seeds}<br>cell {record.cell[:12]} · {where}"
    )


# -------------------------------------------------------------------- figure of a fit


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


def _points(study: contents.Study, fit: stored_fits.Fit) -> list[Series]:
    """The fit's points; of a law with two axes, apart by the second."""
    series: list[Series] = []
    for colour, (label, places) in enumerate(_groups(fit)):
        chosen = [fit.points[i] for i in places]
        rows = [rows_of_point(study, fit, point) for point in chosen]
        series.append(
            Series(
                name=label or "measured, 95%",
                kind="points",
                x=[_list(p["x"])[0] for p in chosen],
                y=_numbers([p["y"] for p in chosen]),
                low=_numbers([p.get("low") for p in chosen]),
                high=_numbers([p.get("high") for p in chosen]),
                colour=colour,
                notes=[_note(r, p) for r, p in zip(rows, chosen, strict=True)],
                sources=[" ".join(row.source for row in r) for r in rows],
            )
        )
    return series


def _curve(
    curve: Mapping[str, Any], largest: float, colour: int, *, is_named: bool
) -> list[Series]:
    """A curve cut at the largest measured x: solid, then dashed."""
    x = [float(v) for v in curve["x"]]
    columns = {n: _numbers(curve.get(n)) for n in ("y", "low", "high")}
    cut = sum(v <= largest for v in x)
    series: list[Series] = []
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
                Series(
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
            Series(
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
) -> list[Series]:
    """Bands of a new run: widened by the back-test, and as the noise alone has it."""
    series: list[Series] = []
    for kind, name in (("wide", "new run, back-tested"), ("run", "new run, naive")):
        low, high = (_numbers(curve.get(f"{kind}_{end}")) for end in ("low", "high"))
        if low and high:
            series.append(
                Series(
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


def _residuals(fit: stored_fits.Fit, points: Sequence[Series]) -> list[Series]:
    if len(fit.residuals) != len(fit.points):
        return []
    series: list[Series] = []
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


def references(study: contents.Study, y: str) -> list[Series]:
    """The null value of a metric, and what the rivals reach on it."""
    found: list[Series] = []
    null = null_value(study, y)
    if null is not None:
        found.append(_rule("null value", null, "", colour=None))
    is_miss = y.startswith("1-")
    name = y.removeprefix("1-")
    for place, baseline in enumerate(study.baselines):
        measure = baseline.measures.get(notation.bare(name))
        if measure is not None:
            value = 1 - measure.value if is_miss else measure.value
            found.append(
                _rule(baseline.name, value, baseline.source, colour=_RIVALS[place % 3])
            )
    return found


def _rule(name: str, value: float, source: str, colour: int | None) -> Series:
    return Series(
        name=f"{name} ({notation.number(value)})",
        kind="rule",
        x=[],
        y=[value],
        colour=colour,
        dashed=True,
        sources=[source],
    )


def _scale(
    series: Sequence[Series], rules: Sequence[Series], *, is_log: bool
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


def law_figure(study: contents.Study, fit: stored_fits.Fit, place: int) -> Figure:
    """Points, curve with band, extrapolation, references and residuals of one fit."""
    fields = fit.x.split(",")
    points = _points(study, fit)
    series: list[Series] = []
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
    rules = references(study, fit.y)
    is_log = _spans_decade([y for s in points for y in s.y])
    y_range, off_scale = _scale([*points, *series], rules, is_log=is_log)
    return Figure(
        key=f"fit-{place}-{slug(fit.y)}-by-{slug(fields[0])}",
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


# ------------------------------------------------------------- figures without a law


def overview(study: contents.Study) -> Figure | None:
    """Headline retrieval of every record against what a query costs."""
    name = tables.HEADLINE
    groups: dict[tuple[str, str, str], list[contents.Row]] = {}
    for row in study.rows:
        if name in row.record.metrics and tables.inference_flops(row.record) > 0:
            groups.setdefault(tables.family_of(row.record), []).append(row)
    if not groups:
        return None
    series: list[Series] = []
    for colour, (family, rows) in enumerate(sorted(groups.items())):
        measures = [row.record.metrics[name] for row in rows]
        series.append(
            Series(
                name=" · ".join(part for part in family if part != "none"),
                kind="points",
                x=[tables.inference_flops(row.record) for row in rows],
                y=[m.value for m in measures],
                low=[m.low for m in measures],
                high=[m.high for m in measures],
                colour=colour,
                notes=[_note([row], {}) for row in rows],
                sources=[row.source for row in rows],
            )
        )
    return Figure(
        key=f"overview-{slug(name)}",
        title=f"{notation.axis(name)} and what a query costs",
        x_title=notation.axis("inference_flops"),
        y_title=notation.axis(name),
        series=[*series, *references(study, name)],
    )
