"""Run and judgement files, read strictly and written so that they read back.

A run line is ``query Q0 document rank score tag``; a judgement line is either TREC's
``query 0 document grade`` or BEIR's ``query-id<TAB>corpus-id<TAB>score`` below that
header. Names ending in ``.gz`` are compressed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import itertools
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from gr_jax.core import artifacts, errors
from gr_jax.evaluate import metrics

BEIR_HEADER = ("query-id", "corpus-id", "score")
_SHOWN_FAULTS = 5
_LARGEST_GRADE = 1_000_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFile:
    """A run, best first, with what reading it settled."""

    run: dict[str, list[tuple[str, float]]]
    tag: str
    ties: int
    skipped: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class QrelsFile:
    """Judgements, with what reading them settled."""

    qrels: dict[str, dict[str, int]]
    form: Literal["beir", "trec"]
    duplicates: int
    negative: int
    without_relevant: int
    skipped: int


class _Faults:
    """Faults of one file: the first few are told, all are counted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.total = 0

    def add(self, where: str, field: str, value: object, remedy: str) -> None:
        self.total += 1
        if len(self.lines) < _SHOWN_FAULTS:
            self.lines.append(errors.fault(where, field, value, remedy))

    def raise_if_any(self) -> None:
        if self.total > len(self.lines):
            more = self.total - len(self.lines)
            self.lines.append(f"and {more} more faults ({self.total} in all)")
        if self.lines:
            raise errors.InputError("\n".join(self.lines))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """``(file:line, text)`` of every line that is not blank."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                # utf-8-sig on the first line alone: later a BOM is part of an id.
                codec = "utf-8-sig" if number == 1 else "utf-8"
                where = f"{path}:{number}"
                try:
                    text = bytes(raw).decode(codec).rstrip("\r\n")
                except UnicodeDecodeError as error:
                    byte = f"byte {error.start}"
                    raise errors.InputError(
                        errors.fault(where, byte, raw, "write the file in UTF-8")
                    ) from None
                if text.strip(" \t"):
                    yield where, text
    except FileNotFoundError:
        raise errors.InputError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise errors.InputError(
            f"{path}: damaged gzip file ({error}): fetch it again"
        ) from None
    except OSError as error:
        raise errors.InputError(f"{path}: {error.strerror}: cannot be read") from None


@dataclasses.dataclass(frozen=True)
class _Hit:
    document: str
    score: float
    rank: int
    where: str


def _parse_hit(where: str, text: str, faults: _Faults) -> tuple[str, _Hit, str] | None:
    columns = re.split(r"[ \t]+", text.strip(" \t"))
    if len(columns) != 6:
        faults.add(where, "columns", text, "write: query Q0 document rank score tag")
        return None
    query, _, document, rank, score, tag = columns
    if not _INTEGER.fullmatch(rank):
        faults.add(where, "rank", rank, "write an integer")
        return None
    if not _DECIMAL.fullmatch(score) or not math.isfinite(float(score)):
        faults.add(where, "score", score, "write a finite number")
        return None
    return query, _Hit(document, float(score), int(rank), where), tag


def _check_order(query: str, hits: list[_Hit], faults: _Faults) -> None:
    by_rank = sorted(hits, key=lambda hit: hit.rank)
    for above, below in itertools.pairwise(by_rank):
        if above.rank == below.rank:
            faults.add(below.where, "rank", below.rank, f"used twice for query {query}")
            return
        if above.score < below.score:
            faults.add(
                below.where,
                "rank",
                below.rank,
                "ranks contradict scores: write the best score first",
            )
            return


def read_run(
    path: Path, *, max_hits: int | None = None, strict: bool = True
) -> RunFile:
    """The run of a TREC run file.

    Args:
      path: The file.
      max_hits: More hits than this for one query are a fault.
      strict: Whether faults are errors; if not, their lines are skipped and counted,
        and ranks are ignored, as trec_eval ignores them.

    Returns:
      The run sorted by score, equal scores by document id; their number in ``ties``.

    Raises:
      InputError: Names the first faults as ``file:line: field: value: remedy``.
    """
    faults = _Faults()
    tags: dict[str, str] = {}
    found: dict[str, dict[str, _Hit]] = {}
    for where, text in _lines(path):
        parsed = _parse_hit(where, text, faults)
        if parsed is None:
            continue
        query, hit, tag = parsed
        tags.setdefault(tag, where)
        hits = found.setdefault(query, {})
        if hit.document in hits:
            first = hits[hit.document].where
            faults.add(where, "document", hit.document, f"already at {first}")
            continue
        hits[hit.document] = hit
    if len(tags) > 1:
        tag, where = list(tags.items())[1]
        faults.add(where, "tag", tag, f"the file began with {next(iter(tags))!r}")
    if not found and not faults.total:
        faults.add(str(path), "lines", 0, "the file is empty: decode first")
    for query, hits in found.items():
        _check_order(query, list(hits.values()), faults)
        if max_hits is not None and len(hits) > max_hits:
            faults.add(
                str(path), f"hits of {query}", len(hits), f"at most {max_hits} wanted"
            )
    if strict:
        faults.raise_if_any()
    run, ties = metrics.strictly_ordered(
        {
            query: [(hit.document, hit.score) for hit in hits.values()]
            for query, hits in found.items()
        }
    )
    tag = next(iter(tags), "")
    return RunFile(run=run, tag=tag, ties=ties, skipped=faults.total)


def _writable(field: str, name: str) -> str:
    if not name or re.search(r"\s", name):
        raise errors.InputError(
            errors.fault("run file", field, name, "ids may not hold white space here")
        )
    return name


def _write(path: Path, text: str) -> None:
    if path.suffix == ".gz":
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        # No time stamp inside: equal runs must be equal files.
        part.write_bytes(gzip.compress(text.encode(), mtime=0))
        with contextlib.suppress(FileNotFoundError):
            part.replace(path)
        return
    artifacts.write_text(path, text)


def write_run(path: Path, run: metrics.Run, *, tag: str = "gr-jax") -> None:
    """Writes a run file, queries in order, ranks from 1, scores that read back equal.

    Raises:
      InputError: If an id is empty or holds white space, a score is not finite, or a
        document is listed twice.
    """
    ordered, _ = metrics.strictly_ordered(run)
    _writable("tag", tag)
    lines: list[str] = []
    for query in sorted(ordered):
        _writable("query", query)
        for rank, (document, score) in enumerate(ordered[query], start=1):
            _writable("document", document)
            lines.append(f"{query} Q0 {document} {rank} {float(score)!r} {tag}\n")
    _write(path, "".join(lines))


def _parse_judgement(
    where: str, text: str, form: str, faults: _Faults
) -> tuple[str, str, int] | None:
    if form == "beir":
        columns = text.split("\t")
        remedy = "write: query-id<TAB>corpus-id<TAB>score"
        wanted = 3
    else:
        columns = re.split(r"[ \t]+", text.strip(" \t"))
        remedy = "write: query 0 document grade (or BEIR's header on the first line)"
        wanted = 4
    if len(columns) != wanted or not columns[0] or not columns[-2]:
        faults.add(where, "columns", text, remedy)
        return None
    query, document, grade = columns[0], columns[-2], columns[-1]
    if not _INTEGER.fullmatch(grade):
        faults.add(where, "grade", grade, "write an integer grade")
        return None
    if abs(int(grade)) > _LARGEST_GRADE:
        faults.add(where, "grade", grade, f"grades end at {_LARGEST_GRADE}")
        return None
    return query, document, int(grade)


def read_qrels(path: Path, *, strict: bool = True) -> QrelsFile:
    """The judgements of a TREC or BEIR file; the first line tells which it is.

    An equal line twice is counted and kept once; grades below zero are kept, counted,
    and gain nothing in `metrics`.

    Raises:
      InputError: Names the first faults as ``file:line: field: value: remedy``; two
        grades for one pair are a fault that names both lines.
    """
    faults = _Faults()
    qrels: dict[str, dict[str, int]] = {}
    first_seen: dict[tuple[str, str], str] = {}
    form: Literal["beir", "trec"] = "trec"
    duplicates = 0
    for place, (where, text) in enumerate(_lines(path)):
        if place == 0 and tuple(text.split("\t")) == BEIR_HEADER:
            form = "beir"
            continue
        parsed = _parse_judgement(where, text, form, faults)
        if parsed is None:
            continue
        query, document, grade = parsed
        grades = qrels.setdefault(query, {})
        if document not in grades:
            grades[document] = grade
            first_seen[query, document] = where
        elif grades[document] == grade:
            duplicates += 1
        else:
            other = first_seen[query, document]
            faults.add(where, "grade", grade, f"{grades[document]} at {other}")
    if not qrels and not faults.total:
        faults.add(str(path), "lines", 0, "no judgement in the file")
    if strict:
        faults.raise_if_any()
    values = [g for grades in qrels.values() for g in grades.values()]
    return QrelsFile(
        qrels=qrels,
        form=form,
        duplicates=duplicates,
        negative=sum(g < 0 for g in values),
        without_relevant=sum(
            not any(g > 0 for g in grades.values()) for grades in qrels.values()
        ),
        skipped=faults.total,
    )


def write_qrels(
    path: Path, qrels: metrics.Qrels, *, form: Literal["beir", "trec"] = "beir"
) -> None:
    """Writes judgements, queries and documents in order.

    Raises:
      InputError: If an id is empty or holds white space.
    """
    lines = ["\t".join(BEIR_HEADER) + "\n"] if form == "beir" else []
    for query in sorted(qrels):
        _writable("query", query)
        for document, grade in sorted(qrels[query].items()):
            _writable("document", document)
            if form == "beir":
                lines.append(f"{query}\t{document}\t{int(grade)}\n")
            else:
                lines.append(f"{query} 0 {document} {int(grade)}\n")
    _write(path, "".join(lines))
