"""The loss against sums written out in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import embedding
from gr_jax.train import loss


def _case(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(3, 5, 7)).astype(np.float32) * 3
    target = generator.integers(1, 7, (3, 5)).astype(np.int32)
    target[0, 3:] = 0
    target[2, 1:] = 0
    return logits, target


@pytest.mark.parametrize(
    ("z_loss", "smoothing"), [(0, 0), (0.3, 0), (0, 0.2), (0.1, 0.3)]
)
def test_sums_are_those_written_out(z_loss, smoothing):
    logits, target = _case()
    nats = objective = 0.0
    count = 0
    for b in range(3):
        for t in range(5):
            if target[b, t] == 0:
                continue
            row = logits[b, t].astype(np.float64)
            log_z = np.log(np.sum(np.exp(row)))
            p = row - log_z
            nats -= p[target[b, t]]
            objective -= (1 - smoothing) * p[target[b, t]] + smoothing * np.mean(p)
            objective += z_loss * log_z**2
            count += 1
    out = loss.cross_entropy(
        jnp.asarray(logits),
        jnp.asarray(target),
        z_loss=z_loss,
        label_smoothing=smoothing,
    )
    assert int(out.tokens) == count == 9
    np.testing.assert_allclose(out.nats, nats, rtol=1e-6)
    np.testing.assert_allclose(out.objective, objective, rtol=1e-6)


def test_padding_gets_no_gradient():
    logits, target = _case()

    def objective(logits_BLV: jax.Array) -> jax.Array:
        out = loss.cross_entropy(
            logits_BLV, jnp.asarray(target), z_loss=0.1, label_smoothing=0.1
        )
        return out.objective

    gradient = np.asarray(jax.grad(objective)(jnp.asarray(logits)))
    assert np.all(gradient[target == 0] == 0)
    assert np.all(np.any(gradient[target != 0] != 0, axis=-1))


def test_gradient_is_probability_minus_target():
    logits, target = _case(1)
    gradient = jax.grad(lambda x: loss.cross_entropy(x, jnp.asarray(target)).objective)(
        jnp.asarray(logits)
    )
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = probability - np.eye(7)[target]
    expected[target == 0] = 0
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("impossible", [-jnp.inf, embedding.IMPOSSIBLE])
def test_impossible_tokens_take_no_smoothing_mass(impossible):
    logits = jnp.asarray([[[0.0, 0.0, impossible, 0.0]]])
    out = loss.cross_entropy(logits, jnp.asarray([[1]]), label_smoothing=0.5)
    np.testing.assert_allclose(out.objective, np.log(3), rtol=1e-6)


def test_batch_of_padding_alone_is_zero():
    out = loss.cross_entropy(jnp.zeros((2, 2, 4)), jnp.zeros((2, 2), jnp.int32))
    assert (float(out.nats), int(out.tokens)) == (0.0, 0)
