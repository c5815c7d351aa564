"""Nats of identifiers against float64 arithmetic and against plain teacher forcing."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.core import errors, randomness
from gr_jax.model import families, ladder
from gr_jax.score import likelihood

START = 3


@dataclasses.dataclass(frozen=True)
class Running:
    """A model whose state is a running sum: logits = (sum of vectors so far) @ head."""

    vocab_size: int = 19
    start_token: int = START

    def prefill(self, params: Any, source_BS: jax.Array) -> jax.Array:
        real_BS1 = (source_BS != 0)[..., None]
        return jnp.where(real_BS1, params["source"][source_BS], 0.0).sum(axis=1)

    def empty_cache(self, batch: int, beams: int, length: int) -> jax.Array:
        return jnp.zeros((batch, beams, length))

    def extend(
        self,
        params: Any,
        prompt: jax.Array,
        cache: jax.Array,
        token_BMT: jax.Array,
        position: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        assert token_BMT.shape == cache.shape
        assert position.shape == ()
        summed = jnp.cumsum(params["target"][token_BMT], axis=2)
        return (summed + prompt[:, None, None, :]) @ params["head"], cache


def _params(vocab_size: int) -> dict[str, np.ndarray]:
    rng = randomness.stream(0, "running model")
    shapes = {"source": (vocab_size, 5), "target": (vocab_size, 5)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    params["head"] = rng.normal(size=(5, vocab_size))
    return {name: value.astype(np.float32) for name, value in params.items()}


def _plain_nats(
    params: dict[str, np.ndarray], source: list[int], identifier: list[int]
) -> float:
    """One token at a time, in float64."""
    wide = {name: value.astype(np.float64) for name, value in params.items()}
    state = sum(wide["source"][token] for token in source)
    total = 0.0
    for before, token in zip([START, *identifier[:-1]], identifier, strict=True):
        state = state + wide["target"][before]
        logits = state @ wide["head"]
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        total -= logits[token]
    return float(total)


def _case(seed: int, vocab_size: int, queries: int = 5) -> tuple[list, list]:
    rng = randomness.stream(seed, "likelihood case")

    def run(longest: int) -> list[int]:
        return rng.integers(1, vocab_size, size=rng.integers(1, longest)).tolist()

    sources = [run(9) for _ in range(queries)]
    counts = rng.permutation([0, 1, 3, 11, 26])[:queries].tolist()
    return sources, [[run(7) for _ in range(count)] for count in counts]


@pytest.mark.parametrize("logit_bytes", [1, 4000, 1 << 20])
def test_sums_equal_float64_arithmetic(logit_bytes: int) -> None:
    model = Running()
    params = _params(model.vocab_size)
    sources, identifiers = _case(1, model.vocab_size)
    found = likelihood.identifier_nats(
        model, params, sources, identifiers, logit_bytes=logit_bytes
    )
    for place, rows in enumerate(identifiers):
        expected = [_plain_nats(params, sources[place], row) for row in rows]
        np.testing.assert_allclose(found.nll_sum[place], expected, rtol=2e-6, atol=1e-5)
        assert found.tokens[place].tolist() == [len(row) for row in rows]
        assert found.nll_sum[place].dtype == np.float64


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_sums_equal_teacher_forcing_of_the_models(family: Any) -> None:
    size = "30k" if family == "t5" else "25k"
    model = families.build(ladder.build(family, size, vocab_size=24, start_token=START))
    params = model.init(jax.random.key(0))
    sources, identifiers = _case(2, 24)
    found = likelihood.identifier_nats(model, params, sources, identifiers)
    rows = [
        (p, i, row) for p, many in enumerate(identifiers) for i, row in enumerate(many)
    ]
    source_BS = np.zeros((len(rows), 8), np.int32)
    target_BL = np.zeros((len(rows), 6), np.int32)
    for place, (query, _, row) in enumerate(rows):
        source_BS[place, : len(sources[query])] = sources[query]
        target_BL[place, : len(row)] = row
    logits_BLV = jax.jit(model.logits)(params, source_BS, target_BL)
    log_p_BLV = np.asarray(jax.nn.log_softmax(logits_BLV), np.float64)
    for place, (query, i, row) in enumerate(rows):
        expected = -sum(log_p_BLV[place, t, token] for t, token in enumerate(row))
        assert found.nll_sum[query][i] == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_neither_company_nor_order_changes_a_sum() -> None:
    model = Running()
    params = _params(model.vocab_size)
    sources, identifiers = _case(3, model.vocab_size)
    whole = likelihood.identifier_nats(model, params, sources, identifiers)
    turned = likelihood.identifier_nats(
        model, params, sources[::-1], [rows[::-1] for rows in identifiers[::-1]]
    )
    for one, other in zip(whole.nll_sum, turned.nll_sum[::-1], strict=True):
        np.testing.assert_allclose(one, other[::-1], rtol=1e-6)
    place = int(np.argmax([len(rows) for rows in identifiers]))
    alone = likelihood.identifier_nats(
        model, params, [sources[place]], [identifiers[place][:1]]
    )
    np.testing.assert_allclose(alone.nll_sum[0], whole.nll_sum[place][:1], rtol=1e-6)


def test_one_compilation_for_all_passes_and_like_calls() -> None:
    model = Running(vocab_size=23)
    params = _params(23)
    counted = chex.assert_max_traces(likelihood._nats.__wrapped__, n=1)
    chex.clear_trace_counter()
    jitted = jax.jit(counted, static_argnames="model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "_nats", jitted)
        for seed in (4, 5):
            rng = randomness.stream(seed, "shapes")
            sources = [rng.integers(1, 23, size=6).tolist() for _ in range(7)]
            identifiers = [rng.integers(1, 23, size=(20, 5)).tolist() for _ in range(7)]
            likelihood.identifier_nats(
                model, params, sources, identifiers, logit_bytes=23 * 6 * 4 * 24
            )


def test_memory_bounds_a_pass() -> None:
    shapes = likelihood._shapes([[1] * 9] * 100, [257] * 100, 10, 4096, 1 << 28)
    assert shapes.batch * shapes.beams * shapes.length * 4096 * 4 <= 1 << 28
    assert shapes.beams >= 257
    small = likelihood._shapes([[1] * 9] * 100, [2570] * 100, 10, 4096, 1 << 24)
    assert small.batch == 1
    assert small.beams * small.length * 4096 * 4 <= 1 << 24
    # As few passes as the memory allows.
    assert -(-2570 // small.beams) == -(-2570 // ((1 << 24) // (12 * 4096 * 4)))


def test_nothing_to_score_is_no_work() -> None:
    found = likelihood.identifier_nats(Running(), {}, [[1], [2]], [[], []])
    assert [len(sums) for sums in found.nll_sum] == [0, 0]


@pytest.mark.parametrize(
    ("sources", "identifiers", "kind", "word"),
    [
        ([[]], [[[1]]], errors.InputError, "query 0: empty"),
        ([[1], [1]], [[[1]], [[]]], errors.InputError, "query 1: an identifier"),
        ([[1]], [[[19]]], errors.ArtifactError, "token 19: the model knows 19"),
        ([[40]], [[[1]]], errors.ArtifactError, "token 40"),
        ([[1]], [], errors.InputError, "1 sources, 0 lists"),
    ],
)
def test_bad_input_is_named(
    sources: list, identifiers: list, kind: type[Exception], word: str
) -> None:
    with pytest.raises(kind, match=word):
        likelihood.identifier_nats(Running(), {}, sources, identifiers)


def test_a_broken_model_is_named() -> None:
    model = Running()
    params = _params(model.vocab_size)
    params["source"][7] = np.nan
    with pytest.raises(errors.NumericError, match="query 1"):
        likelihood.identifier_nats(model, params, [[1], [7]], [[[1]], [[2]]])
