from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.decode import prefix_tree, results, session
from gr_jax.identifiers import constraint_index
from gr_jax.model import families, ladder
from gr_jax.testing import hash_model
from tests.decode import reference

VOCABULARY, LENGTH = 30, 5
MODEL = hash_model.HashModel(VOCABULARY)


@functools.cache
def rows() -> frozenset[tuple[int, ...]]:
    rng = np.random.default_rng(0)
    codes = 4 + np.minimum(rng.geometric(0.2, (300, LENGTH)) - 1, VOCABULARY - 5)
    return frozenset(map(tuple, codes.tolist()))


@functools.cache
def constraint() -> prefix_tree.PrefixTreeConstraint:
    tree = constraint_index.build_matrix(np.array(sorted(rows())), VOCABULARY)
    return prefix_tree.PrefixTreeConstraint.of(tree)


def queries(count: int, longest: int = 16) -> list[list[int]]:
    rng = np.random.default_rng(5)
    return [
        rng.integers(1, VOCABULARY, rng.integers(1, longest + 1)).tolist()
        for _ in range(count)
    ]


def new_session(model: Any = MODEL, params: Any = None, **options: Any) -> Any:
    given = {"beams": 4, "batch": 4} | options
    return session.DecodeSession(model, params or {}, constraint(), **given)


def same(left: list[results.Decoded], right: list[results.Decoded]) -> None:
    for one, other in zip(left, right, strict=True):
        assert one.identifiers() == other.identifiers()
        np.testing.assert_allclose(one.logprob_M, other.logprob_M, rtol=1e-5)


def test_results_come_in_the_order_of_the_queries() -> None:
    sources = queries(7)
    found = new_session().decode(sources)
    for source, each in zip(sources, found, strict=True):
        nats = functools.cache(lambda p, s=source: MODEL.next_nats(s, p))
        want = reference.beam_search(set(rows()), nats, beams=4, max_length=LENGTH)
        assert [tuple(i) for i in each.identifiers()] == [row for row, _ in want]
        np.testing.assert_allclose(
            each.logprob_M, [score for _, score in want], rtol=1e-5
        )


def test_alone_or_in_company_the_answer_is_the_same() -> None:
    sources = queries(7)
    together = new_session().decode(sources)
    same(together[3:4], new_session(batch=1).decode(sources[3:4]))
    same(together[::-1], new_session().decode(sources[::-1]))


def test_compilations_are_bounded_by_the_buckets() -> None:
    new_session().decode(queries(4))
    before = session.compilations()
    sources = queries(40, longest=30)
    assert {session.bucket(len(source)) for source in sources} == {16, 32}
    new_session().decode(sources)
    assert session.compilations() - before == 1


def test_devices_share_a_batch() -> None:
    mesh = jax.make_mesh((8,), ("data",))
    options = session.Options(mesh=mesh)
    sources = queries(6)
    same(new_session().decode(sources), new_session(options=options).decode(sources))


def test_history_holds_every_candidate_of_every_step() -> None:
    sources = queries(3)
    found = new_session(keep_history=True).decode(sources)
    prefixes = {row[:n] for row in rows() for n in range(1, LENGTH + 1)}
    for source, each in zip(sources, found, strict=True):
        nats = functools.cache(lambda p, s=source: MODEL.next_nats(s, p))
        live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        want: list[tuple[tuple[int, ...], float]] = []
        for _ in range(LENGTH):
            candidates = [
                ((*tokens, token), score + float(nats(tokens)[token]))
                for tokens, score in live
                for token in range(VOCABULARY)
                if (*tokens, token) in prefixes
            ]
            candidates.sort(key=lambda pair: -pair[1])
            want += candidates[:8]
            live = candidates[:4]
        keys = each.history
        assert keys is not None
        got = [
            tuple(row[:length].tolist())
            for row, length in zip(keys.tokens_JL, keys.length_J, strict=True)
        ]
        assert got == [tokens for tokens, _ in want]
        np.testing.assert_allclose(
            keys.logprob_J, [score for _, score in want], rtol=1e-5
        )
        matches = [sum(row[: len(t)] == t for row in rows()) for t in got]
        assert (keys.item_hi_J - keys.item_lo_J).tolist() == matches


def test_out_of_memory_halves_the_batch_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    want = new_session().decode(queries(7))
    halved = new_session()
    sizes: list[int] = []
    real = session.DecodeSession._run

    def small_device(self: Any, source_BS: np.ndarray, key: Any) -> Any:
        sizes.append(len(source_BS))
        if len(source_BS) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of 9 bytes")
        return real(self, source_BS, key)

    monkeypatch.setattr(session.DecodeSession, "_run", small_device)
    same(halved.decode(queries(7)), want)
    assert sizes == [4, 2] + [1] * 7
    assert halved.batch == 1


def test_one_query_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device(self: Any, source_BS: np.ndarray, key: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: wanted 17 bytes")

    monkeypatch.setattr(session.DecodeSession, "_run", no_device)
    with pytest.raises(errors.ResourceError, match="17 bytes") as raised:
        new_session().decode(queries(5))
    assert raised.value.exit_code == 5


class NotNumbers(hash_model.HashModel):
    """Gives one of the queries no distribution."""

    def extend(self, params: Any, prompt: Any, *args: Any) -> Any:
        logits, cache = super().extend(params, prompt, *args)
        bad = jax.numpy.arange(len(prompt)) == 2
        return jax.numpy.where(bad[:, None, None, None], np.nan, logits), cache


def test_logits_that_are_not_numbers_are_an_error() -> None:
    with pytest.raises(errors.NumericError, match="query 2"):
        new_session(NotNumbers(VOCABULARY)).decode(queries(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 3}, "up to 5 tokens"),
        ({"beams": 0}, "at least 1"),
        ({"options": session.Options(groups=3)}, "divide"),
        ({"model": hash_model.HashModel(9)}, "9 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        new_session(**options)


def test_an_empty_query_is_refused() -> None:
    with pytest.raises(errors.InputError, match="query 1"):
        new_session().decode([[3], []])


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_real_models_search_as_their_teacher_forced_logits_say(family: Any) -> None:
    size = {"t5": "30k", "llama": "25k"}[family]
    model = families.build(ladder.build(family, size, vocab_size=VOCABULARY))
    params = model.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: 3.0 * leaf, params)
    prefixes = sorted({row[:n] for row in rows() for n in range(LENGTH)})
    padded = np.array([[*p, *[4] * (LENGTH - len(p))] for p in prefixes], np.int32)
    forced = jax.jit(lambda s, t: jax.nn.log_softmax(model.logits(params, s, t)))
    found = new_session(model, params, options=session.Options(jump=2)).decode(
        queries(3)
    )
    for source, each in zip(queries(3), found, strict=True):
        tiled = np.zeros((len(prefixes), 20), np.int32)
        tiled[:, : len(source)] = source
        table = dict(zip(prefixes, np.asarray(forced(tiled, padded)), strict=True))
        want = reference.beam_search(
            set(rows()),
            lambda prefix, t=table: t[tuple(prefix)][len(prefix)],
            beams=4,
            max_length=LENGTH,
        )
        assert [tuple(i) for i in each.identifiers()] == [row for row, _ in want]
        np.testing.assert_allclose(
            each.logprob_M, [score for _, score in want], rtol=1e-4, atol=1e-4
        )
