"""TensorFlow Datasets as rows: what is prepared on this machine, nothing downloaded.

TensorFlow itself is imported when rows are read, not before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gr_jax.core import errors

PREFIX = "tfds:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A prepared dataset.

    Attributes:
      name: ``NAME``, ``NAME/CONFIG`` or ``NAME/CONFIG:VERSION``.
      data_dir: Folder of prepared datasets; TFDS's own default if None.
      manual_dir: The user's files, for those of `tfds_builders`, which are prepared
        from them when they are not yet.
    """

    name: str
    data_dir: str | None = None
    manual_dir: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}"


def opened(dataset: Dataset) -> Any:
    """The dataset's TFDS builder, prepared.

    Raises:
      UsageError: If the name is unknown or TensorFlow Datasets is not installed.
      ArtifactError: If it is not prepared in the folder; says what to run.
    """
    try:
        import tensorflow_datasets as tfds

        from gr_jax.data import tfds_builders
    except ImportError as error:
        raise errors.UsageError(
            f"{dataset}: {error}: pip install 'gr-jax[data]'"
        ) from None
    try:
        builder = tfds.builder(dataset.name, data_dir=dataset.data_dir)
    except (ValueError, AssertionError, RuntimeError, KeyError) as error:
        # TFDS's messages list every dataset there is: the first line says enough.
        reason = str(error).strip().splitlines()[0]
        raise errors.UsageError(
            f"{dataset}: {reason}: ours are {', '.join(sorted(tfds_builders.NAMES))}"
        ) from None
    if builder.info.splits:
        return builder
    if dataset.manual_dir and dataset.name.split("/")[0] in tfds_builders.NAMES:
        tfds_builders.prepare(builder, Path(dataset.manual_dir))
        return builder
    own = "give the folder of its files as manual_dir, or " * (
        dataset.name.split("/")[0] in tfds_builders.NAMES
    )
    raise errors.ArtifactError(
        f"{dataset}: not prepared in {builder.data_dir}: {own}run `tfds build "
        f"{dataset.name} --data_dir {dataset.data_dir or '~/tensorflow_datasets'}`"
    )


def field_names(features: Any) -> list[str]:
    """Names of a dataset's fields, nested ones as ``outer/inner``."""
    return sorted(_leaves(features.get_tensor_info(), ""))


def _leaves(tree: Any, path: str) -> Iterator[str]:
    if not isinstance(tree, Mapping):
        yield path.rstrip("/")
        return
    for name in tree:
        yield from _leaves(tree[name], f"{path}{name}/")


def check(dataset: Dataset, builder: Any, fields: Mapping[str, str]) -> None:
    """Refuses fields that the dataset does not have.

    Args:
      dataset: For the message.
      builder: As `opened` gives it.
      fields: Theirs by the name of ours.

    Raises:
      UsageError: Names the field, and those that there are.
    """
    known = field_names(builder.info.features)
    for ours, theirs in fields.items():
        if theirs not in known:
            remedy = f"it has {', '.join(known)}"
            raise errors.UsageError(
                errors.fault(f"{dataset}: field", ours, theirs, remedy)
            )


def rows(
    dataset: Dataset, builder: Any, split: str, fields: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Rows of a split in stored order, as text, numbers and lists of them.

    Args:
      dataset: For messages.
      builder: As `opened` gives it.
      split: TFDS's name of a split, or a slice such as ``train[:1%]``.
      fields: Theirs by the name of ours; only these are read.

    Raises:
      UsageError: If a field or the split is unknown.
    """
    from gr_jax.data import tensorflow_cpu

    tensorflow_cpu.hide_accelerators()
    import tensorflow_datasets as tfds

    check(dataset, builder, fields)
    # One file after the other: the order is that of the preparation.
    order = tfds.ReadConfig(interleave_cycle_length=1)
    try:
        found = builder.as_dataset(split, shuffle_files=False, read_config=order)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        remedy = f"it has {', '.join(builder.info.splits)}"
        raise errors.UsageError(f"{dataset}: split: {reason}: {remedy}") from None
    for row in tfds.as_numpy(found):
        yield {ours: _plain(_at(row, theirs)) for ours, theirs in fields.items()}


def _at(row: Any, path: str) -> Any:
    for name in path.split("/"):
        row = row[name]
    return row


def _plain(value: Any) -> Any:
    """Text for bytes, Python numbers, lists for arrays."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if hasattr(value, "to_list"):  # A ragged array.
        return [_plain(item) for item in value.to_list()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return [_plain(item) for item in value] if isinstance(value, list) else value
