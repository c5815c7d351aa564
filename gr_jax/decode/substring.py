"""N-grams of the collection as a constraint: any run of tokens inside a document.

A beam is an interval of sorted suffixes in each shard. What may follow is read from
the suffixes themselves: those of all narrow beams of a query form one ragged list that
is read chunk by chunk to its end, however long; the few very wide contexts have a
bitmap of the vocabulary. Nothing is estimated, so nothing can fail on odd data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from gr_jax.core import errors
from gr_jax.decode import constraints, suffix_rows, top
from gr_jax.identifiers import substring_index

Leaf = Any  # An array; its shape is in the field's name.

_STEPS_PER_OCTAVE = 16


def bucket(size: int) -> int:
    """Size an array is padded to: sixteen steps between powers of two.

    Example:
      >>> [bucket(n) for n in (1, 16, 33, 1000)]
      [1, 16, 34, 1024]
    """
    step = 1 << max(0, (size - 1).bit_length() - 5)
    return -(-size // step) * step


class SubstringState(NamedTuple):
    """Rows of each beam in each shard, tokens read, and whether an end token came."""

    lo_BMZ: Leaf
    hi_BMZ: Leaf
    depth_BM: Leaf
    is_closed_BM: Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shards:
    """Device arrays of all shards, the shard as leading axis of every leaf."""

    rows: suffix_rows.SuffixRows
    depth_start_D: Leaf
    first_row_C: Leaf
    bits_CxV: Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SubstringConstraint:
    """Keeps every beam a substring of a document; see `constraints.Constraint`.

    With a ``mesh`` the shards lie on its axis ``axis``: each device proposes from its
    own, one all-gather brings the proposals together, and all of it stays exact.
    """

    shards: Shards
    token_of_dense_V: Leaf
    dense_of_token_V: Leaf
    begin_lo_Z: Leaf
    begin_hi_Z: Leaf
    begin_depth: Leaf
    end_token: Leaf
    vocabulary_size: int = dataclasses.field(metadata={"static": True})
    chunk: int = dataclasses.field(default=1024, metadata={"static": True})
    wide_rows: int = dataclasses.field(default=16, metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(default=None, metadata={"static": True})
    axis: str = dataclasses.field(default="shards", metadata={"static": True})

    stops_anywhere = True
    closes_together = False

    def initial(self, batch: int, beams: int) -> SubstringState:
        """All beams at the forced beginning, or before the first token."""
        shape = (batch, beams, self.begin_lo_Z.shape[0])
        return SubstringState(
            jnp.broadcast_to(self.begin_lo_Z[None, None, :], shape),
            jnp.broadcast_to(self.begin_hi_Z[None, None, :], shape),
            jnp.broadcast_to(self.begin_depth, shape[:2]),
            jnp.zeros(shape[:2], bool),
        )

    def propose(
        self,
        state: SubstringState,
        logits_BMV: Float[Array, "B M V"],
        score_BM: Float[Array, "B M"],
        count: int,
    ) -> constraints.Proposals:
        """The exact best ``count`` continuations; see `constraints.Constraint`."""
        beams, width = logits_BMV.shape[1:]
        if width < self.vocabulary_size or beams * width > top.NO_KEY:
            raise ValueError(
                f"logits of {beams} beams x {width} entries: the index needs "
                f"{self.vocabulary_size} entries and at most 2^31 candidates"
            )
        is_live_BM = (score_BM > -jnp.inf) & ~state.is_closed_BM
        base_BM = score_BM - jax.nn.logsumexp(logits_BMV, axis=2)
        base_BM = jnp.where(is_live_BM, base_BM, -jnp.inf)
        if self.mesh is None:
            step = _step(self, state, logits_BMV, base_BM, count)
        else:
            step = self._step_on_mesh(state, logits_BMV, base_BM, count)
        score_BC, parent_BC, token_BC, lo_BCZ, hi_BCZ = step
        depth_BC = jnp.take_along_axis(state.depth_BM, parent_BC, axis=1) + 1
        is_closed_BC = token_BC == self.end_token
        after = SubstringState(lo_BCZ, hi_BCZ, depth_BC, is_closed_BC)
        return constraints.Proposals(parent_BC, token_BC, score_BC, after)

    def is_complete(self, state: SubstringState) -> Bool[Array, "B M"]:
        """Whether no token may follow: the document, or a forced form, ends here."""

        def is_ended(rows: suffix_rows.SuffixRows, lo_BM: Array, hi_BM: Array) -> Array:
            return rows.is_ended(lo_BM, hi_BM, state.depth_BM)

        ended_ZBM = jax.vmap(is_ended, in_axes=(0, 2, 2))(
            self.shards.rows, state.lo_BMZ, state.hi_BMZ
        )
        return jnp.all(ended_ZBM, axis=0) | state.is_closed_BM

    def interval(
        self, state: SubstringState
    ) -> tuple[Int[Array, "B M"], Int[Array, "B M"]]:
        """Rows of each beam; the width is its count in the collection.

        With several shards the rows are not one interval: then 0 and the count.
        """
        width_BM = jnp.sum(state.hi_BMZ - state.lo_BMZ, axis=2)
        if state.lo_BMZ.shape[2] > 1:
            return jnp.zeros_like(width_BM), width_BM
        return state.lo_BMZ[:, :, 0], state.lo_BMZ[:, :, 0] + width_BM

    def _step_on_mesh(
        self, state: SubstringState, logits_BMV: Array, base_BM: Array, count: int
    ) -> tuple[Array, Array, Array, Array, Array]:
        split, whole = PartitionSpec(self.axis), PartitionSpec()
        by_shard = PartitionSpec(None, None, self.axis)
        own = dataclasses.replace(
            jax.tree.map(lambda _: whole, self),
            shards=jax.tree.map(lambda _: split, self.shards),
            begin_lo_Z=split,
            begin_hi_Z=split,
        )
        states = SubstringState(by_shard, by_shard, whole, whole)
        step = jax.shard_map(
            lambda *parts: _step(*parts, count),
            mesh=self.mesh,
            in_specs=(own, states, whole, whole),
            out_specs=(whole, whole, whole, by_shard, by_shard),
            check_vma=False,
        )
        return step(self, state, logits_BMV, base_BM)


def _step(
    constraint: SubstringConstraint,
    state: SubstringState,
    logits_BMV: Array,
    base_BM: Array,
    count: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """Scores, parents, tokens and rows of the best, over the shards at hand."""
    width = logits_BMV.shape[2]

    def propose(shards: Shards, lo_BM: Array, hi_BM: Array) -> tuple[Array, Array]:
        return _propose(
            constraint,
            shards,
            (lo_BM, hi_BM, state.depth_BM),
            logits_BMV,
            base_BM,
            count,
        )

    score_BK, key_BK = _over_shards(
        propose, constraint.shards, state.lo_BMZ, state.hi_BMZ
    )
    if constraint.mesh is not None:
        both_2BK = jnp.stack(
            [jax.lax.bitcast_convert_type(score_BK, jnp.int32), key_BK]
        )
        both_2BK = jax.lax.all_gather(both_2BK, constraint.axis, axis=2, tiled=True)
        score_BK = jax.lax.bitcast_convert_type(both_2BK[0], jnp.float32)
        key_BK = both_2BK[1]
    score_BC, key_BC = top.merge(score_BK, key_BK, count)
    is_real_BC = score_BC > -jnp.inf
    parent_BC = jnp.where(is_real_BC, key_BC // width, 0)
    token_BC = jnp.where(is_real_BC, key_BC % width, 0)
    # An absent token is one past every dense token: no row has it.
    dense_BC = constraint.dense_of_token_V[token_BC]
    depth_BC = jnp.take_along_axis(state.depth_BM, parent_BC, axis=1)

    def narrow(shards: Shards, lo_BM: Array, hi_BM: Array) -> tuple[Array, Array]:
        lo_BC = jnp.take_along_axis(lo_BM, parent_BC, axis=1)
        hi_BC = jnp.take_along_axis(hi_BM, parent_BC, axis=1)
        hi_BC = jnp.where(is_real_BC, hi_BC, lo_BC)
        return shards.rows.narrow(lo_BC, hi_BC, depth_BC, dense_BC)

    lo_ZBC, hi_ZBC = jax.vmap(narrow, in_axes=(0, 2, 2))(
        constraint.shards, state.lo_BMZ, state.hi_BMZ
    )
    lo_BCZ, hi_BCZ = jnp.moveaxis(lo_ZBC, 0, 2), jnp.moveaxis(hi_ZBC, 0, 2)
    return score_BC, parent_BC, token_BC, lo_BCZ, hi_BCZ


def _over_shards(
    propose: Any, shards: Shards, lo_BMZ: Array, hi_BMZ: Array
) -> tuple[Array, Array]:
    """Proposals of all shards at hand, side by side."""
    score_ZBK, key_ZBK = jax.vmap(propose, in_axes=(0, 2, 2))(shards, lo_BMZ, hi_BMZ)
    batch = score_ZBK.shape[1]
    return (
        jnp.moveaxis(score_ZBK, 0, 1).reshape(batch, -1),
        jnp.moveaxis(key_ZBK, 0, 1).reshape(batch, -1),
    )


def _propose(
    constraint: SubstringConstraint,
    shards: Shards,
    beams: tuple[Array, Array, Array],
    logits_BMV: Array,
    base_BM: Array,
    count: int,
) -> tuple[Array, Array]:
    """Best of the narrow beams beside the best of the wide ones, for one shard."""
    lo_BM, hi_BM, depth_BM = beams
    hi_BM = jnp.where(base_BM > -jnp.inf, hi_BM, lo_BM)
    context_BM, is_wide_BM = _context(shards, lo_BM, depth_BM)
    is_wide_BM &= lo_BM < hi_BM
    narrow_hi_BM = jnp.where(is_wide_BM, lo_BM, hi_BM)
    narrow = _read_narrow(
        constraint,
        shards.rows,
        (lo_BM, narrow_hi_BM, depth_BM),
        logits_BMV,
        base_BM,
        count,
    )
    wide = _read_wide(
        constraint, shards, context_BM, is_wide_BM, logits_BMV, base_BM, count
    )
    return (
        jnp.concatenate([narrow[0], wide[0]], axis=1),
        jnp.concatenate([narrow[1], wide[1]], axis=1),
    )


def _context(shards: Shards, lo_BM: Array, depth_BM: Array) -> tuple[Array, Array]:
    """The wide context of each beam, if it has one: bisection inside its depth."""
    depths = shards.depth_start_D.shape[0] - 1
    known_BM = jnp.minimum(depth_BM, depths - 1)
    left_BM = shards.depth_start_D[known_BM]
    end_BM = jnp.where(depth_BM < depths, shards.depth_start_D[known_BM + 1], left_BM)
    right_BM = end_BM
    for _ in range(int(shards.first_row_C.shape[0]).bit_length()):
        middle_BM = (left_BM + right_BM) >> 1
        is_less = shards.first_row_C[middle_BM] < lo_BM
        is_open = left_BM < right_BM
        left_BM = jnp.where(is_open & is_less, middle_BM + 1, left_BM)
        right_BM = jnp.where(is_open & ~is_less, middle_BM, right_BM)
    is_found = (left_BM < end_BM) & (shards.first_row_C[left_BM] == lo_BM)
    return left_BM, is_found


def _read_narrow(
    constraint: SubstringConstraint,
    rows: suffix_rows.SuffixRows,
    beams: tuple[Array, Array, Array],
    logits_BMV: Array,
    base_BM: Array,
    count: int,
) -> tuple[Array, Array]:
    """Best continuations of the beams whose suffixes are read one by one."""
    lo_BM, hi_BM, depth_BM = beams
    batch, _, width = logits_BMV.shape
    end_BM = jnp.cumsum(hi_BM - lo_BM, axis=1)
    # Slot s of a query's list stands for row `s + shift` of its beam.
    shift_BM = hi_BM - end_BM
    longest = jnp.max(end_BM[:, -1])
    logits_BxV = logits_BMV.reshape(batch, -1)
    search = jax.vmap(lambda ends, slots: jnp.searchsorted(ends, slots, side="right"))

    def read(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, score_BC, key_BC = carry
        slot_1S = (start - 1 + jnp.arange(constraint.chunk + 1))[None, :]
        slot_BS = jnp.broadcast_to(slot_1S, (batch, constraint.chunk + 1))
        is_real_BS = (slot_BS < end_BM[:, -1:]) & (slot_BS >= 0)
        beam_BS = search(end_BM, jnp.where(is_real_BS, slot_BS, 0))
        beam_BS = jnp.minimum(beam_BS, end_BM.shape[1] - 1)
        of_beam = lambda array_BM: jnp.take_along_axis(array_BM, beam_BS, axis=1)  # noqa: E731
        row_BS = jnp.where(is_real_BS, slot_BS + of_beam(shift_BM), 0)
        dense_BS, is_first_BS = rows.successors(
            row_BS, of_beam(lo_BM), of_beam(depth_BM)
        )
        is_real_BS &= is_first_BS & (dense_BS > 0)
        token_BS = constraint.token_of_dense_V[jnp.where(is_real_BS, dense_BS, 1)]
        found_key_BS = beam_BS * width + token_BS
        logit_BS = jnp.take_along_axis(logits_BxV, found_key_BS, axis=1)
        found_BS = jnp.where(is_real_BS, of_beam(base_BM) + logit_BS, -jnp.inf)
        found_key_BS = jnp.where(is_real_BS, found_key_BS, top.NO_KEY)
        all_BK = jnp.concatenate([score_BC, found_BS], axis=1)
        keys_BK = jnp.concatenate([key_BC, found_key_BS], axis=1)
        score_BC, place_BC = jax.lax.top_k(all_BK, count)
        key_BC = jnp.take_along_axis(keys_BK, place_BC, axis=1)
        return start + constraint.chunk, score_BC, key_BC

    return jax.lax.while_loop(
        lambda carry: carry[0] < longest, read, (jnp.int32(0), *_nothing(batch, count))
    )[1:]


def _read_wide(
    constraint: SubstringConstraint,
    shards: Shards,
    context_BM: Array,
    is_wide_BM: Array,
    logits_BMV: Array,
    base_BM: Array,
    count: int,
) -> tuple[Array, Array]:
    """Best continuations of the beams that have a bitmap, a few beams at a time."""
    batch, beams, width = logits_BMV.shape
    total, step = batch * beams, constraint.wide_rows
    logits_BxM_V = logits_BMV.reshape(total, width)
    wide_R = jnp.nonzero(is_wide_BM.reshape(-1), size=total + step, fill_value=total)[0]
    wide_count = jnp.sum(is_wide_BM)

    def read(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, score_BxM_C, key_BxM_C = carry
        row_R = jax.lax.dynamic_slice(wide_R, (start,), (step,))
        at_R = jnp.minimum(row_R, total - 1)
        bits_RxV = shards.bits_CxV[context_BM.reshape(-1)[at_R]]
        score_RV = logits_BxM_V[at_R] + base_BM.reshape(-1)[at_R][:, None]
        score_RV = jnp.where(_unpacked(bits_RxV, width), score_RV, -jnp.inf)
        score_RC, token_RC = top.best_in_rows(score_RV, count)
        key_RC = (at_R % beams)[:, None] * width + token_RC
        key_RC = jnp.where(score_RC > -jnp.inf, key_RC, top.NO_KEY)
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
        jnp.full((rows, count), top.NO_KEY, jnp.int32),
    )


def _unpacked(bits_RxV: Array, width: int) -> Bool[Array, "R V"]:
    """Bitmaps as booleans, cut or filled with False to ``width``."""
    shift_32 = jnp.arange(32, dtype=jnp.uint32)[None, None, :]
    bit = (bits_RxV[:, :, None] >> shift_32) & jnp.uint32(1)
    bit_RV = (bit > 0).reshape(bits_RxV.shape[0], -1)[:, :width]
    return jnp.pad(bit_RV, ((0, 0), (0, width - bit_RV.shape[1])))


def from_index(
    index: substring_index.SubstringIndex,
    *,
    mesh: Mesh | None = None,
    axis: str = "shards",
    chunk: int = 1024,
) -> SubstringConstraint:
    """Puts an index on the device, its arrays padded to buckets of sizes.

    Args:
      index: On the host.
      mesh: Devices that share the index; their number must divide its shards.
      axis: The mesh axis the shards lie on.
      chunk: Suffixes of a query read at a time; no limit, only a matter of speed.

    Raises:
      UsageError: If the shards cannot be dealt evenly to the devices.
    """
    shard_count = len(index.shards)
    if mesh is not None and shard_count % mesh.shape[axis]:
        raise errors.UsageError(
            f"substring index: {shard_count} shards over {mesh.shape[axis]} devices: "
            f"build the index with shards={mesh.shape[axis]}"
        )
    text_size = bucket(max(shard.text_E.size for shard in index.shards))
    rows_size = bucket(max(shard.rows_E.size for shard in index.shards))
    tables = [shard.contexts for shard in index.shards]
    contexts = bucket(max(table.first_row_C.size for table in tables))
    roots = np.array([shard.root() for shard in index.shards], np.int32)
    sharding = NamedSharding(mesh, PartitionSpec(axis)) if mesh is not None else None

    def stacked(arrays: Sequence[np.ndarray], size: int) -> Array:
        padded = [_padded(array, size) for array in arrays]
        return jax.device_put(np.stack(padded), sharding)

    shards = Shards(
        suffix_rows.SuffixRows(
            stacked([shard.text_E for shard in index.shards], text_size),
            stacked([shard.rows_E for shard in index.shards], rows_size),
        ),
        stacked([t.depth_start_D for t in tables], tables[0].depth_start_D.size),
        stacked([t.first_row_C for t in tables], contexts),
        stacked([t.bits_CxV for t in tables], contexts),
    )
    token_of_dense_V = np.zeros(index.vocabulary_size + 1, np.int32)
    token_of_dense_V[: index.token_of_dense_V.size] = index.token_of_dense_V
    token_of_dense_V[0] = 0
    dense_of_token_V = np.full(index.vocabulary_size, index.vocabulary_size + 1)
    known = index.token_of_dense_V[1:]
    dense_of_token_V[known] = np.arange(1, known.size + 1)
    return SubstringConstraint(
        shards=shards,
        token_of_dense_V=jnp.asarray(token_of_dense_V),
        dense_of_token_V=jnp.asarray(dense_of_token_V, jnp.int32),
        begin_lo_Z=jax.device_put(roots[:, 0], sharding),
        begin_hi_Z=jax.device_put(roots[:, 1], sharding),
        begin_depth=jnp.int32(0),
        end_token=jnp.int32(-1),
        vocabulary_size=index.vocabulary_size,
        chunk=chunk,
        mesh=mesh,
        axis=axis,
    )


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    return np.pad(array, [(0, size - array.shape[0])] + [(0, 0)] * (array.ndim - 1))
