"""One page that opens from a disk: all it shows is inside, nothing is fetched."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts
from gr_jax.core import progress as progress_module
from gr_jax.fit import study_fits
from gr_jax.report import (
    contents,
    drawing,
    figures,
    law_figures,
    markup,
    notation,
    sections,
    setup,
    tables,
)

PAGE = "report.html"
FILES = "report"
_AXES = (
    "params_non_embedding",
    "data_examples",
    "data_tokens",
    "train_flops",
    "inference_flops_per_query",
    "beam",
    "params_total",
)
# Nothing may be loaded from anywhere, whatever the texts of a collection hold.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_NAVIGATION = (
    ("laws", "Laws"),
    ("retrieval", "Retrieval"),
    ("explore", "Explore"),
    ("examples", "Examples"),
    ("fits", "Fits"),
    ("setup", "Setup"),
    ("checklist", "Checklist"),
    ("cells", "Cells"),
)


def _plotly_js() -> str:
    from plotly import offline  # pyright: ignore[reportMissingTypeStubs]  # has none

    return str(offline.get_plotlyjs())


def _resource(name: str) -> str:
    return resources.files("gr_jax.report").joinpath(name).read_text(encoding="utf-8")


def all_figures(study: contents.Study) -> list[figures.Figure]:
    """The figures of a report: the overview, then one a fit."""
    overview = figures.overview(study)
    laws = [law_figures.of_fit(study, fit, i) for i, fit in enumerate(study.fits)]
    return ([overview] if overview is not None else []) + laws


def _explore(study: contents.Study) -> dict[str, Any]:
    """Every record's numbers, for the figure with free choice of axes."""
    rows: list[dict[str, Any]] = []
    metrics: dict[str, None] = {}
    for row in study.rows:
        record = row.record
        run = record.to_json()
        measured = {
            name: [m.value, m.low, m.high]
            for name, m in record.metrics.items()
            if not name.endswith("_null")
        }
        metrics |= dict.fromkeys(measured)
        family = [part for part in tables.family_of(record) if part != "none"]
        rows.append(
            {
                "source": row.source,
                "family": " · ".join(family),
                "note": f"{tables.label(record)} · beam {record.beam} · {row.source}",
                "axes": {name: study_fits.axis_value(run, name) for name in _AXES},
                "metrics": measured,
            }
        )
    names = list(metrics)
    first = tables.HEADLINE if tables.HEADLINE in metrics else (names or [""])[0]
    labels = {name: notation.axis(name) for name in [*names, *_AXES]}
    return {
        "rows": rows,
        "axes": list(_AXES),
        "metrics": names,
        "labels": labels,
        "first": first,
    }


def _data(study: contents.Study, drawn: list[figures.Figure]) -> dict[str, Any]:
    files: dict[str, Any] = {
        f"{contents.FITS}#/fits/{place}": _without_draws(dataclasses.asdict(fit))
        for place, fit in enumerate(study.fits)
    }
    for baseline in study.baselines:
        files[baseline.source] = {
            name: dataclasses.asdict(m) for name, m in baseline.measures.items()
        }
    return {
        "figures": {figure.key: drawing.plotly(figure) for figure in drawn},
        "explore": _explore(study),
        "records": {str(row.line): row.record.to_json() for row in study.rows},
        "files": files,
    }


def _without_draws(fit: dict[str, Any]) -> dict[str, Any]:
    """A fit for reading: resamples and curve are drawn, not read."""
    solver = {k: v for k, v in fit.get("solver", {}).items() if k != "draws"}
    return {k: v for k, v in fit.items() if k != "curve"} | {"solver": solver}


def _laws(study: contents.Study, drawn: dict[str, figures.Figure]) -> str:
    keys = {int(k.split("-")[1]): k for k in drawn if k.startswith("fit-")}
    families: dict[str, list[int]] = {}
    for place, fit in enumerate(study.fits):
        families.setdefault(sections.family_of(fit), []).append(place)
    cards = sections.glance(study) if study.fits else ""
    for family, places in families.items():
        cards += f'<h3 class="family">{markup.escape(family)}</h3>'
        small = ""
        for place in places:
            card = sections.law_card(study.fits[place], place, keys[place])
            if study.fits[place].is_fitted:
                cards += card
            else:
                small += card
        cards += f'<div class="grid2">{small}</div>' if small else ""
    lead = (
        "Points are cells with their 95% intervals. The dark band is the interval of "
        "the mean, the lighter one that of a new run as the noise has it, the lightest "
        "that of a new run widened by what the back-test needed. Beyond the largest "
        "measured point the curve is dotted: an extrapolation. Dashed rules are null "
        "values and rivals. Click a point to see its record."
    )
    body = cards or '<div class="card">No law was asked for.</div>'
    return sections.section("laws", "Laws", lead, body)


_EXPLORER = """<div class="card"><div class="controls">
<label>across <select id="explore-x"></select></label>
<label><input type="checkbox" id="explore-logx" checked> log</label>
<label>up <select id="explore-y"></select></label>
<label><input type="checkbox" id="explore-logy"> log</label></div>
<div class="plot" id="explorer"></div></div>"""


def _examples(study: contents.Study) -> str:
    body = ""
    for row in tables.best_rows(study):
        shown = contents.examples(study, row)
        if shown:
            inner = "".join(
                sections.example(one, is_open=place == 0)
                for place, one in enumerate(shown)
            )
            name = markup.escape(tables.label(row.record))
            body += f'<div class="card"><h3>{name}</h3>{inner}</div>'
    lead = (
        "Queries spread evenly over the sampled ones, not chosen for their result. "
        "Below each document the generated identifiers that spoke for it, with the "
        "model's log-probability and the weight each added to the score."
    )
    body = body or '<div class="card">No evidence was stored.</div>'
    return sections.section("examples", "Examples", lead, body)


def _filter(key: str) -> str:
    return (
        '<div class="controls"><input type="search" placeholder="filter rows" '
        f'aria-label="filter rows" data-filter="table-{key}"></div>'
    )


def _body(study: contents.Study, drawn: list[figures.Figure]) -> str:
    by_key = {figure.key: figure for figure in drawn}
    paired = tables.paired(study)
    overview = next((k for k in by_key if k.startswith("overview")), None)
    shown = ""
    if overview is not None:
        shown = (
            '<div class="card" style="margin-top:18px">'
            f"<h3>{markup.escape(by_key[overview].title)}</h3>"
            f'<div class="plot small" data-figure="{overview}"></div></div>'
        )
    retrieval = markup.table(tables.retrieval(study)) + sections.comparisons(paired)
    parts = [
        sections.tiles(study),
        sections.verdict(study, paired),
        shown,
        _laws(study, by_key),
        sections.section(
            "retrieval",
            "Retrieval",
            "The best cell of each family beside its rivals on the same queries, and "
            "below it its controls. Brackets are 95% intervals; click a number to see "
            "the record it stands in.",
            retrieval,
        ),
        sections.section(
            "explore",
            "Explore",
            "Any metric against any axis, every record a point.",
            _EXPLORER,
        ),
        _examples(study),
        sections.section(
            "fits",
            "Fits",
            "Every law asked for; a refusal is a result too.",
            markup.table(tables.fits(study)),
        ),
        sections.section(
            "setup",
            "Setup",
            "What the runs share, as the artefacts' manifests state it.",
            setup.artefacts(study) + setup.how_measured(study),
        ),
        sections.section(
            "checklist",
            "Checklist",
            "The questions of the scaling-law survey (Li et al. 2025), answered from "
            "what is stored.",
            setup.form(study),
        ),
        sections.section(
            "cells",
            "Every cell",
            "All records; click a heading to sort, a number to see its record.",
            _filter("cells") + markup.table(tables.all_cells(study), is_sorted=True),
        ),
    ]
    return "".join(parts)


def page(study: contents.Study) -> str:
    """The report as one HTML document."""
    drawn = all_figures(study)
    name = markup.escape(study.collection)
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in _NAVIGATION)
    commits = ", ".join(sorted({row.record.commit for row in study.rows}))
    header = (
        '<header class="top"><h1>Scaling laws of generative retrieval on '
        f"{name}</h1><p>How retrieval quality follows model size, training data and "
        "inference compute, judged on the same queries as its rivals. Every number "
        "opens the record it was read from.</p></header>"
    )
    return "".join(
        [
            '<!DOCTYPE html><html lang="en" data-theme="light"><head>',
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{name}: scaling laws</title>",
            f"<style>{_resource('page.css')}</style></head><body>",
            f'<nav><div class="inner"><strong>gr-jax</strong>{links}',
            '<button class="push" id="theme" type="button">light / dark</button>',
            f"</div></nav><main>{header}{_body(study, drawn)}",
            f"<footer>gr-jax, commit {markup.escape(commits)}. Tables as CSV and "
            f"figures as PNG and SVG lie beside this page in <code>{FILES}/</code>."
            "</footer>",
            '</main><aside id="drawer" aria-label="record"><div class="bar"><h2 '
            'style="margin:0">Record</h2><button id="drawer-close" type="button">close'
            '</button></div><div id="drawer-body"></div></aside>',
            '<script type="application/json" id="report-data">',
            markup.script_json(_data(study, drawn)),
            f"</script><script>{_plotly_js()}</script>",
            f"<script>{_resource('page.js')}</script></body></html>\n",
        ]
    )


def write(
    folder: Path,
    *,
    progress: progress_module.Progress = progress_module.SILENT,
) -> Path:
    """Writes ``report.html`` into a study folder, and its tables and figures beside it.

    Args:
      folder: The study; see `contents.read`.
      progress: Told about each file.

    Returns:
      The page's path.

    Raises:
      ArtifactError: If the study's records are missing or damaged.
    """
    study = contents.read(folder)
    drawn = all_figures(study)
    shown = [tables.retrieval(study), tables.all_cells(study), tables.fits(study)]
    progress.start("report", len(drawn) + len(shown) + 1)
    with artifacts.staged(folder / FILES) as files:
        for table in shown:
            artifacts.write_text(files / f"{table.key}.csv", tables.to_csv(table))
            progress.advance()
        for figure in drawn:
            for suffix in ("png", "svg"):
                drawing.picture(figure, files / f"{figure.key}.{suffix}")
            progress.advance()
    artifacts.write_text(folder / PAGE, page(study))
    progress.advance()
    progress.finish()
    return folder / PAGE
