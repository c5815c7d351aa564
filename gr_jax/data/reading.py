"""Lines of text files, strictly: what is wrong with one is said with file and line."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from gr_jax.core import errors

LINE_LIMIT_BYTES = 16 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile("[\ud800-\udfff]")
_BREAKS_ID = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclasses.dataclass
class Tally:
    """What a reader met and went past.

    Attributes:
      lenient: Count and skip a faulty line instead of raising.
      counts: How often each thing was met, such as ``duplicate documents``.
      examples: The first message of each kind of skipped fault.
    """

    lenient: bool = False
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def fault(self, kind: str, message: str) -> None:
        """Raises `InputError`, or counts the fault where reading is lenient."""
        if not self.lenient:
            raise errors.InputError(message)
        self.counts[f"skipped: {kind}"] += 1
        self.examples.setdefault(kind, message)


def _open(path: Path) -> BinaryIO:
    if not path.is_file():
        remedy = "not a regular file" if path.exists() else "missing"
        raise errors.InputError(f"{path}: {remedy}: give the path of a file")
    try:
        file = path.open("rb")
    except OSError as error:
        raise errors.InputError(
            f"{path}: cannot be read ({error.strerror}): check its permissions"
        ) from None
    is_compressed = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    if is_compressed and path.suffix != ".gz":
        file.close()
        raise errors.InputError(f"{path}: gzip data: let its name end in .gz")
    if path.suffix == ".gz":
        # Reads every member of a file that was made by concatenation.
        return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb"))
    return file


def lines(path: Path, tally: Tally) -> Iterator[tuple[int, str]]:
    r"""Every line that is not blank, with its number; a BOM and ``\r`` are dropped.

    Only ``\n`` ends a line, as in JSON Lines. A name ending in ``.gz`` is unpacked.

    Raises:
      InputError: If the file cannot be read or unpacked to its end, or a line is too
        long or not UTF-8.
    """
    number = 0
    with _open(path) as file:
        while True:
            try:
                raw = file.readline(LINE_LIMIT_BYTES + 1)
            except (EOFError, OSError, zlib.error) as error:
                where = f"{path}:{number + 1}"
                raise errors.InputError(
                    f"{where}: cannot be read further ({error}): "
                    "truncated or damaged, get it anew"
                ) from None
            if not raw:
                return
            number += 1
            if len(raw) > LINE_LIMIT_BYTES:
                raise errors.InputError(
                    f"{path}:{number}: line: over {LINE_LIMIT_BYTES} bytes: split it"
                )
            text = _decoded(raw, path, number, tally)
            if text and text.strip():
                yield number, text


def _decoded(raw: bytes, path: Path, number: int, tally: Tally) -> str | None:
    if number == 1 and raw.startswith(_BOM):
        raw = raw[len(_BOM) :]
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        bad = raw[error.start : error.start + 8]
        message = errors.fault(
            f"{path}:{number}", f"byte {error.start}", bad, "save the file as UTF-8"
        )
        tally.fault("not UTF-8", message)
        return None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        repeated = next(k for k, n in Counter(k for k, _ in pairs).items() if n > 1)
        raise ValueError(f"key {repeated!r} is there twice")
    return row


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def json_rows(path: Path, tally: Tally) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every JSON object of a JSON Lines file, with its line number.

    Raises:
      InputError: As `lines`, and where a line is not one JSON object with unique keys.
    """
    for number, line in lines(path, tally):
        where = f"{path}:{number}"
        try:
            row = json.loads(
                line, object_pairs_hook=_unique_keys, parse_constant=_no_constant
            )
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or str(error)
            remedy = f"write one JSON object a line ({reason})"
            tally.fault("not JSON", errors.fault(where, "line", line, remedy))
            continue
        if not isinstance(row, dict):
            remedy = "write one JSON object a line"
            tally.fault("not an object", errors.fault(where, "line", line, remedy))
            continue
        yield number, row


def text_field(row: dict[str, Any], field: str, *, default: str | None = None) -> str:
    """A string of a row.

    Raises:
      ValueError: ``field: value: remedy``, to be put behind file and line.
    """
    value = row.get(field, default)
    if value is None and field not in row:
        raise ValueError(f"{field}: missing: give it")
    if not isinstance(value, str):
        raise ValueError(f"{field}: {errors.shown(value)}: write a string")
    if _SURROGATE.search(value):
        remedy = "half of a surrogate pair: remove it"
        raise ValueError(f"{field}: {errors.shown(value)}: {remedy}")
    if "\x00" in value:
        raise ValueError(f"{field}: {errors.shown(value)}: remove the NUL character")
    return value


def checked_id(value: str, field: str) -> str:
    """The identity of a row, byte for byte as it was written.

    Raises:
      ValueError: If it is blank, or holds a tab, a line break or a control character,
        which no judgement file could carry.
    """
    if not value.strip():
        raise ValueError(f"{field}: {value!r}: give every row an id")
    if _BREAKS_ID.search(value):
        remedy = "no tabs, line breaks or control characters in an id"
        raise ValueError(f"{field}: {errors.shown(value)}: {remedy}")
    return value


class Seen:
    """Which ids have come, where, and with what content (about 200 bytes an id)."""

    def __init__(self, path: Path, noun: str, tally: Tally):
        self._path = path
        self._noun = noun
        self._tally = tally
        self._rows: dict[object, tuple[int, int]] = {}

    def is_new(self, key: object, number: int, content: object, field: str) -> bool:
        """Whether the key comes for the first time; an equal repetition is counted.

        Raises:
          InputError: If the key came before with other content; names both lines.
        """
        mark = hash(content)
        first = self._rows.setdefault(key, (number, mark))
        if first[0] == number:
            return True
        if first[1] == mark:
            self._tally.counts[f"duplicate {self._noun}"] += 1
            return False
        remedy = f"line {first[0]} has it with other content: keep one"
        where = f"{self._path}:{number}"
        kind = f"conflicting {self._noun}"
        self._tally.fault(kind, errors.fault(where, field, key, remedy))
        return False
