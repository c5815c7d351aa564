"""Small steps from lines of pairs to features, each from dataset to dataset."""

from __future__ import annotations

from gr_jax.data import pairs, tensorflow_cpu

tf = tensorflow_cpu.tf


def parse_pairs(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Lines as examples: ``inputs`` still text, ``targets`` token ids, and names."""

    def parse(line: tf.Tensor) -> dict[str, tf.Tensor]:
        cells = tf.strings.split(line, "\t")
        cells.set_shape([len(pairs.COLUMNS)])
        cell = dict(zip(pairs.COLUMNS, tf.unstack(cells), strict=True))
        tokens = tf.strings.split(cell["target"], " ")
        return {
            "inputs": cell["source"],
            "targets": tf.strings.to_number(tokens, tf.int32),
            "is_document": tf.cast(cell["kind"] == "document", tf.int32),
            "rank": tf.strings.to_number(cell["rank"], tf.float32),
            "query_id": cell["query_id"],
            "document_id": cell["document_id"],
        }

    return dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def keep_fraction(dataset: tf.data.Dataset, fraction: float) -> tf.data.Dataset:
    """The nested share of examples that `arrays.select` keeps."""
    if fraction >= 1:
        return dataset
    return dataset.filter(lambda example: example["rank"] < fraction)
