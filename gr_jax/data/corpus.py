"""Collections in the layout of BEIR: documents, queries, graded judgements.

A folder holds ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl``
(``_id``, ``text``), each possibly ``.gz``, and ``qrels/SPLIT.tsv`` under the header
``query-id corpus-id score``. Reading is strict and streams: `read_documents` holds one
document at a time, and about 200 bytes an id to find repeated ones.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gr_jax.core import artifacts, errors
from gr_jax.data import judgements, reading

KIND = "collection"
SCHEMA_VERSION = 1

Qrels = judgements.Qrels
Row = TypeVar("Row")


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A text that can be found."""

    id: str
    title: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A text that is looked up."""

    id: str
    text: str


@dataclasses.dataclass(frozen=True)
class Collection:
    """Documents, queries and judgements.

    Attributes:
      name: What it is called in tasks, tables and reports.
      documents: In the order of the corpus file.
      queries: By query id, those of every split.
      qrels: Split, then query id, then document id, to the grade (0: not relevant).
      facts: Counts of what the reader met or the maker did; goes into the manifest.
    """

    name: str
    documents: list[Document]
    queries: dict[str, Query]
    qrels: dict[str, Qrels]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    def relevant(self, split: str, *, min_grade: int = 1) -> dict[str, set[str]]:
        """Relevant documents of every query of a split, absent documents included.

        Raises:
          UsageError: If there is no such split.
        """
        if split not in self.qrels:
            known = ", ".join(sorted(self.qrels))
            raise errors.UsageError(f"{self.name}: split: {split!r}: one of {known}")
        return {
            query: {d for d, grade in row.items() if grade >= min_grade}
            for query, row in self.qrels[split].items()
        }


Rows = Iterable[tuple[int, dict[str, Any]]]


def _strings(
    path: Path,
    tally: reading.Tally,
    noun: str,
    make: Callable[[dict[str, Any]], Row],
    rows: Rows,
) -> Iterator[Row]:
    seen = reading.Seen(path, noun, tally)
    for number, row in rows:
        try:
            reading.checked_id(reading.text_field(row, "_id"), "_id")
            made = make(row)
        except ValueError as error:
            tally.fault(f"bad {noun}", f"{path}:{number}: {error}")
            continue
        if seen.is_new(row["_id"], number, made, "_id"):
            yield made


def _document(row: dict[str, Any]) -> Document:
    title = reading.text_field(row, "title", default="")
    return Document(row["_id"], title, reading.text_field(row, "text"))


def _query(row: dict[str, Any]) -> Query:
    text = reading.text_field(row, "text")
    if not text.strip():
        raise ValueError(f"text: {text!r}: a query needs words")
    return Query(row["_id"], text)


def documents_of_rows(
    path: Path, rows: Rows, tally: reading.Tally
) -> Iterator[Document]:
    """Documents of numbered rows with ``_id``, ``title`` and ``text``, checked.

    Raises:
      InputError: ``file:line: field: value: remedy``.
    """
    for document in _strings(path, tally, "documents", _document, rows):
        if not document.text.strip():
            tally.counts["documents without text"] += 1
            if not document.title.strip():
                tally.counts["documents without text and title"] += 1
        yield document


def read_documents(
    path: Path, tally: reading.Tally | None = None
) -> Iterator[Document]:
    """The documents of a corpus file, in order; a missing title is empty.

    A document repeated with the same content is counted and passed over; one without
    any text is counted and kept.

    Raises:
      InputError: ``file:line: field: value: remedy``.
    """
    tally = tally or reading.Tally()
    return documents_of_rows(path, reading.json_rows(path, tally), tally)


def queries_of_rows(path: Path, rows: Rows, tally: reading.Tally) -> Iterator[Query]:
    """Queries of numbered rows with ``_id`` and ``text``, checked.

    Raises:
      InputError: ``file:line: field: value: remedy``; an empty query is an error.
    """
    return _strings(path, tally, "queries", _query, rows)


def read_queries(path: Path, tally: reading.Tally | None = None) -> Iterator[Query]:
    """The queries of a query file, in order.

    Raises:
      InputError: ``file:line: field: value: remedy``; an empty query is an error.
    """
    tally = tally or reading.Tally()
    return queries_of_rows(path, reading.json_rows(path, tally), tally)


def read_qrels(path: Path, tally: reading.Tally | None = None) -> Qrels:
    """Grades by query and document. A negative grade is counted and becomes 0.

    Raises:
      InputError: ``file:line: field: value: remedy``; for one pair with two grades the
        message names both lines.
    """
    tally = tally or reading.Tally()
    return judgements.read(path, tally)


def file_of(folder: Path, stem: str) -> Path:
    """``stem.jsonl`` or ``stem.jsonl.gz`` of a folder, whichever is there.

    Raises:
      InputError: If neither or both are.
    """
    found = [p for s in ("", ".gz") if (p := folder / f"{stem}.jsonl{s}").exists()]
    if len(found) == 1:
        return found[0]
    if found:
        raise errors.InputError(f"{found[0]}: {found[1].name} is there too: keep one")
    raise errors.InputError(f"{folder}: {stem}.jsonl[.gz]: missing: add it")


def splits_of(folder: Path) -> list[str]:
    """Names of the splits of a folder, sorted."""
    return sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))


def _checked_judgements(
    split: str,
    qrels: Qrels,
    queries: Mapping[str, Query],
    documents: set[str],
    tally: reading.Tally,
) -> Qrels:
    kept = {query: row for query, row in qrels.items() if query in queries}
    unknown = {
        "queries judged but not in the query file": len(qrels) - len(kept),
        "judgements of documents not in the corpus (kept, cannot be found)": sum(
            document not in documents for row in kept.values() for document in row
        ),
        "queries without a relevant document": sum(
            not any(row.values()) for row in kept.values()
        ),
    }
    for what, count in unknown.items():
        if count:
            tally.counts[f"{split}: {what}"] += count
    return kept


def read_collection(
    folder: Path,
    splits: Iterable[str] | None = None,
    *,
    lenient: bool = False,
) -> Collection:
    """The collection in a folder, whole in memory.

    A folder that `write_collection` made is first checked against its manifest.

    Args:
      folder: BEIR layout.
      splits: Those to read; all if None.
      lenient: Count and skip faulty lines instead of raising.

    Raises:
      InputError: ``file:line: field: value: remedy``.
      ArtifactError: If the folder is not as it was written.
    """
    if not folder.is_dir():
        raise errors.InputError(f"{folder}: not a folder: give a collection's folder")
    name = _verified_name(folder)
    tally = reading.Tally(lenient=lenient)
    corpus_path = file_of(folder, "corpus")
    documents = list(read_documents(corpus_path, tally))
    if not documents:
        raise errors.InputError(f"{corpus_path}: no documents: add some")
    queries = {q.id: q for q in read_queries(file_of(folder, "queries"), tally)}
    ids = {document.id for document in documents}
    wanted = splits_of(folder) if splits is None else list(splits)
    qrels: dict[str, Qrels] = {}
    for split in wanted:
        path = folder / "qrels" / f"{split}.tsv"
        found = read_qrels(path, tally)
        qrels[split] = _checked_judgements(split, found, queries, ids, tally)
    judged = {query for rows in qrels.values() for query in rows}
    if unjudged := len(queries.keys() - judged):
        tally.counts["queries in no split"] += unjudged
    facts: dict[str, Any] = {"reader": dict(sorted(tally.counts.items()))}
    if tally.examples:
        facts["first faults"] = dict(sorted(tally.examples.items()))
    return Collection(name, documents, queries, qrels, facts)


def _verified_name(folder: Path) -> str:
    path = folder / artifacts.MANIFEST
    default = folder.resolve().name
    if not path.is_file():
        return default
    value = artifacts.read_json(path)
    if not isinstance(value, dict) or "kind" not in value:
        return default  # Another maker's manifest: not ours to judge.
    manifest = artifacts.read_manifest(folder, kind=KIND, schema_version=SCHEMA_VERSION)
    return str(manifest.facts.get("name", default))


def _json_line(row: dict[str, str]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_rows(path: Path, rows: Iterable[str]) -> int:
    r"""Writes lines one by one, ``\n`` on every machine; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(row)
            count += 1
    return count


def document_line(document: Document) -> str:
    """The line of a document in the corpus file."""
    row = {"_id": document.id, "title": document.title, "text": document.text}
    return _json_line(row)


def query_line(query: Query) -> str:
    """The line of a query in the query file."""
    return _json_line({"_id": query.id, "text": query.text})


def write_collection(
    folder: Path,
    collection: Collection,
    *,
    config: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> artifacts.Manifest:
    """Writes a collection as a BEIR folder with a manifest, whole or not at all.

    The files are not packed: packed bytes depend on the zlib at hand, these do not.
    """
    with artifacts.staged(folder) as staged:
        write_rows(staged / "corpus.jsonl", map(document_line, collection.documents))
        write_rows(
            staged / "queries.jsonl", map(query_line, collection.queries.values())
        )
        for split, rows in collection.qrels.items():
            write_rows(staged / "qrels" / f"{split}.tsv", judgements.lines(rows))
        counted: dict[str, Any] = {
            "name": collection.name,
            "documents": len(collection.documents),
            "queries": len(collection.queries),
            "splits": judgements.counts(collection.qrels),
        }
        return artifacts.write_manifest(
            staged,
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            config=config,
            seeds=seeds,
            facts={**collection.facts, **counted, **dict(facts or {})},
        )
