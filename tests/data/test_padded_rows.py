from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.data import arrays, padded_rows
from tests.data import numbered_examples


def stream(examples: arrays.Examples, **settings: object) -> list[dict]:
    defaults: dict = {"batch": 4, "source_length": 6, "target_length": 3, "seed": 0}
    return list(padded_rows.batches(examples, **{**defaults, **settings}))


def who(batch: dict[str, np.ndarray]) -> list[int]:
    """Examples in a batch, from their first source token."""
    real = batch["target_BL"].any(axis=1)
    return (batch["source_BS"][real, 0] - 10).tolist()


def test_a_batch_written_out() -> None:
    examples = arrays.from_rows(
        [[5, 6, 1], [7, 8, 9, 4, 1]], [[4, 1], [3, 3, 1]], ["a", "b"], [0, 1]
    )
    (batch,) = stream(examples, batch=2, source_length=4, target_length=4, epochs=1)
    sources, targets = batch["source_BS"].tolist(), batch["target_BL"].tolist()
    rows = dict(zip(map(tuple, sources), map(tuple, targets), strict=True))
    # The longer source is cut and keeps its end piece.
    assert rows == {(5, 6, 1, 0): (4, 1, 0, 0), (7, 8, 9, 1): (3, 3, 1, 0)}
    assert all(array.dtype == np.int32 for array in batch.values())


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 23),
    batch=st.integers(1, 9),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_every_example_comes_once_an_epoch(
    count: int, batch: int, epochs: int, seed: int
) -> None:
    batches = stream(
        numbered_examples.make(count), batch=batch, epochs=epochs, seed=seed
    )
    assert all(b["source_BS"].shape == (batch, 6) for b in batches)
    assert all(b["target_BL"].shape == (batch, 3) for b in batches)
    seen = [example for b in batches for example in who(b)]
    for epoch in range(epochs):
        part = seen[epoch * count : (epoch + 1) * count]
        assert sorted(part) == list(range(count))
    assert len(seen) == count * epochs


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 17),
    start=st.integers(0, 9),
    hosts=st.sampled_from([1, 2, 3, 6]),
    seed=st.integers(0, 3),
)
def test_any_step_on_any_host_without_replay(
    count: int, start: int, hosts: int, seed: int
) -> None:
    whole = stream(numbered_examples.make(count), batch=6, steps=12, seed=seed)
    shares = [
        stream(
            numbered_examples.make(count),
            batch=6,
            steps=12,
            seed=seed,
            start_step=start,
            shard=(host, hosts),
        )
        for host in range(hosts)
    ]
    for step, expected in enumerate(whole[start:]):
        for field, rows in expected.items():
            joined = np.concatenate([share[step][field] for share in shares])
            np.testing.assert_array_equal(joined, rows)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int) -> list[int]:
        return [
            e
            for b in stream(numbered_examples.make(40), epochs=2, seed=seed)
            for e in who(b)
        ]

    first = order(0)
    assert first == order(0)
    assert first[:40] != first[40:]
    assert first != order(1)
    assert first[:40] != list(range(40))


def test_the_last_batch_fills_up_with_rows_that_teach_nothing() -> None:
    *_, last = stream(numbered_examples.make(5), batch=4, epochs=1)
    assert who(last).__len__() == 1
    np.testing.assert_array_equal(last["target_BL"][1:], 0)
    # One end piece, so that attention over the source has something to look at.
    np.testing.assert_array_equal(last["source_BS"][1:, 0], 1)
    np.testing.assert_array_equal(last["source_BS"][1:, 1:], 0)


def test_a_fraction_streams_what_it_selects() -> None:
    examples = numbered_examples.make(400)
    streamed = {e for b in stream(examples, fraction=0.2, epochs=1) for e in who(b)}
    chosen = arrays.select(examples, 0.2)
    assert streamed == {chosen.source(row)[0] - 10 for row in range(len(chosen))}


def test_settings_that_do_not_fit_are_refused() -> None:
    examples = numbered_examples.make(3)
    with pytest.raises(errors.UsageError, match="raise it to 2"):
        stream(examples, target_length=1, epochs=1)
    with pytest.raises(errors.UsageError, match="must divide by 3"):
        stream(examples, shard=(0, 3), epochs=1)
    with pytest.raises(errors.UsageError, match="epochs or steps"):
        stream(examples)
