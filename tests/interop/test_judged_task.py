"""The task of judged queries: what it holds, its metrics against hand-made beams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.data import vocabulary
from gr_jax.identifiers import codec
from gr_jax.interop import judged_task, t5x_decoding
from gr_jax.testing import toy


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> vocabulary.Vocabulary:
    return toy.small_vocabulary(tmp_path_factory.mktemp("v") / "v")


def _table(words: vocabulary.Vocabulary, kind: str = "rq") -> codec.IdentifierTable:
    made = toy.collection()
    return codec.from_rows(
        kind,
        [document.id for document in made.documents],
        [[300 + place, 7, 1] for place in range(len(made.documents))],
        vocabulary_size=320,
        vocabulary=words.fingerprint,
    )


def test_splits_queries_and_targets(words: vocabulary.Vocabulary) -> None:
    task = judged_task.build("toy_rq_judged", toy.collection(), _table(words), words)
    assert set(task.splits) == {"train", "dev", "test", "unseen"}
    assert task.num_input_examples("test") == 3
    rows = list(
        task.get_dataset(
            {"inputs": 24, "targets": 8}, "test", shuffle=False
        ).as_numpy_iterator()
    )
    assert [row["query_id"] for row in rows] == [b"q10", b"q11", b"q12"]
    # q12 is answered by d6 and d8; the target is the first of them.
    assert rows[2]["targets"].tolist() == [305, 7, 1]
    (source,) = words.encode_sources(["things that keep food"])
    assert rows[2]["inputs"].tolist() == source
    right = task.postprocess_fn(None, example=rows[2], is_target=True)
    assert right == [(305, 7, 1), (307, 7, 1)]
    assert len(task.predict_with_aux_metric_fns) == len(task.score_metric_fns) == 1


def test_another_vocabulary_is_refused(
    words: vocabulary.Vocabulary, tmp_path: Path
) -> None:
    other = toy.small_vocabulary(tmp_path / "v", pieces=300)
    with pytest.raises(errors.ArtifactError, match="vocabulary"):
        judged_task.build("x", toy.collection(), _table(words), other)


def test_ranks_are_those_of_beams_best_last() -> None:
    nothing = t5x_decoding.NOTHING
    found = {
        "decodes": np.array([[[0, 0], [5, 1], [4, 1]], [[6, 1], [5, 1], [4, 1]]]),
        "decode_scores": np.array([[nothing, -2.0, -1.0], [-3.0, -2.0, -1.0]]),
    }
    right = [[(4, 1)], [(6, 1), (5, 1)]]
    ranks = judged_task.reciprocal_ranks(right, found, is_substring=False)
    assert ranks == {"hit@1": 0.5, "mrr@3": 0.75}
    # A blank beam is no identifier, whatever is right.
    ranks = judged_task.reciprocal_ranks([[()], []], found, is_substring=False)
    assert ranks == {"hit@1": 0.0, "mrr@3": 0.0}


def test_ngrams_are_right_inside_a_relevant_document() -> None:
    found = {
        "decodes": np.array([[[9, 0], [7, 8]]]),
        "decode_scores": np.array([[-2.0, -1.0]]),
    }
    right = [[(6, 7, 5, 8, 9)]]
    ranks = judged_task.reciprocal_ranks(right, found, is_substring=True)
    assert ranks == {"hit@1": 0.0, "mrr@2": 0.5}
