"""The figures' data, without a browser: points, curves, rules and residuals."""

from __future__ import annotations

import dataclasses
import math

import plotly.graph_objects
import pytest

from gr_jax.fit import fits
from gr_jax.report import contents, drawing, figures, law_figures


@pytest.fixture
def study(study_folder):
    return contents.read(study_folder)


def fitted(study, y, x):
    return next(
        (i, f)
        for i, f in enumerate(study.fits)
        if f.is_fitted and f.y == y and f.x == x
    )


def test_points_are_the_records_values(study):
    place, fit = fitted(study, "ce", "params_non_embedding")
    figure = law_figures.of_fit(study, fit, place)
    (points,) = [s for s in figure.series if s.kind == "points"]
    assert len(points.x) == 6
    for x, y, low, source in zip(
        points.x, points.y, points.low, points.sources, strict=True
    ):
        record = study.row_at(int(source.split(":")[1])).record
        assert record.params_non_embedding == x
        assert record.metrics["ce"].value == y
        assert record.metrics["ce"].low == low


def test_a_point_of_beams_names_the_record_of_that_beam(study):
    place, fit = fitted(study, "1-recall@10", "inference_flops_per_query")
    figure = law_figures.of_fit(study, fit, place)
    (points,) = [s for s in figure.series if s.kind == "points"]
    assert len(set(points.sources)) == 6
    for y, source in zip(points.y, points.sources, strict=True):
        record = study.row_at(int(source.split(":")[1])).record
        assert 1 - record.metrics["recall@10"].value == pytest.approx(y)


def test_the_curve_is_solid_to_the_last_point_and_dashed_beyond(study):
    place, fit = fitted(study, "ce", "params_non_embedding")
    figure = law_figures.of_fit(study, fit, place)
    solid, dashed = [s for s in figure.series if s.kind == "line"]
    largest = max(p["x"] for p in fit.points)
    assert (solid.dashed, dashed.dashed) == (False, True)
    assert all(x <= largest for x in solid.x[:-1])
    assert dashed.x[-1] >= 9 * largest
    assert solid.x[-1] == dashed.x[1] or solid.x[-1] == dashed.x[0]
    alpha = fit.params["alpha"]["value"]
    floor, scale = fit.params["E"]["value"], fit.params["X0"]["value"]
    for x, y in zip(solid.x, solid.y, strict=True):
        assert y == pytest.approx((scale / x) ** alpha + floor, rel=1e-6)


def test_null_values_and_rivals_are_rules(study):
    place, fit = fitted(study, "ce", "params_non_embedding")
    (null,) = figures.references(study, "ce")
    assert null.y == [pytest.approx(math.log(257))]
    figure = law_figures.of_fit(study, fit, place)
    assert null in figure.series
    assert figure.off_scale == [f"{null.name} lies above"]
    (cgl,) = figures.references(study, "cgl")
    assert cgl.y == [pytest.approx(0.00389864, abs=1e-8)]
    rules = figures.references(study, "1-recall@10")
    assert [r.y[0] for r in rules] == pytest.approx([0.25, 0.18])
    assert rules[0].sources == ["baselines/bm25/metrics.json"]


def test_residuals_belong_to_their_points(study):
    place, fit = fitted(study, "ce", "params_non_embedding")
    figure = law_figures.of_fit(study, fit, place)
    (shown,) = figure.residuals
    assert shown.y == fit.residuals
    assert shown.x == [p["x"] for p in fit.points]
    for point, residual in zip(fit.points, shown.y, strict=True):
        predicted = fit.predict(_column(point["x"]))[0, 0]
        gap = math.log(point["y"] / predicted)
        assert residual == pytest.approx(gap, abs=1e-9)


def _column(x):
    import numpy as np

    return np.array([[x]])


def test_a_refused_law_shows_points_and_no_curve(study):
    place, fit = next((i, f) for i, f in enumerate(study.fits) if not f.is_fitted)
    figure = law_figures.of_fit(study, fit, place)
    kinds = {s.kind for s in figure.series}
    assert "points" in kinds
    assert not kinds & {"line", "band"}
    assert figure.residuals == []


def test_two_axes_give_a_curve_for_each_second_value(study):
    place, fit = next(
        (i, f) for i, f in enumerate(study.fits) if f.is_fitted and "," in f.x
    )
    figure = law_figures.of_fit(study, fit, place)
    seconds = {p["x"][1] for p in fit.points}
    assert sum(s.kind == "points" for s in figure.series) == len(seconds)
    assert sum(len(s.x) for s in figure.residuals) == len(fit.points)
    assert sum(s.kind == "line" and not s.dashed for s in figure.series) > 1


def test_plotly_accepts_every_figure_and_nothing_is_infinite(study):
    for i, fit in enumerate(study.fits):
        drawn = drawing.plotly(law_figures.of_fit(study, fit, i))
        plain = _without_colours(drawn)
        plotly.graph_objects.Figure(plain)
        for trace in drawn["data"]:
            assert len(trace["x"]) == len(trace["y"])
            assert all(v is None or math.isfinite(v) for v in trace["y"])


def _without_colours(value):
    if isinstance(value, str):
        return "#123456" if value.startswith("@") else value
    if isinstance(value, list):
        return [_without_colours(v) for v in value]
    if isinstance(value, dict):
        return {k: _without_colours(v) for k, v in value.items()}
    return value


def test_png_files_are_the_same_twice(study, tmp_path):
    overview = figures.overview(study)
    drawing.picture(overview, tmp_path / "a.png")
    drawing.picture(overview, tmp_path / "b.png")
    first = (tmp_path / "a.png").read_bytes()
    assert first[:4] == b"\x89PNG"
    assert first == (tmp_path / "b.png").read_bytes()
    other = dataclasses.replace(overview, series=overview.series[:1])
    drawing.picture(other, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() != first


def test_many_places_of_the_second_axis_join_the_nearest_curves(tmp_path):
    at = [1e6, 1e7, 1e8]
    places = [(1e5 * (1 + i), 10 ** (6 + 2 * i / 19)) for i in range(20)]
    fit = fits.Fit(
        name="many",
        law="chinchilla",
        formula="",
        x="N,D",
        y="loss",
        status="fitted",
        points=[{"x": list(place), "y": 2.0, "record": ""} for place in places],
        residuals=[0.0] * 20,
        curve={"families": [{"at": [d], "x": [1e5, 2e6], "y": [2, 1]} for d in at]},
    )
    study = contents.of_fits(tmp_path, [fit])
    figure = law_figures.of_fit(study, fit, 0)
    shown = [s for s in figure.series if s.kind == "points"]
    assert [len(s.x) for s in shown] == [5, 10, 5]
    assert all(s.name.startswith("D about") for s in shown)
    assert [s.x for s in figure.residuals] == [s.x for s in shown]
