"""Tables as data: cells that know their source, for the page and for CSV files."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence

from gr_jax.core import records
from gr_jax.evaluate import results, significance
from gr_jax.report import contents, notation

HEADLINE = "mrr@10"
RETRIEVAL = ("recall@1", "recall@5", "recall@10", "recall@100", "mrr@10", "ndcg@10")
CONTRASTIVE = ("cgl", "rho", "ce", "ce_calibrated", "pairwise_accuracy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What is shown, the exact value behind it, and where that was read.

    ``value`` None: text. ``measure``: a value with its interval, ``interval`` in words.
    """

    text: str
    value: float | None = None
    measure: records.Measure | None = None
    interval: str = ""
    source: str = ""
    pointer: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Columns and rows; ``row_kinds`` tells rivals and controls from cells."""

    key: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    row_kinds: list[str]


def text(shown: object) -> Cell:
    """A cell of words."""
    return Cell(text=str(shown))


def counted(value: float, *, source: str, pointer: str) -> Cell:
    """A cell with a count."""
    return Cell(
        text=notation.count(value), value=float(value), source=source, pointer=pointer
    )


def measured(
    measures: Mapping[str, records.Measure], name: str, *, source: str, pointer: str
) -> Cell:
    """A cell with a metric, or a dash where it was not measured."""
    found = measures.get(name)
    if found is None:
        return Cell(text=notation.NONE)
    return Cell(
        text=notation.metric(name, found.value),
        value=found.value,
        measure=found,
        interval=notation.interval(name, found),
        source=source,
        pointer=f"{pointer}.{name}",
    )


def to_csv(table: Table) -> str:
    """The table as CSV: exact values, intervals beside them, sources last."""
    has_interval = [
        any(row[i].measure is not None for row in table.rows)
        for i in range(len(table.columns))
    ]
    header: list[str] = []
    for column, wide in zip(table.columns, has_interval, strict=True):
        header += [column, f"{column} low", f"{column} high"] if wide else [column]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*header, "kind", "source"])
    for row, kind in zip(table.rows, table.row_kinds, strict=True):
        line: list[object] = []
        for cell, wide in zip(row, has_interval, strict=True):
            line.append(cell.text if cell.value is None else repr(cell.value))
            if wide and cell.measure is not None:
                line += [repr(cell.measure.low), repr(cell.measure.high)]
            elif wide:
                line += ["", ""]
        sources = dict.fromkeys(cell.source for cell in row if cell.source)
        writer.writerow([*line, kind, " ".join(sources)])
    return out.getvalue()


# ------------------------------------------------------------------- retrieval table


def family_of(record: records.RunRecord) -> tuple[str, str, str]:
    """What makes records comparable: architecture, identifier kind, rescoring."""
    return record.arch, record.identifier_kind, record.rescoring


def headline_value(row: contents.Row) -> float:
    """What the best record is chosen by."""
    measures = row.record.metrics
    for name in (HEADLINE, "recall@1", "ndcg@10"):
        if name in measures:
            return measures[name].value
    return float("-inf")


def best_rows(study: contents.Study) -> list[contents.Row]:
    """The best record of every family, best family first."""
    best: dict[tuple[str, str, str], contents.Row] = {}
    for row in study.rows:
        family = family_of(row.record)
        if family not in best or headline_value(row) > headline_value(best[family]):
            best[family] = row
    return sorted(best.values(), key=headline_value, reverse=True)


def retrieval(study: contents.Study) -> Table:
    """Rivals, then the best record of each family with its controls."""
    columns = ["method", "parameters", "data", "beam", "FLOPs a query"]
    columns += [notation.axis(name) for name in RETRIEVAL]
    rows: list[list[Cell]] = []
    kinds: list[str] = []
    for baseline in study.baselines:
        row = [text(baseline.name), *(text(notation.NONE) for _ in range(4))]
        row += [
            measured(baseline.measures, n, source=baseline.source, pointer="metrics")
            for n in RETRIEVAL
        ]
        rows.append(row)
        kinds.append("baseline")
    for best in best_rows(study):
        record = best.record
        row = [text(label(record)), *_setting(best)]
        row += [
            measured(record.metrics, n, source=best.source, pointer="metrics")
            for n in RETRIEVAL
        ]
        rows.append(row)
        kinds.append("best")
        for name, measures in record.controls.items():
            row = [text(f"control: {name}"), *_setting(best)]
            pointer = f"controls.{name}"
            row += [
                measured(measures, n, source=best.source, pointer=pointer)
                for n in RETRIEVAL
            ]
            rows.append(row)
            kinds.append("control")
    return Table(
        key="retrieval",
        title="Retrieval",
        columns=columns,
        rows=rows,
        row_kinds=kinds,
    )


def label(record: records.RunRecord) -> str:
    """A record in a few words."""
    extra = "" if record.rescoring == "none" else f", {record.rescoring}"
    return f"{record.arch} {record.size_name}, {record.identifier_kind}{extra}"


def inference_flops(record: records.RunRecord) -> float:
    """All inference FLOPs of a query; a stored total is not counted twice."""
    parts = record.inference_flops_per_query
    return parts["total"] if "total" in parts else sum(parts.values())


def _setting(row: contents.Row) -> list[Cell]:
    record = row.record
    flops = inference_flops(record)
    pointers = (
        (record.params_non_embedding, "params_non_embedding"),
        (record.data_examples, "data_examples"),
        (record.beam, "beam"),
        (flops, "inference_flops_per_query"),
    )
    return [counted(v, source=row.source, pointer=p) for v, p in pointers]


def all_cells(study: contents.Study) -> Table:
    """Every record, one row each."""
    names = list(dict.fromkeys(n for row in study.rows for n in row.record.metrics))
    shown = [n for n in (*RETRIEVAL, *CONTRASTIVE) if n in names]
    columns = ["record", "family", "size", "identifiers", "rescoring", "seed"]
    columns += ["parameters", "data", "beam", "FLOPs a query", "training FLOPs"]
    columns += [notation.axis(n).split(" = ")[0] for n in shown]
    rows: list[list[Cell]] = []
    for row in study.rows:
        record = row.record
        cells = [
            Cell(
                text=f"{row.line} · {record.cell[:8]}",
                value=float(row.line),
                source=row.source,
                pointer="cell",
            ),
            text(record.arch),
            text(record.size_name),
            text(record.identifier_kind),
            text(record.rescoring),
            text(record.seed),
            *_setting(row),
            counted(record.train_flops, source=row.source, pointer="train_flops"),
        ]
        cells += [
            measured(record.metrics, n, source=row.source, pointer="metrics")
            for n in shown
        ]
        rows.append(cells)
    return Table(
        key="cells",
        title="Every cell",
        columns=columns,
        rows=rows,
        row_kinds=["cell"] * len(rows),
    )


# -------------------------------------------------------------------------- fits


def fits(study: contents.Study) -> Table:
    """Every fit asked for: coefficients with intervals, or the refusal."""
    columns = ["fit", "law", "points", "coefficients, 95%", "intervals by", "verdict"]
    rows: list[list[Cell]] = []
    kinds: list[str] = []
    for place, fit in enumerate(study.fits):
        source = f"{contents.FITS}#/fits/{place}"
        shown = "; ".join(
            f"{name} {notation.number(p.get('value'))} "
            f"[{notation.number(p.get('low'))}, {notation.number(p.get('high'))}]"
            for name, p in fit.params.items()
        )
        verdict = "fitted" if fit.is_fitted else f"refused: {fit.reason}"
        cells = [text(fit.name), text(fit.law), text(len(fit.points))]
        ways = dict.fromkeys(str(p.get("method", "")) for p in fit.params.values())
        by = ", ".join(way for way in ways if way) or fit.method or notation.NONE
        cells += [text(shown or notation.NONE), text(by), text(verdict)]
        rows.append([dataclasses.replace(cell, source=source) for cell in cells])
        kinds.append(fit.status)
    return Table(key="fits", title="Fits", columns=columns, rows=rows, row_kinds=kinds)


# ------------------------------------------------------------ against the baselines


def paired(
    study: contents.Study, *, seed: int = 0, resamples: int = 2000
) -> list[tuple[str, str, str, list[significance.Comparison]]]:
    """The best record of each family against every rival, query by query.

    Returns:
      ``(method, rival, source, comparisons)``; nothing where per-query files are
      missing or were made on other queries.
    """
    found: list[tuple[str, str, str, list[significance.Comparison]]] = []
    for row in best_rows(study):
        folder = contents.decode_folder(study, row)
        if folder is None or not (folder / results.PER_QUERY).exists():
            continue
        mine = results.read_per_query(folder)
        for baseline in study.baselines:
            if not (baseline.folder / results.PER_QUERY).exists():
                continue
            theirs = results.read_per_query(baseline.folder)
            if set(mine) != set(theirs):
                continue
            metrics = [
                m for m in RETRIEVAL if all(m in r for r in _first(mine, theirs))
            ]
            source = (folder / results.PER_QUERY).relative_to(study.folder).as_posix()
            compared = significance.compare(
                mine, theirs, metrics=metrics, seed=seed, resamples=resamples
            )
            found.append((label(row.record), baseline.name, source, compared))
    return found


def _first(
    *tables: Mapping[str, Mapping[str, float]],
) -> Sequence[Mapping[str, float]]:
    return [next(iter(table.values())) for table in tables]
