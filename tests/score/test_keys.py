"""Keys merged, joined by unigrams, and numbered: all written out."""

from __future__ import annotations

from typing import Any

import numpy as np

from gr_jax.core import randomness
from gr_jax.identifiers import codec, substring_index
from gr_jax.score import evidence, keys, rows
from gr_jax.testing import evidence_oracle


def test_equal_keys_become_one_with_the_larger_probability() -> None:
    found = keys.merged(
        keys.Keys(
            tokens=[[5, 6], [7], [5, 6], [5, 6], [7]],
            logprob_K=np.array([-2.0, -3.0, -1.0, -0.5, -4.0]),
            is_title_K=np.array([False, False, False, True, False]),
        )
    )
    assert [list(tokens) for tokens in found.tokens] == [[5, 6], [7], [5, 6]]
    assert found.logprob_K.tolist() == [-1.0, -3.0, -0.5]
    assert found.is_title_K is not None
    assert found.is_title_K.tolist() == [False, False, True]


def test_the_likeliest_first_tokens_become_keys() -> None:
    # Tokens by probability: 2 (control), 5, 7, 4, 6, 3 (control); 7 is a key already.
    logprob_V = np.array([-9.0, -9.0, -0.1, -6.0, -3.0, -1.0, -4.0, -2.0])
    given = keys.Keys(tokens=[[5, 6], [7]], logprob_K=np.array([-1.0, -2.0]))
    found = keys.with_unigrams(given, logprob_V, top=5)
    assert [list(tokens) for tokens in found.tokens] == [[5, 6], [7], [5], [4], [6]]
    assert found.logprob_K.tolist() == [-1.0, -2.0, -1.0, -3.0, -4.0]
    assert found.is_unigram_K is not None
    assert found.is_unigram_K.tolist() == [False, False, True, True, True]
    # As many as there are keys count in full, the rest fill free places.
    assert found.is_late_K is not None
    assert found.is_late_K.tolist() == [False, False, False, False, True]


def test_evidence_with_unigrams_equals_plain_python() -> None:
    rng = randomness.stream(2, "unigrams")
    texts = [(4 + 60 * rng.random(30) ** 2).astype(int).tolist() for _ in range(80)]
    names = [f"d{(7 * i) % 80:02d}" for i in range(80)]
    table = codec.from_rows("ngram", names, texts, list(range(80)), vocabulary_size=64)
    corpus = rows.corpus_of(table)
    index = substring_index.build(
        table.tokens_E, table.row_starts_T, vocabulary_size=64, is_compact=True
    )
    spans = [tuple(texts[i][i : i + 1 + i % 4]) for i in range(12)]
    given = keys.merged(keys.Keys(tokens=spans, logprob_K=-rng.random(len(spans))))
    query = keys.with_unigrams(given, np.log(rng.dirichlet(np.ones(64))))
    # Few candidates and few hits, so that some documents are never scored.
    limits: dict[str, Any] = {"max_hits": 40, "max_documents": 50, "hits": 8}
    (found,) = evidence.aggregate(
        [query], corpus, index, settings=keys.Settings(**limits)
    )

    def positions(key: tuple[int, ...], at_start: bool) -> list[int]:
        return [
            30 * number + place
            for number, text in enumerate(texts)
            for place in ([0] if at_start else range(30))
            if tuple(text[place : place + len(key)]) == key
        ]

    plain = evidence_oracle.Aggregator(
        texts, list(range(80)), names, lambda k, s: len(positions(k, s)), positions
    )
    titles, unigrams, late = keys.flags(query)
    expected = plain.rank(
        [tuple(tokens) for tokens in query.tokens],
        query.logprob_K.tolist(),
        unigrams=unigrams.tolist(),
        late=late.tolist(),
        **limits,
    )
    assert late.any()
    assert not titles.any()
    hits = found.hits(names)
    assert [name for name, _ in hits] == [name for name, _, _ in expected]
    np.testing.assert_allclose(
        [score for _, score in hits], [score for _, score, _ in expected], rtol=1e-9
    )
    for rank, (_, _, used) in enumerate(expected):
        assert [key for key, _ in found.keys_of(rank)] == [key for key, _ in used]


def test_keys_of_several_sources_keep_their_factors() -> None:
    one = keys.Keys(tokens=[[5], [6]], logprob_K=np.array([-1.0, -2.0]))
    other = keys.Keys(
        tokens=[[6], [7]], logprob_K=np.array([-1.5, -3.0]), factor_K=np.array([1.0, 2])
    )
    found = keys.joined([one, other])
    assert [list(tokens) for tokens in found.tokens] == [[5], [6], [7]]
    assert found.logprob_K.tolist() == [-1.0, -1.5, -3.0]
    assert found.factor_K is not None
    assert found.factor_K.tolist() == [1.0, 1.0, 2.0]
