from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.identifiers import suffix_array

# Alphabets that need one, two and three bytes a token.
ALPHABETS = st.sampled_from([3, 255, 256, 257, 65_536, 65_537, 200_000])


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[int], int]:
    alphabet = draw(ALPHABETS)
    few = draw(st.lists(st.integers(0, alphabet - 1), min_size=1, max_size=4))
    token = st.one_of(st.sampled_from(few), st.integers(0, alphabet - 1))
    return draw(st.lists(token, max_size=60)), alphabet


@given(texts())
@settings(max_examples=100, deadline=None)
def test_order_is_that_of_python_lists(case: tuple[list[int], int]) -> None:
    text, alphabet = case
    order_E = suffix_array.suffix_array(np.array(text, np.uint32), alphabet=alphabet)
    assert order_E.tolist() == sorted(range(len(text)), key=lambda i: text[i:])


@pytest.mark.parametrize(
    ("alphabet", "expected"), [(2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 3)]
)
def test_bytes_per_token(alphabet: int, expected: int) -> None:
    assert suffix_array.bytes_per_token(alphabet) == expected


@pytest.mark.parametrize("damage", ["swap", "repeat"])
def test_a_damaged_order_is_refused(damage: str) -> None:
    text_E = np.array([3, 1, 2, 1, 2, 1, 3], np.uint16)
    order_E = suffix_array.suffix_array(text_E, alphabet=4)
    suffix_array.check_order(text_E, order_E)
    if damage == "swap":
        order_E[[2, 3]] = order_E[[3, 2]]
    else:
        order_E[2] = order_E[3]
    with pytest.raises(errors.ArtifactError, match="out of order"):
        suffix_array.check_order(text_E, order_E)


def test_a_text_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suffix_array, "MAX_TOKENS", 4)
    with pytest.raises(errors.ResourceError, match="more shards"):
        suffix_array.suffix_array(np.ones(5, np.uint16), alphabet=2)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text_E = np.array([3, 1, 2, 1, 2, 1, 3, 3, 1], np.uint16)
    expected_E = suffix_array.suffix_array(text_E, alphabet=4)
    monkeypatch.setattr(suffix_array, "_CHUNK", 2)
    order_E = suffix_array.suffix_array(text_E, alphabet=4)
    np.testing.assert_array_equal(order_E, expected_E)
