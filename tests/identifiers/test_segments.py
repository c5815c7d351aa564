"""Segments against bisection."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.identifiers import segments


@given(
    st.lists(st.one_of(st.just(0), st.integers(1, 200)), min_size=1, max_size=40),
    st.integers(0, 300),
)
@settings(max_examples=60, deadline=None)
def test_every_position_is_where_bisection_finds_it(
    lengths: list[int], first: int
) -> None:
    starts_T = first + np.cumsum([0, *lengths])
    position_H = np.arange(starts_T[0], starts_T[-1])
    found = segments.Segments(starts_T).holding(position_H)
    expected = np.searchsorted(starts_T, position_H, side="right") - 1
    np.testing.assert_array_equal(found, expected)
