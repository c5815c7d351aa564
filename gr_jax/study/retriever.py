"""A trained model with everything needed to answer queries."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gr_jax.core import artifacts, errors, randomness
from gr_jax.core import progress as progresses
from gr_jax.decode import prefix_tree, results, session
from gr_jax.identifiers import codec, textual, views
from gr_jax.model import families, ladder, protocol
from gr_jax.score import evidence, gathering, keys, likelihood, rows
from gr_jax.study import grid, prepare
from gr_jax.train import checkpoint

Run = list[tuple[str, float]]
CONTROL = "constant-probability"
QUERY_CONTROL = "query-keys-constant-probability"
# Any value serves: with one for all, only the collection's counts rank documents.
_CONSTANT = 0.5
_SHOWN_DOCUMENTS = 5
_SHOWN_KEYS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """One identifier that speaks for a document.

    ``weight`` is what it adds to the document's score; a code's is its log-probability.
    ``view`` is the part of the document that an n-gram stands in, or ``unigrams``.
    """

    tokens: list[int]
    logprob: float
    weight: float
    view: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """The ranked documents of one query, and why each of the first is there."""

    documents: Run
    keys: list[list[Key]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answers to some queries, and what the controls do."""

    answers: list[Answer]
    controls: dict[str, list[Run]]
    wall_s: dict[str, float]

    def evidence(
        self, queries: Sequence[str], material: prepare.Material, *, shown: int
    ) -> list[dict[str, Any]]:
        """Rows of ``evidence.jsonl``: some queries, their documents, and why."""
        found: list[dict[str, Any]] = []
        answer_of = dict(zip(queries, self.answers, strict=True))
        seed = material.study.seed
        ranked = sorted(queries, key=lambda q: randomness.rank_of(seed, "shown", q))
        for query in ranked[:shown]:
            answer = answer_of[query]
            first = answer.documents[:_SHOWN_DOCUMENTS]
            for rank, ((document, score), row) in enumerate(
                zip(first, answer.keys, strict=False), start=1
            ):
                listed = [_shown(key, material) for key in row[:_SHOWN_KEYS]]
                found.append(
                    {
                        "query": query,
                        "query_text": material.collection.queries[query].text,
                        "document": document,
                        "is_relevant": material.qrels[query].get(document, 0) > 0,
                        "rank": rank,
                        "score": score,
                        "keys": listed,
                    }
                )
        return found


def _shown(key: Key, material: prepare.Material) -> dict[str, Any]:
    # The token that begins a row of a view is no text.
    is_whole = key.view in views.FURTHER
    return {
        "text": material.spelled(key.tokens[1:] if is_whole else key.tokens),
        "view": key.view,
        "tokens": key.tokens,
        "logprob": key.logprob,
        "weight": key.weight,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """One document as `gr-jax retrieve` shows it."""

    rank: int
    document: str
    title: str
    score: float
    keys: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The hit as a JSON object."""
        return dataclasses.asdict(self)


class Retriever:
    """Answers queries with one trained model."""

    def __init__(
        self,
        material: prepare.Material,
        model: protocol.GenerativeModel,
        params: Any,
        kind: str,
    ) -> None:
        self._material = material
        self._model = model
        self._params = params
        self._table = material.identifiers(kind)
        self._index = material.index(kind)
        self._options = session.Options(shortest_source=material.study.source_length)

    @functools.cached_property
    def _corpus(self) -> rows.Corpus:
        return rows.corpus_of(self._table)

    def answer(
        self,
        texts: Sequence[str],
        decoding: grid.Decoding,
        progress: progresses.Progress = progresses.SILENT,
    ) -> Answers:
        """Ranked documents of queries.

        Args:
          texts: The queries.
          decoding: Beam, length, further keys.
          progress: Told of finished queries.
        """
        ranked = self._ngrams if self._table.is_substring else self._codes
        return ranked(texts, decoding, progress)

    def _codes(
        self,
        texts: Sequence[str],
        decoding: grid.Decoding,
        progress: progresses.Progress,
    ) -> Answers:
        begun = time.monotonic()
        decoder = session.DecodeSession(
            self._model,
            self._params,
            self._tree,
            beams=decoding.beam,
            max_length=self._table.max_length,
            batch=self._material.study.decode_batch,
            options=self._options,
        )
        found = decoder.decode(self._material.sources(texts), progress)
        wall_s = {"decode": time.monotonic() - begun}
        answers = [self._by_code(each) for each in found]
        return Answers(answers=answers, controls={}, wall_s=wall_s)

    def _ngrams(
        self,
        texts: Sequence[str],
        decoding: grid.Decoding,
        progress: progresses.Progress,
    ) -> Answers:
        chosen = views.require(self._table, decoding.views)
        begun = time.monotonic()
        found = self._gatherer.search(
            chosen,
            texts,
            beams=decoding.beam,
            max_length=decoding.max_length,
            progress=progress,
        )
        wall_s = {"decode": time.monotonic() - begun}
        begun = time.monotonic()
        gathered = self._gatherer.keys(found, chosen)
        controls: dict[str, list[Run]] = {}
        if decoding.query_keys:
            own = self._query_keys(
                texts, decoding, chosen.get(views.BODY, views.Voice())
            )
            # What the query's words find without a model: the bar for any model.
            controls[QUERY_CONTROL] = self._constant(own)
            gathered = [keys.joined(both) for both in zip(gathered, own, strict=True)]
        if views.UNIGRAMS in chosen:
            factor = chosen[views.UNIGRAMS].factor
            gathered = self._gatherer.with_unigrams(gathered, texts, factor)
        controls[CONTROL] = self._constant(gathered)
        answers = self._by_evidence(gathered)
        wall_s["evidence"] = time.monotonic() - begun
        return Answers(answers=answers, controls=controls, wall_s=wall_s)

    @functools.cached_property
    def _tree(self) -> prefix_tree.PrefixTreeConstraint:
        return prefix_tree.PrefixTreeConstraint.of(self._index)

    @functools.cached_property
    def _gatherer(self) -> gathering.Gatherer:
        return gathering.Gatherer(
            self._model,
            self._params,
            self._table,
            self._index,
            encode=self._material.sources,
            batch=self._material.study.decode_batch,
            options=self._options,
        )

    def _by_code(self, found: results.Decoded) -> Answer:
        documents: dict[str, tuple[float, Key]] = {}
        for place, tokens in enumerate(found.identifiers()):
            logprob = float(found.logprob_M[place])
            key = Key(tokens=tokens, logprob=logprob, weight=logprob)
            for document in self._table.documents_of_tokens(tokens):
                documents.setdefault(document, (logprob, key))
        ranked = sorted(documents.items(), key=lambda item: (-item[1][0], item[0]))
        return Answer(
            documents=[(document, score) for document, (score, _) in ranked],
            keys=[[key] for _, (_, key) in ranked],
        )

    def _by_evidence(self, gathered: Sequence[keys.Keys]) -> list[Answer]:
        rankings = evidence.aggregate(gathered, self._corpus, self._index)
        return [
            _answer(ranking, keys_of_query, self._table)
            for ranking, keys_of_query in zip(rankings, gathered, strict=True)
        ]

    def _constant(self, gathered: Sequence[keys.Keys]) -> list[Run]:
        """The control: the same keys, each as likely as any other."""
        settings = keys.Settings(constant_probability=_CONSTANT)
        rankings = evidence.aggregate(
            gathered, self._corpus, self._index, settings=settings
        )
        return [ranking.hits(self._table.document_ids) for ranking in rankings]

    def _query_keys(
        self, texts: Sequence[str], decoding: grid.Decoding, voice: views.Voice
    ) -> list[keys.Keys]:
        """The query's own n-grams that occur, scored in one teacher-forced pass."""
        own = [
            textual.query_ngrams(
                text, self._material.vocabulary, max_length=decoding.max_length
            )
            for text in texts
        ]
        counts = self._index.count([tokens for each in own for tokens in each])
        bounds = np.cumsum([0, *map(len, own)])
        known = [
            [t for t, count in zip(each, counts[a:b], strict=True) if count > 0]
            for each, a, b in zip(own, bounds[:-1], bounds[1:], strict=True)
        ]
        nats = likelihood.identifier_nats(
            self._model, self._params, self._material.sources(texts), known
        )
        return [
            keys.Keys(
                tokens=mine, logprob_K=-sums, factor_K=np.full(len(mine), voice.factor)
            )
            for mine, sums in zip(known, nats.nll_sum, strict=True)
        ]


def _answer(
    ranking: evidence.Ranking, gathered: keys.Keys, table: codec.IdentifierTable
) -> Answer:
    shown = min(_SHOWN_DOCUMENTS * 2, len(ranking.document_H))
    _, is_unigram_K, _ = keys.flags(gathered)
    listed = [
        [
            Key(
                tokens=[int(t) for t in gathered.tokens[place]],
                logprob=float(gathered.logprob_K[place]),
                weight=weight,
                view=(
                    views.UNIGRAMS
                    if is_unigram_K[place]
                    else views.view_of(table, gathered.tokens[place][0])
                ),
            )
            for place, weight in ranking.keys_of(rank)
        ]
        for rank in range(shown)
    ]
    return Answer(documents=ranking.hits(table.document_ids), keys=listed)


def find_cell(folder: Path) -> Path:
    """The cell to ask: the folder itself, or the largest finished one of a study.

    Raises:
      ArtifactError: If there is no finished cell.
    """
    if (folder / "cell.json").is_file():
        return folder
    path = folder / "records.jsonl"
    found = artifacts.read_jsonl(path) if path.is_file() else []
    if not found:
        raise errors.ArtifactError(
            f"{folder}: no finished cell: give a study's folder, or run gr-jax study"
        )
    best = max(found, key=lambda r: (r["train_flops"], r["data_fraction"]))
    return folder / "cells" / best["cell"]


@dataclasses.dataclass(frozen=True)
class Opened:
    """A trained cell, read back from its folder."""

    material: prepare.Material
    retriever: Retriever
    cell: grid.Cell

    def retrieve(
        self, query: str, *, beam: int, k: int, views: str | None = None
    ) -> list[Hit]:
        """The first documents for one query, best first.

        ``views`` stands in for those of the cell's first decoding.
        """
        decoding = dataclasses.replace(self.cell.decodings[0], beam=beam)
        if views is not None:
            decoding = dataclasses.replace(decoding, views=views)
        texts = {d.id: d.title for d in self.material.collection.documents}
        answer = self.retriever.answer([query], decoding).answers[0]
        listed = [*answer.keys, *([[]] * len(answer.documents))]
        return [
            Hit(
                rank=rank,
                document=document,
                title=texts[document],
                score=score,
                keys=[_shown(key, self.material) for key in row[:_SHOWN_KEYS]],
            )
            for rank, ((document, score), row) in enumerate(
                zip(answer.documents[:k], listed, strict=False), start=1
            )
        ]


def open_cell(folder: Path) -> Opened:
    """A trained cell ready to answer; its files are verified.

    Raises:
      ArtifactError: If something is missing or not as it was written.
    """
    described = artifacts.read_json(folder / "cell.json")
    study = grid.Study.from_json(described["study"])
    cell = grid.Cell.from_json(described["cell"])
    material = prepare.Material(folder.parent.parent, study)
    config = ladder.build(
        cell.family,  # type: ignore[arg-type]
        cell.size,
        vocab_size=material.model_vocabulary_size(cell.identifier_kind),
    )
    model = families.build(config)
    params = checkpoint.read_params(folder / "train")
    return Opened(
        material, Retriever(material, model, params, cell.identifier_kind), cell
    )
