"""Evidence against plain Python, and against sums written out by hand."""

from __future__ import annotations

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from gr_jax.core import errors, randomness
from gr_jax.identifiers import codec, substring_index
from gr_jax.score import evidence, keys, rows
from gr_jax.testing import evidence_oracle

VOCABULARY = 12


def _oracle(
    texts: list[list[int]], owners: list[int], document_ids: list[str]
) -> evidence_oracle.Aggregator:
    """Plain evidence over every place of a key, found by looking at every place."""

    def positions(key: tuple[int, ...], at_start: bool) -> list[int]:
        found, start = [], 0
        for row in texts:
            last = 1 if at_start else len(row) - len(key) + 1
            found += [
                start + i for i in range(last) if tuple(row[i : i + len(key)]) == key
            ]
            start += len(row)
        return found

    def count(key: tuple[int, ...], at_start: bool) -> int:
        return len(positions(key, at_start))

    return evidence_oracle.Aggregator(texts, owners, document_ids, count, positions)


def _table(texts: list[list[int]], row_documents: list[int]) -> codec.IdentifierTable:
    names = [f"d{(7 * i) % 10}{i}" for i in range(max(row_documents) + 1)]
    return codec.from_rows(
        "ngram", names, texts, row_documents, vocabulary_size=VOCABULARY
    )


def _index(table: codec.IdentifierTable, **options: int) -> rows.Index:
    return substring_index.build(
        table.tokens_E,
        table.row_starts_T,
        vocabulary_size=VOCABULARY,
        max_length=8,
        **options,
    )


def _case(seed: int, documents: int) -> tuple[list[list[int]], list[int]]:
    rng = randomness.stream(seed, "evidence case")
    texts = [
        rng.integers(4, VOCABULARY, size=rng.integers(1, 20)).tolist()
        for _ in range(documents + 3)
    ]
    owners = [*range(documents), *rng.integers(0, documents, size=3).tolist()]
    return texts, owners


def _keys_of_case(
    texts: list[list[int]], seed: int, count: int
) -> tuple[list[tuple[int, ...]], np.ndarray]:
    rng = randomness.stream(seed, "evidence keys")
    made: dict[tuple[int, ...], None] = {}
    while len(made) < count:
        row = texts[int(rng.integers(len(texts)))]
        begin = int(rng.integers(len(row)))
        key = tuple(row[begin : begin + int(rng.integers(1, 6))])
        if rng.random() < 0.1:
            key = (*key, int(rng.integers(4, VOCABULARY)))
        made[key] = None
    # Few distinct values, so that weights tie.
    return list(made), rng.integers(-8, 0, size=len(made)) * 0.5 - 0.01


def _compare(
    found: evidence.Ranking,
    expected: list[tuple[str, float, evidence_oracle.Used]],
    document_ids: list[str],
) -> None:
    hits = found.hits(document_ids)
    assert [name for name, _ in hits] == [name for name, _, _ in expected]
    np.testing.assert_allclose(
        [score for _, score in hits], [score for _, score, _ in expected], rtol=1e-9
    )
    for rank, (_, _, used) in enumerate(expected):
        mine = found.keys_of(rank)
        assert [key for key, _ in mine] == [key for key, _ in used]
        np.testing.assert_allclose(
            [w for _, w in mine], [w for _, w in used], rtol=1e-9
        )


SETTINGS = [
    {},
    {"max_hits": 4},
    {"max_hits": 2, "max_documents": 3, "hits": 2},
    {"max_documents": 2},
    {"allow_overlaps": True, "max_hits": 3},
    {"repetition": 0.0, "exponent": 1.0},
    {"repetition": 1.0, "smoothing": 0.5, "skip_count": 6},
]


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("seed", range(6))
def test_rankings_equal_plain_python(options: dict, seed: int) -> None:
    texts, owners = _case(seed, 9)
    table = _table(texts, owners)
    queries, expected = [], []
    oracle = _oracle(texts, owners, table.document_ids)
    plain = {"beta" if k == "repetition" else k: v for k, v in options.items()}
    for query in range(4):
        made, logprob_K = _keys_of_case(texts, 100 * seed + query, 25)
        flags = randomness.stream(seed, "flags", query).random((3, len(made)))
        titles, unigrams, late = flags < 0.15
        queries.append(
            keys.Keys(
                tokens=made,
                logprob_K=logprob_K,
                is_title_K=titles,
                is_unigram_K=unigrams,
                is_late_K=late,
            )
        )
        expected.append(
            oracle.rank(
                made,
                logprob_K.tolist(),
                titles=titles.tolist(),
                unigrams=unigrams.tolist(),
                late=late.tolist(),
                **plain,
            )
        )
    index = _index(table, shards=1 + seed % 2, is_compact=seed > 3)
    corpus = rows.corpus_of(table)
    found = evidence.aggregate(
        queries, corpus, index, settings=keys.Settings(**options)
    )
    assert any(len(rows) > 1 for rows in expected)
    for mine, theirs in zip(found, expected, strict=True):
        _compare(mine, theirs, table.document_ids)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    strategies.lists(
        strategies.lists(strategies.integers(4, 6), min_size=1, max_size=9),
        min_size=1,
        max_size=5,
    ),
    strategies.dictionaries(
        strategies.lists(strategies.integers(4, 6), min_size=1, max_size=4).map(tuple),
        strategies.sampled_from([-0.1, -1.0, -3.0]),
        max_size=8,
    ),
    strategies.integers(1, 3),
)
def test_any_corpus_equals_plain_python(
    texts: list[list[int]], made: dict[tuple[int, ...], float], max_hits: int
) -> None:
    table = _table(texts, list(range(len(texts))))
    oracle = _oracle(texts, list(range(len(texts))), table.document_ids)
    expected = oracle.rank(list(made), list(made.values()), max_hits=max_hits)
    query = keys.Keys(tokens=list(made), logprob_K=np.array(list(made.values())))
    (found,) = evidence.aggregate(
        [query],
        rows.corpus_of(table),
        _index(table),
        settings=keys.Settings(max_hits=max_hits),
    )
    _compare(found, expected, table.document_ids)


def _rank(texts: list[list[int]], made: dict, **options: object) -> list:
    table = _table(texts, list(range(len(texts))))
    query = keys.Keys(tokens=list(made), logprob_K=np.array(list(made.values())))
    (found,) = evidence.aggregate(
        [query],
        rows.corpus_of(table),
        _index(table),
        settings=keys.Settings(**options),  # pyright: ignore[reportArgumentType]
    )
    return [
        (int(document), found.keys_of(rank))
        for rank, document in enumerate(found.document_H)
    ]


def _log_odds(p: float, count: int, tokens: int) -> float:
    q = (count + 5) / (tokens + 5)
    return math.log(p / (1 - p) * (1 - q) / q)


def test_weights_written_out() -> None:
    # 24 tokens; (5, 6) occurs twice, (6, 7) once and shares its 6 with a (5, 6).
    texts = [[5, 6, 7, 8] * 1 + [9] * 8, [5, 6] + [9] * 10]
    strong, weak = _log_odds(0.9, 2, 24) ** 2, _log_odds(0.8, 1, 24) ** 2
    assert strong > weak
    found = _rank(texts, {(5, 6): math.log(0.9), (7, 8): math.log(0.8)})
    assert found[0][0] == 0
    assert found[1][0] == 1
    np.testing.assert_allclose([w for _, w in found[0][1]], [strong, weak], rtol=1e-8)
    np.testing.assert_allclose([w for _, w in found[1][1]], [strong], rtol=1e-8)


def test_coverage_marks_the_tokens_that_matched() -> None:
    # The stronger (6, 7) holds the 6 that (5, 6) would need; (8, 9), right behind it,
    # is free. Marking the tokens before the match instead would turn both round.
    texts = [[5, 6, 7, 8, 9, 10, 11, 10, 11, 10, 11]]
    made = {(6, 7): -0.1, (5, 6): -0.2, (8, 9): -0.3}
    ((_, used),) = _rank(texts, made)
    assert [key for key, _ in used] == [0, 2]
    ((_, used),) = _rank(texts, made, allow_overlaps=True)
    assert [key for key, _ in used] == [0, 1, 2]


def test_repeated_tokens_are_discounted() -> None:
    texts = [[5, 6, 10, 6, 7, *[11] * 20]]
    made = {(5, 6): -0.1, (6, 7): -0.2}
    plain = dict(_rank(texts, made, repetition=0.0)[0][1])
    half = dict(_rank(texts, made, repetition=0.8)[0][1])
    assert half[0] == pytest.approx(plain[0])
    # One of the two tokens of (6, 7) was there already: 0.2 + 0.8 * 1/2.
    assert half[1] == pytest.approx(0.6 * plain[1])


def test_frequent_keys_count_but_do_not_nominate() -> None:
    texts = [[5, 6, *[11] * 9], [6, 7, *[11] * 9], [6, 8, *[11] * 9]]
    made = {(5,): -0.1, (6,): -0.2}
    found = _rank(texts, made, max_hits=2)
    assert [document for document, _ in found] == [0]
    assert [key for key, _ in found[0][1]] == [0, 1]
    assert len(_rank(texts, made)) == 3


def test_title_keys_match_the_beginning_alone() -> None:
    texts = [[5, 6, *[11] * 9], [11, 5, 6, *[11] * 8]]
    table = _table(texts, [0, 1])
    query = keys.Keys(
        tokens=[(5, 6)], logprob_K=np.array([-0.1]), is_title_K=np.array([True])
    )
    corpus, index = rows.corpus_of(table), _index(table)
    (found,) = evidence.aggregate([query], corpus, index)
    assert found.document_H.tolist() == [0]
    # One beginning, not two occurrences, is what it is weighed by.
    assert found.score_H[0] == pytest.approx(
        _log_odds(math.exp(-0.1), 1, 22) ** 2, rel=1e-8
    )


def test_rows_of_one_document_count_together() -> None:
    texts = [[5, 6, *[11] * 9], [7, 8, *[11] * 9], [9, *[11] * 9]]
    table = _table(texts, [0, 0, 1])
    query = keys.Keys(tokens=[(5, 6), (7, 8)], logprob_K=np.array([-0.1, -0.2]))
    (found,) = evidence.aggregate([query], rows.corpus_of(table), _index(table))
    assert found.document_H.tolist() == [0]
    assert [key for key, _ in found.keys_of(0)] == [0, 1]


def test_ties_go_by_document_id_even_where_hits_end() -> None:
    texts = [[5, 6 + i % 2, *[11] * 9] for i in range(20)]
    table = _table(texts, list(range(20)))
    query = keys.Keys(tokens=[(5,)], logprob_K=np.array([-0.1]))
    (found,) = evidence.aggregate(
        [query],
        rows.corpus_of(table),
        _index(table),
        settings=keys.Settings(hits=7, max_documents=9),
    )
    names = [name for name, _ in found.hits(table.document_ids)]
    assert names == sorted(table.document_ids)[:7]


def test_control_forgets_the_model() -> None:
    texts = [[5, 6, *[11] * 9], [7, 8, *[11] * 9], [7, 9, *[11] * 9]]
    made = {(5, 6): -9.0, (7,): -0.01}
    model = _rank(texts, made)
    control = _rank(texts, made, constant_probability=0.5)
    assert {document for document, _ in model} == {1, 2}
    assert next(document for document, _ in control) == 0
    assert dict(control[0][1])[0] == pytest.approx(_log_odds(0.5, 1, 33) ** 2, rel=1e-8)


def test_company_changes_nothing() -> None:
    texts, owners = _case(3, 9)
    table = _table(texts, owners)
    queries = [
        keys.Keys(tokens=made, logprob_K=logprob_K)
        for made, logprob_K in (_keys_of_case(texts, seed, 20) for seed in range(40))
    ]
    corpus, index = rows.corpus_of(table), _index(table)
    settings = keys.Settings(max_hits=3)
    together = evidence.aggregate(queries, corpus, index, settings=settings)
    for query, ranking in zip(queries[30:], together[30:], strict=True):
        (alone,) = evidence.aggregate([query], corpus, index, settings=settings)
        np.testing.assert_array_equal(alone.document_H, ranking.document_H)
        np.testing.assert_array_equal(alone.score_H, ranking.score_H)
        np.testing.assert_array_equal(alone.key_U, ranking.key_U)


def test_nothing_found_is_an_empty_ranking() -> None:
    texts = [[5, 6, 7]]
    for made in ({}, {(9,): -0.1}, {(7, 7): -0.1}, {(): -0.1}):
        assert _rank(texts, made) == []
    table = _table(texts, [0])
    assert evidence.aggregate([], rows.corpus_of(table), _index(table)) == []


@pytest.mark.parametrize("value", [math.nan, 0.5, math.inf])
def test_impossible_probabilities_are_named(value: float) -> None:
    with pytest.raises(errors.NumericError, match="query 0"):
        _rank([[5, 6]], {(5,): value})


def test_a_certain_key_is_finite() -> None:
    ((_, ((_, weight),)),) = _rank([[5, *[11] * 9]], {(5,): 0.0})
    assert math.isfinite(weight)


@pytest.mark.parametrize(
    "options",
    [
        {"repetition": 1.5},
        {"exponent": 0.0},
        {"max_hits": 0},
        {"constant_probability": 1.0},
    ],
)
def test_settings_without_meaning_are_refused(options: dict) -> None:
    with pytest.raises(errors.UsageError, match=next(iter(options))):
        keys.Settings(**options)
