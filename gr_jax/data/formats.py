"""Other people's layouts: MS MARCO, DPR and TREC files as collections.

Each reader streams and names its faults as the BEIR reader does, so that an imported
folder reads back without one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts, errors
from gr_jax.data import corpus, judgements, question_files, reading

_DPR_HEADER = ["id", "text", "title"]
_TAG = re.compile(r"<[^>]+>")
_MARKUP = re.compile(r"BULLET::::|SECTION::::")
_NUMBER = re.compile(r"(?:Number:)?\s*(\S+)")

Documents = Callable[[Path, reading.Tally], Iterator[corpus.Document]]


def _tab_rows(
    path: Path, tally: reading.Tally, names: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in reading.lines(path, tally):
        cells = line.split("\t")
        if len(cells) != len(names):
            remedy = f"write {len(names)} columns: {', '.join(names)}"
            message = errors.fault(f"{path}:{number}", "columns", len(cells), remedy)
            tally.fault("wrong columns", message)
            continue
        yield number, dict(zip(names, cells, strict=True))


def msmarco_documents(path: Path, tally: reading.Tally) -> Iterator[corpus.Document]:
    """Passages of MS MARCO's ``collection.tsv``: id and text between a tab."""
    rows = _tab_rows(path, tally, ("_id", "text"))
    return corpus.documents_of_rows(path, rows, tally)


def msmarco_queries(path: Path, tally: reading.Tally) -> question_files.Queries:
    """Queries of MS MARCO's ``queries.*.tsv``: id and text between a tab."""
    rows = _tab_rows(path, tally, ("_id", "text"))
    return question_files.Queries(
        {q.id: q for q in corpus.queries_of_rows(path, rows, tally)}
    )


def trec_qrels(path: Path, tally: reading.Tally) -> corpus.Qrels:
    """Judgements in TREC's four columns: query, anything, document, grade.

    Raises:
      InputError: ``file:line: field: value: remedy``.
    """

    def cells(line: str) -> list[str]:
        found = line.split()
        if len(found) != 4:
            raise ValueError(
                f"columns: {len(found)}: write query, 0, document and grade"
            )
        return [found[0], found[2], found[3]]

    return judgements.of_rows(path, reading.lines(path, tally), cells, tally)


def _dpr_rows(path: Path, tally: reading.Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in reading.lines(path, tally):
        try:
            cells = question_files.quoted(line)
        except (csv.Error, StopIteration) as error:
            message = errors.fault(f"{path}:{number}", "line", line, f"mend: {error}")
            tally.fault("bad quoting", message)
            continue
        if number == 1 and cells == _DPR_HEADER:
            continue
        if len(cells) != len(_DPR_HEADER):
            remedy = "write id, text and title between tabs"
            message = errors.fault(f"{path}:{number}", "columns", len(cells), remedy)
            tally.fault("wrong columns", message)
            continue
        text = " ".join(_MARKUP.sub("", cells[1]).split())
        yield number, {"_id": cells[0], "title": cells[2].strip(), "text": text}


def dpr_documents(path: Path, tally: reading.Tally) -> Iterator[corpus.Document]:
    """Passages of DPR's ``psgs_w100.tsv``: id, text, title; no wiki markup."""
    return corpus.documents_of_rows(path, _dpr_rows(path, tally), tally)


def _blocks(path: Path, tally: reading.Tally, tag: str) -> Iterator[tuple[int, str]]:
    """Texts between ``<tag>`` and ``</tag>`` lines, with the number of the first."""
    start, held = 0, list[str]()
    for number, line in reading.lines(path, tally):
        word = line.strip().lower()
        if word == f"<{tag}>":
            start, held = number, []
        elif word == f"</{tag}>" and start:
            yield start, "\n".join(held)
            start = 0
        elif start:
            held.append(line)
    if start:
        raise errors.InputError(f"{path}:{start}: <{tag}>: never closed: get it anew")


def _element(block: str, *tags: str) -> str:
    """Text of the first of some tags, markup inside removed; topics close no tags."""
    for tag in tags:
        for end in (rf"</{tag}>", r"\n<|\Z"):
            pattern = rf"<{tag}>(.*?)(?:{end})"
            if match := re.search(pattern, block, re.IGNORECASE | re.DOTALL):
                return " ".join(_TAG.sub(" ", match[1]).split())
    return ""


def trec_documents(path: Path, tally: reading.Tally) -> Iterator[corpus.Document]:
    """Documents of a TREC file: ``<DOC>`` with ``<DOCNO>``, a headline, ``<TEXT>``."""
    rows = (
        (
            number,
            {
                "_id": _element(block, "docno"),
                "title": _element(block, "title", "headline", "head"),
                "text": _element(block, "text"),
            },
        )
        for number, block in _blocks(path, tally, "doc")
    )
    return corpus.documents_of_rows(path, rows, tally)


def trec_topics(path: Path, tally: reading.Tally) -> question_files.Queries:
    """Topics of a TREC file: the number, and the title as query."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, block in _blocks(path, tally, "top"):
        match = _NUMBER.match(_element(block, "num"))
        title = _element(block, "title")
        rows.append((number, {"_id": match[1] if match else "", "text": title}))
    return question_files.Queries(
        {q.id: q for q in corpus.queries_of_rows(path, rows, tally)}
    )


def beir_documents(path: Path, tally: reading.Tally) -> Iterator[corpus.Document]:
    """Documents of a ``corpus.jsonl``."""
    return corpus.read_documents(path, tally)


def beir_queries(path: Path, tally: reading.Tally) -> question_files.Queries:
    """Queries of a ``queries.jsonl``."""
    return question_files.Queries(
        {query.id: query for query in corpus.read_queries(path, tally)}
    )


DOCUMENTS: dict[str, Documents] = {
    "beir": beir_documents,
    "dpr": dpr_documents,
    "msmarco": msmarco_documents,
    "trec": trec_documents,
}
QUERIES: dict[str, Callable[[Path, reading.Tally], question_files.Queries]] = {
    "beir": beir_queries,
    "dpr": question_files.dpr_questions,
    "dpr-answers": question_files.dpr_answers,
    "msmarco": msmarco_queries,
    "trec": trec_topics,
    "triviaqa": question_files.triviaqa_questions,
}
QRELS: dict[str, Callable[[Path, reading.Tally], corpus.Qrels]] = {
    "beir": corpus.read_qrels,
    "trec": trec_qrels,
}


def read_queries(
    layout: str, path: Path, tally: reading.Tally, *, positives: int | None = 1
) -> question_files.Queries:
    """Queries of a maker's file, whichever of the maker's layouts it has.

    DPR's questions come as JSON, or with answers alone as CSV; with DPR's passages go
    TriviaQA's own files too.

    Args:
      layout: A name of `QUERIES`.
      path: The file; ``.gz`` is unpacked.
      tally: Counts what is passed over.
      positives: Relevant passages taken of each of DPR's questions; None for all.

    Raises:
      InputError: ``file:line: field: value: remedy``.
    """
    if layout != "dpr":
        return QUERIES[layout](path, tally)
    if path.name.removesuffix(".gz").endswith(".csv"):
        return question_files.dpr_answers(path, tally)
    first = next(reading.lines(path, reading.Tally()), (1, ""))[1]
    if first.lstrip().startswith("{"):
        return question_files.triviaqa_questions(path, tally)
    return question_files.dpr_questions(path, tally, positives=positives)


def write(
    folder: Path,
    name: str,
    documents: Iterator[corpus.Document],
    splits: Mapping[str, question_files.Queries],
    *,
    tally: reading.Tally,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> artifacts.Manifest:
    """Writes a collection folder while its documents stream by.

    Query ids get their split in front where two splits use the same ones. Answers go
    to ``answers/SPLIT.jsonl``.

    Args:
      folder: Written whole or not at all.
      name: Of the collection.
      documents: Read once.
      splits: Queries of each split, with judgements or answers.
      tally: What the readers counted; goes into the manifest.
      config: What was asked for.
      inputs: Digests of the files read.

    Raises:
      InputError: If there are no documents.
    """
    ids = [id for part in splits.values() for id in part.queries]
    prefixed = len(set(ids)) != len(ids)
    with artifacts.staged(folder) as staged:
        lines = map(corpus.document_line, documents)
        count = corpus.write_rows(staged / "corpus.jsonl", lines)
        if not count:
            raise errors.InputError(f"{name}: no documents: check the files")
        texts: list[corpus.Query] = []
        qrels: dict[str, corpus.Qrels] = {}
        for split, part in splits.items():
            prefix = f"{split}-" if prefixed else ""
            texts += [
                corpus.Query(prefix + query.id, query.text)
                for query in part.queries.values()
            ]
            judged = {prefix + id: part.qrels.get(id, {}) for id in part.queries}
            qrels[split] = {id: row for id, row in judged.items() if row}
            path = staged / "qrels" / f"{split}.tsv"
            corpus.write_rows(path, judgements.lines(qrels[split]))
            answers = [
                {"query": prefix + id, "answers": found}
                for id, found in part.answers.items()
            ]
            if answers:
                artifacts.write_jsonl(staged / "answers" / f"{split}.jsonl", answers)
        corpus.write_rows(staged / "queries.jsonl", map(corpus.query_line, texts))
        return artifacts.write_manifest(
            staged,
            kind=corpus.KIND,
            schema_version=corpus.SCHEMA_VERSION,
            config=config,
            inputs=inputs,
            facts={
                "name": name,
                "documents": count,
                "queries": len(texts),
                "splits": judgements.counts(qrels),
                "reader": dict(sorted(tally.counts.items())),
            },
        )
