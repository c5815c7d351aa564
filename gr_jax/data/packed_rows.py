"""Which examples share a row: first-fit over sources and targets at once.

Examples are taken in an order that the seed names and put into the first open row with
room for both their source and their target. The rows are made once and shuffled every
epoch, so any step can be computed alone. Many shares of the examples are packed in
lockstep, each by its own first-fit: time is that of array operations, and the result
depends on the lengths and the seed alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int, Int32, Int64

from gr_jax.data import arrays, ordering, vocabulary

_SHARE_EXAMPLES = 4096
_MOST_SHARES = 1024
_OPEN_ROWS = 32


@dataclasses.dataclass(frozen=True)
class Rows:
    """Examples of each row; row r holds ``examples_E[starts_T[r]:starts_T[r + 1]]``."""

    examples_E: Int64[np.ndarray, " E"]
    starts_T: Int64[np.ndarray, " T"]

    def __len__(self) -> int:
        return len(self.starts_T) - 1


def first_fit(
    source_E: Int[np.ndarray, " E"],
    target_E: Int[np.ndarray, " E"],
    *,
    source_length: int,
    target_length: int,
    seed: int,
) -> Rows:
    """Rows of a source and a target width that hold every example once.

    A row is closed, the fullest first, when an example fits none of the open ones.

    Args:
      source_E: Source tokens of each example, at most ``source_length``.
      target_E: Target tokens of each example, at most ``target_length``.
      source_length: Width of a row's source.
      target_length: Width of a row's target.
      seed: Names the order in which examples are taken.
    """
    examples = len(source_E)
    shares = min(max(examples // _SHARE_EXAMPLES, 1), _MOST_SHARES)
    turns = -(-examples // shares)
    order = np.full(turns * shares, -1, np.int64)
    order[:examples] = ordering.order(examples, seed=seed, epoch=0)
    # Turn t deals one example to each share; the last turn may not reach all.
    order_TR = order.reshape(turns, shares)
    room = np.zeros((2, shares, _OPEN_ROWS), np.int64)
    row_RM = np.full((shares, _OPEN_ROWS), -1, np.int64)
    made_R = np.zeros(shares, np.int64)
    place_TR = np.zeros((turns, shares), np.int64)
    every_R = np.arange(shares)
    for turn in range(turns):
        real_R = order_TR[turn] >= 0
        rows_R = every_R[real_R]
        chosen = order_TR[turn][real_R]
        need = np.stack([source_E[chosen], target_E[chosen]])[:, :, None]
        fits = np.logical_and(*(room[:, rows_R] >= need))
        is_new = ~fits.any(axis=-1)
        fullest = room[:, rows_R].sum(axis=0).argmin(axis=1)
        slot = np.where(is_new, fullest, fits.argmax(axis=1))
        new_R, new_slot = rows_R[is_new], slot[is_new]
        room[0, new_R, new_slot] = source_length
        room[1, new_R, new_slot] = target_length
        row_RM[new_R, new_slot] = made_R[new_R]
        made_R[new_R] += 1
        room[:, rows_R, slot] -= need[:, :, 0]
        place_TR[turn, rows_R] = row_RM[rows_R, slot]
    first_R = np.concatenate([[0], np.cumsum(made_R)])
    row_E = (place_TR + first_R[:-1][None]).reshape(-1)[: len(order)]
    row_E, order = row_E[order >= 0], order[order >= 0]
    by_row = np.argsort(row_E, kind="stable")
    sizes = np.bincount(row_E, minlength=int(first_R[-1]))
    starts_T = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Rows(order[by_row], starts_T)


def of_examples(
    examples: arrays.Examples, *, source_length: int, target_length: int, seed: int
) -> Rows:
    """`first_fit` of examples; sources are counted as cut to ``source_length``."""
    return first_fit(
        np.minimum(examples.source_lengths, source_length),
        examples.target_lengths,
        source_length=source_length,
        target_length=target_length,
        seed=seed,
    )


def batch(
    examples: arrays.Examples,
    rows: Rows,
    chosen_B: Int[np.ndarray, " B"],
    *,
    source_length: int,
    target_length: int,
) -> dict[str, Int32[np.ndarray, "B W"]]:
    """A batch of rows, with the fields of `gr_jax.model.packing`.

    Args:
      examples: What the rows are made of.
      rows: As `of_examples` gives them for the same lengths.
      chosen_B: Which rows; a negative number gives an empty one.
      source_length: Width of a row's source.
      target_length: Width of a row's target.
    """
    is_row_B = chosen_B >= 0
    first_B = rows.starts_T[np.where(is_row_B, chosen_B, 0)]
    counts_B = np.where(is_row_B, rows.starts_T[chosen_B + 1] - first_B, 0)
    # One entry a pair, row after row: its place in the batch and its example.
    row_E = np.repeat(np.arange(len(chosen_B)), counts_B)
    pair_E = np.arange(len(row_E)) - np.repeat(np.cumsum(counts_B) - counts_B, counts_B)
    example_E = rows.examples_E[first_B[row_E] + pair_E]
    found: dict[str, np.ndarray] = {}
    for name, letter, width in (
        ("source", "BS", source_length),
        ("target", "BL", target_length),
    ):
        tokens = getattr(examples, f"{name}_tokens")
        starts = getattr(examples, f"{name}_starts")
        laid = _laid(tokens, starts, example_E, row_E, pair_E, (len(chosen_B), width))
        for part, values in zip(("", "_segment", "_position"), laid, strict=True):
            found[f"{name}{part}_{letter}"] = values
    return found


def _laid(
    tokens: np.ndarray,
    starts: np.ndarray,
    example_E: np.ndarray,
    row_E: np.ndarray,
    pair_E: np.ndarray,
    shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segment numbers and positions of pairs laid end to end in rows."""
    whole_E = starts[example_E + 1] - starts[example_E]
    length_E = np.minimum(whole_E, shape[1])
    ends_E = np.cumsum(length_E)
    begins_E = ends_E - length_E
    # Where each pair begins in its row: what the row's earlier pairs take up.
    first_E = np.maximum.accumulate(np.where(pair_E == 0, begins_E, 0))
    position = np.arange(int(ends_E[-1]) if len(ends_E) else 0)
    position = position - np.repeat(begins_E, length_E)
    column = np.repeat(begins_E - first_E, length_E) + position
    row = np.repeat(row_E, length_E)
    laid = np.zeros((3, *shape), np.int32)
    taken = tokens[np.repeat(starts[example_E], length_E) + position]
    # A source that is cut keeps its end piece.
    is_cut_E = whole_E > length_E
    last = tokens[starts[example_E + 1] - 1]
    keeps_end_E = is_cut_E & (last == vocabulary.EOS)
    taken[ends_E[keeps_end_E] - 1] = last[keeps_end_E]
    laid[0, row, column] = taken
    laid[1, row, column] = np.repeat(pair_E + 1, length_E)
    laid[2, row, column] = position
    return laid[0], laid[1], laid[2]
