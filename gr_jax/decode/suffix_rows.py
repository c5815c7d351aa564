"""A shard's suffix array on device: next tokens of rows, rows of longer n-grams."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

Leaf = Any  # An array; its shape is in the field's name.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SuffixRows:
    """Text and sorted suffixes of one shard, padded to a bucket of sizes.

    Between documents, and past the end, the text holds 0.
    """

    text_E: Leaf
    rows_E: Leaf

    def successors(
        self, row_BC: Int[Array, "B C"], lo_BC: Int[Array, "B C"], depth_BC: Array
    ) -> tuple[Int[Array, "B C"], Bool[Array, "B C"]]:
        """The dense token that follows each row, and where it comes for the first time.

        Args:
          row_BC: Rows, ascending inside an interval and without gaps. The first column
            is only there for comparison and is never a first time.
          lo_BC: First row of the interval of each.
          depth_BC: Tokens of the n-gram of each.
        """
        place_BC = self.rows_E[row_BC] + depth_BC
        token_BC = self.text_E[place_BC].astype(jnp.int32)
        # Rows of an interval are sorted by the token that follows: equal ones touch.
        is_new_BC = (token_BC[:, 1:] != token_BC[:, :-1]) | (
            row_BC[:, 1:] == lo_BC[:, 1:]
        )
        return token_BC, jnp.pad(is_new_BC, ((0, 0), (1, 0)))

    def narrow(
        self, lo_BC: Array, hi_BC: Array, depth_BC: Array, token_BC: Array
    ) -> tuple[Int[Array, "B C"], Int[Array, "B C"]]:
        """Rows of each interval whose next token is ``token_BC``, by bisection."""
        goal_2BC = jnp.stack([token_BC, token_BC + 1])
        depth_2BC = jnp.stack([depth_BC, depth_BC])

        def is_open(bounds: tuple[Array, Array]) -> Array:
            return jnp.any(bounds[0] < bounds[1])

        def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            left_2BC, right_2BC = bounds
            middle_2BC = (left_2BC + right_2BC) >> 1
            found_2BC = self.text_E[self.rows_E[middle_2BC] + depth_2BC]
            is_less = found_2BC.astype(jnp.int32) < goal_2BC
            is_live = left_2BC < right_2BC
            left_2BC = jnp.where(is_live & is_less, middle_2BC + 1, left_2BC)
            right_2BC = jnp.where(is_live & ~is_less, middle_2BC, right_2BC)
            return left_2BC, right_2BC

        bounds = (jnp.stack([lo_BC, lo_BC]), jnp.stack([hi_BC, hi_BC]))
        left_2BC, _ = jax.lax.while_loop(is_open, halve, bounds)
        return left_2BC[0], left_2BC[1]

    def is_ended(self, lo_BM: Array, hi_BM: Array, depth_BM: Array) -> Array:
        """Whether every occurrence stands at the end of its document."""
        # Separators sort first, so the last row tells.
        last_BM = jnp.maximum(hi_BM - 1, 0)
        token_BM = self.text_E[self.rows_E[last_BM] + depth_BM]
        return (token_BM == 0) | (hi_BM <= lo_BM)
