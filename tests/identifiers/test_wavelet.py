from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.identifiers import wavelet


@pytest.mark.parametrize("size", [1, 127, 128, 129, 70_000])
def test_rank_counts_the_ones_before(size: int) -> None:
    bit_E = np.random.default_rng(size).random(size) < 0.4
    vector = wavelet.one_bit_vector(bit_E)
    places = np.unique(np.linspace(0, size, 300).astype(int))
    expected = [int(bit_E[:place].sum()) for place in places]
    assert vector.rank(0, places).tolist() == expected
    np.testing.assert_array_equal(vector.bit(0, np.arange(size)) == 1, bit_E)


@given(st.lists(st.integers(0, 36), min_size=1, max_size=300), st.data())
@settings(max_examples=60, deadline=None)
def test_rank_of_symbols(sequence: list[int], data: st.DataObject) -> None:
    matrix = wavelet.build(np.array(sequence, np.uint16), alphabet=37)
    symbol = data.draw(st.integers(0, 36))
    lo, hi = sorted(data.draw(st.tuples(*[st.integers(0, len(sequence))] * 2)))
    landed = matrix.follow(np.array([symbol, symbol]), np.array([lo, hi]))
    assert landed[1] - landed[0] == sequence[lo:hi].count(symbol)
    symbols, places = matrix.read(np.arange(len(sequence)))
    assert symbols.tolist() == sequence
    # Landings are the places of a stable sort by symbol, in some order of symbols.
    assert sorted(places.tolist()) == list(range(len(sequence)))


def test_size_is_an_eighth_more_than_the_digits() -> None:
    tokens = np.random.default_rng(0).integers(0, 2**15, 500_000).astype(np.uint16)
    matrix = wavelet.build(tokens, alphabet=2**15)
    bits = 8 * matrix.levels.nbytes / tokens.size
    assert bits == pytest.approx(15 * (1 + 16 / 128), rel=0.002)
