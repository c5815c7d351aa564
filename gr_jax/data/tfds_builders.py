"""TensorFlow datasets of passage retrieval, made from the user's own files.

`dpr_nq` and `dpr_triviaqa` (Wikipedia passages and questions as DPR distributes them),
`triviaqa_unfiltered` (questions and answers as TriviaQA distributes them) and
`msmarco_passage`. Nothing is downloaded: the files lie in TFDS's ``manual_dir``, packed
or not. Each has the configurations ``queries`` (the default) and, where there are
passages, ``passages``; all have the same fields, so `tfds_collection` needs no map.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from gr_jax.core import errors
from gr_jax.data import formats, reading

CORPUS = "corpus"


@dataclasses.dataclass(frozen=True)
class _Queries:
    """File names of a split, the first that is there being taken; TREC judgements."""

    names: tuple[str, ...]
    qrels: tuple[str, ...] = ()


def _features(config: str) -> dict[str, Any]:
    text = tfds.features.Text()
    if config == "passages":
        return {"document_id": text, "title": text, "text": text}
    return {
        "query_id": text,
        "query": text,
        "answers": tfds.features.Sequence(text),
        "document_ids": tfds.features.Sequence(text),
        "grades": tfds.features.Sequence(np.int32),
    }


def _found(folder: Path, names: tuple[str, ...]) -> Path | None:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


class _FromFiles(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Reads files of one maker; rows keep the files' order."""

    VERSION = tfds.core.Version("1.0.0")
    PASSAGES: ClassVar[tuple[str, ...]] = ()
    LAYOUT: ClassVar[str] = ""
    SPLITS: ClassVar[dict[str, _Queries]] = {}

    @property
    def MANUAL_DOWNLOAD_INSTRUCTIONS(self) -> str:  # noqa: N802 (TFDS's name)
        """Which files to put into ``manual_dir``."""
        names = [name for split in self.SPLITS.values() for name in split.names]
        return f"Put into manual_dir what you have of: {', '.join(names)}"

    @property
    def _part(self) -> str:
        config = self.builder_config
        assert config is not None  # Each of ours has configurations.
        return config.name

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self._part} of {self.name}, from files.",
            features=tfds.features.FeaturesDict(_features(self._part)),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        if self._part == "passages":
            path = _found(folder, self.PASSAGES)
            if path is None:
                names = " or ".join(self.PASSAGES)
                raise errors.InputError(
                    f"{folder}: {names}[.gz]: missing: put it there"
                )
            return {CORPUS: self._passages(path)}
        splits = {
            split: self._queries(path, _found(folder, files.qrels))
            for split, files in self.SPLITS.items()
            if (path := _found(folder, files.names)) is not None
        }
        if not splits:
            names = ", ".join(n for files in self.SPLITS.values() for n in files.names)
            raise errors.InputError(f"{folder}: no queries: put there one of {names}")
        return splits

    def _generate_examples(self, **unused: Any) -> Iterator[Any]:
        raise NotImplementedError  # Abstract in TFDS; every split has its generator.

    def _passages(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        documents = formats.DOCUMENTS[self.LAYOUT](path, reading.Tally())
        for place, document in enumerate(documents):
            row = {"document_id": document.id, "title": document.title}
            yield place, {**row, "text": document.text}

    def _queries(
        self, path: Path, qrels: Path | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        tally = reading.Tally()
        found = formats.read_queries(self.LAYOUT, path, tally, positives=None)
        if qrels is not None:
            found.qrels.update(formats.trec_qrels(qrels, tally))
        for place, query in enumerate(found.queries.values()):
            judged = found.qrels.get(query.id, {})
            yield (
                place,
                {
                    "query_id": query.id,
                    "query": query.text,
                    "answers": found.answers.get(query.id, []),
                    "document_ids": list(judged),
                    "grades": list(judged.values()),
                },
            )


def _configs(*names: str) -> list[tfds.core.BuilderConfig]:
    return [tfds.core.BuilderConfig(name=name) for name in names]


class DprNq(_FromFiles):
    """DPR's Wikipedia passages and Natural Questions."""

    BUILDER_CONFIGS = _configs("queries", "passages")
    PASSAGES = ("psgs_w100.tsv",)
    LAYOUT = "dpr"
    SPLITS: ClassVar = {
        "train": _Queries(("biencoder-nq-train.json", "nq-train.qa.csv")),
        "validation": _Queries(("biencoder-nq-dev.json", "nq-dev.qa.csv")),
        "test": _Queries(("nq-test.qa.csv",)),
    }


class DprTriviaqa(_FromFiles):
    """DPR's Wikipedia passages and TriviaQA's questions."""

    BUILDER_CONFIGS = _configs("queries", "passages")
    PASSAGES = ("psgs_w100.tsv",)
    LAYOUT = "dpr"
    SPLITS: ClassVar = {
        "train": _Queries(("biencoder-trivia-train.json", "trivia-train.qa.csv")),
        "validation": _Queries(("biencoder-trivia-dev.json", "trivia-dev.qa.csv")),
        "test": _Queries(("trivia-test.qa.csv",)),
    }


class TriviaqaUnfiltered(_FromFiles):
    """TriviaQA's unfiltered questions with all their answers, and no passages."""

    BUILDER_CONFIGS = _configs("queries")
    LAYOUT = "triviaqa"
    SPLITS: ClassVar = {
        "train": _Queries(("unfiltered-web-train.json",)),
        "validation": _Queries(("unfiltered-web-dev.json",)),
        "test": _Queries(("unfiltered-web-test-without-answers.json",)),
    }


class MsmarcoPassage(_FromFiles):
    """MS MARCO's passages, queries and judgements."""

    BUILDER_CONFIGS = _configs("queries", "passages")
    PASSAGES = ("collection.tsv",)
    LAYOUT = "msmarco"
    SPLITS: ClassVar = {
        "train": _Queries(("queries.train.tsv",), ("qrels.train.tsv",)),
        "validation": _Queries(
            ("queries.dev.small.tsv", "queries.dev.tsv"),
            ("qrels.dev.small.tsv", "qrels.dev.tsv"),
        ),
        "test": _Queries(("queries.eval.small.tsv", "queries.eval.tsv")),
    }


NAMES = frozenset(
    builder.name for builder in (DprNq, DprTriviaqa, TriviaqaUnfiltered, MsmarcoPassage)
)


def prepare(builder: Any, manual_dir: Path) -> None:
    """Prepares one of ours from the user's files; a row that is wrong is named.

    Raises:
      InputError: ``file:line: field: value: remedy``, or a file is missing.
    """
    if not manual_dir.is_dir():
        raise errors.InputError(f"{manual_dir}: not a folder: put the files there")
    config = tfds.download.DownloadConfig(
        manual_dir=str(manual_dir), try_download_gcs=False
    )
    tfds.disable_progress_bar()
    # TFDS says on standard output what it does; that is for results here.
    with contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare(download_config=config)
