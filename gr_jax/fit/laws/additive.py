"""Laws that are sums of products of powers: ln y is a log-sum-exp of linear forms.

Most scaling laws are of this kind. Their Hessian is a matrix product with fixed
columns, which is what makes thousands of resamples cheap: no (B, R, P) array is built.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np

from gr_jax.fit import scratch
from gr_jax.fit.laws import law

Array = law.Array

# Relative floor below the lowest value, in logs: e^-14 is zero for any measurement.
_FLOOR_DEPTH = 14.0
_AMPLITUDE_RANGE = 30.0
_FLOOR_SHARES = [1e-6, 0.3, 0.6, 0.8, 0.9, 0.96, 0.99, 0.999]
_EXPONENTS = [0.05, 0.12, 0.25, 0.4, 0.6, 0.9, 1.5, 3.0, 6.0]
_MAX_STARTS = 12_000


@dataclasses.dataclass(frozen=True)
class Term:
    """One summand: exp(amplitude + sum of exponent times a feature).

    Attributes:
      first: Place of its amplitude; those of its exponents follow.
      monomials: For each further coordinate, the axes whose centred logs are
        multiplied, and the sign.
    """

    first: int
    monomials: tuple[tuple[tuple[int, ...], float], ...] = ()

    @functools.cached_property
    def span(self) -> slice:
        """Its coordinates."""
        return slice(self.first, self.first + 1 + len(self.monomials))

    @property
    def exponents(self) -> range:
        """Places of its exponents."""
        return range(self.first + 1, self.first + 1 + len(self.monomials))


@dataclasses.dataclass(frozen=True)
class Features:
    """Columns of each term and products of columns of each pair of terms."""

    column_KpR: tuple[Array, ...]
    product_KK: tuple[tuple[int, int, Array], ...]


class Additive(law.Law):
    """Sum of terms with disjoint coordinates, each linear in them after the log."""

    terms: tuple[Term, ...]

    def features_of(self, setting: law.Setting, x_RA: Array) -> Features:
        """Columns at some points."""
        return self._features(np.log(x_RA) - setting.centre_A)

    def _features(self, z_RA: Array) -> Features:
        columns: list[Array] = []
        for term in self.terms:
            parts = [np.ones(z_RA.shape[0])]
            for axes, sign in term.monomials:
                parts.append(sign * np.prod(z_RA[:, list(axes)], axis=1))
            columns.append(np.stack(parts, axis=0))
        products: list[tuple[int, int, Array]] = []
        for one, other in itertools.combinations_with_replacement(
            range(len(columns)), 2
        ):
            outer = columns[one][:, None] * columns[other][None]
            products.append((one, other, outer.reshape(-1, z_RA.shape[0])))
        return Features(tuple(columns), tuple(products))

    def bind(
        self, x_RA: Array, y_R: Array, *, centre_A: Array | None = None
    ) -> law.Setting:
        """Centres on the mean logs; bounds and starts from the data's ranges."""
        log_x_RA = np.log(x_RA)
        if centre_A is None:
            centre_A = np.asarray(log_x_RA.mean(axis=0), dtype=np.float64)
        log_y_R = law.safe_log(y_R)
        low_P = np.zeros(len(self.coordinates))
        high_P = np.full(len(self.coordinates), law.EXPONENT_MAX)
        shift = float(np.max(np.abs(log_x_RA - centre_A))) * 2.0
        for term in self.terms:
            place = term.first
            low_P[place] = log_y_R.min() - _AMPLITUDE_RANGE - shift
            high_P[place] = log_y_R.max() + _AMPLITUDE_RANGE + shift
        for name in self.signed:
            low_P[self.index(name)] = -law.EXPONENT_MAX
        if self.floor is not None:
            place = self.index(self.floor)
            low_P[place] = log_y_R.min() - _FLOOR_DEPTH
            high_P[place] = log_y_R.max()
        off_centre_A = np.asarray(log_x_RA.mean(axis=0)) - centre_A
        start_SP = np.clip(self._starts(log_y_R, off_centre_A), low_P, high_P)
        return law.Setting(
            log_x_RA=log_x_RA,
            centre_A=centre_A,
            low_P=low_P,
            high_P=high_P,
            start_SP=start_SP,
            features=self._features(log_x_RA - centre_A),
        )

    @property
    def signed(self) -> tuple[str, ...]:
        """Coordinates beside the amplitudes that may be negative."""
        return ()

    def _starts(self, log_y_R: Array, off_centre_A: Array) -> Array:
        """Grid over exponents, the floor's share and how the rest is divided."""
        powers = [t for t in self.terms if t.monomials]
        floors = _FLOOR_SHARES if self.floor is not None else [0.0]
        divisions = _divisions(len(powers))
        count = sum(len(t.monomials) for t in powers)
        exponents = _EXPONENTS
        while len(exponents) ** count * len(floors) * len(divisions) > _MAX_STARTS:
            exponents = exponents[::2] if len(exponents) > 3 else exponents[:2]
        table = law.grid(*([exponents] * count), floors, list(range(len(divisions))))
        start_SP = np.zeros((table.shape[0], len(self.coordinates)))
        lowest, middle = np.exp(log_y_R.min()), np.exp(log_y_R.mean())
        floor_S = table[:, count] * lowest
        rest_S = np.maximum(middle - floor_S, 1e-6 * middle)
        share_SK = np.asarray(divisions)[table[:, count + 1].astype(int)]
        column = 0
        for number, term in enumerate(powers):
            start_SP[:, term.first] = np.log(rest_S * share_SK[:, number])
            for place in term.exponents:
                if self.coordinates[place] not in self.signed:
                    start_SP[:, place] = table[:, column]
                column += 1
            for place, (axes, sign) in zip(term.exponents, term.monomials, strict=True):
                shift = sign * float(np.prod(off_centre_A[list(axes)]))
                start_SP[:, term.first] -= start_SP[:, place] * shift
        if self.floor is not None:
            start_SP[:, self.index(self.floor)] = np.log(floor_S)
        return start_SP

    def predict(self, setting: law.Setting, theta_BP: Array) -> Array:
        """Predicted ln y at B points of the coordinates."""
        return np.log(self._summands(setting, theta_BP, scratch.Scratch())[0])

    def _summands(
        self, setting: law.Setting, theta_BP: Array, space: scratch.Scratch
    ) -> tuple[Array, list[Array]]:
        """Their sum (B, R), and each term: (B, R), or (B, 1) for a constant."""
        features: Features = setting.features
        shape = (theta_BP.shape[0], features.column_KpR[0].shape[1])
        total_BR = space.take("total", shape)
        parts: list[Array] = []
        for place, (term, column_pR) in enumerate(
            zip(self.terms, features.column_KpR, strict=True)
        ):
            if term.monomials:
                part_BR = space.take(f"part {place}", shape)
                np.einsum("bp,pr->br", theta_BP[:, term.span], column_pR, out=part_BR)
                np.exp(part_BR, out=part_BR)
            else:
                part_BR = np.exp(theta_BP[:, term.span])
            if place:
                np.add(total_BR, part_BR, out=total_BR)
            else:
                total_BR[...] = part_BR
            parts.append(part_BR)
        return total_BR, parts

    def jacobian(self, setting: law.Setting, theta_BP: Array) -> tuple[Array, Array]:
        """Prediction and its slopes, built only where a caller wants them."""
        features: Features = setting.features
        total_BR, parts = self._summands(setting, theta_BP, scratch.Scratch())
        slope_BRP = np.empty((*total_BR.shape, theta_BP.shape[1]))
        for term, part, column_pR in zip(
            self.terms, parts, features.column_KpR, strict=True
        ):
            share_BR = part / total_BR
            slope_BRP[:, :, term.span] = share_BR[..., None] * column_pR.T
        return np.log(total_BR), slope_BRP

    def newton_parts(
        self,
        setting: law.Setting,
        theta_BP: Array,
        curves: law.Curves,
        *,
        is_majorant: bool = False,
    ) -> law.NewtonParts:
        """Objective, gradient and a Hessian by products with fixed columns."""
        features: Features = setting.features
        space = curves.space
        total_BR, part_KBR = self._summands(setting, theta_BP, space)
        shape = total_BR.shape
        log_BR = np.log(total_BR, out=space.take("log", shape))
        value_B, first_BR, second_BR = curves(log_BR, is_majorant=is_majorant)
        np.reciprocal(total_BR, out=total_BR)
        share_KBR = [
            np.multiply(part_BR, total_BR, out=space.take(f"part {place}", shape))
            for place, part_BR in enumerate(part_KBR)
        ]
        batch, count = theta_BP.shape
        gradient_BP = np.empty((batch, count))
        curve_BPP = np.empty((batch, count, count))
        # d2f = sum_k p_k ff' - (sum_k p_k f)(sum_k p_k f)': the second part joins J'J.
        if not is_majorant:
            second_BR -= first_BR
        pull_BR, mixed_BR, weight_BR = (
            space.take(name, shape) for name in ("pull", "mixed", "weight")
        )
        for one, other, product_mR in features.product_KK:
            rows, columns = self.terms[one].span, self.terms[other].span
            if one == other:
                np.multiply(first_BR, share_KBR[one], out=pull_BR)
                gradient_BP[:, rows] = _sums(pull_BR, features.column_KpR[one])
                np.multiply(second_BR, share_KBR[one], out=mixed_BR)
            np.multiply(mixed_BR, share_KBR[other], out=weight_BR)
            if one == other and not is_majorant:
                weight_BR += pull_BR
            block_Bpq = _sums(weight_BR, product_mR).reshape(
                batch, rows.stop - rows.start, columns.stop - columns.start
            )
            curve_BPP[:, rows, columns] = block_Bpq
            if one != other:
                curve_BPP[:, columns, rows] = block_Bpq.swapaxes(1, 2)
        return value_B, gradient_BP, curve_BPP


def _sums(weight_BR: Array, column_mR: Array) -> Array:
    """Weighted sums of columns, by einsum's own loops.

    A BLAS product of this size wakes BLAS threads, which on busy cores wait for each
    other far longer than the product takes.
    """
    return np.einsum("br,mr->bm", weight_BR, column_mR)


def _divisions(count: int) -> list[tuple[float, ...]]:
    """Ways to divide the reducible part among the terms."""
    if count == 1:
        return [(1.0,)]
    if count == 2:
        return [(s, 1.0 - s) for s in (0.05, 0.2, 0.5, 0.8, 0.95)]
    even = tuple([1.0 / count] * count)
    most = [
        tuple(0.8 if k == j else 0.2 / (count - 1) for k in range(count))
        for j in range(count)
    ]
    return [even, *most]
