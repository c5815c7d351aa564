"""Exact top-k in two stages.

The largest entry of every group bounds the group, so the best ``k`` entries lie in the
``k`` groups with the largest bounds: only those are sorted.

The result of ``lax.top_k`` must never be sliced inside a compiled program: XLA then
rewrites it into a full sort of its operand (over a hundred times slower on CPU).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_GROUP = 128
_WORTHWHILE = 4
INT32 = jnp.iinfo(jnp.int32).max
"""Larger arrays are not read by one index an entry."""


def best(
    score_BE: Float[Array, "B E"], count: int
) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """The ``count`` largest entries of each row, largest first, and their places.

    Where a row has fewer entries, the rest is -inf at place 0. Of equal entries either
    may come first.

    Example:
      >>> score, place = best(jnp.array([[1.0, 5.0, 3.0]]), 2)
      >>> score.tolist(), place.tolist()
      ([[5.0, 3.0]], [[1, 2]])
    """
    batch, size = score_BE.shape
    if size < count:
        score_BC, place_BC = jax.lax.top_k(score_BE, size)
        missing = ((0, 0), (0, count - size))
        padded_BC = jnp.pad(score_BC, missing, constant_values=-jnp.inf)
        return padded_BC, jnp.pad(place_BC, missing)
    if size < _WORTHWHILE * count * _GROUP:
        score_BC, place_BC = jax.lax.top_k(score_BE, count)
        return score_BC, place_BC
    groups = -(-size // _GROUP)
    tail = ((0, 0), (0, groups * _GROUP - size))
    padded_BE = jnp.pad(score_BE, tail, constant_values=-jnp.inf)
    return best_of_groups(padded_BE.reshape(batch, groups, _GROUP), count)


def best_of_groups(
    score_BGE: Float[Array, "B G E"], count: int
) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """As `best`, over entries that come in groups; a place counts across groups."""
    batch, groups, size = score_BGE.shape
    if groups <= count:
        return best(score_BGE.reshape(batch, groups * size), count)
    _, group_BC = jax.lax.top_k(score_BGE.max(axis=2), count)
    chosen_BCE = jnp.take_along_axis(
        score_BGE, group_BC[:, :, None], axis=1, mode="promise_in_bounds"
    )
    flat_BE = chosen_BCE.reshape(batch, count * size)
    score_BC, place_BC = jax.lax.top_k(flat_BE, count)
    home_BC = take(group_BC, place_BC // size)
    return score_BC, home_BC * size + place_BC % size


def take(value_BE: Array, place_BC: Int[Array, "B C"]) -> Array:
    """``value_BE[b, place_BC[b, c]]``; places must be in bounds."""
    batch, size = value_BE.shape
    if batch * size > INT32:
        return jnp.take_along_axis(value_BE, place_BC, axis=1, mode="promise_in_bounds")
    # One index an entry, computed where it is used: no table of pairs is made.
    flat_BC = size * jnp.arange(batch)[:, None] + place_BC
    return value_BE.reshape(-1).at[flat_BC].get(mode="promise_in_bounds")
