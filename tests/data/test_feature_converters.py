from __future__ import annotations

import pytest

from gr_jax.data import feature_converters, tensorflow_cpu

tf = tensorflow_cpu.tf

EXAMPLES = [([7, 8, 1], [5, 1]), ([9, 1], [4, 6, 1])]
LENGTHS = {"inputs": 4, "targets": 3}


def converted(converter: object) -> list[dict[str, list[int]]]:
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": s, "targets": t} for s, t in EXAMPLES),
        output_signature={
            name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")
        },
    )
    rows = converter(dataset, LENGTHS).as_numpy_iterator()  # type: ignore[operator]
    return [{name: array.tolist() for name, array in row.items()} for row in rows]


def test_decoder_only() -> None:
    first, second = converted(feature_converters.DecoderOnly())
    assert first == {
        "decoder_input_tokens": [7, 8, 1, 3, 5, 0, 0],
        "decoder_target_tokens": [8, 1, 3, 5, 1, 0, 0],
        "decoder_loss_weights": [0, 0, 0, 1, 1, 0, 0],
    }
    assert second == {
        "decoder_input_tokens": [9, 1, 3, 4, 6, 0, 0],
        "decoder_target_tokens": [1, 3, 4, 6, 1, 0, 0],
        "decoder_loss_weights": [0, 0, 1, 1, 1, 0, 0],
    }


def test_decoder_only_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LENGTHS, "inputs", 8)
    (row,) = converted(feature_converters.DecoderOnly(pack=True))
    assert row == {
        "decoder_input_tokens": [7, 8, 1, 3, 5, 9, 1, 3, 4, 6, 0],
        "decoder_target_tokens": [8, 1, 3, 5, 1, 1, 3, 4, 6, 1, 0],
        "decoder_loss_weights": [0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0],
        "decoder_segment_ids": [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0],
        "decoder_positions": [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0],
    }


def test_another_separator() -> None:
    first, _ = converted(feature_converters.DecoderOnly(separator=99))
    assert first["decoder_input_tokens"] == [7, 8, 1, 99, 5, 0, 0]


def test_encoder_decoder() -> None:
    first, _ = converted(feature_converters.EncoderDecoder(pack=False))
    assert first == {
        "encoder_input_tokens": [7, 8, 1, 0],
        "decoder_input_tokens": [0, 5, 1],
        "decoder_target_tokens": [5, 1, 0],
        "decoder_loss_weights": [1, 1, 0],
    }
