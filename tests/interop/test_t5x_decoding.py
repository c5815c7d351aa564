"""Decoding with T5X's signature against our sessions and a plain greedy loop."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.decode import session
from gr_jax.identifiers import constraint_index, substring_index
from gr_jax.interop import t5x_decoding
from gr_jax.model import families, ladder
from gr_jax.testing import hash_model

_VOCABULARY = 32
_ROWS = [[9, 5, 1], [9, 6, 1], [9, 6, 7, 1], [12, 1], [20, 3, 3, 3, 1], [31, 1]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("index")
    flat = np.array([token for row in _ROWS for token in row], np.int32)
    starts = np.cumsum([0, *map(len, _ROWS)])
    tree = constraint_index.build_rows(flat, starts, _VOCABULARY)
    tree.save(place / "tree")
    grams = substring_index.build(
        flat, starts, vocabulary_size=_VOCABULARY, max_length=3
    )
    grams.save(place / "grams")
    return {"tree": place / "tree", "grams": place / "grams"}


MODEL = hash_model.HashModel(_VOCABULARY)


def _sources() -> np.ndarray:
    source_BS = np.random.default_rng(2).integers(1, _VOCABULARY, (3, 16))
    source_BS[1, 9:] = 0
    return source_BS.astype(np.int32)


def _run(decode_fn: Any, model: Any, params: Any, **options: Any) -> Any:
    settings = {"length": 5, "num_decodes": 4, "options": {"eos_id": 1}} | options

    @jax.jit
    def run(params: Any, source_BS: Any) -> Any:
        return t5x_decoding.run(decode_fn, model, params, source_BS, **settings)

    return jax.device_get(run(params, jnp.asarray(_sources())))


def _nats(source: list[int], tokens: list[int]) -> float:
    """Log-probability of a sequence, one prefix after the other, in NumPy."""
    return sum(
        float(MODEL.next_nats(source, tokens[:place])[token])
        for place, token in enumerate(tokens)
    )


def test_all_identifiers_come_best_last_behind_blanks(folders: dict[str, Path]) -> None:
    decode_fn = t5x_decoding.constrained(str(folders["tree"]))
    token_BML, score_BM = _run(decode_fn, MODEL, {}, num_decodes=8)
    assert token_BML.shape == (3, 8, 5)
    for query, source in enumerate(_sources().tolist()):
        expected = sorted((_nats(source, row), row) for row in _ROWS)
        found = [row[row > 0].tolist() for row in token_BML[query]]
        assert found == [[], [], *(row for _, row in expected)]
        nats = [value for value, _ in expected]
        np.testing.assert_allclose(score_BM[query, 2:], nats, atol=1e-4)
    assert (score_BM[:, :2] == t5x_decoding.NOTHING).all()


def test_ngrams_are_a_sessions(folders: dict[str, Path]) -> None:
    decode_fn = t5x_decoding.constrained(str(folders["grams"]), max_length=3)
    token_BML, score_BM = _run(decode_fn, MODEL, {})
    decoder = session.DecodeSession(
        MODEL, {}, decode_fn.constraint, beams=4, max_length=3
    )
    rows = [row[row > 0].tolist() for row in _sources()]
    for query, found in enumerate(decoder.decode(rows)):
        own = [t[t > 0].tolist() for t in token_BML[query][::-1]]
        assert own[: found.found] == found.identifiers()
        np.testing.assert_allclose(
            score_BM[query, ::-1][: found.found],
            found.logprob_M[: found.found],
            atol=1e-5,
        )


def test_faults_are_named(folders: dict[str, Path]) -> None:
    decode_fn = t5x_decoding.constrained(str(folders["tree"]))
    with pytest.raises(errors.UsageError, match=r"targets.*5 tokens"):
        _run(decode_fn, MODEL, {}, length=4)
    with pytest.raises(errors.UsageError, match=r"decoder_params.*alpha"):
        _run(decode_fn, MODEL, {}, options={"alpha": 0.6})
    with pytest.raises(errors.UsageError, match="index it was trained for"):
        _run(decode_fn, hash_model.HashModel(30), {})


def _greedy(
    *, inputs: Any, cache: Any, tokens_to_logits: Any, eos_id: int, **_: Any
) -> tuple[Any, Any]:
    """T5X's protocol, one beam, token by token."""
    batch, length = inputs.shape
    token_B, total_B, found = jnp.zeros(batch, jnp.int32), jnp.zeros(batch), []
    for place in range(length):
        state = types.SimpleNamespace(
            cur_index=jnp.full(batch, place), cur_token=token_B[:, None], cache=cache
        )
        logits_BV, cache = tokens_to_logits(state)
        token_B = logits_BV.argmax(axis=-1).astype(jnp.int32)
        total_B += jax.nn.log_softmax(logits_BV).max(axis=-1)
        found.append(token_B)
    return jnp.stack(found, 1)[:, None], total_B[:, None]


def test_functions_of_t5xs_kind_see_our_models_logits() -> None:
    model = families.build(ladder.build("t5", "30k", vocab_size=_VOCABULARY))
    params = model.init(jax.random.key(1))
    token_B1L, score_B1 = _run(_greedy, model, params, num_decodes=1)
    source_BS = jnp.asarray(_sources())
    logits = jax.jit(model.logits)
    logits_BLV = logits(params, source_BS, jnp.asarray(token_B1L[:, 0]))
    np.testing.assert_array_equal(logits_BLV.argmax(axis=-1), token_B1L[:, 0])
    logp_BL = jax.nn.log_softmax(logits_BLV).max(axis=-1)
    np.testing.assert_allclose(logp_BL.sum(axis=1), score_B1[:, 0], rtol=1e-4)
