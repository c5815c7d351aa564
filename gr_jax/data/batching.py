"""How examples become batches: one a row, several a row, or by length.

Each way is a function of the step: a run resumed at a step, on any number of hosts,
goes on with the batches it would have had.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from gr_jax.core import errors
from gr_jax.data import arrays, length_buckets, ordering, packed_rows, padded_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The way, as gin binds it.

    Attributes:
      pack: Put several examples in a row of the given lengths, end to end.
      buckets: Source widths, ascending; a batch has the least that holds its sources.
        The last is the source length. Each width compiles a step of its own.
    """

    pack: bool = False
    buckets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "buckets", tuple(self.buckets or ()))
        if self.pack and self.buckets:
            remedy = "PACK and BUCKETS are two ways to one end: choose one"
            raise errors.UsageError(
                errors.fault("layout", "buckets", self.buckets, remedy)
            )
        if list(self.buckets) != sorted({b for b in self.buckets if b > 0}):
            remedy = "give ascending widths of at least 1"
            raise errors.UsageError(
                errors.fault("layout", "buckets", self.buckets, remedy)
            )

    def checked(self, source_length: int) -> Layout:
        """The layout itself.

        Raises:
          UsageError: If the last bucket is not the source length.
        """
        if self.buckets and self.buckets[-1] != source_length:
            remedy = f"the last must be the length of inputs, {source_length}"
            raise errors.UsageError(
                errors.fault("layout", "buckets", self.buckets, remedy)
            )
        return self


def batches(
    examples: arrays.Examples,
    layout: Layout,
    *,
    batch: int,
    source_length: int,
    target_length: int,
    seed: int,
    steps: int,
    start_step: int = 0,
    fraction: float = 1.0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of a layout, from a step on.

    Without one they are those of `padded_rows.batches`. Packed rows have the fields of
    `gr_jax.model.packing` beside ``source_BS`` and ``target_BL``; an epoch is every row
    once. With buckets, an epoch is a whole number of steps.

    Args:
      examples: What to learn from.
      layout: The way.
      batch: Rows a step over all hosts.
      source_length: Width of a row's source; a longer source is cut and keeps its end.
      target_length: Width of a row's target; no identifier may be longer.
      seed: Names the order.
      steps: The step to stop before.
      start_step: The step to begin at.
      fraction: As in `arrays.select`.
      shard: This host's index and the number of hosts.

    Raises:
      UsageError: If the settings do not fit each other or the examples.
    """
    layout.checked(source_length)
    share = padded_rows.share_of(batch, shard)
    chosen = padded_rows.fitting(examples, fraction, target_length)
    lengths = {"source_length": source_length, "target_length": target_length}
    if layout.buckets:
        plan = length_buckets.Plan(
            chosen.source_lengths, layout.buckets, batch=batch, seed=seed
        )
        for step in range(start_step, steps):
            rows_B, width = plan.step(step)
            yield padded_rows.batch_of(chosen, rows_B[share], width, target_length)
        return
    rows = None
    if layout.pack:
        rows = packed_rows.of_examples(chosen, seed=seed, **lengths)
    stream = ordering.steps(
        len(chosen) if rows is None else len(rows),
        (start_step, steps),
        batch=batch,
        share=share,
        total=None,
        seed=seed,
    )
    for rows_B in stream:
        if rows is None:
            yield padded_rows.batch_of(chosen, rows_B, source_length, target_length)
        else:
            yield packed_rows.batch(chosen, rows, rows_B, **lengths)
