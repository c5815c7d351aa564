from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.data import feature_converters, tensorflow_cpu
from gr_jax.model import families, ladder, packing
from gr_jax.train import loss

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


def test_what_seqio_packs_has_the_loss_of_its_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = families.build(ladder.build("llama", "25k", vocab_size=16))
    logits_of = jax.jit(model.logits)
    params = model.init(jax.random.key(0))
    monkeypatch.setitem(LENGTHS, "inputs", 8)
    monkeypatch.setitem(LENGTHS, "targets", 8)
    (row,) = converted(feature_converters.EncoderDecoder(pack=True))
    assert row["encoder_segment_ids"] == [1, 1, 1, 2, 2, 0, 0, 0]

    batch = {name: jnp.array([tokens], jnp.int32) for name, tokens in row.items()}
    targets = batch["decoder_target_tokens"]
    logits = logits_of(
        params,
        batch["encoder_input_tokens"],
        targets,
        packing=packing.of_t5x(batch),
    )
    whole = loss.cross_entropy(logits, targets)
    assert int(whole.tokens) == 5
    # Each in a row of its own, as the trainer takes them.
    plain = [np.zeros((2, 8), np.int32) for _ in range(2)]
    for place, pair in enumerate(EXAMPLES):
        for array, tokens in zip(plain, pair, strict=True):
            array[place, : len(tokens)] = tokens
    logits = logits_of(params, *map(jnp.asarray, plain))
    nats = loss.cross_entropy(logits, jnp.asarray(plain[1])).nats
    np.testing.assert_allclose(whole.nats, nats, rtol=1e-5)
