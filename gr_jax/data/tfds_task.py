"""SeqIO tasks over any TensorFlow dataset: one text field to another."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import seqio

from gr_jax.core import errors
from gr_jax.data import (
    ordering,
    task_builder,
    tensorflow_cpu,
    tfds_reading,
    vocabulary,
)

tf = tensorflow_cpu.tf
FIELDS = ("inputs", "targets", "query_id")


def build(
    name: str,
    dataset: tfds_reading.Dataset,
    vocabulary_folder: Path,
    *,
    fields: Mapping[str, str],
    splits: Mapping[str, str] | None = None,
) -> seqio.Task:
    """A task, not registered, that `task_builder.export` turns into arrays.

    Args:
      name: Of the task.
      dataset: Prepared on this machine.
      vocabulary_folder: As `vocabulary.train` writes it; makes tokens of both texts.
      fields: Theirs by ours: ``inputs`` and ``targets``, and ``query_id``, which
        decides the nested shares of the data (the input text unless given).
      splits: TFDS's split by the task's name of it; ``train`` alone if None.

    Raises:
      UsageError: If a field is unknown, missing or no single text.
      ArtifactError: If the dataset is not prepared or the vocabulary is damaged.
    """
    builder = tfds_reading.opened(dataset)
    tfds_reading.check(dataset, builder, fields)
    for field in ("inputs", "targets"):
        if field not in fields:
            remedy = f"map one to it: {field}=FIELD"
            raise errors.UsageError(
                errors.fault(f"{dataset}: field", field, None, remedy)
            )
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        remedy = f"ours are {', '.join(FIELDS)}"
        raise errors.UsageError(errors.fault(dataset, "field", unknown[0], remedy))
    for ours, theirs in fields.items():
        if _at(builder.info.features.get_tensor_info(), theirs).shape != ():
            remedy = "a list: choose a single text"
            raise errors.UsageError(
                errors.fault(f"{dataset}: field", ours, theirs, remedy)
            )
    words = vocabulary.load(vocabulary_folder)
    pieces = seqio.SentencePieceVocabulary(str(words.path))
    feature = seqio.Feature(pieces, add_eos=True, dtype=tf.int32)
    return seqio.Task(
        name,
        source=seqio.TfdsDataSource(
            tfds_name=builder.get_reference().tfds_name(include_version=True),
            tfds_data_dir=str(_root(builder)),
            splits=dict(splits or {task_builder.sources.SPLIT: "train"}),
            read_only=True,
        ),
        preprocessors=[
            functools.partial(_texts, fields=dict(fields)),
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={"inputs": feature, "targets": feature},
    )


def _root(builder: Any) -> Path:
    """The folder above the dataset's own: name, configuration, version are below it."""
    return Path(str(builder.data_dir).removesuffix(builder.info.full_name))


def _at(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _texts(dataset: tf.data.Dataset, fields: Mapping[str, str]) -> tf.data.Dataset:
    """Rows as ``inputs``, ``targets``, and what an export keeps beside them."""

    def rank(name: bytes) -> Any:
        return ordering.rank_of(name.decode("utf-8"))

    def named(row: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        texts = {field: _at(row, theirs) for field, theirs in fields.items()}
        words = {
            field: tf.strings.reduce_join(tf.strings.split(texts[field]), separator=" ")
            for field in ("inputs", "targets")
        }
        id = texts.get("query_id", words["inputs"])
        id = id if id.dtype == tf.string else tf.strings.as_string(id)
        place = tf.numpy_function(rank, [id], tf.float32)
        place.set_shape([])
        zero = tf.constant(0, tf.int32)
        return {**words, "query_id": id, "rank": place, "is_document": zero}

    return dataset.map(named, num_parallel_calls=tf.data.AUTOTUNE)
