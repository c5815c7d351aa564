"""Tasks by name: the arrays of an export, foreign tasks, mixtures by their rates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqio

from gr_jax.core import errors
from gr_jax.data import arrays, named_task, task_builder
from gr_jax.data.tensorflow_cpu import tf

LENGTHS = {"inputs": 12, "targets": 8}


def _foreign(name: str, rows: list[list[int]]) -> seqio.Task:
    """A task as other packages have them: inputs and targets, nothing else."""

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> Any:
        del split, shuffle_files, seed
        ragged = tf.ragged.constant(rows, dtype=tf.int32)
        columns: Any = {"inputs": ragged, "targets": ragged + 1}
        return tf.data.Dataset.from_tensor_slices(columns)

    feature = seqio.Feature(
        seqio.PassThroughVocabulary(99, eos_id=1), add_eos=True, dtype=tf.int32
    )
    return seqio.Task(
        name,
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        preprocessors=[seqio.preprocessors.append_eos_after_trim],
        output_features={"inputs": feature, "targets": feature},
    )


@pytest.fixture
def registered(toy_folders: tuple[Path, Path]) -> Iterator[None]:
    content = task_builder.Content(*toy_folders)
    tasks = [
        task_builder.build(content, "query"),
        _foreign("few", [[5, 6], [7]]),
        _foreign("many", [[10 + i] for i in range(6)]),
    ]
    for task in tasks:
        seqio.TaskRegistry.add_provider(task.name, task)
    seqio.MixtureRegistry.add("even", [("few", 1.0), ("many", 1.0)])
    yield
    seqio.MixtureRegistry.remove("even")
    for task in tasks:
        seqio.TaskRegistry.remove(task.name)


@pytest.mark.usefixtures("registered")
def test_a_task_of_ours_is_what_export_writes(
    toy_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    named = named_task.NamedTask(name="toy_n_gram_query")
    named_task.prepare(named, tmp_path / "a", lengths=LENGTHS)
    task = task_builder.build(task_builder.Content(*toy_folders), "query")
    task_builder.export(task, tmp_path / "b", source_length=12)
    found, expected = arrays.load(tmp_path / "a"), arrays.load(tmp_path / "b")
    for field in vars(expected):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@pytest.mark.usefixtures("registered")
def test_an_export_is_used_again_and_another_task_refused(tmp_path: Path) -> None:
    few = named_task.NamedTask(name="few")
    folder = named_task.prepare(few, tmp_path / "e", lengths=LENGTHS)
    made = (folder / "manifest.json").stat().st_mtime_ns
    seqio.TaskRegistry.get("few").source._dataset_fn = None  # Not read again.
    named_task.prepare(few, folder, lengths=LENGTHS)
    assert (folder / "manifest.json").stat().st_mtime_ns == made
    with pytest.raises(errors.UsageError, match="another MODEL_DIR"):
        named_task.prepare(named_task.NamedTask(name="many"), folder, lengths=LENGTHS)


@pytest.mark.usefixtures("registered")
def test_foreign_tasks_have_ranks_and_mixtures_their_rates(tmp_path: Path) -> None:
    few = named_task.NamedTask(name="few")
    found = arrays.load(named_task.prepare(few, tmp_path / "f", lengths=LENGTHS))
    assert [found.source(row) for row in range(2)] == [[5, 6, 1], [7, 1]]
    assert [found.target(row) for row in range(2)] == [[6, 7, 1], [8, 1]]
    assert len(set(found.query_rank.tolist())) == 2
    even = named_task.NamedTask(name="even")
    mixed = arrays.load(named_task.prepare(even, tmp_path / "m", lengths=LENGTHS))
    firsts = [mixed.source(row)[0] for row in range(len(mixed))]
    # Equal rates, two rows against six: each of the two comes three times.
    assert sorted(firsts) == [5, 5, 5, 7, 7, 7, 10, 11, 12, 13, 14, 15]


def test_unknown_names_are_named(tmp_path: Path) -> None:
    for named, words in (
        (named_task.NamedTask(name="nowhere"), "MIXTURE_OR_TASK_NAME.*nowhere"),
        (named_task.NamedTask(name="x", module="no.such.module"), "no.such.module"),
    ):
        with pytest.raises(errors.UsageError, match=words):
            named_task.prepare(named, tmp_path / "e", lengths=LENGTHS)
