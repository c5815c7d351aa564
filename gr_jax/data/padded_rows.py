"""Batches of examples, one a row, padded on the right.

Order is a function of (seed, epoch) alone: any step can be computed without the steps
before it, on any number of hosts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Int32

from gr_jax.core import errors
from gr_jax.data import arrays, ordering, vocabulary


def _padded(
    tokens: np.ndarray, starts: np.ndarray, rows_B: np.ndarray, width: int
) -> Int32[np.ndarray, "B S"]:
    first_B1 = starts[rows_B][:, None]
    length_B1 = starts[rows_B + 1][:, None] - first_B1
    offset_1S = np.arange(width)[None, :]
    is_real_BS = offset_1S < length_B1
    # Past the row lies the next one, or nothing: read its first slot, then blank it.
    place_BS = np.where(is_real_BS, first_B1 + offset_1S, first_B1)
    return np.where(is_real_BS, tokens[place_BS], vocabulary.PAD).astype(np.int32)


def batch_of(
    examples: arrays.Examples,
    rows_B: Int[np.ndarray, " B"],
    source_length: int,
    target_length: int,
) -> dict[str, Int32[np.ndarray, "B W"]]:
    """``source_BS`` and ``target_BL`` of some examples; -1 gives a row without target.

    Args:
      examples: Where the rows are.
      rows_B: Which of them.
      source_length: ``S``; a longer source is cut and keeps its end piece.
      target_length: ``L``.
    """
    is_row_B = rows_B >= 0
    rows_B = np.where(is_row_B, rows_B, 0)
    source_BS = _padded(
        examples.source_tokens, examples.source_starts, rows_B, source_length
    )
    # A source that is cut keeps its end piece.
    ends_B = examples.source_starts[rows_B + 1]
    is_cut_B = ends_B - examples.source_starts[rows_B] > source_length
    last_B = examples.source_tokens[ends_B - 1]
    source_BS[:, -1] = np.where(
        is_cut_B & (last_B == vocabulary.EOS), last_B, source_BS[:, -1]
    )
    target_BL = _padded(
        examples.target_tokens, examples.target_starts, rows_B, target_length
    )
    # A row that fills up the last batch: one end piece to look at, nothing to learn.
    source_BS[~is_row_B] = vocabulary.PAD
    source_BS[~is_row_B, 0] = vocabulary.EOS
    target_BL[~is_row_B] = vocabulary.PAD
    return {"source_BS": source_BS, "target_BL": target_BL}


def steps_of(examples: int, *, batch: int, epochs: float) -> int:
    """Steps that see every example ``epochs`` times; the last may be part empty."""
    return -(-round(examples * epochs) // batch)


def batches(
    examples: arrays.Examples,
    *,
    batch: int,
    source_length: int,
    target_length: int,
    seed: int,
    epochs: float | None = None,
    steps: int | None = None,
    start_step: int = 0,
    fraction: float = 1.0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Batches ``source_BS`` and ``target_BL``, int32, padded right with 0.

    Step t holds places ``[t·batch, (t+1)·batch)`` of epoch after epoch, each in an
    order of its own; nothing is dropped between epochs. With ``epochs`` the very last
    batch may end in rows without target. Host i of n gets rows ``[i·batch/n,
    (i+1)·batch/n)`` of every batch, so the batch does not depend on n.

    Args:
      examples: What to learn from.
      batch: Examples a step over all hosts.
      source_length: ``S``; a longer source is cut and keeps its end piece.
      target_length: ``L``; no identifier may be longer.
      seed: Names the order.
      epochs: How often each example is seen; or give ``steps``.
      steps: The step to stop before.
      start_step: The step to begin at, as after a resume.
      fraction: As in `arrays.select`.
      shard: This host's index and the number of hosts.

    Raises:
      UsageError: If the settings do not fit each other or the examples.
    """
    share = share_of(batch, shard)
    if (epochs is None) == (steps is None):
        raise errors.UsageError("batches: give epochs or steps, not both")
    chosen = fitting(examples, fraction, target_length)
    total = None if epochs is None else round(len(chosen) * epochs)
    last = steps_of(len(chosen), batch=batch, epochs=epochs) if epochs else steps or 0
    stream = ordering.steps(
        len(chosen),
        (start_step, last),
        batch=batch,
        share=share,
        total=total,
        seed=seed,
    )
    return (batch_of(chosen, rows_B, source_length, target_length) for rows_B in stream)


def share_of(batch: int, shard: tuple[int, int]) -> slice:
    """The rows of every batch that host ``shard[0]`` of ``shard[1]`` has.

    Raises:
      UsageError: If the batch does not divide by the hosts.
    """
    index, hosts = shard
    if batch < 1 or batch % hosts or not 0 <= index < hosts:
        raise errors.UsageError(f"batch: {batch}: must divide by {hosts} hosts")
    return slice(batch * index // hosts, batch * (index + 1) // hosts)


def fitting(
    examples: arrays.Examples, fraction: float, target_length: int
) -> arrays.Examples:
    """The examples of a fraction.

    Raises:
      UsageError: If the fraction is out of range or an identifier is too long.
    """
    chosen = arrays.select(examples, fraction)
    longest = int(chosen.target_lengths.max(initial=0))
    if longest > target_length:
        raise errors.UsageError(
            f"target_length: {target_length}: an identifier has {longest} tokens: "
            f"raise it to {longest}"
        )
    return chosen
