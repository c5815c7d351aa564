from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.identifiers import substring_index, suffix_array
from gr_jax.testing import substring_oracle

Documents = substring_oracle.Documents
VOCABULARY = 40


def build(documents: Documents, **options: object) -> substring_index.SubstringIndex:
    tokens_E, starts_T = substring_oracle.flat(documents)
    return substring_index.build(
        tokens_E,
        starts_T,
        vocabulary_size=VOCABULARY,
        **{"window": 3, "max_length": 5, **options},  # type: ignore[arg-type]
    )


def located(
    index: substring_index.SubstringIndex,
    documents: Documents,
    grams: list[list[int]],
    *,
    limit: int = 10**6,
    at_document_start: bool = False,
) -> list[list[tuple[int, int]]]:
    lo_QZ, hi_QZ = index.find(grams, at_document_start=at_document_start)
    lengths = np.array([len(gram) for gram in grams])
    position_R, start_Q = index.locate(lo_QZ, hi_QZ, lengths, limit=limit)
    number_R = index.document_of(position_R)
    _, starts_T = substring_oracle.flat(documents)
    pairs = list(
        zip(number_R.tolist(), (position_R - starts_T[number_R]).tolist(), strict=True)
    )
    return [sorted(pairs[a:b]) for a, b in itertools.pairwise(start_Q)]


@st.composite
def collections(draw: st.DrawFn) -> Documents:
    token = st.integers(0, draw(st.sampled_from([1, 3, VOCABULARY - 1])))
    documents = draw(st.lists(st.lists(token, max_size=25), min_size=1, max_size=8))
    return documents if any(documents) else [[0], *documents]


@given(collections(), st.booleans(), st.integers(1, 3), st.data())
@settings(max_examples=50, deadline=None)
def test_occurrences_are_those_of_a_search_by_hand(
    documents: Documents, is_compact: bool, shards: int, data: st.DataObject
) -> None:
    index = build(documents, is_compact=is_compact, shards=shards)
    gram = st.lists(st.integers(0, 4), min_size=1, max_size=6)
    grams = data.draw(st.lists(gram, max_size=6))
    # Also runs that are certain to occur, and one across the border of two documents.
    flat = [t for d in documents for t in d]
    first = data.draw(st.integers(0, len(flat) - 1))
    grams += [flat[first : first + 3], flat[first : first + 1]]
    expected = [substring_oracle.occurrences(documents, gram) for gram in grams]
    assert index.count(grams).tolist() == [len(found) for found in expected]
    assert located(index, documents, grams) == expected
    starting = [[p for p in found if p[1] == 0] for found in expected]
    assert located(index, documents, grams, at_document_start=True) == starting


@pytest.mark.parametrize("is_compact", [False, True])
def test_no_ngram_crosses_documents(is_compact: bool) -> None:
    index = build([[1, 2], [3, 4], [1, 2, 3]], is_compact=is_compact)
    assert index.count([[2, 3], [2, 3, 4], [4, 1], [1, 2]]).tolist() == [1, 0, 0, 2]


@pytest.mark.parametrize("is_compact", [False, True])
def test_empty_and_unknown_ngrams(is_compact: bool) -> None:
    index = build([[1, 2], [], [7]], is_compact=is_compact)
    grams = [[], [3], [VOCABULARY + 5], [-1], [1, 39]]
    assert index.count(grams).tolist() == [3, 0, 0, 0, 0]
    assert index.count([]).tolist() == []
    assert (index.tokens, index.documents) == (3, 3)


@pytest.mark.parametrize("is_compact", [False, True])
def test_limit_keeps_that_many_of_each(is_compact: bool) -> None:
    documents = [[1, 2, 1, 2], [1, 1], [2]]
    index = build(documents, is_compact=is_compact, shards=2)
    found = located(index, documents, [[1], [2], [3]], limit=2)
    assert [len(pairs) for pairs in found] == [2, 2, 0]
    for gram, pairs in zip([[1], [2]], found, strict=False):
        assert set(pairs) <= set(substring_oracle.occurrences(documents, gram))


@pytest.mark.parametrize("is_compact", [False, True])
def test_many_empty_documents(is_compact: bool) -> None:
    rng = np.random.default_rng(1)
    documents = [
        rng.integers(0, 3, max(0, n)).tolist() for n in rng.integers(-6, 4, 90)
    ]
    index = build(documents, is_compact=is_compact)
    grams = [[0], [1], [2], [0, 1], [2, 2], [1, 0, 2]]
    expected = [substring_oracle.occurrences(documents, gram) for gram in grams]
    assert located(index, documents, grams) == expected
    starting = [[place for place in found if place[1] == 0] for found in expected]
    assert located(index, documents, grams, at_document_start=True) == starting


def test_modes_agree() -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 6, n).tolist() for n in rng.integers(0, 90, 40)]
    wide, compact = build(documents), build(documents, is_compact=True)
    grams = [d[i : i + n] for d in documents[:9] for i in (0, 7) for n in (1, 2, 4)]
    grams = [gram for gram in grams if gram]
    assert wide.count(grams).tolist() == compact.count(grams).tolist()
    assert located(wide, documents, grams) == located(compact, documents, grams)


@pytest.mark.parametrize("is_compact", [False, True])
def test_saved_and_loaded(tmp_path: Path, is_compact: bool) -> None:
    documents = [[1, 2, 3, 1], [2, 3, 1, 2], [5]]
    index = build(documents, is_compact=is_compact, shards=2)
    index.save(tmp_path / "index")
    again = substring_index.load(tmp_path / "index")
    grams = [[1], [2, 3], [3, 1], [5]]
    assert located(again, documents, grams) == located(index, documents, grams)
    assert (again.window, again.max_length, again.nbytes) == (3, 5, index.nbytes)
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert manifest["kind"] == "constraint-index"
    assert manifest["facts"]["tokens"] == 9


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    build([[1, 2, 3]]).save(tmp_path / "index")
    path = tmp_path / "index" / "shard0000_rows.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(errors.ArtifactError, match="shard0000_rows"):
        substring_index.load(tmp_path / "index")


@pytest.mark.parametrize(
    ("tokens", "starts", "message"),
    [
        ([1, 2], [0, 3], "row_starts"),
        ([1, 2], [0], "row_starts"),
        ([1, 2], [0, 2, 1, 2], "row_starts"),
        ([], [0, 0], "no tokens"),
        ([1, 40], [0, 2], "outside the vocabulary"),
        ([-1, 4], [0, 2], "outside the vocabulary"),
    ],
)
def test_bad_input_is_refused(
    tokens: list[int], starts: list[int], message: str
) -> None:
    with pytest.raises(errors.InputError, match=message):
        substring_index.build(
            np.array(tokens, np.int32), np.array(starts), vocabulary_size=VOCABULARY
        )


def test_shards_hold_whole_documents_within_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suffix_array, "MAX_TOKENS", 20)
    documents = [[1] * 9, [2] * 3, [3] * 17, [4] * 2, [5], [6] * 5]
    index = build(documents)
    assert len(index.shards) > 1
    assert all(shard.rows_E.size <= 20 for shard in index.shards)  # type: ignore[union-attr]
    assert index.count([[1], [3], [6]]).tolist() == [9, 17, 5]
    with pytest.raises(errors.InputError, match="split it"):
        build([[1] * 30, [2]])
