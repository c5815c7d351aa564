"""What an identifier table is like: collisions, lengths, depth, entropy of levels."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int

from gr_jax.identifiers import codec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Level:
    """One position of the identifiers.

    Attributes:
      rows: Identifiers that are this long.
      distinct: Tokens that occur here.
      entropy_bits: Of the tokens here.
      conditional_bits: Of the tokens here once all before them are known.
      prefixes: Distinct beginnings that end here.
      most_children: Tokens that follow one beginning, at most.
    """

    rows: int
    distinct: int
    entropy_bits: float
    conditional_bits: float
    prefixes: int
    most_children: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """A table in numbers.

    Attributes:
      kind: The kind's name.
      documents: Documents.
      rows: Identifiers.
      tokens: Tokens of all rows.
      vocabulary_size: Text pieces and code tokens.
      length_min: Tokens of the shortest row.
      length_mean: Mean tokens.
      length_max: Tokens of the longest row.
      collision_groups: Groups of documents with one identifier, before any suffix.
      collision_documents: Documents in them.
      shared_groups: Groups that still share their identifier.
      token_entropy_bits: Of all tokens together.
      depth_mean: Tokens after which one document is left, mean over rows; None for
        n-grams.
      depth_max: The same, at most.
      levels: One entry a position; none for n-grams.
    """

    kind: str
    documents: int
    rows: int
    tokens: int
    vocabulary_size: int
    length_min: int
    length_mean: float
    length_max: int
    collision_groups: int
    collision_documents: int
    shared_groups: int
    token_entropy_bits: float
    depth_mean: float | None
    depth_max: int | None
    levels: list[Level]


def entropy_bits(count_V: Int[np.ndarray, " V"]) -> float:
    """Entropy of counts, in bits.

    Example:
      >>> entropy_bits(np.array([2, 1, 1, 0]))
      1.5
    """
    share_V = count_V[count_V > 0] / max(int(count_V.sum()), 1)
    return float(-(share_V * np.log2(share_V)).sum()) + 0.0


def inspect(table: codec.IdentifierTable) -> Inspection:
    """The numbers of a table."""
    length_R = np.diff(table.row_starts_T)
    levels, depth_R = ([], None) if table.is_substring else _levels(table, length_R)
    return Inspection(
        kind=table.kind,
        documents=len(table.document_ids),
        rows=len(length_R),
        tokens=len(table.tokens_E),
        vocabulary_size=table.vocabulary_size,
        length_min=int(length_R.min()),
        length_mean=float(length_R.mean()),
        length_max=int(length_R.max()),
        collision_groups=len(table.collisions),
        collision_documents=sum(map(len, table.collisions)),
        shared_groups=len(codec.shared_identifiers(table)),
        token_entropy_bits=entropy_bits(np.bincount(table.tokens_E)),
        depth_mean=None if depth_R is None else float(depth_R.mean()),
        depth_max=None if depth_R is None else int(depth_R.max()),
        levels=levels,
    )


def _levels(
    table: codec.IdentifierTable, length_R: Int[np.ndarray, " R"]
) -> tuple[list[Level], Int[np.ndarray, " R"]]:
    prefix_R = np.zeros(len(length_R), np.int64)
    depth_R = length_R.copy()
    is_open_R = np.ones(len(length_R), bool)
    levels: list[Level] = []
    for level in range(int(length_R.max())):
        live = np.flatnonzero(length_R > level)
        token = table.tokens_E[table.row_starts_T[live] + level].astype(np.int64)
        before = np.unique(prefix_R[live], return_counts=True)[1]
        edge, place = np.unique(
            prefix_R[live] * table.vocabulary_size + token, return_inverse=True
        )
        rows_of_edge = np.bincount(place)
        children = np.unique(edge // table.vocabulary_size, return_counts=True)[1]
        levels.append(
            Level(
                rows=len(live),
                distinct=len(np.unique(token)),
                entropy_bits=entropy_bits(np.bincount(token)),
                # The chain rule: H(prefix and token) - H(prefix).
                conditional_bits=entropy_bits(rows_of_edge) - entropy_bits(before),
                prefixes=len(edge),
                most_children=int(children.max()),
            )
        )
        prefix_R[live] = place
        closes = live[is_open_R[live] & (rows_of_edge[place] == 1)]
        depth_R[closes] = level + 1
        is_open_R[closes] = False
    return levels, depth_R


def readable(found: Inspection) -> str:
    """The numbers as lines for people."""
    shared = f"{found.shared_groups} groups still share theirs"
    lines = [
        f"{found.kind}: {found.rows} identifiers of {found.documents} documents",
        f"vocabulary  {found.vocabulary_size} tokens",
        f"lengths     {found.length_min} to {found.length_max}, "
        f"mean {found.length_mean:.2f}; {found.tokens} tokens, "
        f"{found.token_entropy_bits:.2f} bits each",
        f"collisions  {found.collision_documents} documents in "
        f"{found.collision_groups} groups; {shared}",
    ]
    if found.depth_mean is not None:
        lines.append(
            f"depth       alone after {found.depth_mean:.2f} tokens, "
            f"at most {found.depth_max}"
        )
        lines.append("level     rows  distinct  bits  given prefix  prefixes  children")
    lines += [
        f"{number:5d}  {level.rows:7d}  {level.distinct:8d}  {level.entropy_bits:4.1f}"
        f"  {level.conditional_bits:12.2f}  {level.prefixes:8d}"
        f"  {level.most_children:8d}"
        for number, level in enumerate(found.levels)
    ]
    return "\n".join(lines)
