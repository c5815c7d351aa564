from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.data import arrays, ordering, packed_rows

SOURCE, TARGET = 12, 7


def drawn(count: int, seed: int, longest: int = SOURCE) -> arrays.Examples:
    """Examples whose tokens tell them apart."""
    rng = np.random.default_rng(seed)
    sources = [[*[e + 10] * int(rng.integers(0, longest)), 1] for e in range(count)]
    targets = [[*[e + 10] * int(rng.integers(0, TARGET)), 1] for e in range(count)]
    names = [f"q{e}" for e in range(count)]
    return arrays.from_rows(sources, targets, names, [0] * count)


def first_fit_by_hand(
    lengths: list[tuple[int, int]], order: list[int], open_rows: int
) -> list[list[int]]:
    """One share, in words: the first open row with room, else a new one."""
    rows: list[list[int]] = []
    slots: list[int | None] = [None] * open_rows
    room: dict[int, list[int]] = {}
    for example in order:
        need = lengths[example]
        for row in slots:
            if row is not None and all(
                r >= n for r, n in zip(room[row], need, strict=True)
            ):
                break
        else:
            left = [0 if row is None else sum(room[row]) for row in slots]
            row = len(rows)
            rows.append([])
            room[row] = [SOURCE, TARGET]
            slots[left.index(min(left))] = row
        rows[row].append(example)
        room[row] = [r - n for r, n in zip(room[row], need, strict=True)]
    return rows


def by_hand(examples: arrays.Examples, seed: int, share: int) -> list[list[int]]:
    lengths = [
        (min(int(s), SOURCE), int(t))
        for s, t in zip(examples.source_lengths, examples.target_lengths, strict=True)
    ]
    order = ordering.order(len(examples), seed=seed, epoch=0).tolist()
    shares = max(len(order) // share, 1)
    found = []
    for first in range(shares):
        found += first_fit_by_hand(
            lengths, order[first::shares], packed_rows._OPEN_ROWS
        )
    return found


def listed(rows: packed_rows.Rows) -> list[list[int]]:
    return [
        rows.examples_E[a:b].tolist()
        for a, b in zip(rows.starts_T[:-1], rows.starts_T[1:], strict=True)
    ]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 160), seed=st.integers(0, 5), share=st.integers(5, 200))
def test_rows_are_those_of_first_fit_by_hand(count: int, seed: int, share: int) -> None:
    examples = drawn(count, seed, longest=SOURCE + 4)
    before = packed_rows._SHARE_EXAMPLES, packed_rows._OPEN_ROWS
    packed_rows._SHARE_EXAMPLES, packed_rows._OPEN_ROWS = share, 3
    try:
        rows = packed_rows.of_examples(
            examples, source_length=SOURCE, target_length=TARGET, seed=seed
        )
        assert listed(rows) == by_hand(examples, seed, share)
    finally:
        packed_rows._SHARE_EXAMPLES, packed_rows._OPEN_ROWS = before
    assert sorted(rows.examples_E.tolist()) == list(range(count))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 5))
def test_a_batch_holds_each_pair_whole_and_in_order(count: int, seed: int) -> None:
    examples = drawn(count, seed, longest=SOURCE + 4)
    lengths = {"source_length": SOURCE, "target_length": TARGET}
    rows = packed_rows.of_examples(examples, seed=seed, **lengths)
    chosen = np.array([*np.random.default_rng(seed).permutation(len(rows)), -1])
    batch = packed_rows.batch(examples, rows, chosen, **lengths)
    assert all(array.dtype == np.int32 for array in batch.values())
    for place, row in enumerate(chosen):
        for name, letter, width in (("source", "BS", SOURCE), ("target", "BL", TARGET)):
            tokens, segments, positions = [], [], []
            members = listed(rows)[row] if row >= 0 else []
            for number, example in enumerate(members, start=1):
                own = getattr(examples, name)(example)
                if len(own) > width:
                    own = [*own[: width - 1], 1]
                tokens += own
                segments += [number] * len(own)
                positions += range(len(own))
            fill = [0] * (width - len(tokens))
            for field, wanted in (
                (f"{name}_{letter}", tokens),
                (f"{name}_segment_{letter}", segments),
                (f"{name}_position_{letter}", positions),
            ):
                assert batch[field][place].tolist() == wanted + fill


def test_short_pairs_fill_their_rows() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.integers(4, 20, 20_000), rng.integers(3, 9, 20_000)
    rows = packed_rows.first_fit(
        source, target, source_length=128, target_length=64, seed=0
    )
    least = max(source.sum() / 128, target.sum() / 64)
    assert len(rows) < 1.06 * least
