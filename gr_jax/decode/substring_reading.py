"""What may follow an n-gram, read from one shard: the best of all beams of a query.

The suffixes of all narrow beams of a query form one ragged list that is read chunk by
chunk to its end, however long; beams in the few very wide contexts read a bitmap of the
vocabulary. Nothing is estimated, so nothing can fail on odd data.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gr_jax.decode import stable_top, substring_arrays


class Beams(NamedTuple):
    """Rows of every beam in this shard and tokens it has read; empty rows if dead."""

    lo_BM: Any
    hi_BM: Any
    depth_BM: Any


class Scores(NamedTuple):
    """Logits of the next token, and what to add to them in each beam."""

    logits_BMV: Any
    base_BM: Any


def best(
    shard: substring_arrays.Shards,
    beams: Beams,
    scores: Scores,
    token_of_dense_V: Int[Array, " V"],
    *,
    count: int,
    chunk: int,
    wide_rows: int,
) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """The best ``count`` continuations of the narrow beams and of the wide ones.

    Args:
      shard: Arrays of one shard, without the shard axis.
      beams: Rows and depth of every beam.
      scores: Logits, and ``base_BM``: log-probability of the beam less the logsumexp of
        its logits, ``-inf`` for a beam that is not continued.
      token_of_dense_V: Vocabulary entry of each dense token.
      count: ``C``, static.
      chunk: Suffixes of a query read at a time, static.
      wide_rows: Bitmaps read at a time, static.

    Returns:
      Two lists of ``C`` side by side: scores, and keys ``beam * V + token``; ``-inf``
      and `stable_top.NO_KEY` where there are fewer.
    """
    lo_BM, hi_BM, depth_BM = beams
    hi_BM = jnp.where(scores.base_BM > -jnp.inf, hi_BM, lo_BM)
    context_BM, is_wide_BM = _context(shard, lo_BM, depth_BM)
    is_wide_BM &= lo_BM < hi_BM
    narrow = Beams(lo_BM, jnp.where(is_wide_BM, lo_BM, hi_BM), depth_BM)
    near = _read_narrow(
        shard.rows, narrow, scores, token_of_dense_V, count=count, chunk=chunk
    )
    far = _read_wide(
        shard.bits_CxV, context_BM, is_wide_BM, scores, count=count, step=wide_rows
    )
    return (
        jnp.concatenate([near[0], far[0]], axis=1),
        jnp.concatenate([near[1], far[1]], axis=1),
    )


def _context(
    shard: substring_arrays.Shards, lo_BM: Array, depth_BM: Array
) -> tuple[Array, Array]:
    """The wide context of each beam, if it has one: bisection inside its depth."""
    depths = shard.depth_start_D.shape[0] - 1
    known_BM = jnp.minimum(depth_BM, depths - 1)
    left_BM = shard.depth_start_D[known_BM]
    end_BM = jnp.where(depth_BM < depths, shard.depth_start_D[known_BM + 1], left_BM)
    right_BM = end_BM
    for _ in range(int(shard.first_row_C.shape[0]).bit_length()):
        middle_BM = (left_BM + right_BM) >> 1
        is_less = shard.first_row_C[middle_BM] < lo_BM
        is_open = left_BM < right_BM
        left_BM = jnp.where(is_open & is_less, middle_BM + 1, left_BM)
        right_BM = jnp.where(is_open & ~is_less, middle_BM, right_BM)
    is_found = (left_BM < end_BM) & (shard.first_row_C[left_BM] == lo_BM)
    return left_BM, is_found


def _read_narrow(
    rows: substring_arrays.Rows,
    beams: Beams,
    scores: Scores,
    token_of_dense_V: Array,
    *,
    count: int,
    chunk: int,
) -> tuple[Array, Array]:
    """Best continuations of the beams whose suffixes are read one by one."""
    lo_BM, hi_BM, depth_BM = beams
    batch, _, width = scores.logits_BMV.shape
    end_BM = jnp.cumsum(hi_BM - lo_BM, axis=1)
    # Slot s of a query's list stands for row `s + shift` of its beam.
    shift_BM = hi_BM - end_BM
    longest = jnp.max(end_BM[:, -1])
    logits_BxV = scores.logits_BMV.reshape(batch, -1)
    search = jax.vmap(lambda ends, slots: jnp.searchsorted(ends, slots, side="right"))

    def read(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, score_BC, key_BC = carry
        slot_1S = (start - 1 + jnp.arange(chunk + 1))[None, :]
        slot_BS = jnp.broadcast_to(slot_1S, (batch, chunk + 1))
        is_real_BS = (slot_BS < end_BM[:, -1:]) & (slot_BS >= 0)
        beam_BS = search(end_BM, jnp.where(is_real_BS, slot_BS, 0))
        beam_BS = jnp.minimum(beam_BS, end_BM.shape[1] - 1)

        def of_beam(array_BM: Array) -> Array:
            return jnp.take_along_axis(array_BM, beam_BS, axis=1)

        row_BS = jnp.where(is_real_BS, slot_BS + of_beam(shift_BM), 0)
        dense_BS, is_first_BS = rows.successors(
            row_BS, of_beam(lo_BM), of_beam(depth_BM)
        )
        is_real_BS &= is_first_BS & (dense_BS > 0)
        token_BS = token_of_dense_V[jnp.where(is_real_BS, dense_BS, 1)]
        found_key_BS = beam_BS * width + token_BS
        logit_BS = jnp.take_along_axis(logits_BxV, found_key_BS, axis=1)
        found_BS = jnp.where(is_real_BS, of_beam(scores.base_BM) + logit_BS, -jnp.inf)
        found_key_BS = jnp.where(is_real_BS, found_key_BS, stable_top.NO_KEY)
        all_BK = jnp.concatenate([score_BC, found_BS], axis=1)
        keys_BK = jnp.concatenate([key_BC, found_key_BS], axis=1)
        score_BC, place_BC = jax.lax.top_k(all_BK, count)
        key_BC = jnp.take_along_axis(keys_BK, place_BC, axis=1)
        return start + chunk, score_BC, key_BC

    return jax.lax.while_loop(
        lambda carry: carry[0] < longest, read, (jnp.int32(0), *_nothing(batch, count))
    )[1:]


def _read_wide(
    bits_CxV: Array,
    context_BM: Array,
    is_wide_BM: Array,
    scores: Scores,
    *,
    count: int,
    step: int,
) -> tuple[Array, Array]:
    """Best continuations of the beams that have a bitmap, a few beams at a time."""
    batch, beams, width = scores.logits_BMV.shape
    total = batch * beams
    logits_BxM_V = scores.logits_BMV.reshape(total, width)
    base_BxM = scores.base_BM.reshape(-1)
    wide_R = jnp.nonzero(is_wide_BM.reshape(-1), size=total + step, fill_value=total)[0]
    wide_count = jnp.sum(is_wide_BM)

    def read(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, score_BxM_C, key_BxM_C = carry
        row_R = jax.lax.dynamic_slice(wide_R, (start,), (step,))
        at_R = jnp.minimum(row_R, total - 1)
        bits_RxV = bits_CxV[context_BM.reshape(-1)[at_R]]
        score_RV = logits_BxM_V[at_R] + base_BxM[at_R][:, None]
        score_RV = jnp.where(_unpacked(bits_RxV, width), score_RV, -jnp.inf)
        score_RC, token_RC = stable_top.best_in_rows(score_RV, count)
        key_RC = (at_R % beams)[:, None] * width + token_RC
        key_RC = jnp.where(score_RC > -jnp.inf, key_RC, stable_top.NO_KEY)
        return (
            start + step,
            score_BxM_C.at[row_R].set(score_RC, mode="drop"),
            key_BxM_C.at[row_R].set(key_RC, mode="drop"),
        )

    _, score_BxM_C, key_BxM_C = jax.lax.while_loop(
        lambda carry: carry[0] < wide_count,
        read,
        (jnp.int32(0), *_nothing(total, count)),
    )
    # Best first inside a beam and beams in order: equal scores keep the smaller key.
    score_BC, place_BC = jax.lax.top_k(score_BxM_C.reshape(batch, -1), count)
    key_BC = jnp.take_along_axis(key_BxM_C.reshape(batch, -1), place_BC, axis=1)
    return score_BC, key_BC


def _nothing(rows: int, count: int) -> tuple[Array, Array]:
    return (
        jnp.full((rows, count), -jnp.inf, jnp.float32),
        jnp.full((rows, count), stable_top.NO_KEY, jnp.int32),
    )


def _unpacked(bits_RxV: Array, width: int) -> Bool[Array, "R V"]:
    """Bitmaps as booleans, cut or filled with False to ``width``."""
    shift_32 = jnp.arange(32, dtype=jnp.uint32)[None, None, :]
    bit = (bits_RxV[:, :, None] >> shift_32) & jnp.uint32(1)
    bit_RV = (bit > 0).reshape(bits_RxV.shape[0], -1)[:, :width]
    return jnp.pad(bit_RV, ((0, 0), (0, width - bit_RV.shape[1])))
