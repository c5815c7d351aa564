"""From points to a stored fit: refusals, intervals, warnings, files, the study."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.fit import (
    backtest,
    bootstrap,
    fits,
    fitting,
    judgement,
    objective,
    optimum,
    points,
    profile,
    reading,
    rivals,
    study_fits,
)
from gr_jax.fit.laws import registry
from tools import cli

QUICK = fitting.Settings(resamples=200, has_rivals=False)
POWER = registry.get("single-power")
SQUARES = objective.Objective(loss="squares")


def curve(
    x_R: np.ndarray, *, noise: float = 0.0, seed: int = 0, alpha: float = 0.5
) -> np.ndarray:
    noise_R = noise * np.random.default_rng(seed).standard_normal(x_R.size)
    return (1.5 + (2e4 / x_R) ** alpha) * np.exp(noise_R)


def sample(count: int, *, noise: float = 0.0, seed: int = 0) -> points.Points:
    x_R = np.geomspace(1e4, 1e8, count)
    return points.make(x_R, curve(x_R, noise=noise, seed=seed))


def code(fit: fits.Fit) -> str:
    return fit.reason.split(":")[0]


def test_as_many_points_as_parameters_plus_one_are_refused() -> None:
    assert code(fitting.run(sample(4), "single-power")) == "too-few-points"
    assert fitting.run(sample(5), "single-power", settings=QUICK).is_fitted


def test_seeds_are_not_points() -> None:
    x_R = np.repeat(np.geomspace(1e4, 1e8, 4), 3)
    fit = fitting.run(points.make(x_R, curve(x_R, noise=0.01)), "single-power")
    assert code(fit) == "too-few-points"
    assert "8 repeats" not in fit.reason  # they are averaged before they are counted
    assert [p["runs"] for p in fit.points] == [3, 3, 3, 3]


def test_a_metric_on_its_null_value_is_refused() -> None:
    x_R = np.geomspace(1e4, 1e8, 8)
    near = points.make(x_R, 1.0 + 0.001 * np.sin(np.arange(8)))
    settings = fitting.Settings(null=1.0)
    assert code(fitting.run(near, "single-power", settings=settings)) == "null-trend"
    wide = points.make(x_R, curve(x_R), low_R=np.zeros(8), high_R=np.full(8, 9.0))
    assert code(fitting.run(wide, "single-power", settings=settings)) == "null-trend"


def test_saturated_flat_collinear_and_one_axis_data_are_named() -> None:
    x_R = np.geomspace(1e4, 1e8, 8)
    flat = points.make(x_R, np.full(8, 0.4))
    assert code(fitting.run(flat, "single-power")) == "saturated"
    noise_R = np.random.default_rng(1).standard_normal(12)
    still = points.make(np.geomspace(1e4, 1e8, 12), 2 + 0.01 * noise_R)
    assert code(fitting.run(still, "single-power")) == "no-trend"
    both = points.make(np.stack([x_R, 20 * x_R], axis=1), curve(x_R))
    assert code(fitting.run(both, "chinchilla")) == "collinear"
    one = points.make(np.stack([x_R, np.full(8, 1e6)], axis=1), curve(x_R))
    assert code(fitting.run(one, "chinchilla")) == "one-axis"
    two = points.make(np.stack([x_R, np.tile([1e6, 3e6], 4)], axis=1), curve(x_R))
    assert code(fitting.run(two, "chinchilla")) == "thin-axis"
    few = points.make(np.stack([x_R, x_R[::-1] ** 0.5], axis=1)[:6], curve(x_R)[:6])
    assert code(fitting.run(few, "chinchilla")) == "too-few-points"


def test_an_exponent_that_rests_on_one_point_is_warned_of() -> None:
    x_R = np.array([1e5, 2e5, 3e5, 4e5, 5e5, 6e5])
    steep = points.make(x_R, 2.0 * (1 + 0.05 * (1e5 / x_R) ** 6))
    fit = fitting.run(steep, "single-power", settings=QUICK)
    assert "saturated" in [w["code"] for w in fit.warnings]


def test_a_pure_power_has_no_floor_and_says_so() -> None:
    x_R = np.geomspace(1e4, 1e8, 10)
    noise_R = 0.02 * np.random.default_rng(0).standard_normal(10)
    pure = points.make(x_R, (1e3 / x_R) ** 0.3 * np.exp(noise_R))
    found = optimum.find(POWER, pure, SQUARES)
    codes = [f.code for f in judgement.warnings(found)]
    assert ("no-floor" in codes) == (found.theta_P[0] <= found.setting.low_P[0] + 1e-3)


def test_noiseless_laws_are_recovered_with_tight_intervals() -> None:
    fit = fitting.run(sample(8), "single-power", settings=QUICK)
    alpha = fit.params["alpha"]
    assert alpha["value"] == pytest.approx(0.5, abs=1e-6)
    assert alpha["low"] == pytest.approx(0.5, abs=1e-3)
    assert fit.certificate["share"] >= 0.3


def test_a_tenfold_outlier_moves_the_exponent_little() -> None:
    data = sample(30, noise=0.005)
    spoilt_R = data.y_R.copy()
    spoilt_R[14] *= 10
    spoilt = points.make(data.x_RA, spoilt_R)
    before = fitting.run(data, "single-power", settings=QUICK).params["alpha"]["value"]
    after = fitting.run(spoilt, "single-power", settings=QUICK).params["alpha"]["value"]
    assert abs(after - before) < 0.02
    squares = optimum.find(POWER, spoilt, SQUARES).coefficients()["alpha"][0]
    assert abs(squares - before) > 0.02


def test_profile_of_a_straight_line_is_students_interval() -> None:
    # On a law that is linear the profile must be the textbook interval.
    generator = np.random.default_rng(2)
    z_R = np.linspace(0.0, 4.0, 7)
    y_R = 3.0 - 0.4 * z_R + 0.1 * generator.standard_normal(7)
    data = points.make(np.exp(z_R), y_R)
    linear = objective.Objective(loss="squares", residual="linear")
    found = optimum.find(registry.get("log-linear"), data, linear)
    design = np.stack([np.ones(7), -(z_R - z_R.mean())], axis=1)
    solved, total, *_ = np.linalg.lstsq(design, y_R, rcond=None)
    error = np.sqrt(total[0] / 5 / (design[:, 1] ** 2).sum())
    span = profile.intervals(found)[1]
    # 2.570582 is the 97.5% quantile of Student's t with five degrees of freedom.
    assert span.low == pytest.approx(solved[1] - 2.570582 * error, rel=1e-4)
    assert span.high == pytest.approx(solved[1] + 2.570582 * error, rel=1e-4)
    cover_PP = found.covariance()
    assert np.sqrt(cover_PP[1, 1]) == pytest.approx(error, rel=1e-6)
    np.testing.assert_allclose(
        bootstrap.leverage(found), np.diag(design @ np.linalg.pinv(design)), rtol=1e-8
    )


@pytest.mark.parametrize("how", ["pairs", "wild", "parametric"])
def test_resamples_spread_as_the_truth_does(how: str) -> None:
    data = sample(24, noise=0.02)
    found = optimum.find(POWER, data, SQUARES)
    theta_BP = getattr(bootstrap, how)(found, resamples=400, seed=1)
    again_BP = getattr(bootstrap, how)(found, resamples=400, seed=1)
    np.testing.assert_array_equal(theta_BP, again_BP)
    truth = [
        optimum.find(POWER, sample(24, noise=0.02, seed=s), SQUARES, keep=6)
        for s in range(60)
    ]
    spread = np.std([t.coefficients()["alpha"][0] for t in truth])
    assert np.std(theta_BP[:, 2]) == pytest.approx(spread, rel=0.5)


def test_noise_that_queries_share_does_not_widen_the_exponent() -> None:
    generator = np.random.default_rng(0)
    x_R = np.geomspace(1e4, 1e8, 14)
    hard_Q = np.exp(0.5 * generator.standard_normal(400))
    shared_RQ = curve(x_R)[:, None] * hard_Q
    data = points.make(x_R, shared_RQ.mean(axis=1))
    found = optimum.find(POWER, data, SQUARES)
    theta_BP = bootstrap.two_way(found, shared_RQ, resamples=100, with_runs=False)
    assert np.std(theta_BP[:, 2]) < 1e-5
    assert np.std(theta_BP[:, 0]) > 0.01  # the floor scales with the queries
    own_RQ = curve(x_R)[:, None] * np.exp(0.5 * generator.standard_normal((14, 400)))
    data = points.make(x_R, own_RQ.mean(axis=1))
    found = optimum.find(POWER, data, SQUARES)
    theta_BP = bootstrap.two_way(found, own_RQ, resamples=100, with_runs=False)
    assert np.std(theta_BP[:, 2]) > 0.005
    fit = fitting.run(data, "single-power", settings=QUICK, query_RQ=own_RQ)
    assert fit.quality["queries"]["queries"] == 400
    with pytest.raises(errors.InputError, match="not the point's value"):
        bootstrap.two_way(found, own_RQ + 1.0)
    with pytest.raises(errors.InputError, match="3 runs for 14 points"):
        bootstrap.two_way(found, own_RQ[:3])


def test_roll_out_widens_where_the_law_is_wrong() -> None:
    x_R = np.geomspace(1e4, 1e8, 24)
    noise_R = 0.003 * np.random.default_rng(0).standard_normal(24)
    # Past 1e7 the curve bends up: no single power knows.
    bent_R = (1.5 + (2e4 / x_R) ** 0.5) * np.exp(noise_R)
    bent_R *= np.where(x_R > 1e7, (x_R / 1e7) ** 0.05, 1.0)
    wrong = backtest.roll_out(optimum.find(POWER, points.make(x_R, bent_R), SQUARES))
    right = backtest.roll_out(
        optimum.find(POWER, points.make(x_R, curve(x_R, noise=0.003)), SQUARES)
    )
    assert wrong.factor > 2.0
    assert right.factor < wrong.factor
    assert right.largest is not None
    assert right.largest["error"] < 0.02
    none = backtest.roll_out(optimum.find(POWER, sample(5), SQUARES))
    assert none.factor == 1.0
    assert none.cuts == ()


def test_rivals_prefer_the_law_that_made_the_data() -> None:
    table = rivals.compare(sample(14, noise=0.002))
    assert table[0].law in ("single-power", "shifted-power", "saturating")
    assert table[-1].law == "log-linear"
    assert sum(r.weight for r in table) == pytest.approx(1.0)
    x_R = np.geomspace(1e4, 1e8, 14)
    line = points.make(x_R, 3.0 - 0.1 * np.log(x_R) + 1e-4 * np.sin(np.arange(14)))
    assert rivals.compare(line)[0].law == "log-linear"


def test_fits_are_read_back_without_jax(tmp_path: Path) -> None:
    path = tmp_path / "fits.json"
    fit = fitting.run(sample(8, noise=0.01), "single-power", settings=QUICK)
    refused = fitting.run(sample(3), "single-power")
    fits.write(path, [fit, refused])
    script = (
        "import sys, pathlib, numpy as np\n"
        "from gr_jax.fit import fits\n"
        "fit, refused = fits.read(pathlib.Path(sys.argv[1]))\n"
        "print(fit.predict(np.array([[1e6]]))[0, 0], refused.status)\n"
        "assert 'jax' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True
    )
    assert printed.returncode == 0, printed.stderr
    value, status = printed.stdout.split()
    alpha, floor = fit.params["alpha"]["value"], fit.params["E"]["value"]
    want = floor + fit.params["A"]["value"] * 1e6**-alpha
    assert float(value) == pytest.approx(want, rel=1e-9)
    assert status == "refused"
    path.write_text(json.dumps({"version": 99, "fits": []}))
    with pytest.raises(errors.ArtifactError, match="version: 99"):
        fits.read(path)


def test_bad_rows_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("N,FLOP,loss\n1e6,6e15,3.0\n2e6,-1,2.5\n4e6,6e16,oops\n")
    columns = reading.Columns(x=("N", "FLOP/6/N"), y="loss")
    with pytest.raises(errors.InputError, match=r"runs.csv:3: FLOP/6/N: .*positive"):
        reading.read(path, columns)
    lenient = reading.read(path, columns, is_lenient=True)
    assert len(lenient.faults) == 2
    assert ":4: loss: 'oops'" in lenient.faults[1]
    assert lenient.points.x_RA.tolist() == [[1e6, 1e9]]
    with pytest.raises(errors.InputError, match="no such column: there are N, FLOP"):
        reading.read(path, reading.Columns(x=("D",), y="loss"))
    lines = tmp_path / "runs.jsonl"
    lines.write_text('{"n": 5, "m": {"ce": {"value": 2.0}}}\n\nnot json\n')
    with pytest.raises(errors.InputError, match=r"runs.jsonl:3: not JSON"):
        reading.read(lines, reading.Columns(x=("n",), y="m.ce.value"))


def record(cell: str, size: int, data: int, beam: int) -> dict[str, Any]:
    noise = np.exp(0.004 * np.sin(hash_of(cell)))
    loss = (1.0 + (2e4 / size) ** 0.5 + (1e3 / data) ** 0.5) * noise
    miss = min(0.1 + 0.3 * beam**-0.7 + (5e3 / size) ** 0.5, 0.99) * noise
    return {
        "cell": cell,
        "collection": "toy",
        "split": "test",
        "arch": "t5",
        "identifier_kind": "rq",
        "size_name": f"s{size}",
        "params_non_embedding": size,
        "data_fraction": data / 1e5,
        "data_examples": data,
        "data_tokens": 5 * data,
        "beam": beam,
        "max_length": 8,
        "rescoring": "none",
        "negatives": 256,
        "seed": 0,
        "train_flops": 30.0 * size * data + 100.0 * data,
        "inference_flops_per_query": {
            "prefill": 40.0 * size,
            "decode": 16.0 * size * beam,
        },
        "metrics": {
            "ce": {"value": loss, "low": loss * 0.99, "high": loss * 1.01},
            "rho": {"value": 1.0001, "low": 0.99, "high": 1.01},
            "recall@10": {"value": 1 - miss, "low": 0.98 - miss, "high": 1.02 - miss},
        },
    }


def hash_of(cell: str) -> float:
    return float(sum(ord(c) * (i + 1) for i, c in enumerate(cell)))


def study() -> list[dict[str, Any]]:
    sizes = [50_000 * 3**i for i in range(6)]
    rows = [record(f"n{size}", size, 100_000, 8) for size in sizes]
    rows += [record(f"d{i}", sizes[3], 3_000 * 2**i, 8) for i in range(5)]
    rows += [record(f"b{beam}", sizes[3], 100_000, beam) for beam in (1, 2, 4, 16, 32)]
    return rows


def test_runs_find_their_laws() -> None:
    found = study_fits.fit_study(study(), settings=QUICK)
    by_name = {fit.name.split(": ")[1]: fit for fit in found}
    size = by_name["ce by params_non_embedding"]
    assert len(size.points) == 6
    assert size.params["alpha"]["value"] == pytest.approx(0.5, abs=0.1)
    assert len(by_name["ce by data_examples"].points) == 6
    assert len(by_name["1-recall@10 by inference_flops_per_query"].points) == 6
    assert code(by_name["rho by params_non_embedding"]) == "null-trend"
    assert "1-recall@1 by params_non_embedding" not in by_name  # no run has it
    for point in size.points:
        assert point["low"] < point["y"] < point["high"]


def test_a_table_gives_fits_figures_and_the_checklist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "runs.csv"
    x_R = np.geomspace(1e4, 1e8, 9)
    rows = zip(x_R.tolist(), curve(x_R, noise=0.01).tolist(), strict=True)
    table.write_text("N,loss\n" + "".join(f"{x},{y}\n" for x, y in rows))
    out = tmp_path / "out.json"
    command = ["fit", "--table", str(table), "--x", "N", "--y", "loss"]
    command += ["--resamples", "100", "--out", str(out), "--form", "units=in millions"]
    assert cli.main(command) == 0
    assert "rival" in capsys.readouterr().out
    (fit,) = fits.read(out)
    assert fit.is_fitted
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["checklist.md", "fit-0-loss-by-n.png", "fit-0-loss-by-n.svg"]
    form = (tmp_path / "out" / "checklist.md").read_text()
    assert "in millions" in form
    assert "not stored" in form  # the policy, which nobody told
    picture = (tmp_path / "out" / "fit-0-loss-by-n.svg").read_text()
    assert "<svg" in picture
    assert "back-tested" in picture


def test_points_are_weighed_by_what_their_intervals_tell() -> None:
    x_R = np.geomspace(1e4, 1e8, 9)
    y_R = curve(x_R)
    y_R[4] *= 1.2
    wide_R = np.where(np.arange(9) == 4, 0.5, 0.005)
    data = points.make(x_R, y_R, low_R=y_R * (1 - wide_R), high_R=y_R * (1 + wide_R))
    linear = points.weighted_by_errors(data, is_relative=False)
    np.testing.assert_allclose(
        linear.weight_R * (y_R * wide_R) ** 2,
        linear.weight_R[0] * (y_R[0] * 0.005) ** 2,
    )
    assert linear.weight_R.mean() == pytest.approx(1.0)
    plain = fitting.run(data, "single-power", settings=QUICK)
    weighed = fitting.run(
        data,
        "single-power",
        settings=fitting.Settings(resamples=200, has_rivals=False, is_weighted=True),
    )
    # The point that is off has an interval that says so.
    gap = abs(weighed.params["alpha"]["value"] - 0.5)
    assert gap < 0.1 * abs(plain.params["alpha"]["value"] - 0.5)
    assert weighed.form["weights"] == "as given"
    bare = points.make(x_R, y_R, labels=tuple("abcdefghi"))
    with pytest.raises(errors.InputError, match="a: no interval"):
        points.weighted_by_errors(bare, is_relative=True)
