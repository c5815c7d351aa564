"""The collection every machine has: documentation of Python and its installed packages.

A document is a qualified name and its docstring without the summary sentence; finding
the document from that sentence is the test. Train queries are other sentences,
descriptions of parameters, and questions made from the name.
"""

from __future__ import annotations

import dataclasses
import platform
import re
from collections import Counter
from collections.abc import Iterable
from importlib import metadata

from gr_jax.core import errors, randomness
from gr_jax.data import corpus, docstrings

NAME = "pydocs"
MOST_WORDS = 160
_TRAIN_SENTENCES = 4
_TRAIN_PARAMETERS = 3
_MOST_RELEVANT = 5
_QUERY_WORDS = (3, 32)
_PURPOSE = "pydocs"

_ROLE = re.compile(r":[a-zA-Z:]+:`~?([^`<]*?)\s*(?:<[^`]*>)?`")
_EXAMPLE = re.compile(r"^\s*>>>.*?(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"^\s*\.\. [^\n]*$", re.MULTILINE)
_RULE = re.compile(r"^\s*([-=~^*])\1{2,}\s*$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z0-9\"'(])")
_SIGNATURE = re.compile(r"^[\w.]+\([^\n]*\)?[^\n]*(?:->[^\n]*)?$")
_SECTION = re.compile(
    r"^\s*(?:Args|Arguments|Parameters|Returns?|Raises|Yields?|Notes?|Examples?"
    r"|See Also|References|Attributes|Methods|Other Parameters):?\s*$",
    re.MULTILINE,
)
_GOOGLE_PARAMETER = re.compile(
    r"^[ ]{2,}\*{0,2}(\w+)(?: \([^)]*\))?: +(\S[^\n]*)", re.M
)
_NUMPY_PARAMETER = re.compile(r"^(\w+)(?:, \w+)* : [^\n]*\n[ ]{2,}(\S[^\n]*)", re.M)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_|\.|(?<=[a-zA-Z])(?=[0-9])")
_WORD = re.compile(r"[^\W_]+")

_QUESTIONS = (
    "what does {words} do in {home}",
    "how do I use {words} of {home}",
    "{home} {words}",
    "documentation of {words} in {home}",
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One docstring, taken apart.

    Attributes:
      name: Qualified name.
      summary: The first sentence, or "" where it makes no query.
      text: Everything else, as running words.
      queries: Train queries, most telling first.
    """

    name: str
    summary: str
    text: str
    queries: tuple[str, ...]


def _plain(doc: str) -> str:
    """A docstring without markup, doctests and rules; line breaks are kept."""
    doc = _EXAMPLE.sub("\n\n", doc)
    doc = _DIRECTIVE.sub("", doc)
    doc = _RULE.sub("", doc)
    doc = _ROLE.sub(r"\1", doc)
    return doc.replace("``", "").replace("`", "").replace("**", "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def normal(text: str) -> str:
    """The form in which two texts count as the same: lower-case words."""
    return " ".join(_WORD.findall(text.lower()))


def _split_summary(plain: str) -> tuple[str, str]:
    """First sentence, and the rest; a signature in front of it is dropped."""
    paragraphs = re.split(r"\n\s*\n", plain.strip())
    while len(paragraphs) > 1 and _SIGNATURE.match(_one_line(paragraphs[0])):
        paragraphs = paragraphs[1:]
    first = _one_line(paragraphs[0])
    sentence, *others = _SENTENCE.split(first, maxsplit=1)
    rest = "\n\n".join([*others, *paragraphs[1:]])
    return sentence.strip(), rest


def _is_query(text: str) -> bool:
    least, most = _QUERY_WORDS
    words = _WORD.findall(text)
    letters = sum(character.isalpha() or character == " " for character in text)
    return least <= len(words) <= most and letters >= 0.75 * len(text)


def _sentences(rest: str) -> list[str]:
    prose = _SECTION.split(rest)[0]
    found = (
        _one_line(sentence)
        for paragraph in re.split(r"\n\s*\n", prose)
        for sentence in _SENTENCE.split(_one_line(paragraph))
    )
    return [sentence for sentence in found if _is_query(sentence)]


def _parameters(rest: str, words: str) -> list[str]:
    pairs = _NUMPY_PARAMETER.findall(rest) or _GOOGLE_PARAMETER.findall(rest)
    described = ((name, _SENTENCE.split(_one_line(text))[0]) for name, text in pairs)
    return [f"{words} {name}: {text}" for name, text in described if _is_query(text)]


def _name_words(name: str) -> tuple[str, str]:
    """Words of the last part of a name (class and method), and its package."""
    parts = name.split(".")
    own = parts[-2:] if len(parts) > 2 and parts[-2][:1].isupper() else parts[-1:]
    home = parts[: len(parts) - len(own)] or parts[:1]
    split = [word for part in own for word in _CAMEL.split(part) if word]
    return " ".join(split).lower(), " ".join(home)


def _questions(name: str, seed: int) -> list[str]:
    words, home = _name_words(name)
    first = int(randomness.rank_of(seed, _PURPOSE, name) * len(_QUESTIONS))
    chosen = (_QUESTIONS[first], _QUESTIONS[(first + 1) % len(_QUESTIONS)])
    return [question.format(words=words, home=home) for question in chosen]


def entry_of(documented: docstrings.Documented, seed: int) -> Entry | None:
    """A docstring taken apart; None where too little is left without its summary."""
    summary, rest = _split_summary(_plain(documented.doc))
    text = " ".join(rest.split()[:MOST_WORDS])
    if len(_WORD.findall(text)) < 8:
        return None
    words, _ = _name_words(documented.name)
    queries = [
        *_sentences(rest)[:_TRAIN_SENTENCES],
        *_parameters(rest, words)[:_TRAIN_PARAMETERS],
        *_questions(documented.name, seed),
    ]
    inside = normal(summary)
    shown = normal(f"{documented.name} {words} {text}")
    if not _is_query(summary) or inside in shown:
        return Entry(documented.name, "", text, tuple(dict.fromkeys(queries)))
    # A query that gives its document's summary away would make the test an echo.
    train = tuple(q for q in dict.fromkeys(queries) if inside not in normal(q))
    return Entry(documented.name, summary, text, train)


def _entries(seed: int) -> tuple[list[Entry], Counter[str]]:
    """Entries with different texts, in the order of names."""
    counts: Counter[str] = Counter()
    by_text: dict[str, Entry] = {}
    for documented in docstrings.installed():
        counts["documented objects"] += 1
        entry = entry_of(documented, seed)
        if entry is None:
            counts["too short without their summary"] += 1
        elif normal(entry.text) in by_text:
            counts["same text as another"] += 1
        else:
            by_text[normal(entry.text)] = entry
    return sorted(by_text.values(), key=lambda entry: entry.name), counts


def _sampled(names: Iterable[str], seed: int, what: str) -> list[str]:
    purpose = f"{_PURPOSE} {what}"
    return sorted(names, key=lambda name: randomness.rank_of(seed, purpose, name))


def _by_text(rows: Iterable[tuple[str, str]]) -> dict[str, tuple[str, list[str]]]:
    """Queries of one wording as one, with every document that they fit."""
    found: dict[str, tuple[str, list[str]]] = {}
    for text, document in rows:
        documents = found.setdefault(normal(text), (text, []))[1]
        if document not in documents:
            documents.append(document)
    return found


def _train(
    entries: list[Entry], barred: set[str], counts: Counter[str]
) -> list[tuple[str, list[str]]]:
    rows = ((query, entry.name) for entry in entries for query in entry.queries)
    kept: list[tuple[str, list[str]]] = []
    for key, (text, documents) in _by_text(rows).items():
        if key in barred:
            counts["train queries equal to a summary, left out"] += 1
        elif len(documents) > _MOST_RELEVANT:
            counts["train queries that fit too many documents, left out"] += 1
        else:
            kept.append((text, documents))
    return kept


def make(
    *,
    seed: int = 0,
    documents: int | None = None,
    test_queries: int = 300,
    dev_queries: int = 150,
) -> corpus.Collection:
    """The collection of this machine: train, dev and test over the same documents.

    Equal seeds and equal package versions give an equal collection; the versions are
    among its facts.

    Args:
      seed: Chooses documents and evaluation queries.
      documents: At most this many, chosen by the seed; all if None.
      test_queries: Summaries in the test split, at most.
      dev_queries: Summaries in the dev split, at most.

    Raises:
      UsageError: If fewer than two documents are asked for.
    """
    if documents is not None and documents < 2:
        raise errors.UsageError(f"pydocs: documents: {documents}: ask for 2 or more")
    entries, counts = _entries(seed)
    if documents is not None and documents < len(entries):
        chosen = set(_sampled([e.name for e in entries], seed, "documents")[:documents])
        entries = [entry for entry in entries if entry.name in chosen]
    summaries = _by_text((e.summary, e.name) for e in entries if e.summary)
    drawn = _sampled(summaries, seed, "summaries")[: test_queries + dev_queries]
    # Where there are few, both splits get their share of them.
    dev = len(drawn) * dev_queries // max(test_queries + dev_queries, 1)
    queries: dict[str, corpus.Query] = {}
    qrels: dict[str, corpus.Qrels] = {"train": {}, "dev": {}, "test": {}}

    def add(split: str, text: str, relevant: list[str]) -> None:
        query = corpus.Query(f"{split}-{len(qrels[split]):06d}", text)
        queries[query.id] = query
        qrels[split][query.id] = {document: 1 for document in relevant}

    for text, relevant in _train(entries, set(summaries), counts):
        add("train", text, relevant)
    for place, key in enumerate(drawn):
        add("dev" if place < dev else "test", *summaries[key])
    facts = {
        "versions": versions(),
        "made": dict(sorted(counts.items())),
        "summaries that could be queries": len(summaries),
    }
    rows = [corpus.Document(e.name, e.name, e.text) for e in entries]
    return corpus.Collection(NAME, rows, queries, qrels, facts)


def versions() -> dict[str, str]:
    """Versions of what is documented."""
    found = {"python": platform.python_version()}
    for package in docstrings.PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
