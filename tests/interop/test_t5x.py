"""Our models as T5X calls them; what needs T5X itself skips without it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import partitioning

from gr_jax.core import errors
from gr_jax.interop import t5x
from gr_jax.model import ladder
from gr_jax.train import loss

_HAS_T5X = importlib.util.find_spec("t5x") is not None
needs_t5x = pytest.mark.skipif(not _HAS_T5X, reason="t5x is not installed")


def _model(family: Any = "llama", **options: Any) -> t5x.Model:
    size = {"t5": "30k", "llama": "25k"}[family]
    config = ladder.build(family, size, vocab_size=32)
    return t5x.Model(config, None, None, **options)


def _batch() -> dict[str, jax.Array]:
    generator = np.random.default_rng(0)
    source = generator.integers(1, 32, (4, 6))
    target = generator.integers(1, 32, (4, 3))
    target[0, 2] = 0
    shifted = np.pad(target[:, :-1], ((0, 0), (1, 0)))
    arrays = {
        "encoder_input_tokens": source,
        "decoder_input_tokens": shifted,
        "decoder_target_tokens": target,
    }
    return {name: jnp.asarray(rows, jnp.int32) for name, rows in arrays.items()}


def test_axes_name_every_parameter_as_t5x_does():
    variables = _model("t5").get_initial_variables(jax.random.key(0), {})
    axes = variables["params_axes"]
    assert axes["token_embedder"]["embedding_axes"] == partitioning.AxisMetadata(
        names=("vocab", "embed")
    )
    found = jax.tree_util.tree_flatten_with_path(
        axes, is_leaf=lambda x: isinstance(x, partitioning.AxisMetadata)
    )[0]
    names = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.names
        for path, leaf in found
    }
    for path, leaf in jax.tree_util.tree_flatten_with_path(variables["params"])[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert len(names.pop(f"{name}_axes")) == leaf.ndim
    assert not names


def test_scores_are_minus_the_sums_of_the_loss():
    model, batch = _model(), _batch()
    params = model.get_initial_variables(jax.random.key(0), {})["params"]
    scores = model.score_batch(params, batch)
    for row in range(4):
        one = {name: rows[row : row + 1] for name, rows in batch.items()}
        logits = model.model.logits(
            params, one["encoder_input_tokens"], one["decoder_target_tokens"]
        )
        nats = loss.cross_entropy(logits, one["decoder_target_tokens"]).nats
        np.testing.assert_allclose(scores[row], -nats, rtol=1e-5)


def test_prediction_is_the_given_decoders():
    def decode(model: Any, params: Any, source_BS: jax.Array) -> Any:
        del model, params
        return source_BS[:, :2], jnp.arange(4.0)

    model, batch = _model(decode_fn=decode), _batch()
    tokens, aux = model.predict_batch_with_aux({}, batch)
    np.testing.assert_array_equal(tokens, batch["encoder_input_tokens"][:, :2])
    assert aux["scores"].tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(errors.UsageError, match="no decode_fn"):
        _model().predict_batch({}, batch)


def test_packed_batches_are_refused():
    batch = {**_batch(), "encoder_segment_ids": jnp.ones((4, 6), jnp.int32)}
    with pytest.raises(errors.UsageError, match="PACK"):
        _model().score_batch({}, batch)


@needs_t5x
def test_loss_and_metrics_satisfy_t5x():
    # In a process of its own: T5X's imports warn, and warnings are errors here.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import jax, numpy as np\n"
        "import importlib.util as u\n"
        "spec = u.spec_from_file_location('case', sys.argv[2])\n"
        "case = u.module_from_spec(spec); spec.loader.exec_module(case)\n"
        "model, batch = case._model(), case._batch()\n"
        "params = model.get_initial_variables(jax.random.key(0), {})['params']\n"
        "grad = jax.grad(model.loss_fn, has_aux=True)\n"
        "gradient, metrics = grad(params, batch, None)\n"
        "value = metrics['loss_per_nonpadding_target_token'].compute()\n"
        "mean = -model.score_batch(params, batch).sum() / 11\n"
        "np.testing.assert_allclose(value, mean, rtol=1e-5)\n"
        "assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))\n"
        "print('fine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, os.getcwd(), __file__],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "fine" in done.stdout, done.stderr[-2000:]
