"""A power of a shifted variable: a start that the bare power cannot have."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import law

Array = law.Array


class ShiftedPower(law.Law):
    r"""Values :math:`y = E + A (X + X_0)^{-\alpha}`.

    Source: the shifted power law of learning curves (Alabdulmohsin et al. 2022,
    arXiv:2209.06640, discuss its kin). Below X0 it is flat: models too small to learn.

    Example:
      >>> x_RA = np.array([[1.0], [3.0], [7.0]])
      >>> family = ShiftedPower()
      >>> setting = family.bind(x_RA, np.array([3.0, 2.0, 1.5]), centre_A=np.zeros(1))
      >>> theta_BP = np.array([[0.0, np.log(4.0), 1.0, 0.0]])
      >>> np.exp(family.predict(setting, theta_BP)).round(6).tolist()
      [[3.0, 2.0, 1.5]]
    """

    name = "shifted-power"
    formula = "y = E + A (X + X0)^-alpha"
    source = "shifted power law of learning curves"
    axes = ("x",)
    coordinates = ("log_E", "log_A", "alpha", "log_X0")
    exponents = ("alpha",)
    floor = "log_E"

    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> law.Setting:
        """Starts over the exponent, the shift and the floor."""
        log_y_R = law.safe_log(y_R)
        log_x_R = np.log(x_RA[:, 0])
        middle = float(log_x_R.mean()) if centre_A is None else float(centre_A[0])
        low = float(log_x_R.min()) - middle
        high = float(log_x_R.max()) - middle
        shifts = [low - 3.0, low, 0.5 * (low + high), high]
        table = law.grid([1e-6, 0.5, 0.9, 0.99], [0.1, 0.4, 1.0, 3.0], shifts)
        share_S, alpha_S, shift_S = table.T
        level = float(np.exp(log_y_R.mean()))
        rest_S = np.maximum(level - share_S * np.exp(log_y_R.min()), 1e-6 * level)
        amplitude_S = np.log(rest_S) + alpha_S * np.logaddexp(0.0, shift_S)
        floor_S = np.log(share_S) + log_y_R.min()
        return law.setting_of(
            x_RA,
            bounds=[
                (float(log_y_R.min()) - 14.0, float(log_y_R.max())),
                (float(log_y_R.min()) - 60.0, float(log_y_R.max()) + 200.0),
                (0.0, law.EXPONENT_MAX),
                (low - 10.0, high + 2.0),
            ],
            start_SP=np.stack([floor_S, amplitude_S, alpha_S, shift_S], axis=1),
            centre_A=centre_A,
        )

    def jacobian(self, setting: law.Setting, theta_BP: Array) -> tuple[Array, Array]:
        """Prediction and slopes."""
        z_R = setting.log_x_RA[:, 0] - setting.centre_A[0]
        floor_B1, level_B1, alpha_B1, shift_B1 = (
            theta_BP[:, i : i + 1] for i in range(4)
        )
        shift_BR, z_BR = np.broadcast_arrays(shift_B1, z_R)
        reach_BR, share_BR2 = law.shares(np.stack([z_BR, shift_BR], -1))
        power_BR = level_B1 - alpha_B1 * reach_BR
        floor_BR = np.broadcast_to(floor_B1, power_BR.shape)
        value_BR, part_BR2 = law.shares(np.stack([power_BR, floor_BR], -1))
        slope_BRP = np.stack(
            [
                part_BR2[..., 1],
                part_BR2[..., 0],
                -part_BR2[..., 0] * reach_BR,
                -part_BR2[..., 0] * alpha_B1 * share_BR2[..., 1],
            ],
            axis=-1,
        )
        return value_BR, slope_BRP

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """E, A, alpha and the shift X0, in units of x."""
        floor_B, level_B, alpha_B, shift_B = theta_BP.T
        centre = setting.centre_A[0]
        with np.errstate(over="ignore"):
            return {
                "E": np.exp(floor_B),
                "A": np.exp(level_B + alpha_B * centre),
                "alpha": alpha_B,
                "X0": np.exp(shift_B + centre),
            }
