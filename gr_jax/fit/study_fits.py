"""The fits of a study: which runs belong to which law, and the default requests."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from gr_jax.core import progress as progress_module
from gr_jax.fit import fits, fitting, query_values
from gr_jax.fit import points as points_module

Fit = fits.Fit
Record = dict[str, Any]

FAMILY = ("collection", "split", "identifier_kind", "arch")
_DECODING = ("beam", "max_length", "rescoring")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One law asked of a study.

    Attributes:
      x: Field of the axis; ``inference_flops_per_query`` is summed over its parts.
      y: A metric, or ``1-NAME`` for the miss rate of one.
      law: Name in the registry.
      hold: Fields that all runs of the law share.
    """

    x: tuple[str, ...]
    y: str
    law: str = "single-power"
    hold: tuple[str, ...] = ()


def _request(x: tuple[str, ...], y: str, *, law: str = "single-power") -> Request:
    return Request(x=x, y=y, law=law, hold=held(x))


def default_requests() -> tuple[Request, ...]:
    """Losses by size and by data, misses by size, data and inference compute.

    Data are counted in distinct training pairs, as the paper counts them: the tokens
    that a run reads follow its steps, which a study may keep equal.
    """
    requests: list[Request] = []
    for metric in ("ce", "rho", "1-recall@1", "1-recall@10"):
        requests.append(_request(("params_non_embedding",), metric))
        requests.append(_request(("data_examples",), metric))
    for metric in ("1-recall@1", "1-recall@10"):
        requests.append(_request(("inference_flops_per_query",), metric))
    for metric in ("ce", "1-recall@10"):
        axes = ("params_non_embedding", "data_examples")
        requests.append(_request(axes, metric, law="chinchilla"))
    axes = ("params_non_embedding", "data_examples", "beam")
    requests.append(_request(axes, "1-recall@10", law="retrieval-joint"))
    return tuple(requests)


def held(x: tuple[str, ...]) -> tuple[str, ...]:
    """What runs must share for a law in these axes: every other axis of the study.

    Example:
      >>> held(("data_tokens",))
      ('size_name', 'beam', 'max_length', 'rescoring')
    """
    fields: list[str] = []
    if not {"params_non_embedding", "params_total", "params_paper"} & set(x):
        fields.append("size_name")
    if not {"data_tokens", "data_examples", "data_queries"} & set(x):
        fields.append("data_fraction")
    is_compute = "inference_flops_per_query" in x
    fields.extend(
        name
        for name in _DECODING
        if not (name == "beam" and is_compute) and name not in x
    )
    return tuple(fields)


def fit_study(
    records: list[Record],
    *,
    requests: tuple[Request, ...] | None = None,
    settings: fitting.Settings | None = None,
    folder: Path | None = None,
    progress: progress_module.Progress = progress_module.SILENT,
) -> list[Fit]:
    """Every requested law for every collection, split, identifier kind and family.

    Of the runs that share what a request holds fixed, the group with most
    configurations is fitted; between equals, the one with more data, then the more
    common decoding setting. A request whose metric no run has is left out. With the
    study's ``folder``, values on single queries are resampled where they are kept.
    """
    requests = requests or default_requests()
    base = settings or fitting.Settings()
    families: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        families[tuple(str(record.get(field)) for field in FAMILY)].append(record)
    found: list[Fit] = []
    progress.start("fit", len(families) * len(requests))
    for key, runs in families.items():
        for request in requests:
            fit = _fit(dict(zip(FAMILY, key, strict=True)), runs, request, base, folder)
            if fit is not None:
                found.append(fit)
            progress.advance()
    progress.finish()
    return found


def _fit(
    family: dict[str, str],
    runs: list[Record],
    request: Request,
    base: fitting.Settings,
    folder: Path | None,
) -> Fit | None:
    usable = [run for run in runs if _usable(run, request)]
    if not usable:
        return None
    chosen = _largest_group(usable, request)
    null = null_value(chosen, request.y)
    shared = {field: chosen[0].get(field) for field in request.hold}
    title = "/".join(family[f] for f in ("collection", "identifier_kind", "arch"))
    held = ", ".join(f"{k} {v}" for k, v in shared.items() if v not in (None, ""))
    form = {**_form(chosen, request), **base.form}
    points = points_of(chosen, request)
    return fitting.run(
        points,
        request.law,
        name=f"{title}: {request.y} by {','.join(request.x)}",
        settings=dataclasses.replace(base, null=null, form=form),
        group={**family, **shared, "held": held},
        query_RQ=None if folder is None else _on_queries(folder, chosen, points),
    )


def _on_queries(
    folder: Path, runs: list[Record], points: points_module.Points
) -> points_module.Array | None:
    """Values of the points on each query; None where they are not the points' own.

    A loss is a mean over pairs, which is the mean over queries only where every query
    has as many.
    """
    table = query_values.of_runs(folder, runs, points.metric)
    if table is None:
        return None
    gap_R = np.abs(table.value_RQ.mean(axis=1) - points.y_R)
    return table.value_RQ if (gap_R <= 1e-6 * np.abs(points.y_R)).all() else None


def _usable(run: Record, request: Request) -> bool:
    axes = [axis_value(run, field) for field in request.x]
    value = metric_value(run, request.y)
    return all(v is not None and v > 0 for v in axes) and value is not None


def _largest_group(runs: list[Record], request: Request) -> list[Record]:
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for run in runs:
        groups[tuple(str(run.get(field)) for field in request.hold)].append(run)
    common = Counter(tuple(str(r.get(f)) for f in _DECODING) for r in runs)

    def worth(group: list[Record]) -> tuple[float, ...]:
        places = {tuple(axis_value(r, f) for f in request.x) for r in group}
        data = max(float(r.get("data_examples") or 0) for r in group)
        size = max(float(r.get("params_non_embedding") or 0) for r in group)
        decoding = common[tuple(str(group[0].get(f)) for f in _DECODING)]
        return len(places), data, decoding, size

    return max(groups.values(), key=worth)


def axis_value(run: Record, field: str) -> float | None:
    """A record's number on an axis; a table of parts is summed."""
    value: Any = run.get(field)
    if isinstance(value, dict):
        value = sum(float(p) for p in cast(dict[str, Any], value).values())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def metric_value(run: Record, name: str) -> tuple[float, float, float] | None:
    """Value and interval of a metric; ``1-NAME`` turns a hit rate into a miss rate."""
    table: dict[str, Any] = run.get("metrics") or {}
    if name.startswith("1-"):
        inner = metric_value(run, name[2:])
        return None if inner is None else (1 - inner[0], 1 - inner[2], 1 - inner[1])
    measure: dict[str, Any] = table.get(name) or {}
    if measure.get("value") is None:
        return None
    value = float(measure["value"])
    low, high = (
        float(measure[k]) if measure.get(k) is not None else math.nan
        for k in ("low", "high")
    )
    return (value, low, high) if math.isfinite(value) else None


def null_value(runs: list[Record], metric: str) -> float | None:
    """What a model that knows nothing would score, where that is known.

    ``ce_null``, ``rho_null`` and ``cgl_null`` are read from the records; a miss rate
    of such a model is one, as near as a collection is large.
    """
    if metric.startswith("1-"):
        return 1.0
    measured = metric_value(runs[0], f"{metric}_null")
    if measured is not None:
        return measured[0]
    negatives = runs[0].get("negatives")
    if not isinstance(negatives, int) or negatives < 1:
        return None
    known = {"ce": math.log1p(negatives), "cgl": math.log1p(1 / negatives), "rho": 1.0}
    return known.get(metric)


def points_of(runs: list[Record], request: Request) -> points_module.Points:
    """The points of a request, one for each run."""
    rows = [metric_value(run, request.y) or (math.nan,) * 3 for run in runs]
    table_R3 = np.asarray(rows, dtype=np.float64)
    x_RA = np.asarray([[axis_value(r, f) for f in request.x] for r in runs], float)
    return points_module.make(
        x_RA,
        table_R3[:, 0],
        low_R=table_R3[:, 1],
        high_R=table_R3[:, 2],
        labels=tuple(str(run.get("cell", i)) for i, run in enumerate(runs)),
        axes=request.x,
        metric=request.y,
    )


def query_table(
    folder: Path, records: list[Record], fit: Fit
) -> query_values.Table | None:
    """Values of a stored fit's points on each query; None where they are not kept."""
    fields = fit.x.split(",")
    held = {k: v for k, v in fit.group.items() if k in (*FAMILY, *_DECODING)}
    tables: list[query_values.Table | None] = []
    for point in fit.points:
        cells = set(str(point["record"]).split("+"))
        places = np.atleast_1d(point["x"])
        runs = [
            run
            for run in records
            if run.get("cell") in cells
            and all(str(run.get(k)) == str(v) for k, v in held.items())
            and np.allclose([axis_value(run, f) or 0.0 for f in fields], places)
        ]
        tables.append(query_values.of_runs(folder, runs, fit.y))
    return query_values.stacked(tables)


def _form(runs: list[Record], request: Request) -> dict[str, str]:
    """The checklist's answers that records hold."""
    sizes = [axis_value(r, "params_non_embedding") or 0.0 for r in runs]
    pairs = [axis_value(r, "data_examples") or 0.0 for r in runs]
    seeds = sorted({str(r.get("seed")) for r in runs})
    return {
        "units": "N: non-embedding parameters, output head excluded; D: distinct "
        "training pairs; FLOPs: two for a multiply-add, attention included",
        "range": f"N {min(sizes):.3g} to {max(sizes):.3g}, D {min(pairs):.3g} to "
        f"{max(pairs):.3g}",
        "runs": f"{len(runs)} runs, seeds {', '.join(seeds)}",
        "losses": "final checkpoints, no smoothing",
        "exclusions": "none",
    }
