"""Published scaling tables, fitted anew: every answer beside the one expected.

``python -m tools.check_fit`` reads ``$GR_JAX_DATA/scaling`` and ends with 1 if a row is
outside its tolerance.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gr_jax.core import errors
from gr_jax.fit import (
    backtest,
    bootstrap,
    fitting,
    judgement,
    objective,
    optimum,
    points,
    reading,
    solve,
)
from gr_jax.fit.laws import registry

NULL = math.log1p(1 / 256)
HUBER = objective.Objective(loss="huber", residual="log", delta=1e-3)
LOG_SQUARES = objective.Objective(loss="squares", residual="log")
SQUARES = objective.Objective(loss="squares", residual="linear")

# Sum of Huber or half sum of squares, then A, B, E, alpha, beta.
JOINT = {
    "epoch-240": (
        HUBER,
        1.0182740178e-3,
        477.826,
        2143.42,
        1.817218,
        0.34731,
        0.367172,
    ),
    "epoch-245": (HUBER, 1.8260105e-3, 495.73, 12845.6, 1.891338, 0.349313, 0.453049),
    "kyo-234": (HUBER, 8.4009312e-4, 442.16, 1271.81, 1.783894, 0.342626, 0.342002),
    "epoch-240 squares": (
        LOG_SQUARES,
        *(5.7309435e-3, 593.32, 4875.64, 1.86455, 0.360253, 0.405883),
    ),
}
# ln A, ln B, ln E, alpha, beta in full digits (the notebook's output; the source of
# arXiv:2203.15556), and what they score.
PUBLISHED = {
    "Besiroglu et al.": (
        (6.17795598, 7.64273236, 0.59711196, 0.34781303, 0.36585412),
        1.0186447e-3,
    ),
    "Hoffmann et al.": (
        (6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083),
        1.2311626e-3,
    ),
}
# Standard error, 2.5% and 97.5% of 4,000 resamples with NumPy's seed 42.
RESAMPLED = {
    "A": (124.49, 286.09, 743.61),
    "B": (1293.17, 1042.37, 5810.36),
    "E": (0.02566, 1.7694, 1.8712),
    "alpha": (0.01540, 0.3168, 0.3733),
    "beta": (0.02059, 0.3313, 0.4154),
}
# The published errors, from 4,000 resamples whose fits are the publication's own.
PUBLISHED_ERRORS = {"A": 124.52, "B": 1293.28, "E": 0.02566, "alpha": 0.0154}
PUBLISHED_ERRORS["beta"] = 0.0206
# alpha, X0, delta, R2, low and high of alpha.
RETRIEVAL = {
    "minder-t5": (0.402, 0.0228, 0.003556, 0.9991, 0.276, 0.546),
    "minder-llama2-7b": (3.998, 1.05e4, 0.00335, 0.99998, 3.70, 4.37),
    "minder-t5 (other value)": (0.378, None, None, 0.9965, 0.136, 0.692),
}
REFUSED = {"minder-llama2": "too-few-points", "ripor-t5": "null-trend"}
# rmse, AICc and mean relative test error: with interaction, then without.
SPARSITY = {
    "D1=2.31_D2=1.15": ((0.0237, -178.2, 0.0118), (0.0241, -180.7, 0.0109)),
    "D1=2.31_D2=2.31": ((0.0442, -152.2, 0.0202), (0.0454, -154.2, 0.0187)),
    "D1=2.31_D2=4.61": ((0.0202, -112.2, 0.0202), (0.0249, -110.1, 0.0156)),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison; either tolerance, relative or absolute, is enough."""

    what: str
    expected: float | str
    found: float | str
    relative: float = 0.0
    absolute: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the found value is the expected one, within tolerance."""
        if isinstance(self.expected, str) or isinstance(self.found, str):
            return self.expected == self.found
        gap = abs(self.found - self.expected)
        return gap <= max(self.absolute, self.relative * abs(self.expected))

    def line(self) -> str:
        """For the terminal."""
        mark = "ok  " if self.holds else "FAIL"
        if isinstance(self.expected, str) or isinstance(self.found, str):
            return f"{mark} {self.what:44s} {self.expected!s:>16} {self.found!s:>16}"
        gap = self.found - self.expected
        size = f"{gap / self.expected:+.1e}" if self.expected else f"{gap:+.1e}"
        return (
            f"{mark} {self.what:44s} {self.expected:16.9g} {self.found:16.9g}  {size}"
        )


def epoch(folder: Path, *, dropped: int) -> points.Points:
    """Epoch's points without so many of the highest losses; D = C / (6 N)."""
    columns = reading.Columns(x=("Model Size", "Training FLOP/6/Model Size"), y="loss")
    read = reading.read(folder / "chinchilla-epoch.csv", columns).points
    keep = np.ones(len(read), dtype=bool)
    keep[np.argsort(read.y_R)[len(read) - dropped :]] = False
    return read.keep(keep)


def _joint_points(folder: Path, name: str) -> points.Points:
    if name.startswith("epoch"):
        return epoch(folder, dropped=0 if "245" in name else 5)
    columns = reading.Columns(x=("N", "D"), y="loss")
    return reading.read(folder / "chinchilla-kyo.csv", columns).points


def joint(folder: Path) -> Iterator[Row]:
    """Minima of the joint law, and the certificate of each."""
    for name, (chosen, value, *numbers) in JOINT.items():
        found = optimum.find(
            registry.get("chinchilla"), _joint_points(folder, name), chosen
        )
        yield Row(f"{name}: objective", value, found.total, relative=1e-6)
        fitted = found.coefficients()
        for key, number in zip(("A", "B", "E", "alpha", "beta"), numbers, strict=True):
            yield Row(f"{name}: {key}", number, float(fitted[key][0]), relative=1e-4)
        agree = "at least 0.3" if found.certificate.share >= 0.3 else "below 0.3"
        yield Row(f"{name}: share of starts agreeing", "at least 0.3", agree)


def published(folder: Path) -> Iterator[Row]:
    """What published coefficients score, and that none beats the minimum."""
    data = epoch(folder, dropped=5)
    found = optimum.find(registry.get("chinchilla"), data, HUBER)
    log_n_R, log_d_R = np.log(data.x_RA.T)
    for name, ((a, b, e, alpha, beta), value) in PUBLISHED.items():
        loss_R = np.exp(e) + np.exp(a - alpha * log_n_R) + np.exp(b - beta * log_d_R)
        score = float(HUBER.rho(np.log(data.y_R) - np.log(loss_R)).sum())
        yield Row(f"{name}: objective", value, score, relative=1e-6)
        better = "yes" if found.total < score else "no"
        yield Row(f"{name}: ours is lower", "yes", better)


def resampled(folder: Path) -> Iterator[Row]:
    """The 4,000 resamples of the notebook, drawn as it draws them."""
    data = epoch(folder, dropped=5)
    found = optimum.find(registry.get("chinchilla"), data, HUBER)
    legacy = np.random.RandomState(42)  # the notebook's generator
    count_BR = np.stack(
        [np.bincount(legacy.choice(240, 240), minlength=240) for _ in range(4000)]
    ).astype(np.float64)
    theta_BP = bootstrap.pairs(found, count_BR=count_BR)
    drawn = found.coefficients(theta_BP)
    for name, (error, low, high) in RESAMPLED.items():
        deviation = float(drawn[name].std())
        yield Row(f"bootstrap: error of {name}", error, deviation, relative=5e-3)
        label = f"bootstrap: published error of {name}"
        yield Row(label, PUBLISHED_ERRORS[name], deviation, relative=5e-3)
        ends = np.percentile(drawn[name], [2.5, 97.5])
        yield Row(f"bootstrap: 2.5% of {name}", low, float(ends[0]), relative=1e-3)
        yield Row(f"bootstrap: 97.5% of {name}", high, float(ends[1]), relative=1e-3)
    ratio_B = drawn["a"]
    yield Row(
        "a = beta / (alpha + beta)",
        0.514,
        float(found.coefficients()["a"][0]),
        absolute=5e-4,
    )
    yield Row("bootstrap: error of a", 0.020, float(ratio_B.std()), absolute=5e-4)
    ends = np.percentile(ratio_B, [10, 90])
    yield Row("bootstrap: width of a's 80%", 0.051, float(np.ptp(ends)), absolute=5e-4)


def _series(folder: Path, name: str) -> points.Points:
    axis = "D" if name.endswith("7b") else "N"
    base = name.split(" ")[0]
    columns = reading.Columns(x=(axis,), y="cgl", where=(("series", base),))
    read = reading.read(folder / "gr-cgl.csv", columns).points
    if base != name:
        value_R = read.y_R.copy()
        value_R[2] = 0.003623691
        read = dataclasses.replace(read, y_R=value_R)
    return read


def retrieval(folder: Path) -> Iterator[Row]:
    """Laws of generative retrieval, and the two that must be refused."""
    settings = fitting.Settings(objective=SQUARES, null=NULL, has_rivals=False)
    for name, (alpha, scale, floor, r2, low, high) in RETRIEVAL.items():
        fit = fitting.run(_series(folder, name), "single-power", settings=settings)
        found = fit.params
        yield Row(f"{name}: status", "fitted", fit.status)
        # The published exponents come from a search that stops 0.06% above the minimum.
        yield Row(f"{name}: alpha", alpha, found["alpha"]["value"], 1e-3, 5e-4)
        if scale is not None and floor is not None:
            # X0 = A^(1 / alpha): the third digit of alpha moves it by 2%.
            yield Row(f"{name}: X0", scale, found["X0"]["value"], relative=2e-2)
            yield Row(f"{name}: delta", floor, found["E"]["value"], relative=2e-4)
        yield Row(f"{name}: R2", r2, fit.quality["r2"], absolute=5e-5)
        yield Row(f"{name}: alpha low", low, found["alpha"]["low"], 3e-3, 5e-4)
        yield Row(f"{name}: alpha high", high, found["alpha"]["high"], 3e-3, 5e-4)
    for name, code in REFUSED.items():
        fit = fitting.run(_series(folder, name), "single-power", settings=settings)
        yield Row(f"{name}: refused for", code, fit.reason.split(":")[0])


def sparsity(folder: Path) -> Iterator[Row]:
    """Laws of sparse mixtures, with and without interaction."""
    path = folder / "moe-upcycling-sparsity.csv"
    for group, (crossed, plain) in SPARSITY.items():
        scores: dict[str, tuple[float, float]] = {}
        for law_name, expected in (("sparsity", crossed), ("sparsity-plain", plain)):
            parts = [
                reading.read(
                    path,
                    reading.Columns(
                        x=("P", "N_active"),
                        y="loss",
                        where=(("group", group), ("split", split)),
                    ),
                ).points
                for split in ("train", "test")
            ]
            found = optimum.find(registry.get(law_name), parts[0], SQUARES)
            error = found.values(parts[1].x_RA)[0] / parts[1].y_R - 1.0
            numbers = (
                float(np.sqrt(np.mean(found.residual_R**2))),
                judgement.aicc(found),
                float(np.abs(error).mean()),
            )
            scores[law_name] = (numbers[1], numbers[2])
            for key, want, got, slack in zip(
                ("rmse", "AICc", "test error"),
                expected,
                numbers,
                (5e-5, 5e-2, 5e-5),
                strict=True,
            ):
                yield Row(f"{group} {law_name}: {key}", want, got, absolute=slack)
        wanted = "sparsity" if crossed[1] < plain[1] else "sparsity-plain"
        yield Row(
            f"{group}: AICc prefers", wanted, min(scores, key=lambda k: scores[k][0])
        )
        yield Row(
            f"{group}: extrapolates better",
            "sparsity-plain",
            min(scores, key=lambda k: scores[k][1]),
        )


def extrapolation(folder: Path) -> Iterator[Row]:
    """Intervals of a new run, fitted below a cut in compute and judged above it."""
    data = epoch(folder, dropped=5)
    flops_R = 6.0 * data.x_RA.prod(axis=1)
    for cut in (1e20, 1e21):
        below = data.keep(flops_R < cut)
        above = data.keep(flops_R >= cut)
        found = optimum.find(registry.get("chinchilla"), below, HUBER)
        factor = backtest.roll_out(found).factor
        residual_R = np.abs(found.residuals_of(above))
        width_R = backtest.half_widths(found, above.x_RA)
        naive = float((residual_R <= width_R).mean())
        wide = float((residual_R <= factor * width_R).mean())
        ratio = float(factor * width_R.mean() / residual_R.mean())
        name = f"cut {cut:.0e} ({len(below)}/{len(above)})"
        print(
            f"     {name}: error {residual_R.mean():.2%}, factor {factor:.2f}, naive "
            f"{naive:.0%}, widened {wide:.0%}, half-width {ratio:.2f} x the error"
        )
        yield Row(f"{name}: holds 85% of runs", "yes", "yes" if wide >= 0.85 else "no")
        yield Row(f"{name}: width under 3 errors", "yes", "yes" if ratio < 3 else "no")


def outliers() -> Iterator[Row]:
    """Five planted outliers among 240 points of a full grid, under Huber."""
    family = registry.get("chinchilla")
    generator = np.random.Generator(np.random.PCG64(0))
    size, tokens = np.meshgrid(np.geomspace(4e7, 1e10, 15), np.geomspace(1e9, 5e11, 16))
    x_RA = np.stack([size.ravel(), tokens.ravel()], axis=1)
    loss_R = 1.8 + 480 * x_RA[:, 0] ** -0.35 + 2100 * x_RA[:, 1] ** -0.37
    loss_R *= np.exp(0.005 * generator.standard_normal(loss_R.size))
    spoilt_R = loss_R.copy()
    middle = np.flatnonzero(
        (np.abs(np.log(x_RA[:, 0] / 6e8)) < 1.5)
        & (np.abs(np.log(x_RA[:, 1] / 2e10)) < 2)
    )
    spoilt_R[generator.choice(middle, 5, replace=False)] *= 1.5
    clean = optimum.find(family, points.make(x_RA, loss_R), HUBER)
    spoilt = optimum.find(family, points.make(x_RA, spoilt_R), HUBER)
    before = float(clean.coefficients()["alpha"][0])
    after = float(spoilt.coefficients()["alpha"][0])
    yield Row("alpha with 5 outliers of 240", before, after, absolute=0.02)


def main() -> int:
    """Prints every row and returns 1 if one does not hold."""
    root = os.environ.get("GR_JAX_DATA")
    if not root:
        print("GR_JAX_DATA is not set: it names the folder that holds scaling/")
        return errors.UsageError.exit_code
    folder = Path(root) / "scaling"
    print(f"     {'':44s} {'expected':>16} {'found':>16}  relative")
    failed = total = 0
    for part in (joint, published, resampled, retrieval, sparsity, extrapolation):
        for row in part(folder):
            print(row.line())
            failed, total = failed + (not row.holds), total + 1
    for row in outliers():
        print(row.line())
        failed, total = failed + (not row.holds), total + 1
    print(
        f"{total - failed} of {total} rows hold (agreement tolerance {solve.AGREEMENT})"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
