"""The logarithm of a sum of exponentials, as decoding takes it of every row of logits.

On CPU it is most of what a step costs after the model, and there XLA's exponential
takes twice the instructions that float32 needs.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# 2^f for |f| <= 1/2 to 3e-9 of its value: least squares of the relative error on
# Chebyshev nodes.
_POWERS = (
    0.000153707048,
    0.00133998483,
    0.00961837325,
    0.0555032904,
    0.240226485,
    0.693147206,
    1.0,
)
_LEAST = -126.0
_LANES = 64
# Added to a float32 of less than 2^22 it leaves the nearest integer in the low bits.
_ROUNDER = np.float32(1.5 * 2**23)
_ROUNDER_BITS = int(_ROUNDER.view(np.int32))
_MANTISSA = 23


def log_sum_exp(x: Float[Array, "*rows V"]) -> Float[Array, "*rows"]:
    """``log(exp(x).sum(axis=-1))`` in float32, to a few roundings of the result.

    Not differentiable on CPU: for decoding and scoring. Rows of -inf give -inf. A row
    with a NaN may give anything.

    Example:
      >>> round(float(log_sum_exp(jnp.zeros((1, 8)))[0]), 5)
      2.07944
    """
    return jax.lax.platform_dependent(x, cpu=_by_polynomial, default=_plain)


def _plain(x: Array) -> Array:
    return jax.nn.logsumexp(x, axis=-1)


def _by_polynomial(x: Float[Array, "*rows V"]) -> Float[Array, "*rows"]:
    peak = x.max(axis=-1, keepdims=True)
    raised = _power_of_two((x - peak) * np.float32(math.log2(math.e)))
    # A sum over an outer axis is one of whole vectors; XLA does not see it by itself.
    lanes = math.gcd(x.shape[-1], _LANES)
    by_lane = raised.reshape(*x.shape[:-1], -1, lanes).sum(axis=-2)
    peak = peak[..., 0]
    found = jnp.log(by_lane.sum(axis=-1)) + peak
    return jnp.where(jnp.isfinite(peak), found, peak)


def _power_of_two(x: Float[Array, "*rows V"]) -> Float[Array, "*rows V"]:
    """``2 ** x`` for x <= 0; what is below 2^-126 becomes that."""
    x = jnp.maximum(x, _LEAST)
    # By the bits of a sum: XLA's conversion to integers guards cases not met here, and
    # its rounding is slow.
    whole = _bits(x + _ROUNDER) - _ROUNDER_BITS
    part = x - whole.astype(jnp.float32)
    power = jnp.full_like(part, _POWERS[0])
    for coefficient in _POWERS[1:]:
        power = power * part + np.float32(coefficient)
    return jax.lax.bitcast_convert_type(
        _bits(power) + (whole << _MANTISSA), jnp.float32
    )


def _bits(x: Float[Array, "*rows"]) -> Int[Array, "*rows"]:
    return jax.lax.bitcast_convert_type(x, jnp.int32)
