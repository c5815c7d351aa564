"""Model inputs of both families, from a task's ``inputs`` and ``targets``."""

from __future__ import annotations

from collections.abc import Mapping

import seqio

from gr_jax.data import tensorflow_cpu, vocabulary

tf = tensorflow_cpu.tf
_Spec = seqio.FeatureConverter.FeatureSpec
_MODEL = ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights")


class EncoderDecoder(seqio.EncDecFeatureConverter):
    """Source to the encoder, identifier to the decoder; T5's features and names.

    The decoder begins with padding, as in T5; ``pack`` puts several examples in a row.
    """


class DecoderOnly(seqio.FeatureConverter):
    """One sequence a pair: source, separator, identifier; loss on the identifier only.

    The separator is the last thing read before the first identifier token, so there is
    no padding between the two: ``source=[7, 8, 1], target=[5, 1]`` gives

        decoder_input_tokens  [7, 8, 1, 3, 5, 0]
        decoder_target_tokens [8, 1, 3, 5, 1, 0]
        decoder_loss_weights  [0, 0, 0, 1, 1, 0]

    ``pack`` puts several pairs in a row, with segment ids and positions.
    """

    TASK_FEATURES = {  # noqa: RUF012 (SeqIO reads these class attributes)
        "inputs": _Spec(dtype=tf.int32),
        "targets": _Spec(dtype=tf.int32),
    }
    MODEL_FEATURES = {name: _Spec(dtype=tf.int32) for name in _MODEL}  # noqa: RUF012
    PACKING_FEATURE_DTYPES = {  # noqa: RUF012
        "decoder_segment_ids": tf.int32,
        "decoder_positions": tf.int32,
    }

    def __init__(self, *, separator: int = vocabulary.SEP, pack: bool = False):
        self._separator = separator
        super().__init__(pack=pack)

    def get_model_feature_lengths(
        self, task_feature_lengths: Mapping[str, int]
    ) -> Mapping[str, int]:
        """Source and identifier together: the separator takes the place of the end."""
        length = task_feature_lengths["inputs"] + task_feature_lengths["targets"]
        names = [*self.MODEL_FEATURES]
        if self.pack:
            names += [*self.PACKING_FEATURE_DTYPES]
        return dict.fromkeys(names, length)

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        length = task_feature_lengths["inputs"] + task_feature_lengths["targets"]

        def joined(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            source, target = features["inputs"], features["targets"]
            row = tf.concat([source, [self._separator], target], axis=0)
            # Packing takes zeros for padding: 1 and 2 here, 0 and 1 afterwards.
            weights = [tf.ones_like(source), 2 * tf.ones_like(target)]
            return {
                "decoder_input_tokens": row[:-1],
                "decoder_target_tokens": row[1:],
                "decoder_loss_weights": tf.concat(weights, axis=0),
            }

        rows = ds.map(joined, num_parallel_calls=tf.data.AUTOTUNE)
        rows = self._pack_or_pad(rows, dict.fromkeys(_MODEL, length))
        return rows.map(self._named, num_parallel_calls=tf.data.AUTOTUNE)

    def _named(self, row: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        features = {name: row[name] for name in _MODEL}
        weights = row["decoder_loss_weights"]
        features["decoder_loss_weights"] = tf.maximum(weights - 1, 0)
        if self.pack:
            first = _MODEL[0]
            features["decoder_segment_ids"] = row[f"{first}_segment_ids"]
            features["decoder_positions"] = row[f"{first}_positions"]
        return features
