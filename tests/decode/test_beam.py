"""The search against slow Python ones, on trees that share one compiled program."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.decode import beam, prefix_tree, search_state, selection
from gr_jax.identifiers import constraint_index
from gr_jax.testing import hash_model
from tests.decode import reference

VOCABULARY, LENGTH, BATCH = 24, 6, 3
MODEL = hash_model.HashModel(VOCABULARY)
prefill = jax.jit(MODEL.prefill)
SOURCES = np.array([[3, 4, 0, 0], [5, 6, 7, 0], [9, 0, 0, 0]])

Rows = set[tuple[int, ...]]


def random_rows(seed: int, count: int, *, is_ragged: bool = True) -> Rows:
    """Closed by token 1 where ragged; some tokens far more frequent than others."""
    rng = np.random.default_rng(seed)
    rows: Rows = set()
    for _ in range(count):
        length = rng.integers(1, LENGTH) if is_ragged else LENGTH
        skew = rng.uniform(0.1, 0.6)
        row = 2 + np.minimum(rng.geometric(skew, length) - 1, VOCABULARY - 3)
        rows.add((*row.tolist(), 1) if is_ragged else tuple(row.tolist()))
    return rows


def tree_of(
    rows: Rows, like: constraint_index.PrefixTree | None = None
) -> constraint_index.PrefixTree:
    ordered = sorted(rows)
    tokens = np.concatenate([np.array(row, np.int32) for row in ordered])
    starts = np.cumsum([0] + [len(row) for row in ordered])
    return constraint_index.build_rows(
        tokens, starts, VOCABULARY, like=like, capacity=0 if like else 5000
    )


@functools.cache
def mould() -> constraint_index.PrefixTree:
    """A tree with room for all others of these tests: one shape, one program."""
    rows = random_rows(0, 3000) | {(23, *[22] * (LENGTH - 2), 1)}
    return tree_of(rows)


def constraint_of(rows: Rows) -> prefix_tree.PrefixTreeConstraint:
    return prefix_tree.PrefixTreeConstraint.of(tree_of(rows, mould()))


def search(
    rows: Rows,
    *,
    sources: np.ndarray = SOURCES,
    penalty: float = 0.0,
    **options: object,
) -> search_state.BeamState:
    settings = selection.Settings(max_length=LENGTH, **options)  # pyright: ignore
    found = beam.search(
        MODEL,
        {},
        prefill({}, jnp.asarray(sources)),
        constraint_of(rows),
        settings=settings,
        batch=len(sources),
        length_penalty=jnp.float32(penalty),
        key=jax.random.key(7),
    )
    # On the host: an element of a device array costs a program call.
    return jax.device_get(found)


def results(
    found: search_state.BeamState, query: int
) -> list[tuple[tuple[int, ...], float]]:
    return [
        (
            tuple(found.token_BML[query, m, : found.length_BM[query, m]].tolist()),
            float(found.logprob_BM[query, m]),
        )
        for m in range(found.valid_BM.shape[1])
        if found.valid_BM[query, m]
    ]


def next_nats(query: int):
    source = SOURCES[query].tolist()
    return functools.cache(lambda prefix: MODEL.next_nats(source, prefix))


def same(
    got: list[tuple[tuple[int, ...], float]], want: list[tuple[tuple[int, ...], float]]
) -> None:
    assert [row for row, _ in got] == [row for row, _ in want]
    np.testing.assert_allclose(
        [nats for _, nats in got], [nats for _, nats in want], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("count", "is_ragged"),
    [(1, True), (3, True), (40, True), (700, True), (2000, True), (300, False)],
)
@pytest.mark.parametrize("jump", [0, 3])
def test_equals_the_textbook_search(count: int, is_ragged: bool, jump: int) -> None:
    rows = random_rows(count, count, is_ragged=is_ragged)
    for penalty in (0.0, 0.8):
        found = search(rows, beams=4, jump=jump, penalty=penalty)
        for query in range(BATCH):
            want = reference.beam_search(
                rows,
                next_nats(query),
                beams=4,
                max_length=LENGTH,
                length_penalty=penalty,
            )
            same(results(found, query), want)


def test_a_beam_wider_than_every_level_finds_the_best_of_all() -> None:
    for count, is_ragged in ((50, True), (90, False)):
        rows = random_rows(count, count, is_ragged=is_ragged)
        found = search(rows, beams=90)
        for query in range(BATCH):
            got = results(found, query)
            same(got, reference.exhaustive(rows, next_nats(query), beams=90))
            assert len(got) == len(rows)
            assert not found.valid_BM[query, len(rows) :].any()
            assert np.all(found.logprob_BM[query, len(rows) :] == -np.inf)


def test_intervals_name_the_rows() -> None:
    rows = random_rows(5, 400)
    ordered = sorted(rows)
    found = search(rows, beams=4)
    for query in range(BATCH):
        for place, (row, _) in enumerate(results(found, query)):
            low, high = found.low_BM[query, place], found.high_BM[query, place]
            assert (ordered[int(low)], int(high)) == (row, int(low) + 1)


def test_diverse_groups_equal_a_slow_one() -> None:
    rows = random_rows(12, 500, is_ragged=False)
    found = search(rows, beams=4, groups=2, diversity=1.5)
    prefixes = {row[:n] for row in rows for n in range(1, LENGTH + 1)}
    for query in range(BATCH):
        nats = next_nats(query)
        groups: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)]] * 2
        for _ in range(LENGTH):
            taken = [0] * VOCABULARY
            after = []
            for live in groups:
                ranked = sorted(
                    (
                        (score + float(nats(t)[v]) - 1.5 * taken[v], (*t, v), score, t)
                        for t, score in live
                        for v in range(VOCABULARY)
                        if (*t, v) in prefixes
                    ),
                    reverse=True,
                )[:2]
                after.append(
                    [(new, s + float(nats(t)[new[-1]])) for _, new, s, t in ranked]
                )
                for _, new, _, _ in ranked:
                    taken[new[-1]] += len(new) < LENGTH
            groups = after
        want = sorted((p for live in groups for p in live), key=lambda p: -p[1])
        same(results(found, query), want)


def test_samples_follow_the_legal_distribution() -> None:
    rows: Rows = {(2, 1), (3, 1), (3, 2, 1), (9, 9, 1)}
    draws = 2000
    sources = np.repeat(SOURCES[:1], 8, axis=0)
    found = search(rows, beams=draws // 8, sources=sources, temperature=1.0)
    scored = dict(reference.exhaustive(rows, next_nats(0), beams=9))
    counts = dict.fromkeys(rows, 0)
    for row, nats in (pair for query in range(8) for pair in results(found, query)):
        counts[row] += 1
        assert nats == pytest.approx(scored[row], rel=1e-5)
    assert sum(counts.values()) == draws

    def chance(row: tuple[int, ...]) -> float:
        product = 1.0
        for depth in range(len(row)):
            p = np.exp(next_nats(0)(row[:depth]))
            legal = {r[depth] for r in rows if r[:depth] == row[:depth]}
            product *= p[row[depth]] / sum(p[token] for token in legal)
        return product

    for row, count in counts.items():
        deviation = math.sqrt(draws * chance(row) * (1 - chance(row)))
        assert abs(count - draws * chance(row)) < 5 * deviation


def test_another_catalogue_of_the_same_shapes_compiles_nothing() -> None:
    search(random_rows(1, 10), beams=4)
    before = beam.search._cache_size()  # pyright: ignore
    search(random_rows(2, 900), beams=4)
    assert beam.search._cache_size() == before  # pyright: ignore


def test_nothing_is_moved_to_the_host_inside_the_search() -> None:
    rows = constraint_of(random_rows(3, 100))
    prompt = prefill({}, jnp.asarray(SOURCES))
    settings = selection.Settings(beams=4, max_length=LENGTH)
    penalty, key = jnp.float32(0.0), jax.random.key(0)
    with jax.transfer_guard("disallow"):
        found = beam.search(
            MODEL,
            {},
            prompt,
            rows,
            settings=settings,
            batch=BATCH,
            length_penalty=penalty,
            key=key,
        )
    assert found.valid_BM.all()


@pytest.mark.parametrize(
    "options",
    [
        {"beams": 0},
        {"beams": 4, "groups": 3},
        {"beams": 4, "temperature": 1.0, "keep_history": True},
        {"beams": 4, "diversity": -1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=str(options["beams"])):
        selection.Settings(max_length=3, **options)  # pyright: ignore


def test_any_number_of_beams_is_exact() -> None:
    rows = random_rows(21, 2500)
    for beams in (1, 1000):
        found = search(rows, beams=beams, sources=SOURCES[:1])
        want = reference.beam_search(rows, next_nats(0), beams=beams, max_length=LENGTH)
        assert len(want) == beams
        same(results(found, 0), want)


def like_if_it_fits(
    rows: Rows, vocabulary: int, mould: constraint_index.PrefixTree | None
) -> constraint_index.PrefixTree:
    ordered = sorted(rows)
    flat = np.concatenate([np.array(row, np.int32) for row in ordered])
    starts = np.cumsum([0] + [len(row) for row in ordered])
    try:
        return constraint_index.build_rows(flat, starts, vocabulary, like=mould)
    except errors.UsageError:
        room = 8 * len(rows)
        return constraint_index.build_rows(flat, starts, vocabulary, capacity=room)


@pytest.mark.slow
def test_random_tries_of_all_sizes() -> None:
    """A million generated tokens: none illegal, all searches equal to the slow one."""
    rng = np.random.default_rng(99)
    tokens = 0
    shapes = [(8, 4, 1), (64, 12, 6), (512, 8, 16), (2048, 32, 30), (32_768, 5, 60)]
    moulds: dict[int, constraint_index.PrefixTree] = {}
    trial = 0
    while tokens < 1_000_000:
        vocabulary, length, beams = shapes[trial % len(shapes)]
        trial += 1
        count = int(rng.integers(1, 2000))
        skew = rng.uniform(0.002, 0.5)
        rows: Rows = {(*[vocabulary - 1] * (length - 1), 1)}
        for _ in range(count if vocabulary in moulds else 2000):
            size = int(rng.integers(0, length))
            row = 2 + np.minimum(rng.geometric(skew, size) - 1, vocabulary - 3)
            rows.add((*row.tolist(), 1))
        tree = like_if_it_fits(rows, vocabulary, moulds.get(vocabulary))
        moulds[vocabulary] = tree
        model = hash_model.HashModel(vocabulary)
        sources = rng.integers(1, 9, (64, 3))
        found = beam.search(
            model,
            {},
            model.prefill({}, jnp.asarray(sources)),
            prefix_tree.PrefixTreeConstraint.of(tree),
            settings=selection.Settings(beams=beams, max_length=length, jump=4),
            batch=64,
        )
        found = jax.device_get(found)
        for query in range(64):
            got = results(found, query)
            tokens += sum(len(row) for row, _ in got)
            assert {row for row, _ in got} <= rows
            assert len({row for row, _ in got}) == len(got) <= min(beams, len(rows))
        for query in range(4):
            source = sources[query].tolist()
            nats = functools.cache(
                lambda prefix, s=source, m=model: m.next_nats(s, prefix)
            )
            same(
                results(found, query),
                reference.beam_search(rows, nats, beams=beams, max_length=length),
            )
