"""Two powers and an offset: size and data, each with its own exponent."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import additive, law

Array = law.Array


class Chinchilla(additive.Additive):
    r"""Loss :math:`L(N, D) = E + A N^{-\alpha} + B D^{-\beta}`.

    Source: Hoffmann et al. 2022 (arXiv:2203.15556), Eq. (2); refitted by Besiroglu
    et al. 2024 (arXiv:2404.10102).

    Example:
      >>> x_RA = np.array([[4.0, 9.0], [8.0, 27.0]])
      >>> setting = Chinchilla().bind(x_RA, np.array([3.0, 2.0]), centre_A=np.zeros(2))
      >>> theta_BP = np.array([[0.0, np.log(2.0), 0.5, np.log(6.0), 0.5]])
      >>> np.exp(Chinchilla().predict(setting, theta_BP))[0, 0].round(6).item()
      4.0
    """

    name = "chinchilla"
    formula = "L = E + A / N^alpha + B / D^beta"
    source = "Hoffmann et al. 2022, Eq. (2)"
    axes = ("N", "D")
    coordinates = ("log_E", "log_A", "alpha", "log_B", "beta")
    exponents = ("alpha", "beta")
    floor = "log_E"
    terms = (
        additive.Term(0),
        additive.Term(1, (((0,), -1.0),)),
        additive.Term(3, (((1,), -1.0),)),
    )

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """A, B, E, alpha, beta, and a = beta / (alpha + beta), slope of the best N."""
        log_e_B, log_a_B, alpha_B, log_b_B, beta_B = theta_BP.T
        return {
            "A": np.exp(log_a_B + alpha_B * setting.centre_A[0]),
            "B": np.exp(log_b_B + beta_B * setting.centre_A[1]),
            "E": np.exp(log_e_B),
            "alpha": alpha_B,
            "beta": beta_B,
            "a": beta_B / np.maximum(alpha_B + beta_B, 1e-300),
        }
