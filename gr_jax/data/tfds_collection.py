"""Collections out of any TensorFlow dataset, its fields named by the user."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts, errors
from gr_jax.data import (
    corpus,
    formats,
    judgements,
    question_files,
    reading,
    tfds_reading,
)

_TEXTS = ("document_id", "title", "text")
_QUERIES = ("query_id", "query", "answers", "document_ids", "grades")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where a collection's parts are in TensorFlow Datasets.

    A row has a query and, in ``text``, the text it is answered by (or a list of them,
    with lists of titles, ids and grades beside it). Or the documents are another
    dataset, and ``document_ids`` names those a query is answered by.

    Attributes:
      dataset: The queries' dataset.
      splits: TFDS's split by our name of it.
      fields: Names of its fields by ours, by default the same: ``query``,
        ``query_id``, ``answers``, ``document_ids``, ``grades``; for documents in
        the rows themselves ``document_id``, ``title``, ``text``. A nested field is
        ``outer/inner``. A document without an id gets one from its content, a query its
        row's number.
      documents: Dataset of the documents, if it is another (its name, or a
        configuration of the same, as ``dpr_nq/passages``).
      documents_split: Its split.
      document_fields: Its fields, as above.
      positives: Documents taken of each query's ``document_ids``; 0 takes all.
    """

    dataset: tfds_reading.Dataset
    splits: Mapping[str, str]
    fields: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {name: name for name in _QUERIES}
    )
    documents: str | None = None
    documents_split: str = "corpus"
    document_fields: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {name: name for name in _TEXTS}
    )
    positives: int = 0

    def __post_init__(self) -> None:
        inline = self.documents is None
        _known(self.fields, (*_QUERIES, *(_TEXTS if inline else ())), "fields")
        _known(self.document_fields, _TEXTS, "document_fields")
        needed = "text" if inline else "document_ids"
        for name in ("query", needed):
            if name not in self.fields:
                remedy = f"map one of the dataset's fields to it: {name}=FIELD"
                raise errors.UsageError(
                    errors.fault(self.dataset, f"field {name}", None, remedy)
                )
        if not self.splits:
            raise errors.UsageError(f"{self.dataset}: splits: none: give train=train")


def _known(fields: Mapping[str, str], names: tuple[str, ...], where: str) -> None:
    for name in fields:
        if name not in names:
            remedy = f"ours are {', '.join(names)}"
            raise errors.UsageError(errors.fault("tfds", where, name, remedy))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _inline(
    row: Mapping[str, Any],
) -> Iterator[tuple[dict[str, str], int]]:
    """The documents of a row, each with its grade."""
    texts = _listed(row["text"])
    titles = _listed(row.get("title", ""))
    # One title may stand for all the texts of a row.
    titles = titles * len(texts) if len(titles) == 1 else titles
    given = _listed(row["document_id"]) if "document_id" in row else [None] * len(texts)
    grades = _listed(row["grades"]) if "grades" in row else [1] * len(texts)
    if not len(texts) == len(titles) == len(given) == len(grades):
        counts = [len(texts), len(titles), len(given), len(grades)]
        raise ValueError(f"text: {counts} texts, titles, ids, grades: lists must match")
    for text, title, id, grade in zip(texts, titles, given, grades, strict=True):
        found = hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()[:16]
        name = found if id is None else str(id)
        yield {"_id": name, "title": title, "text": text}, int(grade)


class _Reader:
    """One pass over the documents, one over each split's queries."""

    def __init__(self, source: Source, tally: reading.Tally):
        self._source = source
        self._tally = tally
        self._builder = tfds_reading.opened(source.dataset)
        tfds_reading.check(source.dataset, self._builder, source.fields)

    def _rows(self, split: str, names: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
        fields = {n: f for n, f in self._source.fields.items() if n in names}
        rows = tfds_reading.rows(self._source.dataset, self._builder, split, fields)
        yield from enumerate(rows, start=1)

    def _where(self, split: str) -> Path:
        return Path(f"{self._source.dataset}/{split}")

    def documents(self) -> Iterator[corpus.Document]:
        """Every document once."""
        source = self._source
        if source.documents is not None:
            other = dataclasses.replace(source.dataset, name=source.documents)
            asked = (source.documents_split, source.document_fields)
            rows = tfds_reading.rows(other, tfds_reading.opened(other), *asked)
            where = Path(f"{other}/{source.documents_split}")
            numbered = enumerate(
                ({**row, "_id": str(row.pop("document_id"))} for row in rows), start=1
            )
            yield from corpus.documents_of_rows(where, numbered, self._tally)
            return
        seen: set[str] = set()
        for split in dict.fromkeys(source.splits.values()):
            rows = self._inline_rows(split, seen)
            yield from corpus.documents_of_rows(self._where(split), rows, self._tally)

    def _inline_rows(
        self, split: str, seen: set[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        by_content = "document_id" not in self._source.fields
        for number, row in self._rows(split, _TEXTS):
            for document, _ in _inline(row):
                # The same content again is no fault; the same id with other content is.
                if by_content and document["_id"] in seen:
                    continue
                seen.add(document["_id"])
                yield number, document

    def queries(self, split: str) -> question_files.Queries:
        """The queries of one of TFDS's splits, judged."""
        where, found = self._where(split), question_files.Queries({})
        names = (*_QUERIES, *_TEXTS)
        for number, row in self._rows(split, names):
            id = str(row.get("query_id", number))
            given = {"_id": id, "text": row["query"]}
            for query in corpus.queries_of_rows(where, [(number, given)], self._tally):
                self._add(found, query, row, f"{where}:{number}")
        return found

    def _add(
        self, found: question_files.Queries, query: corpus.Query, row: Any, where: str
    ) -> None:
        earlier = found.queries.setdefault(query.id, query)
        if earlier != query:
            message = errors.fault(where, "query_id", query.id, "it has two texts")
            self._tally.fault("conflicting queries", message)
            return
        try:
            judged = [
                judgements.checked(query.id, document, str(grade))
                for document, grade in self._judged(row)
            ]
        except ValueError as error:
            self._tally.fault("bad judgements", f"{where}: {error}")
            return
        rows = found.qrels.setdefault(query.id, {})
        for _, document, grade in judged:
            rows[document] = max(grade, rows.get(document, 0))
        answers = found.answers.setdefault(query.id, [])
        listed = _listed(row["answers"]) if "answers" in row else []
        answers += [a for a in dict.fromkeys(map(str, listed)) if a not in answers]

    def _judged(self, row: Any) -> list[tuple[str, int]]:
        if "document_ids" not in row:
            return [(document["_id"], grade) for document, grade in _inline(row)]
        ids = [str(id) for id in _listed(row["document_ids"])]
        grades = _listed(row["grades"]) if "grades" in row else [1] * len(ids)
        if len(ids) != len(grades):
            raise ValueError(f"grades: {len(grades)} of {len(ids)} documents")
        pairs = list(zip(ids, map(int, grades), strict=True))
        return pairs[: self._source.positives or None]


def write(
    folder: Path,
    source: Source,
    *,
    name: str | None = None,
    lenient: bool = False,
) -> artifacts.Manifest:
    """Writes a BEIR folder; documents stream, queries are held.

    Args:
      folder: Written whole or not at all.
      source: Where the parts are.
      name: Of the collection; the dataset's unless given.
      lenient: Count and skip faulty rows instead of raising.

    Raises:
      UsageError: If dataset, split or field is unknown.
      ArtifactError: If the dataset is not prepared here.
      InputError: ``dataset/split:row: field: value: remedy``.
    """
    tally = reading.Tally(lenient=lenient)
    reader = _Reader(source, tally)
    splits = {ours: reader.queries(theirs) for ours, theirs in source.splits.items()}
    for part in splits.values():
        part.answers = {id: found for id, found in part.answers.items() if found}
    return formats.write(
        folder,
        name or source.dataset.name.split("/")[0].split(":")[0],
        reader.documents(),
        splits,
        tally=tally,
        config={
            "dataset": source.dataset.name,
            "splits": dict(source.splits),
            "fields": dict(source.fields),
            "documents": source.documents,
        },
    )
