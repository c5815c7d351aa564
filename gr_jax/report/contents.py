"""Reads a study folder: records, fits, baselines, examples, facts. Computes nothing.

Every value keeps where it was read (`Source`), so that a page can point back to it.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from gr_jax.core import artifacts, errors, records
from gr_jax.evaluate import results, trec
from gr_jax.fit import fits as stored_fits

RECORDS = "records.jsonl"
FITS = "fits.json"
_TEXT_CHARACTERS = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One run record and the line of ``records.jsonl`` that holds it."""

    line: int
    record: records.RunRecord

    @property
    def source(self) -> str:
        """The place as ``file:line``."""
        return f"{RECORDS}:{self.line}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Baseline:
    """Measures of a rival, and the file that holds them."""

    name: str
    source: str
    measures: dict[str, records.Measure]
    folder: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """One generated identifier that spoke for a document."""

    text: str
    logprob: float | None
    weight: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hit:
    """A returned document and why it was returned."""

    document: str
    title: str
    rank: int
    score: float
    is_relevant: bool
    keys: list[Key]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A query with what came back, and the file that holds it."""

    query: str
    text: str
    relevant: list[tuple[str, str]]
    hits: list[Hit]
    source: str
    first_relevant_rank: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """The manifest of one artefact of the study."""

    path: str
    manifest: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """All that a report shows."""

    folder: Path
    rows: list[Row]
    fits: list[stored_fits.Fit]
    baselines: list[Baseline]
    artifacts: list[Artifact]
    config: dict[str, Any]
    problems: list[str]

    @property
    def collection_folder(self) -> Path | None:
        """Where documents and queries lie: in the study, or where it says."""
        inside = self.folder / "collection"
        if inside.is_dir():
            return inside
        named = Path(str(self.config.get("collection", "")))
        return named if named.is_dir() and named != Path() else None

    @property
    def collection(self) -> str:
        """Name of the collection that the records are about."""
        return ", ".join(sorted({row.record.collection for row in self.rows}))

    def row_at(self, line: int) -> Row | None:
        """The record of a line."""
        return next((row for row in self.rows if row.line == line), None)


def of_fits(folder: Path, fits: list[stored_fits.Fit]) -> Study:
    """A study of which nothing is known but its fits, such as those of a table."""
    return Study(
        folder=folder,
        rows=[],
        fits=fits,
        baselines=[],
        artifacts=[],
        config={},
        problems=[],
    )


def _read_rows(path: Path) -> list[Row]:
    rows: list[Row] = []
    for line, value in enumerate(artifacts.read_jsonl(path), start=1):
        try:
            record = records.RunRecord.from_json(value)
        except (TypeError, KeyError, AttributeError) as error:
            raise errors.ArtifactError(
                f"{path}:{line}: not a run record ({error}): run the study anew"
            ) from None
        rows.append(Row(line=line, record=record))
    if not rows:
        raise errors.ArtifactError(f"{path}: no record: run the study first")
    return rows


def _read_baselines(folder: Path) -> Iterator[Baseline]:
    for path in sorted((folder / "baselines").glob(f"*/{results.METRICS}")):
        yield Baseline(
            name=path.parent.name,
            source=path.relative_to(folder).as_posix(),
            measures=results.read_metrics(path.parent),
            folder=path.parent,
        )


def _read_artifacts(folder: Path) -> Iterator[Artifact]:
    places = [
        "collection",
        "vocabulary",
        "identifiers/*",
        "index/*",
        "examples/*",
        "scored/*",
    ]
    for place in [*places, "negatives"]:
        for path in sorted(folder.glob(f"{place}/{artifacts.MANIFEST}")):
            yield Artifact(
                path=path.parent.relative_to(folder).as_posix(),
                manifest=artifacts.read_json(path),
            )


def read(folder: Path) -> Study:
    """The content of a study folder; only ``records.jsonl`` has to be there.

    Raises:
      ArtifactError: Names the file, and the line where there is one, that is missing
        or not what the study wrote.
    """
    problems: list[str] = []
    rows = _read_rows(folder / RECORDS)
    if (folder / FITS).exists():
        found = stored_fits.read(folder / FITS)
    else:
        found = []
        problems.append(f"{FITS} is missing: run the verb fit to see laws here")
    baselines = list(_read_baselines(folder))
    if not baselines:
        problems.append("no baseline was run: retrieval has nothing to be judged by")
    config: dict[str, Any] = {}
    if (folder / "study.json").exists():
        value = artifacts.read_json(folder / "study.json")
        config = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        config = config.get("study", config)
    return Study(
        folder=folder,
        rows=rows,
        fits=found,
        baselines=baselines,
        artifacts=list(_read_artifacts(folder)),
        config=config,
        problems=problems,
    )


# ----------------------------------------------------------------- decoded examples


def decode_folder(study: Study, row: Row) -> Path | None:
    """The folder that holds the run and the evidence of a record.

    Below the record's cell; of several decodings, the one whose manifest says the
    record's beam, keys and length.
    """
    record = row.record
    found = sorted((study.folder / "cells" / record.cell).glob("decode-*"))
    settings = {path: _decoding(path) for path in found}
    # Codes have a length of their own, so the length decides last and may not match.
    for field, value in (
        ("beam", record.beam),
        ("rescoring", record.rescoring),
        ("max_length", record.max_length),
    ):
        if len(found) > 1:
            same = [path for path in found if settings[path].get(field) == value]
            found = same or (found if field == "max_length" else same)
    return found[0] if len(found) == 1 else None


def _decoding(folder: Path) -> dict[str, Any]:
    path = folder / artifacts.MANIFEST
    if not path.exists():
        return {}
    found = cast("dict[str, Any]", artifacts.read_json(path).get("config") or {})
    return found | {"rescoring": records.rescoring_of(found)}


def _texts(
    folder: Path | None, name: str, wanted: set[str]
) -> dict[str, dict[str, Any]]:
    """Rows of ``name.jsonl`` or ``.jsonl.gz`` whose id is wanted, read as a stream."""
    if folder is None:
        return {}
    for suffix in (".jsonl", ".jsonl.gz"):
        path = folder / f"{name}{suffix}"
        if path.exists():
            break
    else:
        return {}
    opener = gzip.open if path.suffix == ".gz" else open
    found: dict[str, dict[str, Any]] = {}
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            value = json.loads(str(line))
            if value.get("_id") in wanted:
                found[value["_id"]] = value
    return found


def _title_of(document: Mapping[str, Any] | None, name: str) -> str:
    if document is None:
        return name
    title = str(document.get("title") or "").strip()
    return title or str(document.get("text") or name)[:_TEXT_CHARACTERS]


def _keys(values: Iterable[Mapping[str, Any]]) -> list[Key]:
    return [
        Key(
            text=str(value["text"]),
            logprob=value.get("logprob"),
            weight=value.get("weight"),
        )
        for value in values
    ]


def _spread(queries: list[str], count: int) -> list[str]:
    """Some of the queries, evenly spread over their order."""
    if len(queries) <= count:
        return queries
    return [queries[i * len(queries) // count] for i in range(count)]


def _relevant(study: Study, split: str) -> dict[str, dict[str, int]]:
    if study.collection_folder is None:
        return {}
    path = study.collection_folder / "qrels" / f"{split}.tsv"
    return trec.read_qrels(path).qrels if path.exists() else {}


def examples(study: Study, row: Row, *, count: int = 12) -> list[Example]:
    """Queries of a record with the documents returned and the identifiers behind them.

    Raises:
      ArtifactError: If the evidence is not what the study wrote.
    """
    folder = decode_folder(study, row)
    path = folder / "evidence.jsonl" if folder is not None else None
    if path is None or not path.exists():
        return []
    evidence: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for line, value in enumerate(artifacts.read_jsonl(path), start=1):
        evidence.setdefault(str(value.get("query")), []).append((line, value))
    chosen = _spread(sorted(evidence), count)
    grades = _relevant(study, row.record.split)
    relevant = {q: {d for d, g in grades.get(q, {}).items() if g > 0} for q in chosen}
    wanted = {str(v["document"]) for q in chosen for _, v in evidence[q]}
    wanted |= {d for documents in relevant.values() for d in documents}
    documents = _texts(study.collection_folder, "corpus", wanted)
    queries = _texts(study.collection_folder, "queries", set(chosen))
    shown: list[Example] = []
    for query in chosen:
        lines = sorted(evidence[query], key=lambda pair: int(pair[1]["rank"]))
        hits = [
            Hit(
                document=str(value["document"]),
                title=_title_of(
                    documents.get(str(value["document"])), str(value["document"])
                ),
                rank=int(value["rank"]),
                score=float(value["score"]),
                is_relevant=str(value["document"]) in relevant[query],
                keys=_keys(value.get("keys", [])),
            )
            for _, value in lines
        ]
        ranks = [hit.rank for hit in hits if hit.is_relevant]
        shown.append(
            Example(
                query=query,
                text=str(
                    lines[0][1].get("query_text")
                    or queries.get(query, {}).get("text", query)
                ),
                relevant=[
                    (d, _title_of(documents.get(d), d)) for d in sorted(relevant[query])
                ],
                hits=hits,
                source=f"{path.relative_to(study.folder).as_posix()}:{lines[0][0]}",
                first_relevant_rank=min(ranks) if ranks else None,
            )
        )
    return shown
