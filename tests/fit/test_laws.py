"""Every law: slopes against differences, starts inside bounds, planted laws found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.fit import objective, optimum, points, solve
from gr_jax.fit.laws import chinchilla, kaplan_joint, law, registry, single_power

# (axes, coefficients of the formula, as NumPy arithmetic written out here)
PLANTED = {
    "single-power": (1, lambda x: 1.3 + (2e4 / x[:, 0]) ** 0.6),
    "inference-power": (1, lambda x: 0.2 + (40 / x[:, 0]) ** 0.5),
    "log-linear": (1, lambda x: 3.0 - 0.1 * np.log(x[:, 0])),
    "shifted-power": (1, lambda x: 1.0 + 300 * (x[:, 0] + 8e3) ** -0.5),
    "saturating": (1, lambda x: 0.2 + 0.7 / (1 + (x[:, 0] / 3e5) ** 0.9)),
    "broken-power": (
        1,
        lambda x: (
            0.5
            + 20 * x[:, 0] ** -0.15 * (1 + (x[:, 0] / 1e5) ** (1 / 0.3)) ** (-0.4 * 0.3)
        ),
    ),
    "chinchilla": (
        2,
        lambda x: 1.7 + 400 * x[:, 0] ** -0.5 + 900 * x[:, 1] ** -0.6,
    ),
    "kaplan-joint-n": (
        2,
        lambda x: ((3e4 / x[:, 0]) ** (0.5 / 0.8) + 4e3 / x[:, 1]) ** 0.8 + 0.05,
    ),
    "kaplan-joint-d": (
        2,
        lambda x: ((3e4 / x[:, 1]) ** (0.5 / 0.8) + 4e3 / x[:, 0]) ** 0.8 + 0.05,
    ),
    "upcycling": (
        2,
        lambda x: (
            np.exp(
                4.0
                - 0.3 * np.log(x[:, 0])
                - 0.4 * np.log(x[:, 1])
                + 0.01 * np.log(x[:, 0]) * np.log(x[:, 1])
            )
            + 1.5
        ),
    ),
    "sparsity-plain": (
        2,
        lambda x: np.exp(3.0 + 0.1 * np.log(x[:, 0]) - 0.4 * np.log(x[:, 1])) + 1.5,
    ),
    "performance": (
        2,
        lambda x: (
            0.3
            + 0.05 * (-1 / (2 * x[:, 0] ** 0.3) - 0.3 * np.log(x[:, 0]))
            - 0.04 * (-1 / (2 * x[:, 1] ** 0.2) - 0.2 * np.log(x[:, 1]))
        ),
    ),
    "retrieval-joint": (
        3,
        lambda x: (
            0.1 + 50 * x[:, 0] ** -0.5 + 30 * x[:, 1] ** -0.5 + 0.3 * x[:, 2] ** -0.7
        ),
    ),
}


def places(axes: int) -> np.ndarray:
    """A grid of sizes, data and beams."""
    if axes == 1:
        return np.geomspace(2e3, 5e7, 24)[:, None]
    columns = [np.geomspace(2e4, 5e7, 6), np.geomspace(1e4, 1e7, 5)]
    if axes == 3:
        columns = [columns[0][::2], columns[1][::2], np.array([1.0, 4.0, 16.0, 64.0])]
    return law.grid(*[c.tolist() for c in columns])


def objective_for(family: law.Law) -> objective.Objective:
    scale = "log" if family.link == "log" else "linear"
    return objective.Objective(loss="squares", residual=scale)


def test_every_law_of_the_registry_is_planted_or_a_variant() -> None:
    variants = {"upcycling-plain", "sparsity"}
    assert set(registry.names()) == set(PLANTED) | variants


@pytest.mark.parametrize("name", registry.names())
def test_slopes_and_curvature_are_those_of_differences(name: str) -> None:
    family = registry.get(name)
    x_RA = places(len(family.axes))
    y_R = 1.0 + 3.0 * x_RA[:, 0] ** -0.2
    setting = family.bind(x_RA, y_R)
    theta_BP = setting.start_SP[:: max(1, setting.start_SP.shape[0] // 3)][:3]
    theta_BP = np.clip(theta_BP, setting.low_P + 0.01, setting.high_P - 0.01)
    target = objective.target_of(
        objective_for(family), family.link, y_R, np.ones(y_R.size)
    )
    step, unit_PP = 1e-6, np.eye(theta_BP.shape[1])

    def gradient(at_BP: np.ndarray) -> np.ndarray:
        return family.newton_parts(setting, at_BP, target.curves())[1]

    _, slope_BRP = family.jacobian(setting, theta_BP)
    total_B, gradient_BP, curve_BPP = family.newton_parts(
        setting, theta_BP, target.curves()
    )
    np.testing.assert_allclose(
        total_B, target.total(family.predict(setting, theta_BP)), rtol=1e-12
    )
    for place, unit_P in enumerate(unit_PP):
        up_BP, down_BP = theta_BP + step * unit_P, theta_BP - step * unit_P
        value_BR = family.predict(setting, up_BP) - family.predict(setting, down_BP)
        np.testing.assert_allclose(
            slope_BRP[:, :, place], value_BR / (2 * step), rtol=1e-4, atol=1e-6
        )
        total_B = target.total(family.predict(setting, up_BP))
        total_B = total_B - target.total(family.predict(setting, down_BP))
        scale = np.abs(gradient_BP).max() + 1e-9
        np.testing.assert_allclose(
            gradient_BP[:, place] / scale, total_B / (2 * step) / scale, atol=1e-4
        )
        bend_BP = (gradient(up_BP) - gradient(down_BP)) / (2 * step)
        scale = np.abs(curve_BPP).max()
        np.testing.assert_allclose(
            curve_BPP[:, place] / scale, bend_BP / scale, atol=1e-4
        )


@pytest.mark.parametrize("loss", ["squares", "huber", "absolute"])
@pytest.mark.parametrize("name", ["chinchilla", "kaplan-joint-n", "upcycling"])
def test_the_majorant_is_reweighted_gauss_newton(name: str, loss: str) -> None:
    family, x_RA = registry.get(name), places(2)
    y_R = PLANTED[name][1](x_RA)
    setting = family.bind(x_RA, y_R)
    theta_BP = setting.start_SP[:: setting.start_SP.shape[0] // 3][:3]
    weight_R = np.linspace(0.5, 2.0, y_R.size)
    chosen = objective.Objective(loss=loss, delta=0.01)  # type: ignore[arg-type]
    target = objective.target_of(chosen, family.link, y_R, weight_R)
    curve_BPP = family.newton_parts(
        setting, theta_BP, target.curves(), is_majorant=True
    )[2]
    for theta_P, curve_PP in zip(theta_BP, curve_BPP, strict=True):
        value_1R, slope_1RP = family.jacobian(setting, theta_P[None])
        size_R = np.abs(np.log(y_R) - value_1R[0])
        bend_R = {
            "squares": np.ones_like(size_R),
            "huber": np.minimum(1.0, 0.01 / size_R),
            "absolute": 1.0 / np.maximum(size_R, 0.01),
        }[loss]
        want_PP = slope_1RP[0].T @ np.diag(weight_R * bend_R) @ slope_1RP[0]
        np.testing.assert_allclose(
            curve_PP, want_PP, rtol=1e-9, atol=1e-12 * np.abs(want_PP).max()
        )


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_law_is_found(name: str) -> None:
    family = registry.get(name)
    axes, truth = PLANTED[name]
    x_RA = places(axes)
    y_R = truth(x_RA)
    found = optimum.find(family, points.make(x_RA, y_R), objective_for(family), keep=24)
    # The curve, inside the range: coefficients of some laws trade off without noise.
    inside_RA = np.sqrt(x_RA[1:] * x_RA[:-1])
    np.testing.assert_allclose(found.values(inside_RA)[0], truth(inside_RA), rtol=1e-4)


def test_planted_coefficients_of_the_main_laws() -> None:
    for family, name in (
        (single_power.SinglePower(), "single-power"),
        (chinchilla.Chinchilla(), "chinchilla"),
        (kaplan_joint.KaplanJoint(is_ratio_on_size=True), "kaplan-joint-n"),
    ):
        axes, truth = PLANTED[name]
        x_RA = places(axes)
        found = optimum.find(
            family, points.make(x_RA, truth(x_RA)), objective_for(family), keep=24
        )
        got = {k: float(v[0]) for k, v in found.coefficients().items()}
        want = {
            "single-power": {"E": 1.3, "alpha": 0.6, "X0": 2e4},
            "chinchilla": {"E": 1.7, "A": 400, "alpha": 0.5, "B": 900, "beta": 0.6},
            "kaplan-joint-n": {"A": 3e4, "B": 4e3, "alpha": 0.5, "beta": 0.8},
        }[name]
        for key, value in want.items():
            assert got[key] == pytest.approx(value, rel=1e-4), (name, key)


@settings(max_examples=20, deadline=None)
@given(
    alpha=st.floats(0.1, 1.5),
    floor=st.floats(0.05, 5.0),
    unit=st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**16),
)
def test_exponents_do_not_depend_on_units_or_order(
    alpha: float, floor: float, unit: float, seed: int
) -> None:
    family = single_power.SinglePower()
    generator = np.random.default_rng(seed)
    x_R = np.geomspace(1e4, 1e8, 12)
    y_R = floor + (1e4 / x_R) ** alpha
    y_R = y_R * np.exp(0.002 * generator.standard_normal(12))
    squares = objective.Objective(loss="squares", residual="log")
    plain = optimum.find(family, points.make(x_R, y_R), squares, keep=12)
    scaled = optimum.find(family, points.make(unit * x_R, y_R), squares, keep=12)
    order = generator.permutation(12)
    mixed = optimum.find(family, points.make(x_R[order], y_R[order]), squares, keep=12)
    doubled = optimum.find(
        family,
        points.make(np.repeat(x_R, 2), np.repeat(y_R, 2), weight_R=np.full(24, 0.5)),
        squares,
        keep=12,
    )
    exponent = plain.coefficients()["alpha"][0]
    for other in (scaled, mixed, doubled):
        assert other.coefficients()["alpha"][0] == pytest.approx(exponent, rel=1e-5)
        assert other.total == pytest.approx(plain.total, rel=1e-8)
        assert other.sigma == pytest.approx(plain.sigma, rel=1e-4)
    ratio = scaled.coefficients()["X0"][0] / plain.coefficients()["X0"][0]
    assert ratio == pytest.approx(unit, rel=1e-3)


@settings(max_examples=10, deadline=None)
@given(
    alpha=st.floats(0.25, 1.0),
    beta=st.floats(0.25, 1.0),
    floor=st.floats(0.2, 3.0),
    unit_n=st.floats(1e-6, 1e6),
    unit_d=st.floats(1e-6, 1e6),
)
def test_a_joint_law_is_recovered_in_any_units(
    alpha: float, beta: float, floor: float, unit_n: float, unit_d: float
) -> None:
    x_RA = law.grid(
        np.geomspace(1e5, 1e8, 5).tolist(), np.geomspace(1e4, 1e7, 5).tolist()
    )
    y_R = floor + (1e5 / x_RA[:, 0]) ** alpha + (2e4 / x_RA[:, 1]) ** beta
    squares = objective.Objective(loss="squares", residual="log")
    order = np.random.default_rng(0).permutation(y_R.size)
    scaled = points.make((x_RA * [unit_n, unit_d])[order], y_R[order])
    found = optimum.find(chinchilla.Chinchilla(), scaled, squares, keep=12)
    got = {k: float(v[0]) for k, v in found.coefficients().items()}
    assert got["alpha"] == pytest.approx(alpha, rel=1e-3)
    assert got["beta"] == pytest.approx(beta, rel=1e-3)
    assert got["E"] == pytest.approx(floor, rel=1e-3)
    assert got["A"] == pytest.approx((1e5 * unit_n) ** alpha, rel=2e-2)
    assert got["B"] == pytest.approx((2e4 * unit_d) ** beta, rel=2e-2)


def test_the_certificate_counts_starts_that_agree() -> None:
    family = chinchilla.Chinchilla()
    x_RA = places(2)
    y_R = PLANTED["chinchilla"][1](x_RA)
    y_R = y_R * np.exp(0.01 * np.random.default_rng(0).standard_normal(y_R.size))
    found = optimum.find(family, points.make(x_RA, y_R), objective.Objective())
    assert found.certificate.polished == 32
    assert found.certificate.share >= 0.3
    setting = found.setting
    _, total, certificate = solve.optimum(
        family, setting, found.target, start_SP=setting.start_SP[:4], steps=0
    )
    assert certificate.polished == 4
    assert total > found.total
    # Equal starts would agree without being evidence: they count once.
    same_SP = np.repeat(setting.start_SP[:1], 4, axis=0)
    _, _, certificate = solve.optimum(family, setting, found.target, start_SP=same_SP)
    assert certificate.polished == 1
