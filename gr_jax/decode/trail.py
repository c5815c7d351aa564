"""Back-pointers: which beam each beam came from, instead of moving token buffers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Trail(NamedTuple):
    """Parent and token of every beam at every step, leaves ``[T, B, M]``."""

    parent: jax.Array
    token: jax.Array

    @classmethod
    def empty(cls, steps: int, batch: int, beams: int) -> Trail:
        """Room for ``steps`` steps, each beam its own parent."""
        own_TBM = jnp.broadcast_to(
            jnp.arange(beams)[None, None, :], (steps, batch, beams)
        )
        return cls(own_TBM, jnp.zeros((steps, batch, beams), jnp.int32))

    def write(
        self,
        step: Int[Array, ""],
        parent_BM: Int[Array, "B M"],
        token_BM: Int[Array, "B M"],
    ) -> Trail:
        """The trail with one step more."""
        return Trail(
            jax.lax.dynamic_update_index_in_dim(self.parent, parent_BM, step, 0),
            jax.lax.dynamic_update_index_in_dim(self.token, token_BM, step, 0),
        )

    def write_tokens(
        self, step: Int[Array, ""], token_BMT: Int[Array, "B M T"]
    ) -> Trail:
        """The trail with steps in which every beam goes on alone."""
        token_TBM = jnp.moveaxis(token_BMT, 2, 0)
        start = (step, jnp.zeros_like(step), jnp.zeros_like(step))
        return self._replace(
            token=jax.lax.dynamic_update_slice(self.token, token_TBM, start)
        )


class Ending(NamedTuple):
    """Beams that are results, leaves ``[B, M]`` (intervals may have more axes).

    Attributes:
      rank: Score by which results are ordered; -inf for none.
      logprob: Summed log-probability in nats.
      length: Tokens.
      beam: Beam that holds all tokens, or all but the last.
      last: The last token where ``beam`` lacks it, else -1.
      low: First matching row.
      high: Row behind the last.
    """

    rank: jax.Array
    logprob: jax.Array
    length: jax.Array
    beam: jax.Array
    last: jax.Array
    low: jax.Array
    high: jax.Array


def merged(kept: Ending, new: Ending) -> Ending:
    """The best of both, as many as were kept, best first."""
    both = Ending(
        *(jnp.concatenate(pair, axis=1) for pair in zip(kept, new, strict=True))
    )
    _, place_BM = jax.lax.top_k(both.rank, kept.rank.shape[1])
    return Ending(*(take(leaf, place_BM) for leaf in both))


def take(leaf_BE: Any, place_BM: Int[Array, "B M"]) -> Any:
    """``leaf[b, place[b, m]]`` for a leaf with any axes behind the first two."""
    index = place_BM.reshape(place_BM.shape + (1,) * (leaf_BE.ndim - 2))
    return jnp.take_along_axis(leaf_BE, index, axis=1, mode="promise_in_bounds")


def tokens_of(trail: Trail, ending: Ending) -> Int[Array, "B M L"]:
    """The tokens of results, found by walking the trail backwards; 0 behind the end."""

    def back(
        beam_BM: Int[Array, "B M"], entry: tuple[Array, Array, Array]
    ) -> tuple[Array, Array]:
        step, parent_BM, token_BM = entry
        own_BM = ending.length - (ending.last >= 0)
        is_own_BM = step < own_BM
        is_last_BM = (step == own_BM) & (ending.last >= 0)
        walked_BM = jnp.where(is_own_BM, take(token_BM, beam_BM), 0)
        token_now_BM = jnp.where(is_last_BM, ending.last, walked_BM)
        return jnp.where(is_own_BM, take(parent_BM, beam_BM), beam_BM), token_now_BM

    steps_T = jnp.arange(trail.token.shape[0])
    _, token_TBM = jax.lax.scan(
        back, ending.beam, (steps_T, trail.parent, trail.token), reverse=True
    )
    return jnp.moveaxis(token_TBM, 0, 2)


def nothing(rows: tuple[Any, Any], beams: int) -> Ending:
    """No results yet, ``beams`` wide; intervals in the shapes of ``rows``."""
    low, high = (
        jnp.zeros((leaf.shape[0], beams, *leaf.shape[2:]), leaf.dtype) for leaf in rows
    )
    zero_BM = jnp.zeros(low.shape[:2], jnp.int32)
    never_BM = jnp.full(zero_BM.shape, -jnp.inf)
    return Ending(never_BM, never_BM, zero_BM, zero_BM, zero_BM, low, high)


def is_result(ending: Ending) -> Bool[Array, "B M"]:
    """Which entries are results."""
    return ending.rank > -jnp.inf
