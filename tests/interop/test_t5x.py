"""Our models as T5X calls them; what needs T5X itself skips without it.

T5X's imports warn, and warnings are errors here, so cases with T5X run in processes of
their own (`t5x_cases`). Set up as docs/t5x.md says, and run
``python -m pytest tests/interop`` with T5X and its stand-ins on PYTHONPATH.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import partitioning

from gr_jax.core import errors
from gr_jax.interop import t5x
from gr_jax.model import config as model_config
from gr_jax.model import ladder

_HAS_T5X = importlib.util.find_spec("t5x") is not None
needs_t5x = pytest.mark.skipif(not _HAS_T5X, reason="t5x is not installed")
_CASES = Path(__file__).with_name("t5x_cases.py")


class _Base:
    """What `Methods` leans on of T5X's base class, where there is no T5X."""

    def __init__(self, **given: Any) -> None:
        self._decode_fn = given["decode_fn"]
        self.output_vocabulary = given["output_vocabulary"]
        self.given = given


class _Model(t5x.Methods, _Base):
    pass


def _model(family: Any = "llama", **options: Any) -> Any:
    size = {"t5": "30k", "llama": "25k"}[family]
    config = ladder.build(family, size, vocab_size=32)
    return _Model(config, None, None, **options)


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
    model = _model("t5").model
    axes = t5x.params_axes(model)
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
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert len(names.pop(f"{name}_axes")) == leaf.ndim
    assert not names


def test_scores_are_sums_of_log_probabilities_under_the_batchs_weights():
    model, batch = _model(), _batch()
    params = model.get_initial_variables(jax.random.key(0), {})["params"]

    @jax.jit
    def found(params: Any, batch: Any) -> Any:
        logits_BLV = model.model.logits(
            params, batch["encoder_input_tokens"], batch["decoder_target_tokens"]
        )
        scored = model.score_batch(params, batch, return_intermediates=True)
        weight_BL = jnp.zeros((4, 3)).at[:, 1].set(2.0)
        weighted = {**batch, "decoder_loss_weights": weight_BL}
        return logits_BLV, scored, model.score_batch(params, weighted)

    logits_BLV, (score_B, kept), weighted_B = jax.device_get(found(params, batch))
    exp_BLV = np.exp(logits_BLV.astype(np.float64))
    p_BLV = exp_BLV / exp_BLV.sum(axis=-1, keepdims=True)
    target_BL = np.asarray(batch["decoder_target_tokens"])
    for row in range(4):
        logp = [
            np.log(p_BLV[row, place, token]) if token else 0.0
            for place, token in enumerate(target_BL[row])
        ]
        np.testing.assert_allclose(score_B[row], sum(logp), rtol=1e-5)
        by_token_L = kept["decoder"]["token_scores"][0][row]
        np.testing.assert_allclose(by_token_L, logp, rtol=1e-5)
        np.testing.assert_allclose(weighted_B[row], 2 * logp[1], rtol=1e-5)


def _packed(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Two rows of two pairs each, from four rows of one."""
    found = {}
    for name, rows in batch.items():
        side = name.split("_")[0]
        shape = (2, 2 * rows.shape[1])
        found[name] = rows.reshape(shape)
        part = jnp.broadcast_to(jnp.array([[1], [2]]), (2, rows.shape[1]))
        found[f"{side}_segment_ids"] = jnp.broadcast_to(part.reshape(-1), shape)
        place = jnp.tile(jnp.arange(rows.shape[1]), 2)
        found[f"{side}_positions"] = jnp.broadcast_to(place, shape)
    return found


def test_a_packed_row_scores_as_its_pairs_do():
    batch = _batch()
    batch["decoder_target_tokens"] = batch["decoder_target_tokens"].at[0, 2].set(4)
    for family in ("t5", "llama"):
        model = _model(family)
        params = model.get_initial_variables(jax.random.key(0), {})["params"]
        score = jax.jit(model.score_batch)
        single_B = score(params, batch)
        np.testing.assert_allclose(
            score(params, _packed(batch)), single_B.reshape(2, 2).sum(1), rtol=1e-5
        )


def test_packed_batches_are_not_decoded():
    with pytest.raises(errors.UsageError, match="pack = False"):
        _model().predict_batch_with_aux({}, _packed(_batch()))


def test_smoothing_over_one_level_is_refused():
    codes = model_config.CodeTables(levels=2, size=4, head="level")
    config = ladder.build("t5", "30k", vocab_size=32, codes=codes)
    with pytest.raises(errors.UsageError, match="label_smoothing"):
        _Model(config, None, None, label_smoothing=0.1)


def test_without_t5x_the_class_says_what_to_do():
    if _HAS_T5X:
        pytest.skip("t5x is installed")
    with pytest.raises(errors.UsageError, match=r"docs/t5x\.md"):
        _ = t5x.Model
    assert not hasattr(t5x, "Models")


@needs_t5x
@pytest.mark.parametrize(
    "case",
    [
        "contract",
        "training_loss",
        "packed",
        "own_network",
        "decoders",
        "checkpoints",
        "mesh",
    ],
)
def test_with_t5x(case: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(_CASES), case, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
