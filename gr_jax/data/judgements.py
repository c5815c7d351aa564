"""Graded judgements: which document answers which query, and how well."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from gr_jax.core import errors
from gr_jax.data import reading

HEADER = ("query-id", "corpus-id", "score")
_GRADE_LIMIT = 1 << 31
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")

Qrels = dict[str, dict[str, int]]


def checked(query: str, document: str, score: str) -> tuple[str, str, int]:
    """One row of judgements, checked.

    Raises:
      ValueError: ``field: value: remedy``, to be put behind file and line.
    """
    reading.checked_id(query, "query-id")
    reading.checked_id(document, "corpus-id")
    if not _INTEGER.fullmatch(score.strip()):
        raise ValueError(f"score: {errors.shown(score)}: write an integer")
    grade = int(score)
    if abs(grade) >= _GRADE_LIMIT:
        raise ValueError(f"score: {grade}: too large for a grade")
    return query, document, grade


def _cells(line: str) -> list[str]:
    cells = line.split("\t")
    if len(cells) != len(HEADER):
        raise ValueError(
            f"columns: {len(cells)}: write query-id, corpus-id and score between tabs"
        )
    return cells


def _checked_header(path: Path, number: int, line: str) -> None:
    cells = line.split("\t")
    if tuple(cell.strip() for cell in cells) == HEADER:
        return
    remedy = "the first line must be query-id, corpus-id, score between tabs"
    if len(line.split()) == 4 and _INTEGER.fullmatch(line.split()[3]):
        remedy = "TREC judgements (4 columns, no header): `gr-jax corpus` imports them"
    raise errors.InputError(errors.fault(f"{path}:{number}", "header", line, remedy))


def of_rows(
    path: Path,
    rows: Iterable[tuple[int, str]],
    cells: Callable[[str], list[str]],
    tally: reading.Tally,
) -> Qrels:
    """Grades of numbered lines; ``cells`` makes query, document and score of a line.

    Raises:
      InputError: ``file:line: field: value: remedy``.
    """
    seen = reading.Seen(path, "judgements", tally)
    qrels: Qrels = {}
    for number, line in rows:
        try:
            query, document, grade = checked(*cells(line))
        except ValueError as error:
            tally.fault("bad judgements", f"{path}:{number}: {error}")
            continue
        if grade < 0:
            tally.counts["negative grades read as 0"] += 1
        if seen.is_new((query, document), number, grade, "score"):
            qrels.setdefault(query, {})[document] = max(grade, 0)
    return qrels


def read(path: Path, tally: reading.Tally) -> Qrels:
    """Grades by query and document, from a file under BEIR's header.

    Raises:
      InputError: ``file:line: field: value: remedy``.
    """
    rows = reading.lines(path, tally)
    first = next(rows, None)
    if first is None:
        raise errors.InputError(f"{path}: empty: write the header and judgements")
    _checked_header(path, *first)
    return of_rows(path, rows, _cells, tally)


def lines(qrels: Qrels) -> Iterator[str]:
    """The lines of a judgement file, header first."""
    yield "\t".join(HEADER) + "\n"
    for query, row in qrels.items():
        for document, grade in row.items():
            yield f"{query}\t{document}\t{grade}\n"


def counts(qrels: Mapping[str, Qrels]) -> dict[str, dict[str, int]]:
    """Queries and judgements of each split."""
    return {
        split: {"queries": len(rows), "judgements": sum(map(len, rows.values()))}
        for split, rows in qrels.items()
    }
