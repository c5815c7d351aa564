"""What may be called evidence: named refusals, warnings, and scores of rival laws."""

from __future__ import annotations

import dataclasses

import numpy as np

from gr_jax.fit import distributions, profile
from gr_jax.fit import optimum as optimum_module
from gr_jax.fit import points as points_module
from gr_jax.fit.laws import law

Array = law.Array
Optimum = optimum_module.Optimum
Points = points_module.Points

NULL_BAND = 0.005
COLLINEAR = 0.98
AGREEMENT_MIN = 0.3
TREND_LEVEL = 0.05
_SATURATED_PART = 1e-3
_NEAR_BOUND = 1e-6


@dataclasses.dataclass(frozen=True)
class Finding:
    """A named remark on a fit; ``code`` is stable, ``message`` is for readers."""

    code: str
    message: str


def refusal(
    family: law.Law, points: Points, *, null: float | None = None
) -> Finding | None:
    """Why these points cannot support this law, judged before fitting.

    Args:
      family: The law.
      points: What would be fitted.
      null: Value of the metric for a model that knows nothing, if it has one.
    """
    needed, found = len(family.coordinates) + 2, points.distinct()
    if null is not None and found and _is_null(points, null):
        return Finding(
            "null-trend",
            f"every point lies on the null value {null:.6g} (within {NULL_BAND:.1%} or "
            "its interval): there is no signal to fit",
        )
    if found < needed:
        repeats = len(points) - found
        also = f" ({repeats} repeats and seeds are not points)" if repeats else ""
        return Finding(
            "too-few-points",
            f"{found} configurations{also} for {len(family.coordinates)} parameters: "
            f"at least {needed} are needed",
        )
    if float(np.ptp(points.y_R)) == 0.0 or not (points.y_R > 0).any():
        return Finding(
            "saturated",
            f"every point has the value {points.y_R[0]:.6g}: nothing varies",
        )
    return _axes(family, points)


def _axes(family: law.Law, points: Points) -> Finding | None:
    log_x_RA = np.log(points.x_RA)
    for column, name in enumerate(points.axes):
        values = np.unique(log_x_RA[:, column]).size
        if values < 2:
            return Finding(
                "one-axis", f"{name} has one value: a law in it cannot be fitted"
            )
        if values < family.axis_values:
            return Finding(
                "thin-axis",
                f"{name} has {values} values: {family.axis_values} are needed to tell "
                "its power from the floor",
            )
    for one in range(len(points.axes)):
        for other in range(one + 1, len(points.axes)):
            value = float(np.corrcoef(log_x_RA[:, one], log_x_RA[:, other])[0, 1])
            if abs(value) > COLLINEAR:
                return Finding(
                    "collinear",
                    f"{points.axes[one]} and {points.axes[other]} move together "
                    f"(correlation of logs {value:.3f}): their effects cannot be "
                    "told apart",
                )
    return None


def _is_null(points: Points, null: float) -> bool:
    is_near_R = np.abs(points.y_R / null - 1.0) <= NULL_BAND
    is_inside_R = (points.low_R <= null) & (points.high_R >= null)
    return bool((is_near_R | is_inside_R).all())


def trend(found: Optimum) -> Finding | None:
    """Whether a constant explains the points as well as the law: then no evidence.

    Two tests at 5%: the F test of the law against a constant, and the t test of a
    straight line in the first axis that moves. Passing one is enough.
    """
    value_R = found.points.y_R
    if found.objective.residual == "log":
        value_R = np.log(value_R)
    weight_R = found.points.weight_R
    mean = float(np.average(value_R, weights=weight_R))
    constant = float((weight_R * (value_R - mean) ** 2).sum())
    fitted = float((weight_R * found.residual_R**2).sum())
    spare, extra = max(found.dof, 1), max(found.theta_P.size - 1, 1)
    ratio = ((constant - fitted) / extra) / max(fitted / spare, 1e-300)
    p_law = distributions.f_tail(ratio, extra, spare)
    p_line = _line(found.points, value_R)
    if min(p_law, p_line) <= TREND_LEVEL:
        return None
    return Finding(
        "no-trend",
        f"a constant explains the points as well (F test p = {p_law:.2f}, slope p = "
        f"{p_line:.2f}): the exponent means nothing",
    )


def _line(points: Points, value_R: Array) -> float:
    log_x_RA = np.log(points.x_RA)
    design_RA = np.column_stack([np.ones(len(points)), log_x_RA])
    root_R = np.sqrt(points.weight_R)
    solved = np.linalg.lstsq(design_RA * root_R[:, None], value_R * root_R, rcond=None)
    left_R = (value_R - design_RA @ solved[0]) * root_R
    mean = float(np.average(value_R, weights=points.weight_R))
    total = float((points.weight_R * (value_R - mean) ** 2).sum())
    fitted = float((left_R**2).sum())
    axes, spare = log_x_RA.shape[1], points.distinct() - log_x_RA.shape[1] - 1
    if spare < 1:
        return 1.0
    ratio = ((total - fitted) / axes) / max(fitted / spare, 1e-300)
    return distributions.f_tail(ratio, axes, spare)


def warnings(
    found: Optimum, spans: list[profile.Interval] | None = None
) -> list[Finding]:
    """What a reader of the fit must know."""
    remarks = [_certificate(found), _saturation(found), *_bounds(found)]
    if spans is not None:
        remarks.extend(_open(found, spans))
    return [remark for remark in remarks if remark is not None]


def _certificate(found: Optimum) -> Finding | None:
    seen = found.certificate
    if seen.share >= AGREEMENT_MIN:
        return None
    return Finding(
        "weak-certificate",
        f"{seen.agreeing} of {seen.polished} starts found this optimum: there may be "
        "a better one",
    )


def _saturation(found: Optimum) -> Finding | None:
    if found.family.floor is None:
        return None
    floor = float(np.exp(found.theta_P[found.family.index(found.family.floor)]))
    fitted_R = found.values(found.points.x_RA)[0]
    part_R = (fitted_R - floor) / fitted_R
    noise = found.sigma
    if found.objective.residual == "linear":
        noise = noise / float(np.median(np.abs(fitted_R)))
    is_flat_R = part_R < max(_SATURATED_PART, 2.0 * noise)
    flat = int(is_flat_R.sum())
    if flat * 2 < len(found.points):
        return None
    return Finding(
        "saturated",
        f"{flat} of {len(found.points)} points lie on the floor (reducible part under "
        f"{max(_SATURATED_PART, 2.0 * noise):.2%}): the exponent rests on the others",
    )


def _bounds(found: Optimum) -> list[Finding | None]:
    remarks: list[Finding | None] = []
    for name in found.family.coordinates:
        place = found.family.index(name)
        value = float(found.theta_P[place])
        low, high = found.setting.low_P[place], found.setting.high_P[place]
        near = _NEAR_BOUND * max(1.0, abs(float(high - low)))
        if value - low > near and high - value > near:
            continue
        if name in found.family.exponents:
            remarks.append(
                Finding("exponent-at-bound", f"{name} sits at its bound {value:.4g}")
            )
        elif name == found.family.floor and value - low <= near:
            remarks.append(
                Finding("no-floor", "the irreducible part is zero as far as data tell")
            )
        else:
            remarks.append(Finding("at-bound", f"{name} sits at its bound"))
    return remarks


def _open(found: Optimum, spans: list[profile.Interval]) -> list[Finding]:
    remarks: list[Finding] = []
    for name, span in zip(found.family.coordinates, spans, strict=True):
        if name in found.family.exponents and (span.is_low_open or span.is_high_open):
            ends = [("lower", span.is_low_open), ("upper", span.is_high_open)]
            sides = " and ".join(side for side, is_open in ends if is_open)
            remarks.append(
                Finding("open-interval", f"{name}: the data give no {sides} limit")
            )
    return remarks


def aicc(found: Optimum) -> float:
    """Corrected Akaike criterion of a fit by squares; NaN for another objective.

    Comparable only between fits of the same points, residual and weights. The scale
    of the noise counts as a parameter.
    """
    if found.objective.loss != "squares":
        return float("nan")
    count, parameters = found.points.distinct(), found.theta_P.size + 1
    if count - parameters - 1 <= 0:
        return float("nan")
    mean_square = 2.0 * found.total / count
    penalty = 2.0 * parameters * count / (count - parameters - 1)
    return count * float(np.log(max(mean_square, 1e-300))) + penalty


def r_squared(found: Optimum) -> float:
    """Share of variance explained; no evidence without the degrees of freedom."""
    y_R, weight_R = found.points.y_R, found.points.weight_R
    fitted_R = found.values(found.points.x_RA)[0]
    mean = float(np.average(y_R, weights=weight_R))
    total = float((weight_R * (y_R - mean) ** 2).sum())
    return 1.0 - float((weight_R * (y_R - fitted_R) ** 2).sum()) / max(total, 1e-300)
