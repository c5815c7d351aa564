from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gr_jax.core import artifacts, errors
from gr_jax.data import arrays
from tests.data import numbered_examples


def test_fractions_are_nested_and_keep_a_query_whole() -> None:
    examples = numbered_examples.make(400)
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


def test_taking_rows_keeps_tokens() -> None:
    examples = numbered_examples.make(9)
    taken = arrays.take(examples, np.array([7, 2, 2]))
    assert [taken.source(i) for i in range(3)] == [
        examples.source(i) for i in (7, 2, 2)
    ]
    assert [taken.target(i) for i in range(3)] == [
        examples.target(i) for i in (7, 2, 2)
    ]


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(errors.UsageError, match=r"in \(0, 1\]"):
        arrays.select(numbered_examples.make(3), 0)
    with pytest.raises(errors.UsageError, match="leaves no example"):
        arrays.select(numbered_examples.make(1), 1e-9)
    with pytest.raises(errors.InputError, match="target: empty"):
        arrays.from_rows([[1]], [[]], ["q"], [0])


@pytest.mark.parametrize("shards", [1, 3])
def test_stored_examples_come_back_bit_for_bit(tmp_path: Path, shards: int) -> None:
    examples = numbered_examples.make(10)
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
    arrays.save(tmp_path / "e", numbered_examples.make(10))
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
