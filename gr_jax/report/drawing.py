"""Draws a figure: as plotly JSON with colour names, or a PNG or SVG by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from gr_jax.report import figures

# Distinguishable for colour-blind readers; the page has lighter ones for the dark.
PALETTE = ("#2a6fdb", "#e0662b", "#159a6c", "#8250c4", "#c9871f", "#d1495b")
GREY = "#7b8494"
_MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_PNG_MARKS = ("o", "s", "D", "^", "P", "X")
_RESIDUAL_SHARE = 0.22


def _colour(series: figures.Series) -> str:
    """The name of a colour; the page puts in what its theme has for it."""
    return "@grey" if series.colour is None else f"@{series.colour % len(PALETTE)}"


def _points_trace(series: figures.Series) -> dict[str, Any]:
    colour = series.colour or 0
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": series.x,
        "y": series.y,
        "text": series.notes,
        "customdata": series.sources,
        "marker": {
            "color": _colour(series),
            "size": 8,
            "symbol": _MARKS[colour % len(_MARKS)],
            "line": {"color": "@card", "width": 1},
        },
        "hovertemplate": "<b>%{y:.5g}</b> at %{x:.4s}<br>%{text}<extra></extra>",
    }
    if series.low and series.high:
        columns = list(zip(series.y, series.low, series.high, strict=True))
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [_gap(high, y) for y, _, high in columns],
            "arrayminus": [_gap(y, low) for y, low, _ in columns],
            "color": _colour(series),
            "thickness": 1.2,
            "width": 3,
        }
    return trace


def _gap(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else max(0.0, above - below)


def _line_trace(series: figures.Series) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": series.x,
        "y": series.y,
        "hoverinfo": "skip",
        "line": {
            "color": _colour(series),
            "width": 2,
            "dash": "dot" if series.dashed else "solid",
        },
    }


def _band_trace(series: figures.Series) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*series.x, *reversed(series.x)],
        "y": [*series.high, *reversed(series.low)],
        "fill": "toself",
        "fillcolor": _colour(series) + ("/0.10" if series.dashed else "/0.18"),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _rule_trace(series: figures.Series, span: tuple[float, float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(span),
        "y": [series.y[0], series.y[0]],
        "customdata": series.sources * 2,
        "line": {"color": _colour(series), "width": 1.4, "dash": "dash"},
        "hovertemplate": f"{series.name}<extra></extra>",
    }


def _span(figure: figures.Figure) -> tuple[float, float]:
    places = [x for s in figure.series for x in s.x]
    return (min(places), max(places)) if places else (1.0, 10.0)


def _trace(series: figures.Series, span: tuple[float, float]) -> dict[str, Any]:
    if series.kind == "rule":
        trace = _rule_trace(series, span)
    elif series.kind == "band":
        trace = _band_trace(series)
    elif series.kind == "line":
        trace = _line_trace(series)
    else:
        trace = _points_trace(series)
    trace["name"] = series.name
    trace["showlegend"] = bool(series.name)
    return trace


def _remark(text: str, bottom: float) -> dict[str, Any]:
    """Words in the upper right corner of the plot."""
    return {
        "text": text,
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "x": 1.0,
        "xanchor": "right",
        "y": bottom + 0.99 * (1.0 - bottom),
        "yanchor": "top",
        "font": {"size": 12, "color": "@grey"},
    }


def plotly(figure: figures.Figure) -> dict[str, Any]:
    """The figure as plotly's ``data`` and ``layout``; colours are names (``@0``)."""
    span = _span(figure)
    data = [_trace(series, span) for series in figure.series]
    has_residuals = bool(figure.residuals)
    bottom = _RESIDUAL_SHARE + 0.07 if has_residuals else 0.0
    x_axis: dict[str, Any] = {
        "title": {"text": figure.x_title},
        "type": "log" if figure.x_log else "linear",
        "anchor": "y2" if has_residuals else "y",
        "exponentformat": "SI",
        "dtick": 1 if figure.x_log and span[1] / span[0] > 30 else None,
    }
    layout: dict[str, Any] = {
        "xaxis": {k: v for k, v in x_axis.items() if v is not None},
        "yaxis": {
            "title": {"text": figure.y_title},
            "type": "log" if figure.y_log else "linear",
            "domain": [bottom, 1.0],
        },
    }
    if figure.y_range is not None:
        layout["yaxis"]["range"] = list(figure.y_range)
    if figure.off_scale:
        layout["annotations"] = [_remark(" · ".join(figure.off_scale), bottom)]
    if has_residuals:
        for series in figure.residuals:
            data.append(_trace(series, span) | {"yaxis": "y2"})
        layout["yaxis2"] = {
            "title": {"text": figure.residual_title},
            "domain": [0.0, _RESIDUAL_SHARE],
            "zeroline": True,
            "nticks": 4,
        }
    return {"data": data, "layout": layout}


# ---------------------------------------------------------------------------- PNG


def _png_colour(series: figures.Series) -> str:
    return GREY if series.colour is None else PALETTE[series.colour % len(PALETTE)]


def _real(values: figures.Numbers) -> list[float]:
    return [float("nan") if v is None else v for v in values]


def _draw(axes: Any, series: figures.Series) -> None:
    colour = _png_colour(series)
    label = series.name or None
    style = ":" if series.dashed else "-"
    if series.kind == "rule":
        axes.axhline(series.y[0], color=colour, ls="--", lw=1.2, label=label)
    elif series.kind == "line":
        axes.plot(series.x, _real(series.y), color=colour, ls=style, lw=2, label=label)
    elif series.kind == "band":
        axes.fill_between(
            series.x,
            _real(series.low),
            _real(series.high),
            color=colour,
            alpha=0.10 if series.dashed else 0.18,
            lw=0,
            label=label,
        )
    else:
        mark = _PNG_MARKS[(series.colour or 0) % len(_PNG_MARKS)]
        y = _real(series.y)
        below = [max(0.0, a - b) for a, b in zip(y, _real(series.low), strict=False)]
        above = [max(0.0, b - a) for a, b in zip(y, _real(series.high), strict=False)]
        axes.errorbar(
            series.x,
            y,
            yerr=[below, above] if below else None,
            fmt=mark,
            ms=5,
            capsize=2,
            lw=1,
            color=colour,
            label=label,
        )


def picture(figure: figures.Figure, path: Path) -> None:
    """Writes the figure as PNG or SVG, by the suffix; equal data give equal bytes."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a salt of ours the names of an SVG's parts are drawn at random.
    salted = cast(Any, matplotlib).rc_context(
        {"svg.hashsalt": "gr-jax", "svg.fonttype": "none"}
    )
    with salted:
        unsaid = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        _canvas(figure).savefig(path, metadata=unsaid)


def _canvas(figure: figures.Figure) -> Any:
    from matplotlib.backends import backend_agg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7.2, 4.8), dpi=120)
    backend_agg.FigureCanvasAgg(canvas)
    ratios = [4, 1] if figure.residuals else [1]
    # Fixed margins: measuring them takes longer than drawing.
    margins = {"left": 0.14, "right": 0.97, "bottom": 0.11, "top": 0.92, "hspace": 0.12}
    grid: Any = canvas.subplots(
        len(ratios),
        1,
        sharex=True,
        squeeze=False,
        height_ratios=ratios,
        gridspec_kw=margins,
    )
    top, bottom = grid[0][0], grid[-1][0]
    for series in figure.series:
        _draw(top, series)
    for series in figure.residuals:
        _draw(bottom, series)
    if figure.residuals:
        bottom.axhline(0.0, color=GREY, lw=0.8)
        bottom.set_ylabel(figure.residual_title)
    top.set_title(figure.title, fontsize=10)
    top.set_ylabel(figure.y_title)
    top.set_xscale("log" if figure.x_log else "linear")
    top.set_yscale("log" if figure.y_log else "linear")
    if figure.y_range is not None:
        top.set_ylim(*figure.y_range)
    for line, words in enumerate(figure.off_scale):
        top.annotate(
            words,
            (0.99, 0.98 - 0.05 * line),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=8,
            color=GREY,
        )
    bottom.set_xlabel(figure.x_title)
    for axes in {id(top): top, id(bottom): bottom}.values():
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    top.legend(fontsize=8, frameon=False, loc="best")
    return canvas
