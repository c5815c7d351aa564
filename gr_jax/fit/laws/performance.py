"""Performance law of sequential recommenders, with its merged constants."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import law

Array = law.Array
# The paper's code fixes this factor at 2; a free one trades off with the exponents.
DECAY = 2.0


class PerformanceLaw(law.Law):
    r"""Metric :math:`m = w_1 g(N; w_3) + w_2 g(h; w_4) + c` of N layers and width h.

    Here :math:`g(x; w) = -1 / (p x^w) - w \ln x` with p = 2.

    Source: arXiv:2412.00430. The published form adds ``g(D'; w5) + b`` and fits D', w5
    and b on tables in which the data never vary: the three only ever appear as one
    constant, here c. Each g rises to ``p x^w = 1`` and falls beyond: over-fitting.
    Coordinates are ``v1 = w1 w3`` and ``v2 = w2 w4``: the products stay finite where
    an exponent vanishes and g becomes a logarithm.

    Example:
      >>> x_RA = np.array([[1.0, 1.0], [4.0, 1.0], [1.0, 4.0]])
      >>> family = PerformanceLaw()
      >>> setting = family.bind(x_RA, np.array([0.1, 0.2, 0.3]), centre_A=np.zeros(2))
      >>> theta_BP = np.array([[1.75, 0.5, 1.0, 0.0, 0.5]])
      >>> found = family.coefficients(setting, theta_BP)
      >>> found["c"].item(), family.predict(setting, theta_BP)[0, 0].item()
      (2.0, 1.75)
    """

    name = "performance"
    formula = "m = w1 g(N; w3) + w2 g(h; w4) + c, g(x; w) = -1/(2 x^w) - w ln x"
    source = "arXiv:2412.00430, constants merged"
    axes = ("N", "h")
    coordinates = ("level", "v1", "w3", "v2", "w4")
    exponents = ("w3", "w4")
    link = "identity"

    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> law.Setting:
        """Starts over both exponents and the signs of both weights."""
        span = max(float(np.ptp(y_R)), 1e-12)
        reach = 1e6 * (abs(float(y_R.mean())) + span)
        powers = [0.05, 0.2, 0.5, 1.0]
        weights = [-span, -0.1 * span, 0.1 * span, span]
        table = law.grid([float(y_R.mean())], weights, powers, weights, powers)
        return law.setting_of(
            x_RA,
            bounds=[
                (-reach, reach),
                (-reach, reach),
                (1e-3, 5.0),
                (-reach, reach),
                (1e-3, 5.0),
            ],
            start_SP=table,
            centre_A=centre_A,
        )

    def jacobian(self, setting: law.Setting, theta_BP: Array) -> tuple[Array, Array]:
        """Prediction and slopes."""
        value_BR = np.repeat(theta_BP[:, :1], setting.log_x_RA.shape[0], axis=1)
        slopes = [np.ones_like(value_BR)]
        for axis in range(2):
            weight_B1 = theta_BP[:, 1 + 2 * axis : 2 + 2 * axis]
            power_B1 = theta_BP[:, 2 + 2 * axis : 3 + 2 * axis]
            shape_BR, bend_BR = _shape(setting.log_x_RA[:, axis], power_B1)
            level_B1, tilt_B1 = _shape(setting.centre_A[axis : axis + 1], power_B1)
            value_BR = value_BR + weight_B1 * (shape_BR - level_B1)
            slopes.append(shape_BR - level_B1)
            slopes.append(weight_B1 * (bend_BR - tilt_B1))
        return value_BR, np.stack(slopes, axis=-1)

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """The constants of the formula, w1 = v1 / w3 and w2 = v2 / w4."""
        level_B, v1_B, w3_B, v2_B, w4_B = theta_BP.T
        constant_B = level_B.copy()
        for axis, (v_B, w_B) in enumerate(((v1_B, w3_B), (v2_B, w4_B))):
            shape_B1, _ = _shape(setting.centre_A[axis : axis + 1], w_B[:, None])
            constant_B += v_B * (1.0 / (DECAY * w_B) - shape_B1[:, 0])
        return {
            "c": constant_B,
            "w1": v1_B / w3_B,
            "w3": w3_B,
            "w2": v2_B / w4_B,
            "w4": w4_B,
        }


def _shape(z_R: Array, power_B1: Array) -> tuple[Array, Array]:
    """Values (g(x; w) + 1/p) / w and their slope in w; finite as w goes to zero."""
    fall_BR = np.expm1(-power_B1 * z_R)
    scale_B1 = DECAY * power_B1
    value_BR = -fall_BR / scale_B1 - z_R
    slope_BR = (z_R * power_B1 * (fall_BR + 1.0) + fall_BR) / (scale_B1 * power_B1)
    return value_BR, slope_BR
