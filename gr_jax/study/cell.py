"""One cell of a study: train, score, decode, evaluate, record. Each part done once."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gr_jax.core import artifacts, records
from gr_jax.core import progress as progresses
from gr_jax.data import arrays, padded_rows
from gr_jax.evaluate import contrastive, losses, metrics, trec
from gr_jax.fit import query_values
from gr_jax.identifiers import codec, views
from gr_jax.model import accounting, families, ladder, protocol
from gr_jax.model import config as model_config
from gr_jax.score import likelihood
from gr_jax.study import grid, prepare, retriever
from gr_jax.train import loop

RECORDS = "records.jsonl"
_LOSSES = "losses.npz"
_TRAIN = "train"
_CONTRASTIVE = query_values.CONTRASTIVE
_SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """A cell with the material of its study and the folder of its results."""

    material: prepare.Material
    cell: grid.Cell
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether its records are there."""
        return (self.folder / RECORDS).is_file()

    @property
    def config(self) -> model_config.ModelConfig:
        """The model's configuration."""
        return ladder.build(
            self.cell.family,  # type: ignore[arg-type]
            self.cell.size,
            vocab_size=self.material.model_vocabulary_size(self.cell.identifier_kind),
        )


def folder_of(material: prepare.Material, cell: grid.Cell) -> Path:
    """Where a cell's results go: named by everything that decides them."""
    study = material.study
    kind = cell.identifier_kind
    decides = {
        "schema": _SCHEMA,
        "cell": dataclasses.asdict(cell),
        "training": study.training.to_json(),
        "batch": study.batch,
        "learning_rate_width": study.learning_rate_width,
        "source_length": study.source_length,
        "queries": material.evaluated,
        "split": study.split,
        "resamples": study.resamples,
        "seed": study.seed,
        "examples": artifacts.digest_of(material.of_kind("examples", kind)),
        "index": artifacts.digest_of(material.of_kind("index", kind)),
        "scored": artifacts.digest_of(material.of_kind("scored", kind)),
    }
    return material.folder / "cells" / artifacts.content_hash(decides)[:16]


def run(
    one: Run, progress: progresses.Progress = progresses.SILENT
) -> list[records.RunRecord]:
    """Runs what is missing of a cell and returns its records.

    An interrupted training goes on from its last checkpoint; a finished scoring or
    decoding is read back.
    """
    artifacts.write_json(
        one.folder / "cell.json",
        {
            "cell": dataclasses.asdict(one.cell),
            "study": one.material.study.to_json(),
            "model": dataclasses.asdict(one.config),
        },
    )
    model = families.build(one.config)
    trained = _train(one, model, progress)
    continuous, score_wall_s = _score(one, model, trained.params, progress)
    engine = retriever.Retriever(
        one.material, model, trained.params, one.cell.identifier_kind
    )
    found: list[records.RunRecord] = []
    for decoding in one.cell.decodings:
        decoded = _decode(one, engine, decoding, progress)
        wall_s = {"train": trained.wall_s, "score": score_wall_s, **decoded["wall_s"]}
        found.append(_record(one, decoding, trained, continuous, decoded, wall_s))
    artifacts.write_jsonl(one.folder / RECORDS, [r.to_json() for r in found])
    return found


def _train(
    one: Run, model: protocol.GenerativeModel, progress: progresses.Progress
) -> loop.TrainResult:
    study, cell = one.material.study, one.cell
    examples = one.material.examples(cell.identifier_kind)
    rate = study.training.learning_rate
    if study.learning_rate_width:
        rate *= math.sqrt(study.learning_rate_width / one.config.embed_dim)
    settings = dataclasses.replace(
        study.training, steps=cell.steps, seed=cell.seed, learning_rate=rate
    )

    def batches(start_step: int) -> Any:
        return padded_rows.batches(
            examples,
            batch=study.batch,
            source_length=study.source_length,
            target_length=one.material.target_length(cell.identifier_kind),
            seed=cell.seed,
            steps=cell.steps,
            start_step=start_step,
            fraction=cell.fraction,
        )

    return loop.train(
        model,
        batches,
        settings=settings,
        folder=one.folder / _TRAIN,
        progress=progress,
    )


def _score(
    one: Run,
    model: protocol.GenerativeModel,
    params: Any,
    progress: progresses.Progress,
) -> tuple[dict[str, records.Measure], float]:
    scored = one.material.scored(one.cell.identifier_kind)
    folder = one.folder / "losses"
    if not (folder / artifacts.MANIFEST).is_file():
        begun = time.monotonic()
        queries = one.material.collection.queries
        nats = likelihood.identifier_nats(
            model,
            params,
            one.material.sources([queries[q].text for q in scored.queries]),
            scored.identifiers_by_query(),
            progress=progress,
        )
        with artifacts.staged(folder) as staged:
            np.savez(
                staged / _LOSSES,
                nll_sum_nats_E=np.concatenate(nats.nll_sum),
                target_tokens_E=np.concatenate(nats.tokens),
            )
            artifacts.write_manifest(
                staged,
                kind="losses",
                schema_version=_SCHEMA,
                facts={"wall_s": time.monotonic() - begun},
            )
    manifest = artifacts.read_manifest(folder, kind="losses", schema_version=_SCHEMA)
    with np.load(folder / _LOSSES, allow_pickle=False) as stored:
        columns = losses.Losses(
            queries=scored.queries,
            query_E=scored.query_E,
            document_E=scored.document_E,
            is_positive_E=scored.is_positive_E,
            nll_sum_nats_E=stored["nll_sum_nats_E"],
            target_tokens_E=stored["target_tokens_E"],
        )
    study = one.material.study
    measures, per_query = contrastive.evaluate(
        columns, seed=study.seed, resamples=study.resamples
    )
    artifacts.write_jsonl(
        one.folder / _CONTRASTIVE,
        [{"query": query, **row} for query, row in sorted(per_query.items())],
    )
    return measures, float(manifest.facts["wall_s"])


def _decode(
    one: Run,
    engine: retriever.Retriever,
    decoding: grid.Decoding,
    progress: progresses.Progress,
) -> dict[str, Any]:
    """Runs, metrics and times of one decoding setting, stored once complete."""
    study = one.material.study
    name = artifacts.content_hash(dataclasses.asdict(decoding))[:8]
    folder = one.folder / f"decode-{decoding.beam}-{name}"
    if (folder / artifacts.MANIFEST).is_file():
        artifacts.read_manifest(folder, kind="decoding", schema_version=_SCHEMA)
        return artifacts.read_json(folder / "result.json")
    texts = one.material.collection.queries
    queries = one.material.evaluated
    answers = engine.answer([texts[q].text for q in queries], decoding, progress)
    ranked = {q: a.documents for q, a in zip(queries, answers.answers, strict=True)}
    measures, per_query = metrics.evaluate_run(
        ranked, one.material.qrels, seed=study.seed, resamples=study.resamples
    )
    controls: dict[str, Any] = {}
    for control, runs in answers.controls.items():
        table, _ = metrics.evaluate_run(
            dict(zip(queries, runs, strict=True)),
            one.material.qrels,
            seed=study.seed,
            resamples=study.resamples,
        )
        controls[control] = {k: dataclasses.asdict(m) for k, m in table.items()}
    result = {
        "metrics": {k: dataclasses.asdict(m) for k, m in measures.items()},
        "controls": controls,
        "wall_s": answers.wall_s,
    }
    with artifacts.staged(folder) as staged:
        trec.write_run(staged / "run.trec", ranked)
        artifacts.write_jsonl(
            staged / "per_query.jsonl",
            [{"query": q, **row} for q, row in sorted(per_query.items())],
        )
        artifacts.write_jsonl(
            staged / "evidence.jsonl",
            answers.evidence(queries, one.material, shown=study.examples_shown),
        )
        artifacts.write_json(staged / "result.json", result)
        artifacts.write_manifest(
            staged,
            kind="decoding",
            schema_version=_SCHEMA,
            config=dataclasses.asdict(decoding) | {"rescoring": decoding.rescoring},
            seeds={"study": study.seed},
        )
    return result


def _inference_flops(
    one: Run, decoding: grid.Decoding, length: int
) -> dict[str, float]:
    """FLOPs of a query by part, all searches of it together."""
    searches = [(decoding.beam, length)]
    if one.cell.identifier_kind == codec.NGRAM:
        table = one.material.identifiers(codec.NGRAM)
        chosen = views.require(table, decoding.views)
        longest = {views.BODY: length} | views.of_table(table)
        searches = [(decoding.beam, longest[v]) for v in chosen if v in longest]
        if views.UNIGRAMS in chosen:
            searches.append((1, 1))
    total: dict[str, float] = {}
    for beams, steps in searches:
        found = accounting.inference_flops(
            one.config,
            source=one.material.study.source_length,
            beams=beams,
            steps=steps,
        )
        for part, flops in found.items():
            total[part] = total.get(part, 0.0) + flops
    return total


def _record(
    one: Run,
    decoding: grid.Decoding,
    trained: loop.TrainResult,
    continuous: dict[str, records.Measure],
    decoded: dict[str, Any],
    wall_s: dict[str, float],
) -> records.RunRecord:
    study, cell, material = one.material.study, one.cell, one.material
    kind = cell.identifier_kind
    chosen = arrays.select(material.examples(kind), cell.fraction)
    counted = accounting.parameters(one.config)
    target = material.target_length(kind)
    length = decoding.max_length if kind == codec.NGRAM else target
    device = jax.local_devices()[0]
    ranking = {k: records.Measure(**m) for k, m in decoded["metrics"].items()}
    return records.RunRecord(
        cell=one.folder.name,
        collection=material.collection.name,
        split=study.split,
        arch=cell.family,
        size_name=cell.size,
        params_total=counted.total,
        params_non_embedding=counted.non_embedding,
        params_paper=counted.paper,
        params_trainable=counted.total,
        identifier_kind=kind,
        data_fraction=cell.fraction,
        data_examples=len(chosen),
        data_queries=material.training_queries(cell.fraction),
        data_tokens=trained.data_tokens,
        epochs=cell.steps * study.batch / len(chosen),
        steps=cell.steps,
        batch=study.batch,
        train_flops=accounting.train_flops(
            one.config,
            source=study.source_length,
            target=target,
            examples=cell.steps * study.batch,
        ),
        seed=cell.seed,
        beam=decoding.beam,
        max_length=length,
        rescoring=decoding.rescoring,
        inference_flops_per_query=_inference_flops(one, decoding, length),
        negatives=study.negatives,
        metrics={**ranking, **continuous},
        controls={
            name: {k: records.Measure(**m) for k, m in table.items()}
            for name, table in decoded["controls"].items()
        },
        wall_s=wall_s,
        device=f"{device.platform} {device.device_kind}",
        hashes={
            "examples": artifacts.digest_of(material.of_kind("examples", kind)),
            "identifiers": artifacts.digest_of(material.of_kind("identifiers", kind)),
            "index": artifacts.digest_of(material.of_kind("index", kind)),
            "scored": artifacts.digest_of(material.of_kind("scored", kind)),
        },
        commit=artifacts.commit(),
    )
