"""The prefix tree's arrays on device, and what is read off them.

Reads clip their indices: a beam that does not exist reads something, and its score of
-inf says that it means nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from gr_jax.decode import top_k
from gr_jax.identifiers import constraint_index

NARROW = -1
"""Stands for the number of a wide node where the node is narrow."""


class TreeState(NamedTuple):
    """Where a beam stands.

    Attributes:
      low: First sorted row that begins with the beam's tokens.
      high: Row behind the last one; ``low == high`` for no beam.
      wide: Number of the wide node, or -1 for a narrow one.
      depth: Tokens so far.
    """

    low: jax.Array
    high: jax.Array
    wide: jax.Array
    depth: jax.Array


class Children(NamedTuple):
    """Chosen continuations before they are told from empty slots."""

    score: jax.Array
    parent: jax.Array
    token: jax.Array
    low: jax.Array
    high: jax.Array
    wide: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "column_LN",
        "base_L",
        "edge_token_E",
        "edge_row_E",
        "wide_bits_E",
        "wide_rank_E",
        "edge_start_W",
        "length_R",
        "rows",
        "first_column",
        "alone_depth",
    ],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TreeArrays:
    """What `constraint_index.PrefixTree` holds, on device."""

    column_LN: jax.Array
    base_L: jax.Array
    edge_token_E: jax.Array
    edge_row_E: jax.Array
    wide_bits_E: jax.Array
    wide_rank_E: jax.Array
    edge_start_W: jax.Array
    length_R: jax.Array
    rows: jax.Array
    first_column: jax.Array
    alone_depth: jax.Array

    @classmethod
    def of(cls, tree: constraint_index.PrefixTree) -> TreeArrays:
        """The tree's arrays on the default device."""
        return cls(
            column_LN=jnp.asarray(tree.column_LN),
            base_L=jnp.asarray(tree.base_L),
            edge_token_E=jnp.asarray(tree.edge_token_E),
            edge_row_E=jnp.asarray(tree.edge_row_E),
            wide_bits_E=jnp.asarray(tree.wide_bits_E),
            wide_rank_E=jnp.asarray(tree.wide_rank_E),
            edge_start_W=jnp.asarray(tree.edge_start_W),
            length_R=jnp.asarray(tree.length_R),
            rows=jnp.asarray(tree.rows, jnp.int32),
            first_column=jnp.asarray(tree.first_column, jnp.int32),
            alone_depth=jnp.asarray(tree.alone_depth, jnp.int32),
        )

    @property
    def has_one_length(self) -> bool:
        """Whether all identifiers have one length. Static."""
        return self.length_R.shape[0] == 1

    def length(self, row: Int[Array, "*place"]) -> Int[Array, "*place"]:
        """Tokens of rows."""
        if self.has_one_length:
            return jnp.broadcast_to(self.length_R[0].astype(jnp.int32), row.shape)
        return self.length_R.at[row].get(mode="clip").astype(jnp.int32)

    def base(self, depth: Int[Array, "*place"]) -> Int[Array, "*place"]:
        """Token that a stored 0 stands for."""
        return self.base_L.at[depth].get(mode="clip")

    def stored(
        self, depth: Int[Array, "*place"], row: Int[Array, "*place"]
    ) -> Int[Array, "*place"]:
        """Tokens of rows less the base of their depth; there must be a column."""
        columns, rows = self.column_LN.shape
        column = jnp.clip(depth - self.first_column, 0, columns - 1)
        if self.column_LN.size <= top_k.INT32:
            # One index an entry, computed where it is used.
            flat = self.column_LN.reshape(-1)
            place = column * rows + jnp.clip(row, 0, rows - 1)
            return flat.at[place].get(mode="promise_in_bounds").astype(jnp.int32)
        return self.column_LN.at[column, row].get(mode="clip").astype(jnp.int32)

    def token(
        self, depth: Int[Array, "*place"], row: Int[Array, "*place"]
    ) -> Int[Array, "*place"]:
        """Tokens of rows, at depths of which there is a column."""
        return self.stored(depth, row) + self.base(depth)

    def edge_token(self, edge: Int[Array, "*place"]) -> Int[Array, "*place"]:
        """Tokens of edges less the base of their depth."""
        return self.edge_token_E.at[edge].get(mode="clip").astype(jnp.int32)

    def edge_row(self, edge: Int[Array, "*place"]) -> Int[Array, "*place"]:
        """First row of the child that an edge leads to."""
        return self.edge_row_E.at[edge].get(mode="clip")

    def edge_start(self, node: Int[Array, "*place"]) -> Int[Array, "*place"]:
        """First edge of a wide node."""
        return self.edge_start_W.at[node].get(mode="clip")

    def wide_child(self, edge: Int[Array, "*place"]) -> Int[Array, "*place"]:
        """Number of the wide node that an edge leads to, or `NARROW`."""
        word = self.wide_bits_E.at[edge >> 5].get(mode="clip")
        bit = jnp.left_shift(jnp.uint32(1), (edge & 31).astype(jnp.uint32))
        before = jax.lax.population_count(word & (bit - 1)).astype(jnp.int32)
        rank = self.wide_rank_E.at[edge >> 5].get(mode="clip") + before
        return jnp.where((word & bit) != 0, rank + 1, NARROW)

    def run_end(
        self,
        depth_BC: Int[Array, "B C"],
        token_BC: Int[Array, "B C"],
        low_BC: Int[Array, "B C"],
        high_BC: Int[Array, "B C"],
    ) -> Int[Array, "B C"]:
        """First row in (low, high] with another token, by bisection; high if none."""

        def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            same_BC, other_BC = bounds
            middle_BC = same_BC + (other_BC - same_BC) // 2
            is_same_BC = self.token(depth_BC, middle_BC) == token_BC
            is_open_BC = other_BC - same_BC > 1
            return (
                jnp.where(is_open_BC & is_same_BC, middle_BC, same_BC),
                jnp.where(is_open_BC & ~is_same_BC, middle_BC, other_BC),
            )

        def is_open(bounds: tuple[Array, Array]) -> Array:
            return (bounds[1] - bounds[0] > 1).any()

        return jax.lax.while_loop(is_open, halve, (low_BC, high_BC))[1]
