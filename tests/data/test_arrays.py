from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import artifacts, errors
from gr_jax.data import arrays


def numbered(count: int, *, longest: int = 4) -> arrays.Examples:
    """Sources are [e+10]*k + [1] and targets [e+10, 1]: rows tell who they are."""
    sources = [[e + 10] * (1 + e % longest) + [1] for e in range(count)]
    targets = [[e + 10, 1] for e in range(count)]
    names = [f"q{e // 2}" for e in range(count)]
    return arrays.from_rows(sources, targets, names, [e % 2 for e in range(count)])


def stream(examples: arrays.Examples, **settings: object) -> list[dict]:
    defaults: dict = {"batch": 4, "source_length": 6, "target_length": 3, "seed": 0}
    return list(arrays.batches(examples, **{**defaults, **settings}))


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
    batches = stream(numbered(count), batch=batch, epochs=epochs, seed=seed)
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
    whole = stream(numbered(count), batch=6, steps=12, seed=seed)
    shares = [
        stream(
            numbered(count),
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
        return [e for b in stream(numbered(40), epochs=2, seed=seed) for e in who(b)]

    first = order(0)
    assert first == order(0)
    assert first[:40] != first[40:]
    assert first != order(1)
    assert first[:40] != list(range(40))


def test_the_last_batch_fills_up_with_rows_that_teach_nothing() -> None:
    *_, last = stream(numbered(5), batch=4, epochs=1)
    assert who(last).__len__() == 1
    np.testing.assert_array_equal(last["target_BL"][1:], 0)
    # One end piece, so that attention over the source has something to look at.
    np.testing.assert_array_equal(last["source_BS"][1:, 0], 1)
    np.testing.assert_array_equal(last["source_BS"][1:, 1:], 0)


def test_fractions_are_nested_and_keep_a_query_whole() -> None:
    examples = numbered(400)
    previous: set[int] = set()
    for fraction in (0.1, 0.2, 0.5, 0.9, 1.0):
        chosen = arrays.select(examples, fraction)
        rows = {chosen.source(row)[0] - 10 for row in range(len(chosen))}
        assert previous <= rows
        assert {row ^ 1 for row in rows} == rows  # Rows 2k and 2k+1 share a query.
        assert abs(len(rows) / 400 - fraction) < 0.1
        previous = rows
    below = {row for row in range(400) if arrays.rank_of(f"q{row // 2}") < 0.2}
    chosen = arrays.select(examples, 0.2)
    assert {chosen.source(row)[0] - 10 for row in range(len(chosen))} == below
    kept = arrays.select(examples, 0.1, keep_documents=True)
    assert Counter(kept.kind.tolist())[arrays.DOCUMENT] == 200
    streamed = {e for b in stream(examples, fraction=0.2, epochs=1) for e in who(b)}
    chosen = arrays.select(examples, 0.2)
    assert streamed == {chosen.source(row)[0] - 10 for row in range(len(chosen))}


def test_taking_rows_keeps_tokens() -> None:
    examples = numbered(9)
    taken = arrays.take(examples, np.array([7, 2, 2]))
    assert [taken.source(i) for i in range(3)] == [
        examples.source(i) for i in (7, 2, 2)
    ]
    assert [taken.target(i) for i in range(3)] == [
        examples.target(i) for i in (7, 2, 2)
    ]


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="raise it to 2"):
        stream(numbered(3), target_length=1, epochs=1)
    with pytest.raises(errors.UsageError, match="must divide by 3"):
        stream(numbered(3), shard=(0, 3), epochs=1)
    with pytest.raises(errors.UsageError, match="epochs or steps"):
        stream(numbered(3))
    with pytest.raises(errors.UsageError, match=r"in \(0, 1\]"):
        arrays.select(numbered(3), 0)
    with pytest.raises(errors.UsageError, match="leaves no example"):
        arrays.select(numbered(1), 1e-9)
    with pytest.raises(errors.InputError, match="target: empty"):
        arrays.from_rows([[1]], [[]], ["q"], [0])


@pytest.mark.parametrize("shards", [1, 3])
def test_stored_examples_come_back_bit_for_bit(tmp_path: Path, shards: int) -> None:
    examples = numbered(10)
    bounds = np.linspace(0, 10, shards + 1).astype(int)
    parts = [
        arrays.take(examples, np.arange(a, b)) for a, b in itertools.pairwise(bounds)
    ]
    arrays.save_shards(tmp_path / "e", parts)
    loaded = arrays.load(tmp_path / "e")
    for field in vars(examples):
        stored, given = getattr(loaded, field), getattr(examples, field)
        assert stored.dtype == given.dtype
        np.testing.assert_array_equal(stored, given)
    facts = artifacts.read_manifest(tmp_path / "e", kind="examples").facts
    assert (facts["examples"], facts["shards"]) == (10, shards)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    arrays.save(tmp_path / "e", numbered(10))
    files = [path for path in (tmp_path / "e").rglob("*.npy")]
    generator = np.random.default_rng(0)
    for _ in range(60):
        path = files[generator.integers(len(files))]
        data = bytearray(path.read_bytes())
        place = generator.integers(len(data))
        data[place] ^= 1 << int(generator.integers(8))
        good = path.read_bytes()
        path.write_bytes(data)
        with pytest.raises(errors.ArtifactError, match=path.name):
            arrays.load(tmp_path / "e")
        path.write_bytes(good)
    for path in files:
        good = path.read_bytes()
        for cut in (b"", good[: len(good) // 2], good[:-1]):
            path.write_bytes(cut)
            with pytest.raises(errors.ArtifactError, match=path.name):
                arrays.load(tmp_path / "e")
        path.write_bytes(good)
    arrays.load(tmp_path / "e")


def test_no_tensorflow_is_imported() -> None:
    script = (
        "import sys\n"
        "from gr_jax.data import arrays, builtin, corpus, formats, negatives\n"
        "from gr_jax.data import pairs, vocabulary\n"
        "heavy = {'tensorflow', 'seqio', 'tensorflow_text', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
