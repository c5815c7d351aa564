"""Figures as data: one description drawn both by plotly (page) and matplotlib (PNG)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gr_jax.report import contents, notation, tables

Kind = Literal["points", "line", "band", "rule"]
Numbers = list[float | None]
_RIVALS = (4, 5, 1)


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


def note(rows: Sequence[contents.Row], point: Mapping[str, Any]) -> str:
    """What hovering a point says of the records behind it."""
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
                notes=[note([row], {}) for row in rows],
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
