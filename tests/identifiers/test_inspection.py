"""Numbers of a table, written out by hand."""

from __future__ import annotations

import math

import pytest

from gr_jax.identifiers import codec, inspection


def test_numbers_written_out() -> None:
    rows = [[4, 6], [4, 7], [5, 6, 8], [5, 6, 8]]
    table = codec.from_rows("rq", ["a", "b", "c", "d"], rows, vocabulary_size=9)
    found = inspection.inspect(table)
    assert (found.length_min, found.length_max, found.length_mean) == (2, 3, 2.5)
    assert (found.collision_groups, found.collision_documents) == (1, 2)
    assert found.shared_groups == 1
    first, second, third = found.levels
    assert (first.rows, first.distinct, first.prefixes) == (4, 2, 2)
    assert first.entropy_bits == first.conditional_bits == 1.0
    # Tokens 6, 7, 6, 6; after a 4 one bit is open, after a 5 none.
    expected = 0.75 * math.log2(4 / 3) + 0.25 * 2
    assert second.entropy_bits == pytest.approx(expected)
    assert second.conditional_bits == pytest.approx(0.5)
    assert (second.prefixes, second.most_children) == (3, 2)
    assert (third.rows, third.entropy_bits) == (2, 0.0)
    # Rows a and b are alone after two tokens, c and d never: their whole length.
    assert (found.depth_mean, found.depth_max) == ((2 + 2 + 3 + 3) / 4, 3)
    assert "2 documents in 1 groups" in inspection.readable(found)


def test_bits_of_all_levels_are_those_of_the_documents() -> None:
    rows = [[a, 4 + b, 8 + c] for a in range(4) for b in range(4) for c in (0, 1)]
    names = [f"d{place}" for place in range(len(rows))]
    table = codec.from_rows("rq", names, rows, vocabulary_size=10)
    found = inspection.inspect(table)
    total = sum(level.conditional_bits for level in found.levels)
    assert total == pytest.approx(math.log2(32))
    assert found.depth_max == 3


def test_ngrams_have_no_levels() -> None:
    table = codec.from_rows("ngram", ["a"], [[4, 5, 4, 5]], vocabulary_size=9)
    found = inspection.inspect(table)
    assert found.levels == []
    assert found.depth_mean is None
    assert found.token_entropy_bits == 1.0
    assert "4 tokens, 1.00 bits" in inspection.readable(found)
