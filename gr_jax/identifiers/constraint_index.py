"""A prefix tree over sorted identifiers, as flat arrays built on the host.

The tree is an interval tree: a prefix *is* the half-open interval of sorted rows that
begin with it, so a finished prefix names its row without a table. Two structures hold
the children of an interval:

* **wide** nodes (many rows to a child) keep a ragged list of edges: the token and the
  first row of each child. Wide nodes are numbered breadth first in the order of the
  edges that lead to them, so one bit an edge and a running count give their number;
* **narrow** nodes keep nothing. Their children are read off the sorted rows, which are
  stored as columns from the first depth at which a narrow node occurs.

No array has a size that grows with the vocabulary. Tokens are stored less the smallest
token of their depth in 1, 2 or 4 bytes; codes with a token range a level take one.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from gr_jax.core import artifacts, errors
from gr_jax.identifiers import codec, sorted_rows, wide_nodes

MANIFEST_KIND = "constraint-index"
SCHEMA_VERSION = 1
STRUCTURE = "prefix-tree"

_MOSTLY = 0.99
_BUCKETS_PER_OCTAVE = 32
_ARRAYS = (
    "column_LN",
    "base_L",
    "edge_token_E",
    "edge_row_E",
    "wide_bits_E",
    "wide_rank_E",
    "edge_start_W",
    "length_R",
)
_HOST_ARRAYS = ("order_R", "unique_start_T")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PrefixTree:
    """The arrays of a tree. Sizes are rounded up to a bucket; padding is never read.

    Attributes:
      column_LN: ``column_LN[l, r] + base_L[first_column + l]`` is the token of sorted
        row ``r`` at depth ``first_column + l``.
      base_L: Smallest token of each depth.
      edge_token_E: Token of an edge, less the base of its depth.
      edge_row_E: First row of the child that an edge leads to.
      wide_bits_E: One bit an edge: whether its child is wide.
      wide_rank_E: Set bits before each word of `wide_bits_E`.
      edge_start_W: Edges of wide node ``w`` are ``edge_start_W[w:w + 2]``; node 0 is
        the root. The child of the edge with the ``k``-th set bit is node ``k + 1``.
      length_R: Tokens of each row; one entry where all have ``max_length``.
      order_R: Row of the source table at each sorted place; empty: the same.
      unique_start_T: Distinct row ``r`` has the sorted places
        ``unique_start_T[r:r + 2]``; empty: all rows were distinct.
      rows: Distinct rows.
      wide_nodes: Wide nodes, the root included.
      edges: Edges of wide nodes.
      first_column: Depth of the first stored column.
      max_length: Tokens of the longest row.
      alone_depth: Depth from which on 99% of the rows share their prefix with no other
        row; a hint for how many tokens a decoder can score at once.
      vocabulary_size: Tokens are below it.
    """

    column_LN: np.ndarray
    base_L: Int[np.ndarray, " L"]
    edge_token_E: np.ndarray
    edge_row_E: Int[np.ndarray, " E"]
    wide_bits_E: np.ndarray
    wide_rank_E: Int[np.ndarray, " E"]
    edge_start_W: Int[np.ndarray, " T"]
    length_R: np.ndarray
    order_R: Int[np.ndarray, " R"]
    unique_start_T: Int[np.ndarray, " T"]
    rows: int
    wide_nodes: int
    edges: int
    first_column: int
    max_length: int
    alone_depth: int
    vocabulary_size: int

    @property
    def is_ragged(self) -> bool:
        """Whether rows differ in length."""
        return len(self.length_R) > 1

    @property
    def device_bytes(self) -> int:
        """Bytes that decoding needs in the accelerator's memory, padding included."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def items(self, low: int, high: int) -> Int[np.ndarray, " R"]:
        """Rows of the source table whose identifier is in an interval.

        Example:
          >>> tree = build_matrix(np.array([[5, 1], [2, 7], [2, 6], [2, 7]]), 8)
          >>> tree.items(1, 2).tolist(), tree.items(0, 2).tolist()
          ([1, 3], [2, 1, 3])
        """
        if self.unique_start_T.size:
            low, high = (int(self.unique_start_T[edge]) for edge in (low, high))
        if self.order_R.size:
            return self.order_R[low:high].astype(np.int64)
        return np.arange(low, high)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the tree."""
        return {
            "structure": STRUCTURE,
            "rows": self.rows,
            "wide_nodes": self.wide_nodes,
            "edges": self.edges,
            "first_column": self.first_column,
            "max_length": self.max_length,
            "alone_depth": self.alone_depth,
            "vocabulary_size": self.vocabulary_size,
            "device_bytes": self.device_bytes,
            "bytes_per_row": self.device_bytes / self.rows,
        }

    def save(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        """Writes the tree as a folder with a manifest, whole or not at all."""
        with artifacts.staged(folder) as temporary:
            for name in (*_ARRAYS, *_HOST_ARRAYS):
                np.save(temporary / f"{name}.npy", getattr(self, name))
            artifacts.write_manifest(
                temporary,
                kind=MANIFEST_KIND,
                schema_version=SCHEMA_VERSION,
                config=config,
                inputs=inputs,
                facts=self.facts(),
            )


def load(folder: Path, *, verify: artifacts.Verify = "full") -> PrefixTree:
    """The tree of a folder.

    Raises:
      ArtifactError: If the folder is not a prefix tree or is damaged.
    """
    manifest = artifacts.read_manifest(
        folder, kind=MANIFEST_KIND, schema_version=SCHEMA_VERSION, verify=verify
    )
    structure = manifest.facts.get("structure")
    if structure != STRUCTURE:
        raise errors.ArtifactError(
            errors.fault(folder, "structure", structure, f"a {STRUCTURE} is needed")
        )
    arrays: dict[str, Any] = {
        name: np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in (*_ARRAYS, *_HOST_ARRAYS)
    }
    counts: dict[str, Any] = {
        name: int(manifest.facts[name])
        for name in (
            "rows",
            "wide_nodes",
            "edges",
            "first_column",
            "max_length",
            "alone_depth",
            "vocabulary_size",
        )
    }
    return PrefixTree(**arrays, **counts)


def build(
    table: codec.IdentifierTable,
    *,
    capacity: int = 0,
    like: PrefixTree | None = None,
) -> PrefixTree:
    """The prefix tree of an identifier table.

    Args:
      table: Rows of one length, or prefix-free (closed by an end token).
      capacity: Rows to leave room for, so that a grown table has the same shapes.
      like: Tree whose array shapes to take on, so that what was compiled for it
        serves this one too.

    Raises:
      InputError: If a row is empty or begins another one, or a token is outside the
        vocabulary.
      UsageError: If the tree does not fit the shapes of ``like``.
    """
    if table.is_substring:
        raise errors.InputError(
            f"identifiers: kind: {table.kind}: n-grams need a substring index"
        )
    return build_rows(
        table.tokens_E,
        table.row_starts_T,
        table.vocabulary_size,
        capacity=capacity,
        like=like,
    )


def build_rows(
    tokens_E: Int[np.ndarray, " E"],
    row_starts_T: Int[np.ndarray, " T"],
    vocabulary_size: int,
    *,
    capacity: int = 0,
    like: PrefixTree | None = None,
) -> PrefixTree:
    """The prefix tree of ragged rows; as `build`."""
    rows = sorted_rows.from_ragged(tokens_E, row_starts_T, vocabulary_size)
    return _assemble(rows, vocabulary_size, capacity, like)


def build_matrix(
    rows_NL: Int[np.ndarray, "N L"],
    vocabulary_size: int,
    *,
    capacity: int = 0,
    like: PrefixTree | None = None,
) -> PrefixTree:
    """The prefix tree of rows of one length; as `build`.

    Rows that are sorted already are not sorted again.
    """
    rows = sorted_rows.from_matrix(rows_NL, vocabulary_size)
    return _assemble(rows, vocabulary_size, capacity, like)


def _fitted(tree: PrefixTree, like: PrefixTree) -> PrefixTree:
    """The tree with the array shapes of another one."""
    arrays: dict[str, np.ndarray] = {}
    for name in _ARRAYS:
        array, wanted = getattr(tree, name), getattr(like, name)
        if name == "length_R" and like.is_ragged and not tree.is_ragged:
            array = np.repeat(array, tree.rows)
        fits = all(map(operator.le, array.shape, wanted.shape))
        if not fits or not np.can_cast(array.dtype, wanted.dtype):
            raise errors.UsageError(
                f"constraint index: {name}: {array.dtype}{list(array.shape)} does not "
                f"fit {wanted.dtype}{list(wanted.shape)}: build the other one with "
                "room for it (capacity)"
            )
        room = np.zeros_like(wanted)
        room[tuple(slice(size) for size in array.shape)] = array
        if name == "edge_start_W":
            room[len(array) :] = tree.edges
        arrays[name] = room
    return dataclasses.replace(tree, **arrays)


def bucketed(size: int) -> int:
    """``size`` rounded up to one of 32 sizes an octave (at most 3.2% more).

    Example:
      >>> [bucketed(n) for n in (0, 40, 1000, 1_000_000)]
      [32, 40, 1008, 1015808]
    """
    if size <= _BUCKETS_PER_OCTAVE:
        return _BUCKETS_PER_OCTAVE
    step = 1 << max(0, (size - 1).bit_length() - _BUCKETS_PER_OCTAVE.bit_length())
    return -(-size // step) * step


def _assemble(
    rows: sorted_rows.SortedRows,
    vocabulary_size: int,
    capacity: int,
    like: PrefixTree | None,
) -> PrefixTree:
    edges, first_column = wide_nodes.grow(rows, like.first_column if like else 1)
    growth = max(1.0, capacity / rows.count)
    padded = bucketed(int(rows.count * growth))
    column_LN = rows.columns(first_column, padded)
    edge_size = bucketed(int(edges.total * growth))
    wide_E = np.concatenate(edges.wide) if edges.wide else np.zeros(0, np.int64)
    bits_E, rank_E = _bit_vector(wide_E, edge_size)
    counts_W = np.concatenate(edges.counts)
    start_W = np.zeros(bucketed(int(len(counts_W) * growth) + 1), np.int32)
    np.cumsum(counts_W, out=start_W[1 : len(counts_W) + 1])
    start_W[len(counts_W) + 1 :] = edges.total
    tree = PrefixTree(
        column_LN=column_LN,
        base_L=rows.base,
        edge_token_E=_padded(np.concatenate(edges.tokens), edge_size),
        edge_row_E=_padded(np.concatenate(edges.rows).astype(np.int32), edge_size),
        wide_bits_E=bits_E,
        wide_rank_E=rank_E,
        edge_start_W=start_W,
        length_R=_padded(rows.length_R, padded) if rows.is_ragged else rows.length_R,
        order_R=rows.order_R,
        unique_start_T=rows.unique_start_T,
        rows=rows.count,
        wide_nodes=len(counts_W),
        edges=edges.total,
        first_column=first_column,
        max_length=rows.max_length,
        alone_depth=rows.alone_depth(_MOSTLY),
        vocabulary_size=vocabulary_size,
    )
    return _fitted(tree, like) if like else tree


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    result = np.zeros(size, array.dtype)
    result[: len(array)] = array
    return result


def _bit_vector(set_E: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    words = -(-size // 32)
    bits = np.zeros(words * 32, np.uint8)
    bits[set_E] = 1
    packed = np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)
    rank = np.zeros(words, np.int32)
    np.cumsum(bits.reshape(words, 32).sum(1, dtype=np.int32)[:-1], out=rank[1:])
    return packed, rank
