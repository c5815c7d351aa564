"""Code tables: which logits exist, and that each level has its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import config as model_config
from gr_jax.model import embedding, token_nats

TEXT, LEVELS, SIZE, WIDTH = 5, 3, 4, 6


def _config(head: Any) -> model_config.T5Config:
    return model_config.T5Config(
        vocab_size=TEXT + LEVELS * SIZE,
        embed_dim=WIDTH,
        mlp_dim=8,
        heads=1,
        head_dim=4,
        encoder_layers=1,
        decoder_layers=1,
        codes=model_config.CodeTables(levels=LEVELS, size=SIZE, head=head),
    )


def _normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_codes_are_looked_up_in_their_level() -> None:
    text, codes = _normal(TEXT, WIDTH), _normal(LEVELS, SIZE, WIDTH)
    token = jnp.array([[0, 4], [5, 5 + 2 * SIZE + 3]])
    found = embedding.embedded(token, text, codes)
    np.testing.assert_array_equal(found[0], text[jnp.array([0, 4])])
    np.testing.assert_array_equal(found[1, 0], codes[0, 0])
    np.testing.assert_array_equal(found[1, 1], codes[2, 3])


def test_joint_head_scores_everything_everywhere() -> None:
    hidden = _normal(1, 1, 2, WIDTH)
    text, codes = _normal(WIDTH, TEXT), _normal(LEVELS, WIDTH, SIZE)
    found = embedding.logits(
        embedding.Head(hidden, text, codes), config=_config("joint"), position=0
    )
    assert found.shape == (1, 1, 2, TEXT + LEVELS * SIZE)
    for t in range(2):
        row = np.asarray(hidden[0, 0, t])
        np.testing.assert_allclose(found[0, 0, t, :TEXT], row @ text, atol=1e-5)
        for level in range(LEVELS):
            first = TEXT + level * SIZE
            wanted = row @ np.asarray(codes[level])
            np.testing.assert_allclose(
                found[0, 0, t, first : first + SIZE], wanted, atol=1e-5
            )


def test_level_head_scores_the_level_of_the_position() -> None:
    hidden = _normal(1, 1, 3, WIDTH)
    codes = _normal(LEVELS, WIDTH, SIZE)
    # Positions 1, 2 and 3: the last is past the last level, where the end is certain.
    found = embedding.logits(
        embedding.Head(hidden, None, codes),
        config=_config("level"),
        position=jnp.array(1),
    )[0, 0]
    chances = jax.nn.softmax(found, axis=-1)
    for t, level in ((0, 1), (1, 2)):
        first = TEXT + level * SIZE
        wanted = np.asarray(hidden[0, 0, t]) @ np.asarray(codes[level])
        np.testing.assert_allclose(found[t, first : first + SIZE], wanted, atol=1e-5)
        np.testing.assert_allclose(
            chances[t, first : first + SIZE].sum(), 1.0, atol=1e-6
        )
    assert chances[2, 1] == 1.0
    # A padded position's loss times its zero weight must not be NaN.
    assert bool(jnp.isfinite(jax.nn.log_softmax(found) * 0.0).all())


@pytest.mark.parametrize("kind", ["joint", "level"])
def test_log_probabilities_of_given_tokens_are_those_of_the_logits(kind: str) -> None:
    text = _normal(WIDTH, TEXT) if kind == "joint" else None
    head = embedding.Head(_normal(2, 3, 3, WIDTH), text, _normal(LEVELS, WIDTH, SIZE))
    place = {"config": _config(kind), "position": jnp.array(1)}
    chances = jax.nn.log_softmax(embedding.logits(head, **place), axis=-1)
    # Codes of the levels that the positions have, and the end after the last.
    following = jnp.broadcast_to(
        jnp.array([TEXT + SIZE, TEXT + 2 * SIZE, 1]), (2, 3, 3)
    )
    found = token_nats.of_next(head, following, **place)
    wanted = jnp.take_along_axis(chances, following[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
