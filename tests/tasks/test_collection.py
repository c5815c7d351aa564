from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
import seqio

from gr_jax.core import errors
from gr_jax.data import feature_converters, pairs
from gr_jax.testing import toy
from tasks import collection


def save(folder: Path, rows: list[pairs.Pair]) -> Path:
    pairs.save(
        folder, rows, collection="toy", identifiers="title", target_vocabulary=320
    )
    return folder


@pytest.fixture(scope="module")
def vocabulary_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v") / "v"
    toy.small_vocabulary(folder)
    return folder


def rows_of_both_kinds() -> list[pairs.Pair]:
    made = toy.collection()
    judged = pairs.judged(made, "train")
    rows = list(pairs.query_pairs(judged, [[[9, 1]]] * len(judged)))
    targets = [[[10, 1]]] * len(made.documents)
    return rows + list(pairs.document_pairs(made.documents, targets))


def test_two_tasks_and_their_mixture(tmp_path: Path, vocabulary_folder: Path) -> None:
    folder = save(tmp_path / "p", rows_of_both_kinds())
    names = collection.register(folder, vocabulary_folder)
    assert (names.query, names.document, names.both) == (
        "toy_title_query",
        "toy_title_document",
        "toy_title_both",
    )
    dataset = seqio.get_dataset(
        mixture_or_task_name=names.both,
        task_feature_lengths={"inputs": 16, "targets": 4},
        dataset_split="train",
        shuffle=True,
        seed=5,
        num_epochs=None,
        feature_converter=feature_converters.EncoderDecoder(pack=False),
    )
    firsts = [
        int(row["decoder_target_tokens"][0])
        for row in dataset.take(320).as_numpy_iterator()
    ]
    # Eight pairs of each kind: even shares.
    assert abs(firsts.count(9) - 160) < 45
    assert set(firsts) == {9, 10}


def test_registering_again_replaces_other_content(
    tmp_path: Path, vocabulary_folder: Path
) -> None:
    rows = rows_of_both_kinds()
    first = collection.register(save(tmp_path / "a", rows), vocabulary_folder)
    task = seqio.TaskRegistry.get(first.query)
    same = collection.register(save(tmp_path / "b", rows), vocabulary_folder)
    assert seqio.TaskRegistry.get(same.query) is task
    other = collection.register(save(tmp_path / "c", rows[:3]), vocabulary_folder)
    assert other.document is None
    replaced = seqio.TaskRegistry.get(other.query)
    assert replaced is not task
    assert replaced.num_input_examples("train") == 3


def test_no_pairs_are_refused(tmp_path: Path, vocabulary_folder: Path) -> None:
    with pytest.raises(errors.ArtifactError, match="no pairs"):
        collection.register(save(tmp_path / "p", []), vocabulary_folder)


def test_a_program_that_only_imports_finds_a_studys_tasks(
    tmp_path: Path, vocabulary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(vocabulary_folder, tmp_path / "vocabulary")
    pairs.save(
        tmp_path / "pairs" / "title",
        rows_of_both_kinds(),
        collection="squad-1k",
        identifiers="title",
        target_vocabulary=320,
    )
    monkeypatch.setenv("GR_JAX_STUDY", str(tmp_path))
    squad = importlib.reload(importlib.import_module("tasks.squad"))
    assert squad.REGISTERED["title"].both == "squad_1k_title_both"
    assert "squad_1k_title_both" in seqio.MixtureRegistry.names()
    builtin = importlib.reload(importlib.import_module("tasks.builtin"))
    assert builtin.REGISTERED == {}
    monkeypatch.delenv("GR_JAX_STUDY")
    assert importlib.reload(squad).REGISTERED == {}
