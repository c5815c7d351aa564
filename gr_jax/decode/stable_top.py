"""Exact selection of the best candidates, ties broken by the smaller key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NO_KEY = jnp.iinfo(jnp.int32).max
_GROUP = 128
_MAX_GROUPED = 256


def best_in_rows(
    score_RV: Float[Array, "R V"], count: int
) -> tuple[Float[Array, "R K"], Int[Array, "R K"]]:
    """The ``count`` largest entries of each row, best first, the left one of equals.

    Wide rows go in two stages: only the ``count`` groups with the largest maxima can
    hold them. Groups are put back in order before the second stage, so that equal
    entries keep their order.

    Returns:
      ``(score, place)``; ``-inf`` and 0 where a row has fewer than ``count`` entries.
    """
    width = score_RV.shape[1]
    taken = min(count, width)
    if width >= 8 * _GROUP and taken <= _MAX_GROUPED and width >= 4 * _GROUP * taken:
        score_RK, place_RK = _best_by_groups(score_RV, taken)
    else:
        score_RK, place_RK = jax.lax.top_k(score_RV, taken)
    if taken < count:
        pad = ((0, 0), (0, count - taken))
        score_RK = jnp.pad(score_RK, pad, constant_values=-jnp.inf)
        place_RK = jnp.pad(place_RK, pad)
    return score_RK, place_RK


def _best_by_groups(score_RV: Array, count: int) -> tuple[Array, Array]:
    rows, width = score_RV.shape
    groups = -(-width // _GROUP)
    padded = jnp.pad(
        score_RV, ((0, 0), (0, groups * _GROUP - width)), constant_values=-jnp.inf
    )
    grouped = padded.reshape(rows, groups, _GROUP)
    _, group_RK = jax.lax.top_k(grouped.max(axis=2), min(count, groups))
    group_RK = jnp.sort(group_RK, axis=1)
    kept = jnp.take_along_axis(grouped, group_RK[:, :, None], axis=1)
    score_RK, slot_RK = jax.lax.top_k(kept.reshape(rows, -1), count)
    in_group = jnp.take_along_axis(group_RK, slot_RK // _GROUP, axis=1)
    return score_RK, in_group * _GROUP + slot_RK % _GROUP


def merge(
    score_BK: Float[Array, "B K"], key_BK: Int[Array, "B K"], count: int
) -> tuple[Float[Array, "B C"], Int[Array, "B C"]]:
    """The best ``count`` of several lists that may hold a key more than once.

    Equal keys must have equal scores. Entries without a candidate have the score
    ``-inf`` and `NO_KEY`.
    """
    worst_BK, key_BK = jax.lax.sort((-score_BK, key_BK), num_keys=2)
    is_new_BK = jnp.pad(
        key_BK[:, 1:] != key_BK[:, :-1], ((0, 0), (1, 0)), constant_values=True
    )
    worst_BK = jnp.where(is_new_BK, worst_BK, jnp.inf)
    key_BK = jnp.where(is_new_BK, key_BK, NO_KEY)
    worst_BK, key_BK = jax.lax.sort((worst_BK, key_BK), num_keys=2)
    return -worst_BK[:, :count], key_BK[:, :count]
