from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gr_jax.core import errors
from gr_jax.data import negatives

DOCUMENTS = [f"d{i}" for i in range(1000)]


def test_negatives_are_distinct_known_and_never_relevant() -> None:
    relevant = {f"q{i}": {f"d{j}" for j in range(i, 1000, 7)} for i in range(20)}
    drawn = negatives.draw(relevant, DOCUMENTS, relevant, count=64, seed=0)
    for query, documents in drawn.items():
        assert len(set(documents)) == len(documents) == 64
        assert not set(documents) & relevant[query]
        assert set(documents) <= set(DOCUMENTS)


@pytest.mark.parametrize("size", [1, 2, 50, 255, 256, 257, 300, 512, 513])
def test_small_collections_give_what_they_have(size: int) -> None:
    drawn = negatives.draw(["q"], DOCUMENTS[:size], {"q": {"d0", "elsewhere"}}, seed=1)
    assert len(drawn["q"]) == min(256, size - 1)
    assert "d0" not in drawn["q"]
    assert len(set(drawn["q"])) == len(drawn["q"])


def test_a_draw_depends_on_its_own_query_only() -> None:
    alone = negatives.draw(["q1"], DOCUMENTS, {}, count=9, seed=5)
    among = negatives.draw(["q0", "q1", "q2"], DOCUMENTS, {}, count=9, seed=5)
    assert among["q1"] == alone["q1"]
    assert among["q0"] != among["q1"]
    assert negatives.draw(["q1"], DOCUMENTS, {}, count=9, seed=6) != alone


@pytest.mark.parametrize("size", [30, 60])  # Both ways of drawing.
def test_draws_are_uniform(size: int) -> None:
    relevant = {f"q{i}": {"d3"} for i in range(3000)}
    drawn = negatives.draw(relevant, DOCUMENTS[:size], relevant, count=20, seed=0)
    counts = Counter(document for row in drawn.values() for document in row)
    assert len(counts) == size - 1
    expected = 3000 * 20 / (size - 1)
    assert all(abs(n - expected) < 6 * expected**0.5 for n in counts.values())


def test_stored_draws_come_back(tmp_path: Path) -> None:
    drawn = negatives.draw(["q0", "q1"], DOCUMENTS, {}, count=5, seed=2)
    negatives.save(tmp_path / "n", drawn, seed=2)
    assert negatives.load(tmp_path / "n") == drawn


def test_bad_requests_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="at least 1"):
        negatives.draw(["q"], DOCUMENTS, {}, count=0, seed=0)
    with pytest.raises(errors.InputError, match="twice"):
        negatives.draw(["q"], ["a", "a"], {}, seed=0)
