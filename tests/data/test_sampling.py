from __future__ import annotations

import pytest

from gr_jax.core import errors
from gr_jax.data import sampling
from gr_jax.testing import toy


def test_samples_are_nested_and_whole() -> None:
    whole = toy.collection()
    previous: set[str] = set()
    for size in range(1, 9):
        part = sampling.sample(whole, size, seed=3)
        ids = {document.id for document in part.documents}
        assert len(ids) == size
        assert previous <= ids
        previous = ids
        for split, rows in whole.qrels.items():
            # A query stays with whatever of its relevant documents stays.
            expected = {q: {d: 1 for d in row if d in ids} for q, row in rows.items()}
            assert part.qrels[split] == {q: row for q, row in expected.items() if row}
        assert set(part.queries) == {q for rows in part.qrels.values() for q in rows}
    assert part.documents == whole.documents
    assert part.queries == whole.queries


def test_seeds_choose_and_sizes_are_checked() -> None:
    whole = toy.collection()
    choices = {
        tuple(d.id for d in sampling.sample(whole, 3, seed=seed).documents)
        for seed in range(10)
    }
    assert len(choices) > 3
    for size in (0, 9):
        with pytest.raises(errors.UsageError, match="from 1 to 8"):
            sampling.sample(whole, size)
