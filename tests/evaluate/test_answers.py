"""Answer match on cases written out by hand."""

from __future__ import annotations

import pytest

from gr_jax.core import errors
from gr_jax.evaluate import answers


@pytest.mark.parametrize(
    ("text", "answer", "holds"),
    [
        ("It was built in 1886.", "1886", True),
        ("It was built in 18860.", "1886", False),
        ("The RED, white flag", "red , WHITE", True),
        ("the red white flag", "red, white", False),
        ("Café Central", "café", True),
        ("Cafe\u0301 Central", "CAFÉ", True),
        ("naïve", "naive", False),
        ("中文 維基", "維基", True),
        ("snake_case", "snake", True),
        ("anything", "", False),
        ("short", "short enough", False),
    ],
)
def test_match(text, answer, holds):
    assert answers.has_answer(text, [answer]) is holds


def test_ascii_and_other_text_are_cut_alike():
    text = "A-b_c's 3.14 (x|y) `q` {z} ~ $5\ttab\nline"
    # One accented letter sends the same text down the other path.
    assert answers.tokens(text) == answers.tokens(text + " é")[:-1]


def test_per_query_marks_the_first_passage_that_answers():
    run = {"q1": [("d1", 2.0), ("d2", 1.0)], "q2": [("d1", 1.0)]}
    texts = {"d1": "Paris in spring", "d2": "the answer is Rome"}
    wanted = {"q1": ["rome"], "q2": ["rome"], "q3": ["paris"]}
    table = answers.per_query(run, texts, wanted, ks=(1, 2))
    assert table["q1"] == {"answer@1": 0.0, "answer@2": 1.0}
    assert table["q2"] == {"answer@1": 0.0, "answer@2": 0.0}
    assert table["q3"] == {"answer@1": 0.0, "answer@2": 0.0}
    with pytest.raises(errors.InputError, match="no text"):
        answers.per_query(run, {}, wanted)
