"""Children of beams of any width, in blocks, the most promising beams first.

The beams of a query are put in the order of the best score that a child of theirs could
have. Their children are read in that order, in blocks of one beam each, a fixed number
of blocks at a time. Once enough children beat the bound of the next beam the rest
cannot matter and is not read; until then reading goes on, so nothing is ever cut off.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gr_jax.decode import top_k, tree_arrays

_LANES = 64
_BLOCKS = 256


class _Queue(NamedTuple):
    """The beams of each query in reading order, leaves ``[B, M]``.

    Attributes:
      beam: Number of the beam.
      bound: The most that a child can score.
      gain: Beam score less logsumexp; -inf for no beam.
      is_wide: Whether children are edges and not rows.
      depth: Tokens so far.
      first: First edge or row.
      size: Edges or rows.
      end: Blocks of this beam and all before it.
    """

    beam: jax.Array
    bound: jax.Array
    gain: jax.Array
    is_wide: jax.Array
    depth: jax.Array
    first: jax.Array
    size: jax.Array
    end: jax.Array

    def any_narrow(self) -> Bool[Array, ""]:
        """Whether a beam with children is narrow."""
        return ((self.size > 0) & ~self.is_wide).any()

    def rank(self, block_T: Int[Array, " T"]) -> Int[Array, "B T"]:
        """Place in the queue of the beam that a block belongs to."""
        search = functools.partial(jnp.searchsorted, side="right")
        rank_BT = jax.vmap(search, in_axes=(0, None))(self.end, block_T)
        return jnp.minimum(rank_BT, self.end.shape[1] - 1).astype(jnp.int32)

    def is_unfinished(
        self, block: Int[Array, ""], worst_B: Float[Array, " B"]
    ) -> Bool[Array, ""]:
        """Whether a block from this one on may hold a child better than the worst."""
        bound_B = top_k.take(self.bound, self.rank(block[None]))[:, 0]
        return ((block < self.end[:, -1]) & (bound_B > worst_B)).any()


class _Found(NamedTuple):
    """The best children so far: score, place of the beam in the queue, edge or row."""

    score: jax.Array
    rank: jax.Array
    place: jax.Array


def children(
    tree: tree_arrays.TreeArrays,
    state: tree_arrays.TreeState,
    logits_BMV: Float[Array, "B M V"],
    gain_BM: Float[Array, "B M"],
    *,
    count: int,
) -> tree_arrays.Children:
    """The best ``count`` children of each query."""
    queue = _queue(tree, state, logits_BMV, gain_BM)
    batch, beams, vocabulary = logits_BMV.shape
    # A narrow node has at least one child to two rows.
    most = beams * -(-2 * vocabulary // _LANES)
    blocks = min(max(_BLOCKS, 2 * count), most)
    zero_BC = jnp.zeros((batch, count), jnp.int32)
    nothing = _Found(jnp.full((batch, count), -jnp.inf), zero_BC, zero_BC)

    def is_unfinished(carry: tuple[Array, _Found]) -> Array:
        return queue.is_unfinished(carry[0], carry[1].score[:, -1])

    def read(carry: tuple[Array, _Found]) -> tuple[Array, _Found]:
        block, best = carry
        rank_BT, place_BTx = _places(queue, block + jnp.arange(blocks))
        score_BTx = _scores(tree, queue, logits_BMV, rank_BT, place_BTx)
        score_BC, slot_BC = top_k.best_of_groups(score_BTx, count)
        new = _Found(
            score_BC,
            top_k.take(rank_BT, slot_BC // _LANES),
            top_k.take(place_BTx.reshape(batch, -1), slot_BC),
        )
        return block + blocks, _merged(best, new, count)

    start = (jnp.zeros((), jnp.int32), nothing)
    _, found = jax.lax.while_loop(is_unfinished, read, start)
    return _chosen(tree, state, queue, found)


def _blocks_of(size: Int[Array, "B M"]) -> Int[Array, "B M"]:
    return (size + _LANES - 1) // _LANES


def _queue(
    tree: tree_arrays.TreeArrays,
    state: tree_arrays.TreeState,
    logits_BMV: Float[Array, "B M V"],
    gain_BM: Float[Array, "B M"],
) -> _Queue:
    is_live_BM = gain_BM > -jnp.inf
    is_wide_BM = state.wide >= 0
    node_BM = jnp.maximum(state.wide, 0)
    first_BM = jnp.where(is_wide_BM, tree.edge_start(node_BM), state.low)
    end_BM = jnp.where(is_wide_BM, tree.edge_start(node_BM + 1), state.high)
    size_BM = jnp.where(is_live_BM, end_BM - first_BM, 0)
    bound_BM = gain_BM + logits_BMV.max(axis=2)
    bound_BM, beam_BM = jax.lax.top_k(bound_BM, gain_BM.shape[1])
    size_BM = top_k.take(size_BM, beam_BM)
    return _Queue(
        beam=beam_BM,
        bound=bound_BM,
        gain=top_k.take(gain_BM, beam_BM),
        is_wide=top_k.take(is_wide_BM & is_live_BM, beam_BM),
        depth=top_k.take(state.depth, beam_BM),
        first=top_k.take(first_BM, beam_BM),
        size=size_BM,
        end=jnp.cumsum(_blocks_of(size_BM), axis=1),
    )


def _places(
    queue: _Queue, block_T: Int[Array, " T"]
) -> tuple[Int[Array, "B T"], Int[Array, "B T x"]]:
    """Beam and child places of blocks; beyond the beam's children behind the last."""
    rank_BT = queue.rank(block_T)
    begin_BT = top_k.take(queue.end - _blocks_of(queue.size), rank_BT)
    offset_BT = (block_T[None, :] - begin_BT) * _LANES
    place_BT = top_k.take(queue.first, rank_BT) + offset_BT
    return rank_BT, place_BT[:, :, None] + jnp.arange(_LANES)[None, None, :]


def _scores(
    tree: tree_arrays.TreeArrays,
    queue: _Queue,
    logits_BMV: Float[Array, "B M V"],
    rank_BT: Int[Array, "B T"],
    place_BTx: Int[Array, "B T x"],
) -> Float[Array, "B T x"]:
    """Scores of blocks of children; -inf for what is not a child."""
    batch, beams, vocabulary = logits_BMV.shape
    beam_BT, depth_BT = (top_k.take(x, rank_BT) for x in (queue.beam, queue.depth))
    first_BT, size_BT = (top_k.take(x, rank_BT) for x in (queue.first, queue.size))
    offset_BTx = place_BTx - first_BT[:, :, None]
    is_child_BTx = (offset_BTx >= 0) & (offset_BTx < size_BT[:, :, None])
    depth_BT1 = depth_BT[:, :, None]
    is_wide_BT1 = top_k.take(queue.is_wide, rank_BT)[:, :, None]

    def rows() -> tuple[Array, Array]:
        token_BTx = tree.stored(depth_BT1, place_BTx)
        is_repeat_BTx = token_BTx == tree.stored(depth_BT1, place_BTx - 1)
        return token_BTx, is_repeat_BTx & (offset_BTx > 0) & ~is_wide_BT1

    def no_rows() -> tuple[Array, Array]:
        return jnp.zeros_like(place_BTx), jnp.zeros(place_BTx.shape, bool)

    row_token_BTx, is_repeat_BTx = jax.lax.cond(queue.any_narrow(), rows, no_rows)
    edge_token_BTx = jax.lax.cond(
        queue.is_wide.any(),
        lambda: tree.edge_token(place_BTx),
        lambda: jnp.zeros_like(place_BTx),
    )
    token_BTx = jnp.where(is_wide_BT1, edge_token_BTx, row_token_BTx)
    token_BTx = jnp.clip(token_BTx + tree.base(depth_BT1), 0, vocabulary - 1)
    flat_BTx = beam_BT[:, :, None] * vocabulary + token_BTx
    logit_BE = top_k.take(
        logits_BMV.reshape(batch, beams * vocabulary), flat_BTx.reshape(batch, -1)
    )
    gain_BT1 = top_k.take(queue.gain, rank_BT)[:, :, None]
    score_BTx = gain_BT1 + logit_BE.reshape(flat_BTx.shape)
    return jnp.where(is_child_BTx & ~is_repeat_BTx, score_BTx, -jnp.inf)


def _merged(best: _Found, new: _Found, count: int) -> _Found:
    both = _Found(
        *(jnp.concatenate(pair, axis=1) for pair in zip(best, new, strict=True))
    )
    score_BC, from_BC = top_k.best(both.score, count)
    return _Found(
        score_BC, top_k.take(both.rank, from_BC), top_k.take(both.place, from_BC)
    )


def _chosen(
    tree: tree_arrays.TreeArrays,
    state: tree_arrays.TreeState,
    queue: _Queue,
    found: _Found,
) -> tree_arrays.Children:
    """Where the chosen children lead."""
    score_BC, rank_BC, place_BC = found
    parent_BC, is_wide_BC, depth_BC, first_BC, size_BC = (
        top_k.take(x, rank_BC)
        for x in (queue.beam, queue.is_wide, queue.depth, queue.first, queue.size)
    )
    high_BC = top_k.take(state.high, parent_BC)
    stored_BC = jnp.where(
        is_wide_BC, tree.edge_token(place_BC), tree.stored(depth_BC, place_BC)
    )
    token_BC = stored_BC + tree.base(depth_BC)
    is_last_BC = place_BC == first_BC + size_BC - 1
    edge_high_BC = jnp.where(is_last_BC, high_BC, tree.edge_row(place_BC + 1))
    # Bisection is for narrow beams: it is given nothing to do for the others.
    is_bisected_BC = ~is_wide_BC & (score_BC > -jnp.inf)
    run_high_BC = jnp.where(is_bisected_BC, high_BC, place_BC)
    run_end_BC = tree.run_end(depth_BC, token_BC, place_BC, run_high_BC)
    return tree_arrays.Children(
        score=score_BC,
        parent=parent_BC,
        token=token_BC,
        low=jnp.where(is_wide_BC, tree.edge_row(place_BC), place_BC),
        high=jnp.where(is_wide_BC, edge_high_BC, run_end_BC),
        wide=jnp.where(is_wide_BC, tree.wide_child(place_BC), tree_arrays.NARROW),
    )
