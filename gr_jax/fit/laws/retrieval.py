"""Miss rate by size, data and beam together: what the planner inverts."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import additive, law

Array = law.Array


class RetrievalJoint(additive.Additive):
    r"""Miss rate :math:`E + A N^{-\alpha} + B D^{-\beta} + C M^{-\gamma}`, M beams.

    Source: ours; the size-data law of Hoffmann et al. 2022 with the inference law of
    Fang et al. 2025 as a further summand, so that search error adds to model error.

    Example:
      >>> x_RA = np.array([[4.0, 9.0, 1.0], [8.0, 27.0, 4.0]])
      >>> family = RetrievalJoint()
      >>> setting = family.bind(x_RA, np.array([0.9, 0.5]), centre_A=np.zeros(3))
      >>> half, third = np.log(0.5), np.log(0.3)
      >>> theta_BP = np.array([[np.log(0.1), half, 0.5, third, 0.5, third, 1.0]])
      >>> np.exp(family.predict(setting, theta_BP))[0, 0].round(6).item()
      0.75
    """

    name = "retrieval-joint"
    formula = "1 - recall = E + A / N^alpha + B / D^beta + C / beam^gamma"
    source = "sum of Hoffmann et al. 2022 and Fang et al. 2025"
    axes = ("N", "D", "beam")
    coordinates = ("log_E", "log_A", "alpha", "log_B", "beta", "log_C", "gamma")
    exponents = ("alpha", "beta", "gamma")
    floor = "log_E"
    terms = (
        additive.Term(0),
        additive.Term(1, (((0,), -1.0),)),
        additive.Term(3, (((1,), -1.0),)),
        additive.Term(5, (((2,), -1.0),)),
    )

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """E and, for each axis, amplitude and exponent."""
        centre_A = setting.centre_A
        found = {"E": np.exp(theta_BP[:, 0])}
        names = (("A", "alpha"), ("B", "beta"), ("C", "gamma"))
        for axis, (amplitude, exponent) in enumerate(names):
            power_B = theta_BP[:, 2 + 2 * axis]
            level_B = theta_BP[:, 1 + 2 * axis] + power_B * centre_A[axis]
            found[amplitude] = np.exp(level_B)
            found[exponent] = power_B
        return found
