"""SeqIO tasks of any TensorFlow dataset: one parametric registration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import seqio

from gr_jax.data import tfds_reading, tfds_task


def register(
    name: str,
    dataset: str,
    vocabulary_folder: str | Path,
    *,
    fields: Mapping[str, str],
    splits: Mapping[str, str] | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> str:
    """Registers a task, in place of one of this name.

    Args:
      name: Of the task.
      dataset: ``NAME``, ``NAME/CONFIG`` or ``NAME/CONFIG:VERSION``.
      vocabulary_folder: As ``gr-jax vocab`` leaves it.
      fields: The dataset's by ours: ``inputs``, ``targets``, ``query_id``.
      splits: The dataset's by the task's; ``train`` alone if None.
      data_dir: Folder of prepared datasets.
      manual_dir: The user's files, for datasets of our own.

    Returns:
      The name.

    Raises:
      UsageError: If dataset or field is unknown.
      ArtifactError: If the dataset is not prepared.
    """
    found = tfds_reading.Dataset(name=dataset, data_dir=data_dir, manual_dir=manual_dir)
    task = tfds_task.build(
        name, found, Path(vocabulary_folder), fields=fields, splits=splits
    )
    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add_provider(name, task)
    return name
