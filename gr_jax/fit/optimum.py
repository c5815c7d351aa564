"""A law fitted to points: the optimum, its residuals and their scale."""

from __future__ import annotations

import dataclasses

import numpy as np

from gr_jax.fit import objective as objective_module
from gr_jax.fit import points as points_module
from gr_jax.fit import solve
from gr_jax.fit.laws import law

Array = law.Array
Objective = objective_module.Objective
Points = points_module.Points

# With fewer spare points a robust scale is made of a few residuals, and intervals that
# rest on it cover less than they say.
ROBUST_DOF = 10
_DELTA_MIN = 1e-7
_REFIT_STARTS = 24
_REFIT_KEEP = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best fit of a law to points.

    Attributes:
      dof: Configurations minus parameters.
      sigma: Scale of a residual of weight one; for a robust loss the scale that its
        estimates answer to.
      slack: Rise of the objective at one standard error of any coordinate, half the
        squared scale times the mean curvature of the loss.
    """

    family: law.Law
    points: Points
    setting: law.Setting
    target: objective_module.Target
    theta_P: Array
    total: float
    certificate: solve.Certificate
    residual_R: Array
    dof: int
    sigma: float
    slack: float

    @property
    def objective(self) -> Objective:
        """What was minimised."""
        return self.target.objective

    def values(self, x_RA: Array, theta_BP: Array | None = None) -> Array:
        """The metric (B, R) at places of the axes."""
        theta_BP = self.theta_P[None] if theta_BP is None else theta_BP
        setting = self.family.at(self.setting, x_RA)
        value_BR = self.family.predict(setting, theta_BP)
        return np.exp(value_BR) if self.family.link == "log" else value_BR

    def coefficients(self, theta_BP: Array | None = None) -> dict[str, Array]:
        """Published coefficients at the optimum or at B other points."""
        theta_BP = self.theta_P[None] if theta_BP is None else theta_BP
        return self.family.coefficients(self.setting, theta_BP)

    def slopes(self, x_RA: Array | None = None) -> Array:
        """Slopes (R, P) of the prediction in the coordinates, on the objective's scale.

        At the points, or at other places of the axes.
        """
        setting = self.setting if x_RA is None else self.family.at(self.setting, x_RA)
        value_1R, slope_1RP = self.family.jacobian(setting, self.theta_P[None])
        if self.objective.residual == "linear" and self.family.link == "log":
            return slope_1RP[0] * np.exp(value_1R[0])[:, None]
        return slope_1RP[0]

    def covariance(self) -> Array:
        r"""Covariance (P, P) of the coordinates, :math:`s^2 (J'WJ)^{-1}`.

        The scale is the one a robust loss answers to (Huber & Ronchetti 2009, 7.6).
        Coordinates that sit on a bound are taken as known.
        """
        is_free_P = (self.theta_P > self.setting.low_P) & (
            self.theta_P < self.setting.high_P
        )
        slope_RP = np.where(is_free_P, self.slopes(), 0.0)
        curve_PP = np.einsum("rp,r,rq->pq", slope_RP, self.points.weight_R, slope_RP)
        inverse_PP: Array = np.asarray(
            np.linalg.pinv(curve_PP, hermitian=True), dtype=np.float64
        )
        return inverse_PP * self.sigma**2

    def residuals_of(self, points: Points) -> Array:
        """Residuals of any points on the objective's scale."""
        predicted_R = self.values(points.x_RA)[0]
        if self.objective.residual == "log":
            return np.log(points.y_R) - np.log(predicted_R)
        return points.y_R - predicted_R

    def shifted(self, value_BR: Array, residual_BR: Array) -> Array:
        """Values moved by residuals, on the objective's scale."""
        if self.objective.residual == "log":
            return value_BR * np.exp(residual_BR)
        return value_BR + residual_BR


def find(
    family: law.Law,
    points: Points,
    objective: Objective,
    *,
    start_SP: Array | None = None,
    keep: int = 32,
) -> Optimum:
    """Screens starts, polishes the best and takes the lowest."""
    setting = family.bind(points.x_RA, points.y_R)
    target = objective_module.target_of(
        objective, family.link, points.y_R, points.weight_R
    )
    theta_P, total, certificate = solve.optimum(
        family, setting, target, start_SP=start_SP, keep=keep
    )
    return _described(family, points, setting, target, theta_P, total, certificate)


def refit(found: Optimum, points: Points) -> Optimum:
    """The same law and objective on other points, from this optimum and a few starts.

    Cheaper than `find`: for back-tests, where the points are a part of these.
    """
    setting = found.family.bind(
        points.x_RA, points.y_R, centre_A=found.setting.centre_A
    )
    target = objective_module.target_of(
        found.objective, found.family.link, points.y_R, points.weight_R
    )
    every = max(1, setting.start_SP.shape[0] // _REFIT_STARTS)
    start_SP = np.concatenate([found.theta_P[None], setting.start_SP[::every]])
    theta_P, total, certificate = solve.optimum(
        found.family, setting, target, start_SP=start_SP, keep=_REFIT_KEEP, steps=60
    )
    return _described(
        found.family, points, setting, target, theta_P, total, certificate
    )


def _described(
    family: law.Law,
    points: Points,
    setting: law.Setting,
    target: objective_module.Target,
    theta_P: Array,
    total: float,
    certificate: solve.Certificate,
) -> Optimum:
    residual_R = target.residuals(family.predict(setting, theta_P[None]))[0]
    slope_R, second_R = target.objective.influence(residual_R)
    weight_R = target.weight_BR[0]
    dof = points.distinct() - len(family.coordinates)
    spare = max(dof, 1)
    # A robust loss has a mean curvature below one; squares have exactly one.
    bend = float((weight_R * second_R).sum() / weight_R.sum())
    bend = max(bend, 1.0 / weight_R.size)
    spread = float((weight_R * slope_R**2).sum()) / spare
    return Optimum(
        family=family,
        points=points,
        setting=setting,
        target=target,
        theta_P=theta_P,
        total=total,
        certificate=certificate,
        residual_R=residual_R,
        dof=dof,
        sigma=float(np.sqrt(spread)) / bend,
        slack=0.5 * spread / bend,
    )


def automatic(family: law.Law, points: Points) -> Objective:
    """The default objective: robust where there are points enough to be robust with.

    A Huber loss as wide as 1.345 robust sigmas of the residuals (95% efficient under
    normal noise), or squares with fewer than ten spare points. Residuals are of logs
    unless the law or the points can cross zero.
    """
    positive = bool((points.y_R > 0).all())
    scale = "log" if family.link == "log" and positive else "linear"
    squares = Objective(loss="squares", residual=scale)
    lost = len(family.coordinates)
    if points.distinct() - lost < ROBUST_DOF:
        return squares
    # Squares spread an outlier over all residuals; two narrower fits undo that.
    residual_R = find(family, points, squares, keep=12).residual_R
    floor = _DELTA_MIN * (1.0 if scale == "log" else float(np.abs(points.y_R).max()))
    delta = floor
    for sigmas in (0.3, objective_module.HUBER_SIGMAS, objective_module.HUBER_SIGMAS):
        sigma = objective_module.robust_sigma(residual_R, lost=lost)
        delta = max(sigmas * sigma, floor)
        narrow = Objective(loss="huber", residual=scale, delta=delta)
        residual_R = find(family, points, narrow, keep=12).residual_R
    return Objective(loss="huber", residual=scale, delta=delta)
