"""One power with an offset: size, data, compute or beam, one at a time."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import additive, law

Array = law.Array


class SinglePower(additive.Additive):
    r"""Values :math:`y = (X_0 / X)^{\alpha} + E`, that is :math:`A X^{-\alpha} + E`.

    Source: Kaplan et al. 2020 (arXiv:2001.08361), with an irreducible part as in
    Henighan et al. 2020 (arXiv:2010.14701); both papers of retrieval laws
    (arXiv:2403.18684, arXiv:2503.18941) use it for size and for data.

    Example:
      >>> x_RA = np.array([[1.0], [4.0], [16.0]])
      >>> setting = SinglePower().bind(x_RA, np.array([3.0, 2.0, 1.5]))
      >>> theta_BP = np.log(np.array([[0.5, 1.0, np.e]]))
      >>> np.exp(SinglePower().predict(setting, theta_BP)).round(6).tolist()
      [[4.5, 1.5, 0.75]]
    """

    name = "single-power"
    formula = "y = (X0 / X)^alpha + E"
    source = "Kaplan et al. 2020; Fang et al. 2024, Eq. for size and data"
    axes = ("x",)
    coordinates = ("log_E", "log_A", "alpha")
    exponents = ("alpha",)
    floor = "log_E"
    terms = (
        additive.Term(0),
        additive.Term(1, (((0,), -1.0),)),
    )

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """E, alpha, A and X0 = A^(1/alpha), the point where the power is 1."""
        log_e_B, shifted_B, alpha_B = theta_BP.T
        log_a_B = shifted_B + alpha_B * setting.centre_A[0]
        with np.errstate(divide="ignore", over="ignore"):
            scale_B = np.exp(log_a_B / np.maximum(alpha_B, 1e-300))
        return {
            "E": np.exp(log_e_B),
            "alpha": alpha_B,
            "A": np.exp(log_a_B),
            "X0": scale_B,
        }
