"""Mixtures of experts: upcycled training tokens, and sparsity, with interaction or not.

Both are one product of powers of two quantities plus an offset; the interaction lets
the exponent of one depend on the logarithm of the other.
"""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import additive, law

Array = law.Array


class ProductLaw(additive.Additive):
    r"""Loss :math:`L = \exp(d - a \ln X_1 - b \ln X_2 + c \ln X_1 \ln X_2) + E`.

    Upcycling (arXiv:2502.03009): :math:`A D_1^{-\alpha_1} D_2^{-\alpha_2 + \alpha_3 \ln
    D_1} + E` with dense tokens D1 and upcycled tokens D2. Sparsity: P = total / active
    parameters and active parameters N. Without interaction c is zero.

    Example:
      >>> x_RA = np.array([[1.0, 1.0], [np.e, 1.0], [np.e, np.e]])
      >>> family = ProductLaw(kind="sparsity", is_crossed=True)
      >>> setting = family.bind(x_RA, np.array([3.0, 2.0, 1.5]), centre_A=np.zeros(2))
      >>> theta_BP = np.array([[-30.0, 0.0, 1.0, 2.0, 0.5]])
      >>> family.predict(setting, theta_BP).round(6)[0].tolist()
      [0.0, -1.0, -2.5]
    """

    exponents = ("a", "b")
    floor = "log_E"
    axis_values = 2

    def __init__(self, *, kind: str, is_crossed: bool) -> None:
        self.axes = ("D1", "D2") if kind == "upcycling" else ("P", "N")
        one, other = self.axes
        cross = f" + c ln {one} ln {other}" if is_crossed else ""
        self.name = kind if is_crossed else f"{kind}-plain"
        self.formula = f"L = exp(d - a ln {one} - b ln {other}{cross}) + E"
        self.source = "arXiv:2502.03009"
        self.is_crossed = is_crossed
        monomials: list[tuple[tuple[int, ...], float]] = [((0,), -1.0), ((1,), -1.0)]
        names = ["log_E", "d", "a", "b"]
        if is_crossed:
            monomials.append(((0, 1), 1.0))
            names.append("c")
        self.coordinates = tuple(names)
        self.terms = (additive.Term(0), additive.Term(1, tuple(monomials)))

    @property
    def signed(self) -> tuple[str, ...]:
        """A sparser model may lose; the interaction may have either sign."""
        return ("a", "c") if self.is_crossed else ("a",)

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """Coefficients of the formula, as if the logarithms had not been centred."""
        one, other = setting.centre_A
        floor_B, level_B, a_B, b_B = theta_BP[:, :4].T
        c_B = theta_BP[:, 4] if self.is_crossed else np.zeros_like(a_B)
        found = {
            "E": np.exp(floor_B),
            "a": a_B + c_B * other,
            "b": b_B + c_B * one,
            "d": level_B + a_B * one + b_B * other + c_B * one * other,
        }
        return {**found, "c": c_B} if self.is_crossed else found
