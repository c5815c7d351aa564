"""Files of questions with answers and passages: DPR's and TriviaQA's own."""

from __future__ import annotations

import ast
import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gr_jax.core import errors
from gr_jax.data import corpus, judgements, reading

_CHUNK_CHARACTERS = 1 << 20


@dataclasses.dataclass
class Queries:
    """What one file of queries gives.

    Attributes:
      queries: By id.
      qrels: Judgements, where the file has them.
      answers: Answer strings by query id, where the file has them.
    """

    queries: dict[str, corpus.Query]
    qrels: corpus.Qrels = dataclasses.field(default_factory=dict)
    answers: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def quoted(line: str) -> list[str]:
    """Cells of a line between tabs, quotes taken off.

    Raises:
      csv.Error: If the quoting is broken.
    """
    return next(csv.reader([line], delimiter="\t", strict=True))


def json_items(
    path: Path, tally: reading.Tally, *, key: str | None = None
) -> Iterator[tuple[int, Any]]:
    """Items of a file that is one JSON array, numbered from 1, one held at a time.

    Args:
      path: The file.
      tally: Counts what is passed over.
      key: The array is the value of this key, the first of one JSON object.

    Raises:
      InputError: If the file is not one array; names the item.
    """
    what = "a JSON array" if key is None else f"a JSON object that begins with {key!r}"
    decoder = json.JSONDecoder()
    chunks = _chunks(path, tally)
    opening = re.compile(r"\[" if key is None else rf'\{{\s*"{key}"\s*:\s*\[')
    text, number, is_open = "", 0, False
    while True:
        text = text.lstrip(" \t\r\n," if number else " \t\r\n")
        if not is_open and (match := opening.match(text)):
            text, is_open = text[match.end() :], True
            continue
        if is_open and text[:1] == "]":
            return
        try:
            item, end = decoder.raw_decode(text)
        except (ValueError, RecursionError) as error:
            more = next(chunks, None)
            if more is None:
                where = f"{path}: item {number + 1}"
                remedy = f"the file must be one JSON array ({error})"
                raise errors.InputError(
                    errors.fault(where, "JSON", text[:80], remedy)
                ) from None
            text += more
            continue
        if not is_open:
            raise errors.InputError(f"{path}: not {what}: give the maker's file")
        number += 1
        yield number, item
        text = text[end:]


def _chunks(path: Path, tally: reading.Tally) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for _, line in reading.lines(path, tally):
        held.append(line)
        size += len(line)
        if size >= _CHUNK_CHARACTERS:
            yield "\n".join(held) + "\n"
            held, size = [], 0
    if held:
        yield "\n".join(held) + "\n"


def _question(item: Any) -> tuple[str, list[str], list[str]]:
    if not isinstance(item, dict):
        raise ValueError(f"item: {errors.shown(item)}: write a JSON object")
    positives = item.get("positive_ctxs", [])
    answers = item.get("answers", [])
    if not isinstance(positives, list) or not isinstance(answers, list):
        raise ValueError("positive_ctxs, answers: write lists")
    ids = [
        str(context.get("passage_id") or context.get("psg_id") or "")
        for context in positives
        if isinstance(context, dict)
    ]
    return reading.text_field(item, "question"), ids, [str(a) for a in answers]


def dpr_questions(
    path: Path, tally: reading.Tally, *, positives: int | None = 1
) -> Queries:
    """Questions of DPR's training files (``biencoder-*.json``), with their passages.

    Args:
      path: One JSON array; ``.gz`` is unpacked.
      tally: Counts what is passed over.
      positives: Relevant passages taken of each question, best first; None for all.

    Raises:
      InputError: ``file:item: field: value: remedy``.
    """
    found = Queries({})
    for number, item in json_items(path, tally):
        try:
            text, ids, answers = _question(item)
            rows = [judgements.checked(str(number), id, "1") for id in ids[:positives]]
        except ValueError as error:
            tally.fault("bad questions", f"{path}:{number}: {error}")
            continue
        if not rows:
            tally.counts["questions without a passage"] += 1
            continue
        query = corpus.Query(str(number), text)
        found.queries[query.id] = query
        found.qrels[query.id] = {document: 1 for _, document, _ in rows}
        found.answers[query.id] = answers
    return found


def dpr_answers(path: Path, tally: reading.Tally) -> Queries:
    """Questions of DPR's ``*.qa.csv``: question and a Python list of answers.

    There are no judgements: such a split is judged by answer match.
    """
    found = Queries({})
    for number, line in reading.lines(path, tally):
        try:
            question, answers = quoted(line)
            listed = ast.literal_eval(answers)
            if not isinstance(listed, list) or not question.strip():
                raise ValueError("a question and a list are needed")
        except (ValueError, SyntaxError, csv.Error, RecursionError, MemoryError):
            remedy = "write a question, a tab and a list of answers"
            message = errors.fault(f"{path}:{number}", "line", line, remedy)
            tally.fault("bad questions", message)
            continue
        query = corpus.Query(str(number), question)
        found.queries[query.id] = query
        found.answers[query.id] = [str(answer) for answer in listed]
    return found


def triviaqa_questions(path: Path, tally: reading.Tally) -> Queries:
    """Questions of TriviaQA's ``unfiltered-web-*.json``, with all their answers.

    There are no judgements: such a split is judged by answer match. The file without
    answers gives questions alone.

    Raises:
      InputError: ``file:item: field: value: remedy``.
    """
    found = Queries({})
    for number, item in json_items(path, tally, key="Data"):
        try:
            query, answers = _trivia(item)
        except ValueError as error:
            tally.fault("bad questions", f"{path}:{number}: {error}")
            continue
        found.queries[query.id] = query
        if answers:
            found.answers[query.id] = answers
    return found


def _trivia(item: Any) -> tuple[corpus.Query, list[str]]:
    if not isinstance(item, dict):
        raise ValueError(f"item: {errors.shown(item)}: write a JSON object")
    id = reading.checked_id(reading.text_field(item, "QuestionId"), "QuestionId")
    text = reading.text_field(item, "Question")
    if not text.strip():
        raise ValueError(f"Question: {text!r}: a query needs words")
    answer = item.get("Answer", {})
    if not isinstance(answer, dict) or not isinstance(answer.get("Aliases", []), list):
        raise ValueError(f"Answer: {errors.shown(answer)}: write Value and Aliases")
    listed = [answer["Value"]] if "Value" in answer else []
    listed += answer.get("Aliases", [])
    return corpus.Query(id, text), list(dict.fromkeys(map(str, listed)))
