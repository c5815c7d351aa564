from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.identifiers import codec, constraint_index


def children_of(
    tree: constraint_index.PrefixTree, low: int, high: int, wide: int, depth: int
):
    """{token: (low, high, wide)} by plain loops over the documented layout."""
    found = {}
    if wide >= 0:
        first, last = tree.edge_start_W[wide : wide + 2]
        for edge in range(first, last):
            token = int(tree.edge_token_E[edge]) + int(tree.base_L[depth])
            end = tree.edge_row_E[edge + 1] if edge + 1 < last else high
            is_wide = int(tree.wide_bits_E[edge // 32]) >> (edge % 32) & 1
            before = int(tree.wide_bits_E[edge // 32]) & ((1 << (edge % 32)) - 1)
            rank = int(tree.wide_rank_E[edge // 32]) + before.bit_count()
            found[token] = (
                int(tree.edge_row_E[edge]),
                int(end),
                rank + 1 if is_wide else -1,
            )
        return found
    for row in range(low, high):
        column = tree.column_LN[depth - tree.first_column]
        token = int(column[row]) + int(tree.base_L[depth])
        start = found.get(token, (row, row, -1))[0]
        found[token] = (start, row + 1, -1)
    return found


def rows_in(tree: constraint_index.PrefixTree) -> list[tuple[int, ...]]:
    """All rows, by walking the tree from the root."""
    rows: list[tuple[int, ...]] = []

    def walk(prefix: tuple[int, ...], low: int, high: int, wide: int) -> None:
        length = tree.length_R[low if tree.is_ragged else 0]
        if len(prefix) == length:
            assert high == low + 1 == len(rows) + 1
            rows.append(prefix)
            return
        for token, (a, b, w) in sorted(
            children_of(tree, low, high, wide, len(prefix)).items()
        ):
            walk((*prefix, token), a, b, w)

    walk((), 0, tree.rows, 0)
    return rows


def ragged(rows: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.concatenate([np.array(row, np.int32) for row in rows])
    return tokens, np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)


def check(rows: list[tuple[int, ...]], tree: constraint_index.PrefixTree) -> None:
    distinct = sorted(set(rows))
    assert rows_in(tree) == distinct
    for place, row in enumerate(distinct):
        items = tree.items(place, place + 1).tolist()
        assert items == [i for i, other in enumerate(rows) if other == row]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 400),
    st.lists(
        st.lists(st.integers(0, 30), min_size=1, max_size=6), min_size=1, max_size=60
    ),
)
def test_every_set_of_rows_comes_back(spread: int, lists: list[list[int]]) -> None:
    rows = [(*(2 + t * spread for t in row), 1) for row in lists]
    check(rows, constraint_index.build_rows(*ragged(rows), 2 + 31 * spread))


@pytest.mark.parametrize("skew", [0.15, 0.4])
@pytest.mark.parametrize("vocabulary", [20, 300, 70_000])
def test_large_nodes_become_wide_and_nothing_is_lost(
    skew: float, vocabulary: int
) -> None:
    rng = np.random.default_rng(1)
    codes = np.minimum(rng.geometric(skew, (3000, 4)) - 1, vocabulary - 1)
    rows = [tuple(row) for row in codes.tolist()]
    tree = constraint_index.build_matrix(codes, vocabulary)
    assert tree.wide_nodes > 1
    check(rows, tree)


def test_a_token_range_a_level_takes_one_byte() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (2000, 6)) + 32_000 + 256 * np.arange(6)
    tree = constraint_index.build_matrix(codes, 32_000 + 256 * 6)
    assert tree.column_LN.dtype == np.uint8
    check([tuple(row) for row in codes.tolist()], tree)


def test_memory_does_not_grow_with_the_vocabulary() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2048, (100_000, 8))
    small = constraint_index.build_matrix(codes, 2048)
    large = constraint_index.build_matrix(codes, 60_000)
    assert small.device_bytes == large.device_bytes
    assert small.device_bytes / small.rows <= 18


def test_alone_depth_is_where_nearly_all_rows_are_alone() -> None:
    rng = np.random.default_rng(3)
    codes = np.unique(rng.integers(0, 30, (2000, 6)), axis=0)
    tree = constraint_index.build_matrix(codes, 30)

    def alone(depth: int) -> float:
        _, counts = np.unique(codes[:, :depth], axis=0, return_counts=True)
        return counts[counts == 1].sum() / len(codes)

    want = next(depth for depth in range(1, 7) if alone(depth) >= 0.99)
    assert 1 < tree.alone_depth == want < 6


def test_sorted_rows_need_no_order() -> None:
    rows = np.array([[0, 1], [0, 2], [3, 0]])
    tree = constraint_index.build_matrix(rows, 4)
    assert tree.order_R.size == 0
    assert tree.items(1, 3).tolist() == [1, 2]


def test_ties_of_the_sort_keys_are_broken_by_later_tokens() -> None:
    rng = np.random.default_rng(0)
    # 17 bits a token: three fit into one key, and two of the rows share the first six.
    codes = rng.integers(0, 2, (500, 9)) * 100_000
    tree = constraint_index.build_matrix(codes, 100_001)
    check([tuple(row) for row in codes.tolist()], tree)


@pytest.mark.parametrize(
    ("rows", "vocabulary", "message"),
    [
        ([(1, 2), (1, 2, 3)], 9, "begin another one"),
        ([(1, 9), (1, 2)], 9, "token: 9"),
        ([(1,), ()], 9, "empty"),
    ],
)
def test_what_cannot_be_a_tree_is_refused(
    rows: list[tuple[int, ...]], vocabulary: int, message: str
) -> None:
    with pytest.raises(errors.InputError, match=message):
        constraint_index.build_rows(*ragged(rows), vocabulary)


def test_n_grams_are_refused() -> None:
    table = codec.IdentifierTable(
        kind=codec.NGRAM,
        document_ids=["a"],
        tokens_E=np.array([1, 2], np.int32),
        row_starts_T=np.array([0, 2]),
        row_document_R=np.array([0], np.int32),
        vocabulary_size=4,
    )
    with pytest.raises(errors.InputError, match="substring index"):
        constraint_index.build(table)


def test_a_saved_tree_comes_back_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 9, (200, 3))
    tree = constraint_index.build_matrix(codes, 9)
    tree.save(tmp_path / "index")
    loaded = constraint_index.load(tmp_path / "index")
    check([tuple(row) for row in codes.tolist()], loaded)
    path = tmp_path / "index" / "edge_row_E.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(errors.ArtifactError, match="edge_row_E"):
        constraint_index.load(tmp_path / "index")


def test_a_tree_takes_on_the_shapes_of_another_one() -> None:
    rng = np.random.default_rng(0)
    large = constraint_index.build_matrix(
        rng.integers(0, 40, (30_000, 5)), 60, capacity=50_000
    )
    codes = rng.integers(0, 50, (300, 4))
    small = constraint_index.build_matrix(codes, 60, like=large)
    assert small.column_LN.shape == large.column_LN.shape
    check([tuple(row) for row in codes.tolist()], small)
    with pytest.raises(errors.UsageError, match="capacity"):
        constraint_index.build_matrix(rng.integers(0, 9, (300, 6)), 60, like=large)
