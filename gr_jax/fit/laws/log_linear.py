"""The rival of a power law over a short range: a straight line in the logarithm."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import law

Array = law.Array


class LogLinear(law.Law):
    r"""Values :math:`y = a - b \ln X`.

    Source: the usual description of recall against beam or compute; it has no floor
    and must fail beyond the range.

    Example:
      >>> x_RA = np.exp(np.array([[0.0], [1.0], [2.0]]))
      >>> setting = LogLinear().bind(x_RA, np.array([3.0, 2.0, 1.0]))
      >>> LogLinear().predict(setting, np.array([[2.0, 1.0]])).tolist()
      [[3.0, 2.0, 1.0]]
    """

    name = "log-linear"
    formula = "y = a - b ln X"
    source = "descriptive"
    axes = ("x",)
    coordinates = ("level", "slope")
    exponents = ()
    link = "identity"
    axis_values = 2

    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> law.Setting:
        """Starts at the mean and a line through the ends; unbounded in practice."""
        width = float(np.ptp(np.log(x_RA[:, 0])))
        span = max(float(np.ptp(y_R)), 1e-12)
        reach = 1e6 * (abs(float(y_R.mean())) + span)
        return law.setting_of(
            x_RA,
            bounds=[(-reach, reach), (-reach, reach)],
            start_SP=law.grid([float(y_R.mean())], [-span / width, span / width]),
            centre_A=centre_A,
        )

    def jacobian(self, setting: law.Setting, theta_BP: Array) -> tuple[Array, Array]:
        """The line and its slopes, which are constant."""
        z_R = setting.log_x_RA[:, 0] - setting.centre_A[0]
        value_BR = theta_BP[:, :1] - theta_BP[:, 1:] * z_R
        slope_RP = np.stack([np.ones_like(z_R), -z_R], axis=1)
        return value_BR, np.repeat(slope_RP[None], theta_BP.shape[0], axis=0)

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """Value at X = 1, and the fall for each factor e."""
        level_B, slope_B = theta_BP.T
        return {"a": level_B + slope_B * setting.centre_A[0], "b": slope_B}
