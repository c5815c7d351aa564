"""The best of many documents against scoring all of them in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from gr_jax.core import randomness
from gr_jax.identifiers import substring_index
from gr_jax.score import candidates, evidence, keys, rows
from gr_jax.testing import evidence_oracle

VOCABULARY = 60


def _case(seed: int) -> tuple[rows.Corpus, substring_index.SubstringIndex, keys.Keys]:
    """400 documents of skewed tokens, and the n-grams of a few of them as keys."""
    rng = randomness.stream(seed, "candidates")
    tokens_E = (4 + 56 * rng.random(400 * 20) ** 3).astype(np.int32)
    starts_T = np.arange(0, len(tokens_E) + 1, 20)
    names = [f"d{(7 * i) % 400:03d}" for i in range(400)]
    corpus = rows.Corpus(tokens_E, starts_T, np.arange(400), names, VOCABULARY)
    index = substring_index.build(tokens_E, starts_T, vocabulary_size=VOCABULARY)
    made: dict[tuple[int, ...], None] = {}
    for _ in range(60):
        place = 20 * int(rng.integers(5)) + int(rng.integers(15))
        made[tuple(tokens_E[place : place + int(rng.integers(1, 5))].tolist())] = None
    logprob_K = -rng.gamma(1.0, 1.0, len(made)) * [len(key) for key in made]
    return corpus, index, keys.Keys(tokens=list(made), logprob_K=logprob_K)


@pytest.mark.parametrize("options", [{}, {"allow_overlaps": True}])
@pytest.mark.parametrize("seed", range(3))
def test_pruning_changes_nothing_and_saves_scoring(
    seed: int, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, index, query = _case(seed)
    # Windows of a bound and of a bar are tried with few common tokens as well.
    monkeypatch.setattr(rows, "COMMON", [512, 8, 2][seed])
    scored: list[int] = []
    uses = candidates.Candidates._uses

    def counted(self: candidates.Candidates, place_J: np.ndarray) -> object:
        scored.append(len(place_J))
        return uses(self, place_J)

    monkeypatch.setattr(candidates.Candidates, "_uses", counted)
    limits = {"max_hits": 150, "max_documents": 120, "hits": 10, **options}
    (found,) = evidence.aggregate(
        [query], corpus, index, settings=keys.Settings(**limits)
    )

    def positions(key: tuple[int, ...], at_start: bool) -> list[int]:
        lo, hi = index.find([key], at_document_start=at_start)
        length = np.array([len(key)])
        return index.locate(lo, hi, length, limit=10**6)[0].tolist()

    def count(key: tuple[int, ...], at_start: bool) -> int:
        return len(positions(key, at_start))

    plain = evidence_oracle.Aggregator(
        [row.tolist() for row in np.split(corpus.tokens_E, corpus.row_starts_T[1:-1])],
        list(range(400)),
        corpus.document_ids,
        count,
        positions,
    )
    made = [tuple(tokens) for tokens in query.tokens]
    expected = plain.rank(made, query.logprob_K.tolist(), **limits)
    hits = found.hits(corpus.document_ids)
    assert [name for name, _ in hits] == [name for name, _, _ in expected]
    np.testing.assert_allclose(
        [score for _, score in hits], [score for _, score, _ in expected], rtol=1e-9
    )
    for rank, (_, _, used) in enumerate(expected):
        assert [key for key, _ in found.keys_of(rank)] == [key for key, _ in used]
    # Both stages together score fewer than the documents that there are.
    assert len(scored) >= 2
    assert sum(scored) < 400
