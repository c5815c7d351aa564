"""Do nominal 95% intervals hold the truth 95 times in a hundred? By simulation."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gr_jax.fit import fitting, optimum, points, profile
from gr_jax.fit.laws import law, registry

NOISE = 0.01


def design(
    law_name: str, count: int
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    if law_name == "single-power":
        x_RA = np.geomspace(1e5, 3e7, count)[:, None]
        return x_RA, 1.0 + (3e4 / x_RA[:, 0]) ** 0.45, {"alpha": 0.45}
    side = {8: 3, 16: 4, 36: 6}[count]
    sizes, tokens = np.geomspace(5e5, 8e7, side), np.geomspace(2e4, 5e5, side)
    x_RA = law.grid(sizes.tolist(), tokens.tolist())[:count]
    loss_R = 0.5 + (1e5 / x_RA[:, 0]) ** 0.5 + (1e4 / x_RA[:, 1]) ** 0.7
    return x_RA, loss_R, {"alpha": 0.5, "beta": 0.7}


def coverage(
    law_name: str, count: int, *, trials: int, seed: int = 0
) -> dict[str, float]:
    """Share of simulated studies whose interval, by the default method, holds truth."""
    family = registry.get(law_name)
    x_RA, loss_R, truth = design(law_name, count)
    held: dict[str, int] = dict.fromkeys(truth, 0)
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial, count])
        noise_R = NOISE * generator.standard_normal(count)
        data = points.make(x_RA, loss_R * np.exp(noise_R))
        chosen = optimum.automatic(family, data)
        found = optimum.find(family, data, chosen, keep=12)
        rows = fitting.intervals(
            found, fitting.Settings(resamples=400, seed=trial)
        ).rows
        for name, value in truth.items():
            held[name] += rows[name]["low"] <= value <= rows[name]["high"]
    return {name: number / trials for name, number in held.items()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("law_name", "count"),
    [
        ("single-power", 5),
        ("single-power", 8),
        ("single-power", 16),
        ("single-power", 36),
        ("chinchilla", 8),
        ("chinchilla", 16),
        ("chinchilla", 36),
    ],
)
def test_nominal_intervals_cover(
    law_name: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = coverage(law_name, count, trials=400)
    line = ", ".join(f"{name} {share:.1%}" for name, share in found.items())
    with capsys.disabled():
        sys.stdout.write(f"\n{law_name} n={count}: {line}\n")
    for share in found.values():
        assert 0.90 <= share <= 0.98


@pytest.mark.parametrize("count", [5, 6])
def test_the_joint_law_is_refused_on_few_points(count: int) -> None:
    x_RA, loss_R, _ = design("chinchilla", 8)
    fit = fitting.run(points.make(x_RA[:count], loss_R[:count]), "chinchilla")
    assert fit.reason.startswith("too-few-points")


def test_two_percent_noise_leaves_the_truth_inside() -> None:
    family = registry.get("single-power")
    x_R = np.geomspace(1e5, 1e8, 8)
    held = 0
    for trial in range(30):
        noise_R = 0.02 * np.random.default_rng(trial).standard_normal(8)
        data = points.make(x_R, (1.0 + (3e4 / x_R) ** 0.45) * np.exp(noise_R))
        found = optimum.find(family, data, optimum.automatic(family, data), keep=8)
        span = profile.intervals(found)[2]
        held += span.low <= 0.45 <= span.high
    assert held >= 26
