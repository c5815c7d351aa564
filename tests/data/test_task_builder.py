from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.data import arrays, ordering, padded_rows, pairs, task_builder, vocabulary
from gr_jax.testing import toy


@pytest.fixture(scope="module")
def content(toy_folders: tuple[Path, Path]) -> task_builder.Content:
    return task_builder.Content(*toy_folders)


def assert_bit_equal(found: arrays.Examples, expected: arrays.Examples) -> None:
    for field in vars(expected):
        one, other = getattr(found, field), getattr(expected, field)
        assert one.dtype == other.dtype, field
        np.testing.assert_array_equal(one, other, err_msg=field)


@pytest.mark.parametrize(("kind", "source_length"), [("query", None), ("document", 6)])
def test_exported_examples_are_those_made_without_tensorflow(
    content: task_builder.Content,
    tmp_path: Path,
    kind: pairs.Kind,
    source_length: int | None,
) -> None:
    task = task_builder.build(content, kind)
    task_builder.export(
        task, tmp_path / "e", source_length=source_length, shard_examples=5
    )
    rows = pairs.load(content.pairs_folder, [kind])
    expected = arrays.from_pairs(rows, content.vocab, source_length=source_length or 0)
    assert_bit_equal(arrays.load(tmp_path / "e"), expected)


def test_batches_of_exported_examples_hold_what_seqio_iterates(
    content: task_builder.Content, tmp_path: Path
) -> None:
    task = task_builder.build(content, "query")
    task_builder.export(task, tmp_path / "e")
    dataset = task.get_dataset(
        {"inputs": 12, "targets": 8}, "train", shuffle=True, seed=3
    )
    rows = [
        (tuple(row["inputs"].tolist()), tuple(row["targets"].tolist()))
        for row in dataset.as_numpy_iterator()
    ]
    batched = [
        (
            tuple(source[source > 0].tolist()),
            tuple(target[target > 0].tolist()),
        )
        for batch in padded_rows.batches(
            arrays.load(tmp_path / "e"),
            batch=5,
            source_length=12,
            target_length=8,
            seed=0,
            epochs=1,
        )
        for source, target in zip(*batch.values(), strict=True)
        if target.any()
    ]
    assert sorted(rows) == sorted(batched)
    assert len(rows) == content.count("query")


def test_shuffled_order_depends_on_the_seed_alone(
    content: task_builder.Content,
) -> None:
    def order(seed: int) -> list[tuple[bytes, bytes]]:
        task = task_builder.build(content, "query")
        dataset = task.get_dataset(None, "train", shuffle=True, seed=seed)
        return [
            (row["query_id"], row["targets"].tobytes())
            for row in dataset.as_numpy_iterator()
        ]

    first, again, other = order(1), order(1), order(2)
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


@pytest.mark.parametrize("fraction", [0.5, 0.8])
def test_fractions_are_those_of_the_arrays(
    content: task_builder.Content, tmp_path: Path, fraction: float
) -> None:
    part = dataclasses.replace(content, fraction=fraction)
    task_builder.export(task_builder.build(part, "query"), tmp_path / "e")
    whole = arrays.from_pairs(
        pairs.load(content.pairs_folder, ["query"]), content.vocab
    )
    assert_bit_equal(arrays.load(tmp_path / "e"), arrays.select(whole, fraction))
    assert part.digest != content.digest


WORDS = [
    "tea",
    "caf\u00e9",
    "\u6f22\u5b57",
    "<sep>",
    "</s>",
    "\U0001f600",
    "x1",
    "\u00a0",
    "ﬁ",
]


def test_both_tokenizers_agree_on_strange_texts(
    tmp_path: Path, toy_folders: tuple[Path, Path]
) -> None:
    rows = [
        pairs.Pair(" ".join(words), [5, 1], "query", f"q{place}", "d")
        for place, words in enumerate(itertools.permutations(WORDS, 2))
    ]
    pairs.save(
        tmp_path / "p",
        rows,
        collection="strange",
        identifiers="x",
        target_vocabulary=9,
    )
    content = task_builder.Content(tmp_path / "p", toy_folders[1])
    task_builder.export(task_builder.build(content, "query"), tmp_path / "e")
    expected = arrays.from_pairs(pairs.load(tmp_path / "p"), content.vocab)
    assert_bit_equal(arrays.load(tmp_path / "e"), expected)
    assert int(expected.source_tokens.min()) == vocabulary.EOS


def test_digests_follow_the_content(
    content: task_builder.Content, tmp_path: Path
) -> None:
    other = toy.small_vocabulary(tmp_path / "v", pieces=300)
    changed = dataclasses.replace(content, vocabulary_folder=other.path.parent)
    assert changed.digest != content.digest
    again = task_builder.Content(content.pairs_folder, content.vocabulary_folder)
    assert again.digest == content.digest
    assert content.name("query") == "toy_n_gram_query"


def test_changed_pairs_are_refused(
    toy_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for path in toy_folders[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    victim = sorted(folder.glob("query-*"))[1]
    victim.write_bytes(victim.read_bytes()[:-1])
    content = task_builder.Content(folder, toy_folders[1])
    with pytest.raises(errors.ArtifactError, match=victim.name):
        task_builder.build(content, "query")


_TRAIN_WITHOUT_TENSORFLOW = """
import hashlib, sys
for name in ("tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio"):
    sys.modules[name] = None  # Importing it is an error now.
from gr_jax.data import batching
from gr_jax.model import ladder
from gr_jax.train import recipe, settings

digest = hashlib.sha256()
batches = batching.batches

def watched(*args, **asked):
    for batch in batches(*args, **asked):
        for name in sorted(batch):
            digest.update(batch[name].tobytes())
        yield batch

recipe.batching.batches = watched
done = recipe.run(
    recipe.Recipe(
        model=ladder.build("llama", "25k", vocab_size=512),
        training=settings.TrainSettings(steps=4),
        data=sys.argv[1],
        folder=sys.argv[2],
        batch=4,
        lengths={"inputs": 12, "targets": 8},
    )
)
print(digest.hexdigest(), done.data_tokens)
"""


def test_training_without_tensorflow_sees_what_seqio_iterates(
    content: task_builder.Content, tmp_path: Path
) -> None:
    task = task_builder.build(content, "query")
    task_builder.export(task, tmp_path / "e", source_length=12)
    words = [sys.executable, "-c", _TRAIN_WITHOUT_TENSORFLOW]
    done = subprocess.run(
        [*words, str(tmp_path / "e"), str(tmp_path / "run")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    dataset = task.get_dataset({"inputs": 12}, "train", shuffle=False)
    rows = list(dataset.as_numpy_iterator())
    digest, tokens = hashlib.sha256(), 0
    sequence = ordering.Sequence(len(rows), 0)
    for step in range(4):
        batch = {
            "source_BS": np.zeros((4, 12), np.int32),
            "target_BL": np.zeros((4, 8), np.int32),
        }
        for place, row in enumerate(sequence.rows(4 * step, 4 * step + 4)):
            for array, name in zip(batch.values(), ("inputs", "targets"), strict=True):
                array[place, : len(rows[row][name])] = rows[row][name]
        tokens += int((batch["target_BL"] > 0).sum())
        for name in sorted(batch):
            digest.update(batch[name].tobytes())
    assert done.stdout.split() == [digest.hexdigest(), str(tokens)]
