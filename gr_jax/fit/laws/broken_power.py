"""A power law whose exponent changes once."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import law

Array = law.Array


def softplus(t_BR: Array) -> tuple[Array, Array]:
    """Values ln(1 + e^t) and their slope, without overflow.

    Example:
      >>> value, slope = softplus(np.array([0.0, 800.0]))
      >>> value.round(4).tolist(), slope.tolist()
      ([0.6931, 800.0], [0.5, 1.0])
    """
    small_BR = np.exp(-np.abs(t_BR))
    value_BR = np.maximum(t_BR, 0.0) + np.log1p(small_BR)
    slope_BR = np.where(t_BR >= 0, 1.0, small_BR) / (1.0 + small_BR)
    return value_BR, slope_BR


class BrokenPower(law.Law):
    r"""Values :math:`y = a + b x^{-c_0} (1 + (x/d)^{1/f})^{-c_1 f}`.

    Source: Caballero et al. 2023 (arXiv:2210.14891), one break. Left of ``d`` the
    exponent is ``c0``, right of it ``c0 + c1``; ``f`` is the width of the bend.

    Example:
      >>> x_RA = np.array([[1.0], [2.0], [4.0]])
      >>> family = BrokenPower()
      >>> setting = family.bind(x_RA, np.array([3.0, 2.0, 1.0]), centre_A=np.zeros(1))
      >>> theta_BP = np.array([[0.0, np.log(6.0), 1.0, 1.0, np.log(2.0), 0.0]])
      >>> np.exp(family.predict(setting, theta_BP)).round(6).tolist()
      [[5.0, 2.5, 1.5]]
    """

    name = "broken-power"
    formula = "y = a + b x^-c0 (1 + (x/d)^(1/f))^(-c1 f)"
    source = "Caballero et al. 2023, one break"
    axes = ("x",)
    coordinates = ("log_a", "log_b", "c0", "c1", "log_d", "log_f")
    exponents = ("c0", "c1")
    floor = "log_a"

    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> law.Setting:
        """Starts over both exponents, the break's place and the floor."""
        log_y_R = law.safe_log(y_R)
        log_x_R = np.log(x_RA[:, 0])
        middle = float(log_x_R.mean()) if centre_A is None else float(centre_A[0])
        z_R = log_x_R - middle
        low, high = float(z_R.min()), float(z_R.max())
        width = high - low
        breaks = [low + width * part for part in (0.25, 0.5, 0.75)]
        table = law.grid(
            [1e-6, 0.5, 0.9, 0.99],
            [0.05, 0.3, 1.0],
            [-0.3, 0.2, 1.0],
            breaks,
            [-2.0, -0.5],
        )
        share_S, c0_S, c1_S, break_S, bend_S = table.T
        level_S = np.exp(log_y_R.mean()) - share_S * np.exp(log_y_R.min())
        level_S = np.maximum(level_S, 1e-6 * np.exp(log_y_R.mean()))
        floor_S = np.log(share_S) + log_y_R.min()
        start_SP = np.stack(
            [floor_S, np.log(level_S), c0_S, c1_S, break_S, bend_S], axis=1
        )
        return law.setting_of(
            x_RA,
            bounds=[
                (float(log_y_R.min()) - 14.0, float(log_y_R.max())),
                (float(log_y_R.min()) - 60.0, float(log_y_R.max()) + 60.0),
                (-law.EXPONENT_MAX, law.EXPONENT_MAX),
                (-law.EXPONENT_MAX, law.EXPONENT_MAX),
                (low, high),
                (-4.0, 2.0),
            ],
            start_SP=start_SP,
            centre_A=centre_A,
        )

    def jacobian(self, setting: law.Setting, theta_BP: Array) -> tuple[Array, Array]:
        """Prediction and slopes."""
        z_R = setting.log_x_RA[:, 0] - setting.centre_A[0]
        floor_B1, level_B1, c0_B1, c1_B1, break_B1, bend_B1 = (
            theta_BP[:, i : i + 1] for i in range(6)
        )
        width_B1 = np.exp(bend_B1)
        t_BR = (z_R - break_B1) / width_B1
        soft_BR, step_BR = softplus(t_BR)
        power_BR = level_B1 - c0_B1 * z_R - c1_B1 * width_B1 * soft_BR
        floor_BR = np.broadcast_to(floor_B1, power_BR.shape)
        value_BR, part_BR2 = law.shares(np.stack([power_BR, floor_BR], -1))
        ones_BR = np.ones_like(power_BR)
        slope_BRP = np.stack(
            [
                ones_BR,
                ones_BR,
                -z_R * ones_BR,
                -width_B1 * soft_BR,
                c1_B1 * step_BR,
                -c1_B1 * width_B1 * (soft_BR - t_BR * step_BR),
            ],
            axis=-1,
        )
        slope_BRP[..., 1:] *= part_BR2[..., :1]
        slope_BRP[..., 0] = part_BR2[..., 1]
        return value_BR, slope_BRP

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """Coefficients of the formula; ``d`` in units of x."""
        floor_B, level_B, c0_B, c1_B, break_B, bend_B = theta_BP.T
        centre, width_B = setting.centre_A[0], np.exp(bend_B)
        return {
            "a": np.exp(floor_B),
            "b": np.exp(level_B + c0_B * centre),
            "c0": c0_B,
            "c1": c1_B,
            "d": np.exp(break_B + centre),
            "f": width_B,
        }
