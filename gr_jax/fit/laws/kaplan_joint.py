"""The joint law of size and data in which one power wraps both."""

from __future__ import annotations

import numpy as np

from gr_jax.fit.laws import law

Array = law.Array
_STARTS = [0.15, 0.4, 0.8, 1.5, 3.0]
_FLOORS = [1e-6, 0.3, 0.6, 0.9, 0.97, 0.999]


class KaplanJoint(law.Law):
    r"""Loss :math:`L = [(A/X_1)^{\alpha/\beta} + B/X_2]^{\beta} + \delta`.

    With the ratio on size (``X1 = N, X2 = D``) this is Kaplan et al. 2020
    (arXiv:2001.08361), Eq. (1.5), as Fang et al. 2024 (arXiv:2403.18684) use it for
    dense retrieval. The generative-retrieval study puts the ratio on data.

    Example:
      >>> x_RA = np.array([[4.0, 2.0], [4.0, 8.0], [2.0, 2.0]])
      >>> family = KaplanJoint(is_ratio_on_size=True)
      >>> setting = family.bind(x_RA, np.array([3.0, 2.0, 4.0]), centre_A=np.zeros(2))
      >>> theta_BP = np.array([[np.log(4.0), np.log(2.0), np.log(0.5), 0.5, 1.0]])
      >>> np.exp(family.predict(setting, theta_BP))[0, :2].round(6).tolist()
      [2.5, 1.75]
    """

    source = "Kaplan et al. 2020, Eq. (1.5); Fang et al. 2024"
    axes = ("N", "D")
    coordinates = ("log_A", "log_B", "log_delta", "alpha", "beta")
    exponents = ("alpha", "beta")
    floor = "log_delta"

    def __init__(self, *, is_ratio_on_size: bool) -> None:
        self._ratio, self._plain = (0, 1) if is_ratio_on_size else (1, 0)
        self.name = "kaplan-joint-n" if is_ratio_on_size else "kaplan-joint-d"
        one, other = ("N", "D") if is_ratio_on_size else ("D", "N")
        self.formula = f"L = [(A/{one})^(alpha/beta) + B/{other}]^beta + delta"

    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> law.Setting:
        """Starts over exponents and the floor, the rest divided between the terms."""
        log_y_R = law.safe_log(y_R)
        width = float(np.ptp(np.log(x_RA), axis=0).max())
        table = law.grid(_STARTS, _STARTS, _FLOORS, [0.05, 0.3, 0.7, 0.95])
        alpha_S, beta_S, floor_S, share_S = table.T
        floor_S = floor_S * np.exp(log_y_R.min())
        middle = float(np.exp(log_y_R.mean()))
        inner_S = np.log(np.maximum(middle - floor_S, 1e-6 * middle)) / beta_S
        start_SP = np.stack(
            [
                (inner_S + np.log(share_S)) * beta_S / alpha_S,
                inner_S + np.log1p(-share_S),
                np.log(floor_S),
                alpha_S,
                beta_S,
            ],
            axis=1,
        )
        if centre_A is not None:
            moved_A = np.log(x_RA).mean(axis=0) - centre_A
            start_SP[:, 0] += moved_A[self._ratio]
            start_SP[:, 1] += moved_A[self._plain]
        far = 200.0 + width
        return law.setting_of(
            x_RA,
            bounds=[
                (-far, far),
                (-far, far),
                (float(log_y_R.min()) - 14.0, float(log_y_R.max())),
                (1e-3, law.EXPONENT_MAX),
                (1e-3, law.EXPONENT_MAX),
            ],
            start_SP=start_SP,
            centre_A=centre_A,
        )

    def jacobian(self, setting: law.Setting, theta_BP: Array) -> tuple[Array, Array]:
        """Prediction and slopes through the two nested sums."""
        z_RA = setting.log_x_RA - setting.centre_A
        log_a_B1, log_b_B1, floor_B1, alpha_B1, beta_B1 = (
            theta_BP[:, i : i + 1] for i in range(5)
        )
        gap_BR = log_a_B1 - z_RA[:, self._ratio]
        ratio_B1 = alpha_B1 / beta_B1
        terms_BR2 = np.stack([ratio_B1 * gap_BR, log_b_B1 - z_RA[:, self._plain]], -1)
        inner_BR, share_BR2 = law.shares(terms_BR2)
        first_BR = share_BR2[..., 0]
        floor_BR = np.broadcast_to(floor_B1, inner_BR.shape)
        value_BR, part_BR2 = law.shares(np.stack([beta_B1 * inner_BR, floor_BR], -1))
        slope_BRP = np.stack(
            [
                alpha_B1 * first_BR,
                beta_B1 * share_BR2[..., 1],
                np.zeros_like(inner_BR),
                first_BR * gap_BR,
                inner_BR - first_BR * terms_BR2[..., 0],
            ],
            axis=-1,
        )
        slope_BRP *= part_BR2[..., :1]
        slope_BRP[..., 2] = part_BR2[..., 1]
        return value_BR, slope_BRP

    def coefficients(self, setting: law.Setting, theta_BP: Array) -> dict[str, Array]:
        """A, B, alpha, beta, delta as in the formula."""
        log_a_B, log_b_B, floor_B, alpha_B, beta_B = theta_BP.T
        with np.errstate(over="ignore"):
            return {
                "A": np.exp(log_a_B + setting.centre_A[self._ratio]),
                "B": np.exp(log_b_B + setting.centre_A[self._plain]),
                "alpha": alpha_B,
                "beta": beta_B,
                "delta": np.exp(floor_B),
            }
