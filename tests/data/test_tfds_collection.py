"""Collections out of datasets whose rows hold their documents, one or several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from gr_jax.core import errors
from gr_jax.data import corpus, tfds_collection, tfds_reading

CONTEXTS = ("Tea is hot.", "Rain falls.", "Tea is hot.")


class GrReading(tfds.core.GeneratorBasedBuilder):
    """A dataset in SQuAD's form, and one in MS MARCO's."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="squad"),
        tfds.core.BuilderConfig(name="marco"),
    ]

    def _info(self) -> Any:
        text = tfds.features.Text()
        answers = tfds.features.Sequence({"text": text, "at": np.int32})
        features = {"id": text, "question": text, "context": text, "answers": answers}
        if self.builder_config.name == "marco":
            passages = {"url": text, "passage_text": text, "is_selected": np.int32}
            features = {
                "query_id": np.int32,
                "query": text,
                "passages": tfds.features.Sequence(passages),
            }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        del dl_manager
        make = self._marco if self.builder_config.name == "marco" else self._squad
        return {"train": make(), "validation": make()}

    def _generate_examples(self) -> Any:
        raise NotImplementedError

    def _squad(self) -> Iterator[Any]:
        for place, context in enumerate(CONTEXTS):
            word = context.split()[0].lower()
            yield (
                place,
                {
                    "id": f"q{place}",
                    "question": f"{place}: what of {word}",
                    "context": context,
                    "answers": {"text": [word, "ja", word], "at": [0, 0, 0]},
                },
            )

    def _marco(self) -> Iterator[Any]:
        yield (
            0,
            {
                "query_id": 5,
                "query": "which",
                "passages": {
                    "url": ["u", "v"],
                    "passage_text": ["one", "two"],
                    "is_selected": [0, 1],
                },
            },
        )


SQUAD = {
    "query": "question",
    "query_id": "id",
    "text": "context",
    "answers": "answers/text",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("prepared"))
    for config in ("squad", "marco"):
        tfds.builder(f"gr_reading/{config}", data_dir=folder).download_and_prepare()
    return folder


def source(prepared: str, config: str, **settings: Any) -> tfds_collection.Source:
    found = tfds_reading.Dataset(name=f"gr_reading/{config}", data_dir=prepared)
    splits = {"train": "train", "test": "validation"}
    return tfds_collection.Source(
        **{"dataset": found, "splits": splits, "fields": SQUAD, **settings}
    )


def test_rows_with_their_document(tmp_path: Path, prepared: str) -> None:
    made = source(prepared, "squad", splits={"train": "train", "test": "train[:2]"})
    tfds_collection.write(tmp_path / "c", made)
    found = corpus.read_collection(tmp_path / "c")
    names = {
        text: hashlib.sha256(f"\0{text}".encode()).hexdigest()[:16] for text in CONTEXTS
    }
    assert found.name == "gr_reading"
    assert [d.text for d in found.documents] == ["Tea is hot.", "Rain falls."]
    # Two splits use the same ids, so each gets its split in front.
    assert found.queries["train-q1"].text == "1: what of rain"
    assert found.qrels["train"] == {
        f"train-q{place}": {names[text]: 1} for place, text in enumerate(CONTEXTS)
    }
    assert len(found.qrels["test"]) == 2
    answers = (tmp_path / "c" / "answers" / "test.jsonl").read_text().splitlines()
    assert answers[0] == '{"query": "test-q0", "answers": ["tea", "ja"]}'


def test_rows_with_lists_of_graded_documents(tmp_path: Path, prepared: str) -> None:
    fields = {
        "query": "query",
        "query_id": "query_id",
        "text": "passages/passage_text",
        "document_id": "passages/url",
        "grades": "passages/is_selected",
    }
    made = source(prepared, "marco", fields=fields, splits={"train": "train"})
    tfds_collection.write(tmp_path / "c", made)
    found = corpus.read_collection(tmp_path / "c")
    assert [(d.id, d.text) for d in found.documents] == [("u", "one"), ("v", "two")]
    assert found.qrels == {"train": {"5": {"u": 0, "v": 1}}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fields": {**SQUAD, "text": "contxt"}}, "'contxt': it has answers/at, answ"),
        ({"fields": {"query": "question"}}, "field text: None: map one"),
        ({"fields": {**SQUAD, "topic": "id"}}, "'topic': ours are query_id"),
        ({"fields": {"query": "question"}, "documents": "x"}, "field document_ids"),
        ({"splits": {}}, "give train=train"),
        ({"splits": {"train": "tain"}}, "it has train, validation"),
    ],
)
def test_faults_of_the_map_are_one_line(
    tmp_path: Path, prepared: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.UsageError, match=re.escape(message)) as caught:
        tfds_collection.write(tmp_path / "c", source(prepared, "squad", **settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c").exists()


def test_what_is_not_prepared_says_what_to_run(tmp_path: Path) -> None:
    for name, kind, message in (
        ("gr_reading/squad", errors.ArtifactError, "`tfds build gr_reading/squad"),
        ("dpr_nq", errors.ArtifactError, "manual_dir"),
        ("no_such_set", errors.UsageError, "ours are dpr_nq"),
    ):
        dataset = tfds_reading.Dataset(name=name, data_dir=str(tmp_path))
        with pytest.raises(kind, match=message) as caught:
            tfds_reading.opened(dataset)
        assert "\n" not in str(caught.value)
