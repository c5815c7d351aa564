"""A curve with a ceiling and a floor: what a rate must have at both ends."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import broken_power, law

Array = law.Array


class Saturating(law.Law):
    r"""Values :math:`y = E + A / (1 + (X / X_0)^{\alpha})`.

    Source: the Hill curve; a rival for miss rates, which a power law lets exceed one.
    Far right it is the single power, far left the constant ``E + A``.

    Example:
      >>> x_RA = np.array([[1.0], [2.0], [4.0]])
      >>> family = Saturating()
      >>> setting = family.bind(x_RA, np.array([3.0, 2.0, 1.5]), centre_A=np.zeros(1))
      >>> theta_BP = np.array([[0.0, np.log(4.0), 1.0, np.log(2.0)]])
      >>> np.exp(family.predict(setting, theta_BP))[0, 1].round(6).item()
      3.0
    """

    name = "saturating"
    formula = "y = E + A / (1 + (X / X0)^alpha)"
    source = "Hill curve"
    axes = ("x",)
    coordinates = ("log_E", "log_A", "alpha", "log_X0")
    exponents = ("alpha",)
    floor = "log_E"

    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> law.Setting:
        """Starts over the exponent, the half-way point and the floor."""
        log_y_R = law.safe_log(y_R)
        log_x_R = np.log(x_RA[:, 0])
        middle = float(log_x_R.mean()) if centre_A is None else float(centre_A[0])
        low = float(log_x_R.min()) - middle
        high = float(log_x_R.max()) - middle
        halves = [low - 2.0, low, 0.5 * (low + high), high]
        table = law.grid([1e-6, 0.5, 0.9, 0.99], [0.2, 0.6, 1.5, 4.0], halves)
        share_S, alpha_S, half_S = table.T
        top, bottom = np.exp(log_y_R.max()), np.exp(log_y_R.min())
        rest_S = np.maximum(top - share_S * bottom, 1e-6 * top)
        start_SP = np.stack(
            [np.log(share_S * bottom), np.log(rest_S), alpha_S, half_S], axis=1
        )
        return law.setting_of(
            x_RA,
            bounds=[
                (float(log_y_R.min()) - 14.0, float(log_y_R.max())),
                (float(log_y_R.min()) - 14.0, float(log_y_R.max()) + 30.0),
                (0.0, law.EXPONENT_MAX),
                (low - 20.0, high + 5.0),
            ],
            start_SP=start_SP,
            centre_A=centre_A,
        )

    def jacobian(self, setting: law.Setting, theta_BP: Array) -> tuple[Array, Array]:
        """Prediction and slopes."""
        z_R = setting.log_x_RA[:, 0] - setting.centre_A[0]
        floor_B1, level_B1, alpha_B1, half_B1 = (
            theta_BP[:, i : i + 1] for i in range(4)
        )
        gap_BR = z_R - half_B1
        soft_BR, step_BR = broken_power.softplus(alpha_B1 * gap_BR)
        power_BR = level_B1 - soft_BR
        floor_BR = np.broadcast_to(floor_B1, power_BR.shape)
        value_BR, part_BR2 = law.shares(np.stack([power_BR, floor_BR], -1))
        slope_BRP = np.stack(
            [
                part_BR2[..., 1],
                part_BR2[..., 0],
                -part_BR2[..., 0] * step_BR * gap_BR,
                part_BR2[..., 0] * step_BR * alpha_B1,
            ],
            axis=-1,
        )
        return value_BR, slope_BRP

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """E, A, alpha and the half-way point X0, in units of x."""
        floor_B, level_B, alpha_B, half_B = theta_BP.T
        return {
            "E": np.exp(floor_B),
            "A": np.exp(level_B),
            "alpha": alpha_B,
            "X0": np.exp(half_B + setting.centre_A[0]),
        }
