"""What all runs of a study share: made once, in order, each an artefact of its own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts, errors, randomness
from gr_jax.core import progress as progresses
from gr_jax.data import arrays, builtin, corpus, negatives, pairs
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import (
    codec,
    constraint_index,
    kinds,
    substring_index,
    textual,
    training_pairs,
    views,
)
from gr_jax.study import grid, scored

_BUILTIN = "builtin:"


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """The shared artefacts of a study, read when first asked for."""

    folder: Path
    study: grid.Study

    @property
    def collection_folder(self) -> Path:
        """The BEIR folder: given, or made below the study."""
        if self.study.collection.startswith(_BUILTIN):
            return self.folder / "collection"
        return Path(self.study.collection)

    def of_kind(self, stage: str, kind: str) -> Path:
        """The folder of a stage that exists once an identifier kind."""
        return self.folder / stage / kind

    @functools.cached_property
    def collection(self) -> corpus.Collection:
        """Documents, queries and judgements."""
        return corpus.read_collection(self.collection_folder)

    @functools.cached_property
    def vocabulary(self) -> vocabularies.Vocabulary:
        """The text vocabulary."""
        return vocabularies.load(self.folder / "vocabulary")

    @functools.cache  # noqa: B019 - lives as long as the study
    def identifiers(self, kind: str) -> codec.IdentifierTable:
        """The identifier table of a kind."""
        return codec.load(self.of_kind("identifiers", kind))

    @functools.cache  # noqa: B019
    def index(self, kind: str) -> Any:
        """The constraint index of a kind."""
        folder = self.of_kind("index", kind)
        if kind == codec.NGRAM:
            return substring_index.load(folder)
        return constraint_index.load(folder)

    @functools.cache  # noqa: B019
    def examples(self, kind: str) -> arrays.Examples:
        """The training examples of a kind."""
        return arrays.load(self.of_kind("examples", kind))

    @functools.cache  # noqa: B019
    def scored(self, kind: str) -> scored.Scored:
        """The (query, document, identifier) rows that every model is scored on."""
        return scored.load(self.of_kind("scored", kind))

    @functools.cached_property
    def evaluated(self) -> list[str]:
        """Ids of the evaluation queries, a seeded choice in sorted order."""
        relevant = self.collection.relevant(self.study.split)
        return _chosen(
            sorted(q for q, documents in relevant.items() if documents),
            self.study.queries,
            self.study.seed,
        )

    @functools.cached_property
    def qrels(self) -> dict[str, dict[str, int]]:
        """Judgements of the evaluation queries."""
        judged = self.collection.qrels[self.study.split]
        return {query: judged[query] for query in self.evaluated}

    def sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Model inputs of texts, cut to the study's length, end piece kept."""
        limit = self.study.source_length - 1
        encoded = self.vocabulary.encode_batch([" ".join(t.split()) for t in texts])
        return [[*tokens[:limit], vocabularies.EOS] for tokens in encoded]

    def spelled(self, tokens: Sequence[int]) -> str:
        """An identifier as people read it: text, or codes in angle brackets."""
        pieces = self.vocabulary.size
        text = self.vocabulary.decode([t for t in tokens if t < pieces])
        codes = " ".join(f"<{t - pieces}>" for t in tokens if t >= pieces)
        return " ".join(part for part in (text, codes) if part)

    def training_queries(self, fraction: float) -> int:
        """How many training queries a fraction of the data holds."""
        queries = self.collection.relevant("train")
        return sum(arrays.rank_of(query) < fraction for query in queries)

    def target_length(self, kind: str) -> int:
        """Tokens of the longest identifier a model is trained to write."""
        if kind == codec.NGRAM:
            further = views.of_table(self.identifiers(kind)).values()
            return max([self.study.max_length, *further])
        return self.identifiers(kind).max_length

    def model_vocabulary_size(self, kind: str) -> int:
        """Width of the logits: the identifiers' tokens, rounded up to 64."""
        return -(-self.identifiers(kind).vocabulary_size // 64) * 64


def _chosen(queries: list[str], count: int | None, seed: int) -> list[str]:
    if count is None or count >= len(queries):
        return queries
    ranked = sorted(queries, key=lambda q: randomness.rank_of(seed, "queries", q))
    return sorted(ranked[:count])


def queries_of_documents(collection: corpus.Collection) -> dict[str, list[str]]:
    """Texts of the training queries of each document."""
    asked: dict[str, list[str]] = {}
    for query, document in pairs.judged(collection, "train"):
        asked.setdefault(document.id, []).append(query.text)
    return asked


def _make_collection(material: Material) -> None:
    study = material.study
    collection = builtin.make(
        study.collection, seed=study.seed, documents=study.documents
    )
    corpus.write_collection(
        material.collection_folder,
        collection,
        config={"collection": study.collection, "documents": study.documents},
        seeds={"collection": study.seed},
        facts={},
    )


def _make_vocabulary(material: Material) -> None:
    collection = material.collection
    texts = [textual.indexed_text(document) for document in collection.documents]
    asked = queries_of_documents(collection)
    texts += [text for document in sorted(asked) for text in asked[document]]
    vocabularies.train(
        texts,
        material.folder / "vocabulary",
        pieces=material.study.vocabulary_pieces,
        seed=material.study.seed,
        inputs=_collection_digest(material),
    )


def _collection_digest(material: Material) -> dict[str, str]:
    folder = material.collection_folder
    files = sorted(
        p for p in folder.rglob("*") if p.suffix in (".jsonl", ".gz", ".tsv")
    )
    digests = {
        p.relative_to(folder).as_posix(): artifacts.sha256_file(p) for p in files
    }
    return {"collection": artifacts.content_hash(digests)}


def _make_identifiers(material: Material, kind: str) -> None:
    study = material.study
    options: dict[str, dict[str, Any]] = {
        "rq": {
            "levels": study.code_levels,
            "codes": study.codes,
            "dims": study.embedding_dims,
        }
    }
    if (wanted := views.union(study.views)) != views.BODY:
        options[codec.NGRAM] = {"views": wanted, "view_tokens": study.view_tokens}
    table = kinds.build(
        material.collection.documents,
        material.vocabulary,
        kind=kind,
        seed=study.seed,
        queries_of=queries_of_documents(material.collection),
        options=options.get(kind),
    )
    table.save(
        material.of_kind("identifiers", kind),
        config={"kind": kind, **options.get(kind, {})},
        seeds={"identifiers": study.seed},
        inputs={"vocabulary": material.vocabulary.fingerprint},
    )


def _make_index(material: Material, kind: str) -> None:
    table = material.identifiers(kind)
    folder = material.of_kind("index", kind)
    if kind == codec.NGRAM:
        substring_index.build(
            table.tokens_E,
            table.row_starts_T,
            vocabulary_size=material.model_vocabulary_size(kind),
            max_length=material.study.max_length,
        ).save(folder)
        return
    constraint_index.build_rows(
        table.tokens_E, table.row_starts_T, material.model_vocabulary_size(kind)
    ).save(folder)


def _make_pairs(material: Material, kind: str) -> None:
    """What SeqIO tasks read too (`tasks.collection.register_study`)."""
    study = material.study
    pairs.save(
        material.of_kind("pairs", kind),
        training_pairs.stream(
            material.collection_folder,
            material.identifiers(kind),
            material.vocabulary,
            spans=training_pairs.Spans(
                seed=study.seed,
                of_query=study.spans_per_query,
                of_document=study.spans_per_document,
                max_length=study.max_length,
            ),
        ),
        collection=material.collection.name,
        identifiers=kind,
        target_vocabulary=material.identifiers(kind).vocabulary_size,
        seeds={"spans": study.seed},
        inputs={
            "vocabulary": material.vocabulary.fingerprint,
            "identifiers": artifacts.digest_of(material.of_kind("identifiers", kind)),
        },
    )


def _make_examples(material: Material, kind: str) -> None:
    examples = arrays.from_pairs(
        pairs.load(material.of_kind("pairs", kind)),
        material.vocabulary,
        source_length=material.study.source_length,
    )
    arrays.save(
        material.of_kind("examples", kind),
        examples,
        inputs={"vocabulary": material.vocabulary.fingerprint},
    )


def _make_negatives(material: Material) -> None:
    collection = material.collection
    queries = _chosen(
        material.evaluated, material.study.scored_queries, material.study.seed
    )
    drawn = negatives.draw(
        queries,
        [document.id for document in collection.documents],
        {q: collection.relevant(material.study.split)[q] for q in queries},
        count=material.study.negatives,
        seed=material.study.seed,
    )
    negatives.save(material.folder / "negatives", drawn, seed=material.study.seed)


def _make_scored(material: Material, kind: str) -> None:
    scored.make(
        material.of_kind("scored", kind),
        collection=material.collection,
        relevant=material.collection.relevant(material.study.split),
        negatives=negatives.load(material.folder / "negatives"),
        table=material.identifiers(kind),
        vocabulary=material.vocabulary,
        spans=material.study.scored_spans,
        max_length=material.study.max_length,
        seed=material.study.seed,
    )


def _stages(material: Material) -> list[tuple[str, Path, Callable[[], None]]]:
    stages: list[tuple[str, Path, Callable[[], None]]] = []
    if material.study.collection.startswith(_BUILTIN):
        folder = material.collection_folder
        stages.append(("collection", folder, lambda: _make_collection(material)))
    folder = material.folder / "vocabulary"
    stages.append(("vocabulary", folder, lambda: _make_vocabulary(material)))
    folder = material.folder / "negatives"
    stages.append(("negatives", folder, lambda: _make_negatives(material)))
    makers: Mapping[str, Callable[[Material, str], None]] = {
        "identifiers": _make_identifiers,
        "index": _make_index,
        "pairs": _make_pairs,
        "examples": _make_examples,
        "scored": _make_scored,
    }
    for kind in material.study.identifiers:
        for stage, make in makers.items():
            folder = material.of_kind(stage, kind)
            label = f"{stage} ({kind})"
            stages.append((label, folder, functools.partial(make, material, kind)))
    return stages


def prepare(
    folder: Path,
    study: grid.Study,
    progress: progresses.Progress = progresses.SILENT,
) -> Material:
    """Makes what is missing of a study's shared artefacts.

    Each is written whole or not at all, so an interrupted preparation goes on with the
    stage it was in.

    Raises:
      UsageError: If the collection has no such split, or no training queries.
      InputError: If the collection is faulty.
    """
    material = Material(folder, study)
    stages = _stages(material)
    progress.start("prepare", len(stages))
    for label, path, make in stages:
        if not (path / artifacts.MANIFEST).is_file():
            make()
        if label == "collection" or path == stages[0][1]:
            _check_splits(material)
        progress.advance(1, stage=label)
    progress.finish()
    return material


def _check_splits(material: Material) -> None:
    known = sorted(material.collection.qrels)
    for split in ("train", material.study.split):
        if split not in known:
            raise errors.UsageError(
                errors.fault(
                    material.collection_folder, "split", split, f"it has {known}"
                )
            )
