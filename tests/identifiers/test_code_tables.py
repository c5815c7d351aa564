"""Code tables: token ranges, suffixes, end tokens, and the registry of kinds."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import code_tables, codec, kinds

DOCUMENTS = [
    corpus.Document(f"d{i}", "", f"{a} {b} word{i % 5}")
    for i, (a, b) in enumerate((a, b) for a in "wxyz" for b in ("fox", "dog", "sun"))
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> vocabularies.Vocabulary:
    folder = tmp_path_factory.mktemp("vocabulary") / "toy"
    return vocabularies.train([d.text for d in DOCUMENTS], folder, pieces=280)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 1), strategies.integers(0, 1)),
        max_size=30,
    ),
    strategies.integers(2, 4),
)
def test_suffixes_make_paths_distinct(paths: list[tuple[int, int]], codes: int) -> None:
    made = code_tables.suffixed(paths, codes)
    assert len(set(map(tuple, made))) == len(paths)
    digits = {len(path) - 2 for path in made}
    assert len(digits) <= 1
    largest = max((paths.count(path) for path in paths), default=1)
    for path, row in zip(paths, made, strict=True):
        assert tuple(row[:2]) == path
        assert all(0 <= digit < codes for digit in row[2:])
        # One digit fewer would not have been enough.
        assert codes ** (len(row) - 3) < largest


def test_every_level_has_its_own_tokens(vocabulary: vocabularies.Vocabulary) -> None:
    table = code_tables.from_paths(
        "rq", ["a", "b", "c"], [[1, 0], [3, 2], [1, 0]], vocabulary, codes=4
    )
    v = vocabulary.size
    assert [row.tolist() for row in table.rows()] == [
        [v + 1, v + 4, v + 8],
        [v + 3, v + 6, v + 8],
        [v + 1, v + 4, v + 9],
    ]
    assert table.vocabulary_size == v + 12
    assert table.levels == 3
    assert not table.has_end
    assert table.collisions == [["a", "c"]]
    assert table.documents_of(2) == ["c"]


def test_shared_codes_stay_shared_on_request(
    vocabulary: vocabularies.Vocabulary,
) -> None:
    table = code_tables.from_paths(
        "rq", ["a", "b"], [[1], [1]], vocabulary, codes=4, unique=False
    )
    assert table.documents_of_tokens([vocabulary.size + 1]) == ["a", "b"]
    assert table.levels == 1


def test_varying_lengths_end_with_the_end_token(
    vocabulary: vocabularies.Vocabulary,
) -> None:
    table = code_tables.from_paths(
        "kmeans", ["a", "b"], [[1], [0, 1]], vocabulary, codes=2
    )
    assert table.has_end
    assert [int(row[-1]) for row in table.rows()] == [vocabularies.EOS] * 2


@pytest.mark.parametrize("kind", ["rq", "kmeans", "atomic", "naive", "ngram"])
def test_named_kinds_reach_every_document(
    kind: str, vocabulary: vocabularies.Vocabulary
) -> None:
    options = {"levels": 2, "codes": 4, "dims": 6} if kind == "rq" else {}
    table = kinds.build(DOCUMENTS, vocabulary, kind=kind, options=options)
    assert table.kind == kind
    assert table.document_ids == [d.id for d in DOCUMENTS]
    assert table.vocabulary == vocabulary.fingerprint
    for row, document in enumerate(DOCUMENTS):
        assert table.documents_of(row) == [document.id]
    assert table.tokens_E.max() < table.vocabulary_size
    again = kinds.build(DOCUMENTS, vocabulary, kind=kind, options=options)
    np.testing.assert_array_equal(table.tokens_E, again.tokens_E)


def test_queries_move_the_codes(vocabulary: vocabularies.Vocabulary) -> None:
    options = {"levels": 2, "codes": 4, "dims": 6}
    asked = {f"d{i}": [f"group{i % 4} " * 8] for i in range(12)}
    table = kinds.build(
        DOCUMENTS, vocabulary, kind="rq", options=options, queries_of=asked
    )
    first = np.array([int(row[0]) for row in table.rows()])
    assert all(len(np.unique(first[g::4])) == 1 for g in range(4))


def test_a_new_kind_needs_no_change_here(vocabulary: vocabularies.Vocabulary) -> None:
    def backwards(
        documents: list[corpus.Document],
        vocabulary: vocabularies.Vocabulary,
        *,
        seed: int,
    ) -> codec.IdentifierTable:
        rows = [vocabulary.encode(d.text)[::-1] for d in documents]
        return codec.from_rows(
            "backwards",
            [d.id for d in documents],
            rows,
            vocabulary_size=vocabulary.size + seed,
        )

    table = kinds.build(DOCUMENTS, vocabulary, builder=backwards, seed=4)
    assert table.kind == "backwards"
    assert table.vocabulary_size == vocabulary.size + 4


def test_unknown_kinds_and_options_are_named(
    vocabulary: vocabularies.Vocabulary,
) -> None:
    with pytest.raises(errors.UsageError, match="'nrgam': one of atomic"):
        kinds.build(DOCUMENTS, vocabulary, kind="nrgam")
    with pytest.raises(errors.UsageError, match="'level': one of codes"):
        kinds.build(DOCUMENTS, vocabulary, kind="rq", options={"level": 3})
    with pytest.raises(errors.UsageError, match="no query"):
        kinds.build(DOCUMENTS, vocabulary, kind="pseudo_query")


def test_one_document_works(vocabulary: vocabularies.Vocabulary) -> None:
    for kind in ("kmeans", "atomic", "ngram", "naive"):
        table = kinds.build(DOCUMENTS[:1], vocabulary, kind=kind)
        assert table.documents_of(0) == ["d0"]
    with pytest.raises(errors.InputError, match="no document"):
        kinds.build([], vocabulary, kind="atomic")
