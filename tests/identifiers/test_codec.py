"""The identifier table: both ways, collisions, files, refusals."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from gr_jax.core import errors
from gr_jax.identifiers import codec


def _table(**changes: object) -> codec.IdentifierTable:
    settings: dict = {"vocabulary_size": 20, "vocabulary": "abc", **changes}
    return codec.from_rows(
        "title", ["a", "b", "c"], [[5, 1], [6, 7, 1], [5, 1]], **settings
    )


def test_shared_identifier_names_all_its_documents() -> None:
    table = _table()
    assert table.documents_of_tokens([5, 1]) == ["a", "c"]
    assert table.documents_of(2) == ["a", "c"]
    assert table.documents_of(1) == ["b"]
    assert table.documents_of_tokens([5]) == []
    assert table.collisions == [["a", "c"]]


def test_several_rows_of_one_document_are_no_collision() -> None:
    table = codec.from_rows(
        "pseudo_query", ["a", "b"], [[5], [5], [6]], [0, 0, 1], vocabulary_size=9
    )
    assert table.collisions == []
    assert table.rows_of_document == [[0, 1], [2]]
    assert table.documents_of(0) == ["a"]


def test_saved_table_is_the_same(tmp_path: Path) -> None:
    table = _table(has_end=True)
    table.save(tmp_path / "ids", config={"kind": "title"}, seeds={"ids": 3})
    back = codec.load(tmp_path / "ids")
    assert [row.tolist() for row in back.rows()] == [[5, 1], [6, 7, 1], [5, 1]]
    assert back.tokens_E.dtype == np.int32
    assert back.row_starts_T.dtype == np.int64
    assert back.has_end
    assert back.collisions == table.collisions
    assert back.document_ids == table.document_ids


def test_changed_file_is_refused(tmp_path: Path) -> None:
    _table().save(tmp_path / "ids")
    path = tmp_path / "ids" / "tokens.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\x09\x00\x00\x00")
    with pytest.raises(errors.ArtifactError, match=r"tokens\.npy"):
        codec.load(tmp_path / "ids")


def test_other_vocabulary_is_refused() -> None:
    _table().require_vocabulary("abc")
    with pytest.raises(errors.ArtifactError, match="build the identifiers anew"):
        _table().require_vocabulary("xyz")


@pytest.mark.parametrize(
    ("ids", "rows", "word"),
    [
        ([], [], "no document"),
        (["a", "a"], [[1], [2]], "twice"),
        (["a", "b"], [[1], []], "no token"),
        (["a"], [[20]], "below 20"),
        (["a"], [[-1]], "below 20"),
        (["a", "b"], [[1]], "no identifier"),
    ],
)
def test_bad_rows_are_named(ids: list[str], rows: list[list[int]], word: str) -> None:
    with pytest.raises(errors.InputError, match=word):
        codec.from_rows("title", ids, rows, vocabulary_size=20)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    strategies.lists(
        strategies.lists(strategies.integers(0, 3), min_size=1, max_size=3),
        min_size=1,
        max_size=12,
    )
)
def test_lookup_equals_a_linear_search(rows: list[list[int]]) -> None:
    names = [f"d{place}" for place in range(len(rows))]
    table = codec.from_rows("rq", names, rows, vocabulary_size=4)
    for place, row in enumerate(rows):
        expected = [n for n, r in zip(names, rows, strict=True) if r == row]
        assert table.documents_of(place) == expected
    shared = {tuple(group) for group in table.collisions}
    assert shared == {
        tuple(group)
        for place in range(len(rows))
        if len(group := table.documents_of(place)) > 1
    }
