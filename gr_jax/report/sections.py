"""The sections of the page, each from the study alone."""

from __future__ import annotations

from gr_jax.evaluate import significance
from gr_jax.fit import fits as stored_fits
from gr_jax.report import contents, judged, markup, notation, tables

escape = markup.escape
_EXPONENTS = ("alpha", "beta", "gamma")


def _lead(text: str) -> str:
    return f'<p class="lead">{text}</p>'


def section(key: str, title: str, lead: str, body: str) -> str:
    """A headed part of the page; ``lead`` and ``body`` are HTML."""
    return f'<section id="{key}"><h2>{escape(title)}</h2>{_lead(lead)}{body}</section>'


# ------------------------------------------------------------------------- summary


def _tile(label: str, figure: str, under: str) -> str:
    return (
        f'<div class="tile"><div class="label">{escape(label)}</div>'
        f'<div class="figure">{figure}</div><div class="under">{under}</div></div>'
    )


def _best_tile(study: contents.Study) -> str:
    best = tables.best_rows(study)[0]
    measure = best.record.metrics.get(tables.HEADLINE)
    if measure is None:
        return ""
    figure = markup.traced(
        notation.metric(tables.HEADLINE, measure.value),
        source=best.source,
        pointer=f"metrics.{tables.HEADLINE}",
        value=measure.value,
    )
    return _tile(
        f"best generative {notation.axis(tables.HEADLINE)}",
        figure,
        escape(
            f"{notation.interval(tables.HEADLINE, measure)} · "
            f"{tables.label(best.record)}"
        ),
    )


def _rival_tile(study: contents.Study) -> str:
    """The strongest rival; the table has all of them."""
    named = [b for b in study.baselines if tables.HEADLINE in b.measures]
    if not named:
        return ""
    best = max(named, key=lambda b: b.measures[tables.HEADLINE].value)
    measure = best.measures[tables.HEADLINE]
    figure = markup.traced(
        notation.metric(tables.HEADLINE, measure.value),
        source=best.source,
        pointer=f"metrics.{tables.HEADLINE}",
        value=measure.value,
    )
    return _tile(
        f"best rival's {notation.axis(tables.HEADLINE)}",
        figure,
        escape(f"{notation.interval(tables.HEADLINE, measure)} \u00b7 {best.name}"),
    )


def tiles(study: contents.Study) -> str:
    """What the study is, in a few numbers."""
    records = [row.record for row in study.rows]
    sizes = [r.params_non_embedding for r in records]
    cells = {r.cell: r for r in records}
    wall = sum(sum(r.wall_s.values()) for r in cells.values())
    flops = sum(r.train_flops for r in cells.values())
    fitted = sum(fit.is_fitted for fit in study.fits)
    queries = max((m.n for r in records for m in r.metrics.values()), default=0)
    parts = [
        _best_tile(study),
        _rival_tile(study),
        _tile(
            "trained cells",
            str(len(cells)),
            f"{len(records)} records, {queries} queries each",
        ),
        _tile(
            "parameters",
            f"{notation.count(min(sizes))} &ndash; {notation.count(max(sizes))}",
            "without embedding and head",
        ),
        _tile("laws", f"{fitted} of {len(study.fits)}", "fitted; the rest refused"),
        _tile(
            "compute",
            f"{notation.count(flops)}FLOP",
            f"training; {notation.seconds(wall)} of wall time",
        ),
    ]
    return f'<div class="tiles">{"".join(parts)}</div>'


def _verdict_line(
    method: str, rival: str, source: str, compared: list[significance.Comparison]
) -> str:
    found = next((c for c in compared if c.metric == tables.HEADLINE), None)
    if found is None:
        return ""
    gap = found.difference
    side = "above" if gap.value > 0 else "below"
    clear = "clearly " if gap.low > 0 or gap.high < 0 else "not clearly "
    text = (
        f"{method} is {clear}{side} {rival}: {notation.axis(found.metric)} "
        f"{found.first:.3f} against {found.second:.3f}, difference {gap.value:+.3f} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}]; {found.wins} wins, {found.losses} losses, "
        f"{found.ties} ties; p = {found.p_randomisation:.2g}"
    )
    return f'<p data-source="{escape(source)}">{escape(text)}</p>'


Paired = list[tuple[str, str, str, list[significance.Comparison]]]


def _told(paired: Paired) -> Paired:
    """The best method against every rival, the others against the strongest alone."""
    if not paired:
        return []

    def reached(one: tuple[str, str, str, list[significance.Comparison]]) -> float:
        found = [c.second for c in one[3] if c.metric == tables.HEADLINE]
        return found[0] if found else float("-inf")

    best = paired[0][0]
    strongest = max((one for one in paired if one[0] == best), key=reached)[1]
    return [one for one in paired if one[0] == best or one[1] == strongest]


def verdict(
    study: contents.Study,
    paired: Paired,
) -> str:
    """What the study says, in sentences; and what is missing from it."""
    lines = "".join(_verdict_line(*one) for one in _told(paired))
    refused = [fit for fit in study.fits if not fit.is_fitted]
    if study.fits and len(refused) == len(study.fits):
        lines += "<p>No law could be fitted: each refusal says why below.</p>"
    notes = "".join(
        f'<p class="note warn">{escape(problem)}</p>' for problem in study.problems
    )
    return (
        f'<div class="card verdict" style="margin-top:18px">{lines}{notes}</div>'
        if (lines or notes)
        else ""
    )


# ---------------------------------------------------------------------------- laws


def _param_rows(fit: stored_fits.Fit, source: str) -> str:
    rows = "".join(
        "<tr><td>{}</td><td>{}</td><td>{}</td></tr>".format(
            escape(name),
            markup.traced(
                notation.number(p.get("value")),
                source=source,
                pointer=f"params.{name}",
                value=p.get("value"),
            ),
            escape(
                f"[{notation.number(p.get('low'))}, {notation.number(p.get('high'))}]"
            ),
        )
        for name, p in fit.params.items()
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else ""


def _quality(fit: stored_fits.Fit) -> str:
    quality = fit.quality
    seen = fit.certificate
    parts: list[str] = []
    if quality:
        parts.append(
            f"{quality.get('n')} points, {quality.get('parameters')} parameters, "
            f"{quality.get('dof')} degrees of freedom; residual spread "
            f"{notation.number(quality.get('sigma'))}"
        )
    if seen:
        parts.append(f"{seen.get('agreeing')} of {seen.get('polished')} starts agree")
    if fit.method:
        parts.append(f"intervals: {fit.method}")
    return "".join(f'<p class="note">{escape(part)}</p>' for part in parts)


def _held(fit: stored_fits.Fit) -> str:
    held = str(fit.group.get("held") or "")
    return f"held: {held}" if held else fit.name


def law_card(fit: stored_fits.Fit, place: int, figure: str) -> str:
    """One fit: its figure, coefficients, warnings; or its refusal, smaller."""
    source = f"{contents.FITS}#/fits/{place}"
    state = markup.tag(fit.status, "good" if fit.is_fitted else "bad")
    side = f'<div class="formula mono">{escape(fit.formula)}</div>'
    if fit.is_fitted:
        side += _param_rows(fit, source) + _quality(fit)
        side += judged.queries(fit) + judged.backtest(fit) + judged.rivals(fit)
    else:
        side += f'<p class="note bad">{escape(fit.reason)}</p>'
    side += "".join(
        f'<p class="note warn">{escape(w.get("message", w))}</p>' for w in fit.warnings
    )
    size = "plot" if fit.is_fitted else "plot tiny"
    return (
        f'<article class="card law" id="fit-{place}"><div class="head">'
        f"<h3>{escape(notation.axis(fit.y))} by {escape(notation.axis(fit.x))}</h3>"
        f"{markup.tag(fit.law)}{state}"
        f'<span class="note" style="margin:0">{escape(_held(fit))}</span></div>'
        f'<div class="{size}" data-figure="{escape(figure)}"></div>'
        f'<div class="side" data-fit="{place}">{side}'
        f'<p class="note">{markup.traced(source, source=source, pointer="")}</p>'
        "</div></article>"
    )


def family_of(fit: stored_fits.Fit) -> str:
    """What the runs of a fit share, as a heading."""
    parts = [str(fit.group.get(k) or "") for k in ("arch", "identifier_kind")]
    return " \u00b7 ".join(part for part in parts if part) or fit.name


def glance(study: contents.Study) -> str:
    """Exponents of all laws: a row for each metric of a family, a column an axis."""
    axes = list(dict.fromkeys(fit.x for fit in study.fits))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for place, fit in enumerate(study.fits):
        source = f"{contents.FITS}#/fits/{place}"
        if fit.is_fitted:
            shown = "<br>".join(
                markup.traced(
                    f"{name} {notation.number(p['value'])}",
                    source=source,
                    pointer=f"params.{name}",
                    value=p["value"],
                )
                + f"<small>[{notation.number(p.get('low'))}, "
                f"{notation.number(p.get('high'))}]</small>"
                for name, p in fit.params.items()
                if name in _EXPONENTS
            )
        else:
            shown = markup.tag(fit.reason.split(":")[0] or "refused", "bad")
        row = rows.setdefault((family_of(fit), fit.y), {})
        row[fit.x] = f'<a href="#fit-{place}" title="the fit">&darr;</a> {shown}'
    head = "".join(
        f"<th>{escape(name)}</th>"
        for name in ("family", "metric", *(f"by {notation.short(x)}" for x in axes))
    )
    lines = "".join(
        f"<tr><td>{escape(family)}</td><td>{escape(notation.short(y))}</td>"
        + "".join(f'<td class="num">{row.get(x, "")}</td>' for x in axes)
        + "</tr>"
        for (family, y), row in rows.items()
    )
    return (
        '<div class="scroll" style="max-height:none;margin-bottom:18px">'
        f'<table id="table-glance"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


# ------------------------------------------------------------------------ retrieval


def comparisons(
    paired: Paired,
) -> str:
    """Wins, losses and paired tests as a table."""
    if not paired:
        return ""
    head = "".join(
        f"<th>{escape(name)}</th>"
        for name in (
            "method",
            "rival",
            "metric",
            "difference, 95%",
            "wins",
            "losses",
            "ties",
            "p, randomisation",
            "p, Holm",
        )
    )
    rows = ""
    for method, rival, source, compared in paired:
        for c in compared:
            gap = c.difference
            cells = [
                method,
                rival,
                notation.axis(c.metric),
                f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]",
                c.wins,
                c.losses,
                c.ties,
                f"{c.p_randomisation:.2g}",
                f"{c.p_holm:.2g}",
            ]
            inner = "".join(
                f'<td data-source="{escape(source)}">{escape(v)}</td>' for v in cells
            )
            rows += f"<tr>{inner}</tr>"
    return (
        '<h3 style="margin-top:22px">Paired, query by query</h3><div class="scroll">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


# ------------------------------------------------------------------------- examples


def _key(key: contents.Key) -> str:
    told: list[str] = []
    if key.logprob is not None:
        told.append(f"log p {key.logprob:.2f}")
    if key.weight is not None:
        told.append(f"weight {key.weight:.2f}")
    return (
        f'<span class="key">{escape(key.text)}<small>{", ".join(told)}</small></span>'
    )


def _hit(hit: contents.Hit) -> str:
    keys = "".join(map(_key, hit.keys))
    mark = " relevant" if hit.is_relevant else ""
    badge = " " + markup.tag("relevant", "good") if hit.is_relevant else ""
    return (
        f'<div class="hit{mark}"><span class="rank">{hit.rank}</span>'
        f'<span class="title">{escape(hit.title)}{badge}</span>'
        f'<span class="score">{hit.score:.3f}</span>'
        f'<div class="keys">{keys}</div></div>'
    )


def example(shown: contents.Example, *, is_open: bool) -> str:
    """One query, its documents, and the identifiers that brought each."""
    rank = shown.first_relevant_rank
    if rank is None:
        badge = markup.tag(f"not in the first {len(shown.hits)}", "bad")
    else:
        badge = markup.tag(f"found at {rank}", "good" if rank == 1 else "warn")
    wanted = "".join(
        f'<p class="note">Relevant: {escape(title)} <span class="mono">{escape(name)}'
        "</span></p>"
        for name, title in shown.relevant
    )
    return (
        f"<details{' open' if is_open else ''}><summary><span>{escape(shown.text)}"
        f'</span><span class="push">{badge}</span></summary><div class="hits">{wanted}'
        f'{"".join(map(_hit, shown.hits))}<p class="note">'
        f"{markup.traced(shown.source, source=shown.source, pointer='')}</p></div>"
        "</details>"
    )
