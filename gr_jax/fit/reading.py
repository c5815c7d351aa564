"""Points from files: any CSV or JSONL of runs, through a mapping of its columns."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from gr_jax.core import errors
from gr_jax.fit import points as points_module

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns are what.

    A column is a name, a dotted path into nested JSON, or names and numbers joined by
    ``*`` and ``/``: ``Training FLOP/6/Model Size`` is the number of tokens.

    Attributes:
      x: One for each axis of the law.
      y: The metric.
      low: Lower end of its 95% interval, if there is one.
      high: Upper end.
      weight: A weight, or empty.
      label: What a point is called; the line number if empty.
      where: Column and the text it must have; other rows are left out, not faulty.
    """

    x: tuple[str, ...]
    y: str
    low: str = ""
    high: str = ""
    weight: str = ""
    label: str = ""
    where: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Points of a file and the faults of the lines that were left out."""

    points: points_module.Points
    faults: tuple[str, ...]


def read(path: Path, columns: Columns, *, is_lenient: bool = False) -> Reading:
    """The points of a CSV (by its suffix) or of a JSONL file.

    Args:
      path: The file.
      columns: The mapping.
      is_lenient: Leave faulty lines out and list them, instead of refusing the first.

    Raises:
      InputError: Names file, line, column, value and remedy.
    """
    kept: list[tuple[list[float], dict[str, float], str]] = []
    faults: list[str] = []
    for line, row in rows(path):
        if any(str(_lookup(row, name)) != text for name, text in columns.where):
            continue
        try:
            kept.append(_point(f"{path}:{line}", row, columns))
        except errors.InputError as error:
            if not is_lenient:
                raise
            faults.append(str(error))
    if not kept:
        raise errors.InputError(f"{path}: no point: check the columns and the filters")
    values = [value for _, value, _ in kept]
    return Reading(
        points=points_module.make(
            np.asarray([x for x, _, _ in kept], dtype=np.float64),
            np.asarray([v["y"] for v in values]),
            low_R=np.asarray([v["low"] for v in values]),
            high_R=np.asarray([v["high"] for v in values]),
            weight_R=np.asarray([v["weight"] for v in values]),
            labels=tuple(label for _, _, label in kept),
            axes=columns.x,
            metric=columns.y,
        ),
        faults=tuple(faults),
    )


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Line numbers and rows of a CSV or JSONL file.

    Raises:
      InputError: If the file is missing, not UTF-8, or a line is not what it should be.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                yield from _json_rows(path, file)
            else:
                yield from _csv_rows(path, file)
    except FileNotFoundError:
        raise errors.InputError(f"{path}: missing: give a CSV or JSONL file") from None
    except UnicodeDecodeError as error:
        raise errors.InputError(f"{path}: byte {error.start}: not UTF-8") from None


def _csv_rows(path: Path, file: Any) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(file, strict=True)
    names = reader.fieldnames or []
    if len(set(names)) != len(names):
        raise errors.InputError(f"{path}:1: a column occurs twice: name each once")
    try:
        for row in reader:
            table = cast(Row, row)
            if len(table) != len(names) or None in table.values():
                raise errors.InputError(
                    f"{path}:{reader.line_num}: {len(names)} columns in the header, "
                    "another number here: quote the commas"
                )
            yield reader.line_num, table
    except csv.Error as error:
        raise errors.InputError(f"{path}:{reader.line_num}: {error}") from None


def _json_rows(path: Path, file: Any) -> Iterator[tuple[int, Row]]:
    for number, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            row: Any = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            raise errors.InputError(f"{path}:{number}: not JSON: mend it") from None
        if not isinstance(row, dict):
            raise errors.InputError(f"{path}:{number}: not an object: mend it")
        yield number, cast(Row, row)


def _point(
    where: str, row: Row, columns: Columns
) -> tuple[list[float], dict[str, float], str]:
    x = [_number(where, row, name, is_positive=True) for name in columns.x]
    values = {"y": _number(where, row, columns.y), "weight": 1.0}
    for end, name in (("low", columns.low), ("high", columns.high)):
        values[end] = _number(where, row, name) if name else math.nan
    if columns.weight:
        values["weight"] = _number(where, row, columns.weight, is_positive=True)
    label = str(_lookup(row, columns.label)) if columns.label else where
    return x, values, label


def _lookup(row: Row, name: str) -> Any:
    """A column's value, by its name or by a dotted path; None where there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, dict):
            return None
        value = cast(Row, value).get(part)
    return value


def _number(where: str, row: Row, name: str, *, is_positive: bool = False) -> float:
    value = _lookup(row, name)
    if value is None and re.search(r"[*/]", name):
        result = _product(where, row, name)
    else:
        result = _plain_number(where, row, name)
    if is_positive and result <= 0:
        raise errors.InputError(
            errors.fault(where, name, value or result, "must be positive")
        )
    return result


def _plain_number(where: str, row: Row, name: str) -> float:
    value = _lookup(row, name)
    if isinstance(value, dict):
        # A table of parts, such as the FLOPs of a query: their sum.
        parts = cast(Row, value)
        return sum(_plain_number(where, parts, part) for part in parts)
    if value is None:
        listed = ", ".join(map(str, row))
        raise errors.InputError(
            errors.fault(where, name, None, f"no such column: there are {listed}")
        )
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if isinstance(value, bool) or not math.isfinite(result):
        raise errors.InputError(errors.fault(where, name, value, "must be a number"))
    return result


def _product(where: str, row: Row, text: str) -> float:
    parts = re.split(r"([*/])", text)
    result = 1.0
    for sign, part in zip(["*", *parts[1::2]], parts[::2], strict=True):
        name = part.strip()
        try:
            factor = float(name)
        except ValueError:
            factor = _plain_number(where, row, name)
        if sign == "/" and factor == 0:
            raise errors.InputError(errors.fault(where, text, 0, "division by zero"))
        result = result / factor if sign == "/" else result * factor
    return result
