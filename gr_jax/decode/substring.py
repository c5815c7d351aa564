"""N-grams of the collection as a constraint: any run of tokens inside a document.

A beam is an interval of sorted rows in each shard; its width there is how often the
n-gram occurs. `substring_reading` says how the next tokens are found.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from gr_jax.core import errors
from gr_jax.decode import (
    constraints,
    stable_top,
    substring_arrays,
    substring_reading,
)
from gr_jax.identifiers import substring_index
from gr_jax.model import log_sum

Leaf = Any  # An array; its shape is in the field's name.


class SubstringState(NamedTuple):
    """Rows of each beam in each shard, tokens read, and whether an end token came."""

    lo_BMZ: Leaf
    hi_BMZ: Leaf
    depth_BM: Leaf
    is_closed_BM: Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SubstringConstraint:
    """Keeps every beam a substring of a document; see `constraints.Constraint`.

    With a ``mesh`` the shards lie on its axis ``axis``: each device proposes from its
    own, one all-gather brings the proposals together, and all of it stays exact.
    """

    shards: substring_arrays.Shards
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
    must_close: bool = dataclasses.field(default=False, metadata={"static": True})

    closes_together = False

    @property
    def stops_anywhere(self) -> bool:
        """Whether an n-gram may end after any token, or only after the end token."""
        return not self.must_close

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
        if width < self.vocabulary_size or beams * width > stable_top.NO_KEY:
            raise ValueError(
                f"logits of {beams} beams x {width} entries: the index needs "
                f"{self.vocabulary_size} entries and at most 2^31 candidates"
            )
        is_live_BM = (score_BM > -jnp.inf) & ~state.is_closed_BM
        base_BM = score_BM - log_sum.log_sum_exp(logits_BMV)
        base_BM = jnp.where(is_live_BM, base_BM, -jnp.inf)
        if self.mesh is None:
            step = _step(self, state, logits_BMV, base_BM, count=count)
        else:
            step = self._step_on_mesh(state, logits_BMV, base_BM, count)
        score_BC, parent_BC, token_BC, lo_BCZ, hi_BCZ = step
        depth_BC = jnp.take_along_axis(state.depth_BM, parent_BC, axis=1) + 1
        is_closed_BC = token_BC == self.end_token
        after = SubstringState(lo_BCZ, hi_BCZ, depth_BC, is_closed_BC)
        return constraints.Proposals(parent_BC, token_BC, score_BC, after)

    def is_complete(self, state: SubstringState) -> Bool[Array, "B M"]:
        """Whether no token may follow: the document, or the forced form, ends here."""
        if self.must_close:
            return state.is_closed_BM

        def is_ended(rows: substring_arrays.Rows, lo_BM: Array, hi_BM: Array) -> Array:
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
            functools.partial(_step, count=count),
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
    *,
    count: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """Scores, parents, tokens and rows of the best, over the shards at hand."""
    width = logits_BMV.shape[2]

    def propose(
        shards: substring_arrays.Shards, lo_BM: Array, hi_BM: Array
    ) -> tuple[Array, Array]:
        return substring_reading.best(
            shards,
            substring_reading.Beams(lo_BM, hi_BM, state.depth_BM),
            substring_reading.Scores(logits_BMV, base_BM),
            constraint.token_of_dense_V,
            count=count,
            chunk=constraint.chunk,
            wide_rows=constraint.wide_rows,
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
    score_BC, key_BC = stable_top.merge(score_BK, key_BK, count)
    is_real_BC = score_BC > -jnp.inf
    parent_BC = jnp.where(is_real_BC, key_BC // width, 0)
    token_BC = jnp.where(is_real_BC, key_BC % width, 0)
    # An absent token is one past every dense token: no row has it.
    dense_BC = constraint.dense_of_token_V[token_BC]
    depth_BC = jnp.take_along_axis(state.depth_BM, parent_BC, axis=1)

    def narrow(
        shards: substring_arrays.Shards, lo_BM: Array, hi_BM: Array
    ) -> tuple[Array, Array]:
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
    propose: Callable[..., tuple[Array, Array]],
    shards: substring_arrays.Shards,
    lo_BMZ: Array,
    hi_BMZ: Array,
) -> tuple[Array, Array]:
    """Proposals of all shards at hand, side by side."""
    score_ZBK, key_ZBK = jax.vmap(propose, in_axes=(0, 2, 2))(shards, lo_BMZ, hi_BMZ)
    batch = score_ZBK.shape[1]
    return (
        jnp.moveaxis(score_ZBK, 0, 1).reshape(batch, -1),
        jnp.moveaxis(key_ZBK, 0, 1).reshape(batch, -1),
    )


def from_index(
    index: substring_index.SubstringIndex,
    *,
    mesh: Mesh | None = None,
    axis: str = "shards",
    chunk: int | None = None,
) -> SubstringConstraint:
    """Puts an index on the device, its arrays padded to buckets of sizes.

    Args:
      index: On the host.
      mesh: Devices that share the index; their number must divide its shards.
      axis: The mesh axis the shards lie on.
      chunk: Suffixes of a query read at a time; no limit, only a matter of speed.
        None: 1,024, or 256 of a compact index.

    Raises:
      UsageError: If the shards cannot be dealt evenly to the devices.
    """
    shard_count = len(index.shards)
    if mesh is not None and shard_count % mesh.shape[axis]:
        raise errors.UsageError(
            f"substring index: {shard_count} shards over {mesh.shape[axis]} devices: "
            f"build the index with shards={mesh.shape[axis]}"
        )
    if mesh is not None:
        # Explicit axes would ask every caller to spell out the state's sharding.
        automatic = (AxisType.Auto,) * len(mesh.axis_names)
        mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)
    sharding = NamedSharding(mesh, PartitionSpec(axis)) if mesh is not None else None
    roots = np.array([shard.root() for shard in index.shards], np.int32)
    token_of_dense_V = np.zeros(index.vocabulary_size + 1, np.int32)
    token_of_dense_V[: index.token_of_dense_V.size] = index.token_of_dense_V
    token_of_dense_V[0] = 0
    dense_of_token_V = np.full(index.vocabulary_size, index.vocabulary_size + 1)
    known = index.token_of_dense_V[1:]
    dense_of_token_V[known] = np.arange(1, known.size + 1)
    return SubstringConstraint(
        shards=substring_arrays.of_index(index, sharding),
        token_of_dense_V=jnp.asarray(token_of_dense_V),
        dense_of_token_V=jnp.asarray(dense_of_token_V, jnp.int32),
        begin_lo_Z=jax.device_put(roots[:, 0], sharding),
        begin_hi_Z=jax.device_put(roots[:, 1], sharding),
        begin_depth=jnp.int32(0),
        end_token=jnp.int32(-1),
        vocabulary_size=index.vocabulary_size,
        chunk=chunk or (256 if index.is_compact else 1024),
        mesh=mesh,
        axis=axis,
    )


def begun(
    constraint: SubstringConstraint,
    index: substring_index.SubstringIndex,
    tokens: Sequence[int],
    *,
    at_document_start: bool = False,
    end_token: int | None = None,
) -> SubstringConstraint:
    """The constraint after a forced beginning, which the beams do not repeat.

    Titles are n-grams at the start of a document that end with the token after the
    title; codes follow their delimiter (SEAL's ``force_decoding_from``).

    Args:
      constraint: Of the same index. Its compiled programs are used again, but for the
        first with an ``end_token``.
      index: On the host.
      tokens: The beginning; may be empty with ``at_document_start``.
      at_document_start: Whether it must stand at the start of a document.
      end_token: If given, a beam is a result only once this token ends it.

    Raises:
      InputError: If no document has the beginning.
    """
    lo_1Z, hi_1Z = index.find([tokens], at_document_start=at_document_start)
    if not np.any(hi_1Z > lo_1Z):
        raise errors.InputError(
            errors.fault(
                "substring index", "beginning", list(tokens), "it is in no document"
            )
        )
    sharding = constraint.begin_lo_Z.sharding
    return dataclasses.replace(
        constraint,
        begin_lo_Z=jax.device_put(lo_1Z[0].astype(np.int32), sharding),
        begin_hi_Z=jax.device_put(hi_1Z[0].astype(np.int32), sharding),
        begin_depth=jnp.int32(len(tokens) + int(at_document_start)),
        end_token=jnp.int32(-1 if end_token is None else end_token),
        must_close=end_token is not None,
    )
