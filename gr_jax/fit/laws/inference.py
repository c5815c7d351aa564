"""Miss rate against what a query costs: FLOPs, or beams."""

from __future__ import annotations

from gr_jax.fit.laws import law, single_power

Array = law.Array


class InferencePower(single_power.SinglePower):
    r"""Miss rate :math:`MR(C) = (\mu / C)^{\sigma} + \lambda`, MR = 1 - recall.

    Source: Fang et al. 2025 (arXiv:2503.18941), the inference-compute law. The floor
    :math:`\lambda` is what no beam finds: the model's own error.

    Example:
      >>> import numpy as np
      >>> x_RA = np.array([[1.0], [4.0], [16.0]])
      >>> setting = InferencePower().bind(x_RA, np.array([0.9, 0.6, 0.5]))
      >>> found = InferencePower().coefficients(setting, np.array([[0.0, 0.0, 0.5]]))
      >>> {name: round(float(value[0]), 6) for name, value in found.items()}
      {'lambda': 1.0, 'sigma': 0.5, 'mu': 4.0}
    """

    name = "inference-power"
    formula = "1 - recall = (mu / C)^sigma + lambda"
    source = "Fang et al. 2025, inference law"
    axes = ("C",)

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """The floor lambda, the exponent sigma, the scale mu."""
        found = super().coefficients(setting, theta_BP)
        return {"lambda": found["E"], "sigma": found["alpha"], "mu": found["X0"]}
