"""Identifiers that are text: substrings of a document, its title, its pseudo-queries.

An n-gram identifier is a run of whole words of a document, spelt by the tokens that the
document itself has in the index, so every sampled target is a substring of it by
construction: words are groups of the document's tokens, never tokenised again.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from rapidfuzz import fuzz, process

from gr_jax.core import errors, randomness
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import stopwords

WINDOW_WORDS = 3
SPAN_WORDS = 10
_WORD_MARK = "▁"
_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*")


@dataclasses.dataclass(frozen=True)
class Passage:
    """A document as it stands in the index: tokens, and the words they spell.

    Attributes:
      id: The document's id.
      tokens_L: Tokens of title and text.
      word_starts_T: Word ``i`` is ``tokens_L[word_starts_T[i]:word_starts_T[i + 1]]``.
      words: The words as the vocabulary normalises them, in their own case.
      first_body_word: How many words the title has.
    """

    id: str
    tokens_L: Int[np.ndarray, " L"]
    word_starts_T: Int[np.ndarray, " T"]
    words: tuple[str, ...]
    first_body_word: int

    @functools.cached_property
    def windows(self) -> list[str]:
        """The lower-case window of three words from each word, shorter at the end."""
        return _windows(self.words)

    @functools.cached_property
    def can_start(self) -> Bool[np.ndarray, " T"]:
        """Which words may begin a span: those that are no stop words."""
        return np.array([w.lower() not in stopwords.ENGLISH for w in self.words], bool)

    def span(self, start: int, words: int, max_length: int) -> list[int]:
        """Tokens of ``words`` words from a start, cut to ``max_length`` tokens."""
        stop = min(start + words, len(self.words))
        first, last = int(self.word_starts_T[start]), int(self.word_starts_T[stop])
        return self.tokens_L[first : min(last, first + max_length)].tolist()

    def text(self, start: int, stop: int) -> str:
        """The words of a range, joined by spaces."""
        return " ".join(self.words[start:stop])


@functools.lru_cache(maxsize=8)
def _begins_word(vocabulary: vocabularies.Vocabulary) -> Bool[np.ndarray, " V"]:
    pieces = (vocabulary.piece(token) for token in range(vocabulary.size))
    return np.array([piece.startswith(_WORD_MARK) for piece in pieces], bool)


def indexed_text(document: corpus.Document) -> str:
    """Title and text as the index spells them."""
    return f"{document.title} {document.text}".strip()


def tokens_of_documents(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    max_tokens: int | None = None,
) -> list[Int[np.ndarray, " L"]]:
    """The token sequence of every document, as the index holds it.

    Raises:
      InputError: If a document has neither title nor text.
    """
    texts = [indexed_text(document) for document in documents]
    encoded = vocabulary.encode_batch(texts)
    for document, tokens in zip(documents, encoded, strict=True):
        if not tokens:
            raise errors.InputError(
                errors.fault(document.id, "text", document.text, "give it a text")
            )
    return [np.asarray(tokens[:max_tokens], np.int32) for tokens in encoded]


def tokens_of_document(
    document: corpus.Document,
    vocabulary: vocabularies.Vocabulary,
    max_tokens: int | None = None,
) -> Int[np.ndarray, " L"]:
    """The token sequence of one document, as the index holds it."""
    return tokens_of_documents([document], vocabulary, max_tokens)[0]


def passages(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    max_tokens: int | None = None,
) -> list[Passage]:
    """Documents made ready for sampling spans; make them once and keep them."""
    rows = tokens_of_documents(documents, vocabulary, max_tokens)
    titles = vocabulary.encode_batch([document.title for document in documents])
    return [
        _passage(document, tokens_L, len(title), vocabulary)
        for document, tokens_L, title in zip(documents, rows, titles, strict=True)
    ]


def _passage(
    document: corpus.Document,
    tokens_L: Int[np.ndarray, " L"],
    title_tokens: int,
    vocabulary: vocabularies.Vocabulary,
) -> Passage:
    begins_L = _begins_word(vocabulary)[tokens_L]
    begins_L[0] = True
    starts = np.flatnonzero(begins_L)
    words = vocabulary.decode(tokens_L.tolist()).split(" ")
    if len(words) != len(starts):
        # A piece that spells a space of its own: read the words one by one.
        groups = np.split(tokens_L, starts[1:])
        words = [vocabulary.decode(group.tolist()) for group in groups]
    return Passage(
        id=document.id,
        tokens_L=tokens_L,
        word_starts_T=np.append(starts, len(tokens_L)),
        words=tuple(words),
        first_body_word=int(begins_L[:title_tokens].sum()) if title_tokens else 0,
    )


def _windows(words: Sequence[str]) -> list[str]:
    lowered = [word.lower() for word in words]
    return [" ".join(lowered[i : i + WINDOW_WORDS]) for i in range(len(lowered))]


def start_weights(query: str, windows: Sequence[str]) -> Float[np.ndarray, " J"]:
    """How well each window of a passage agrees with a query.

    ``w_j = sum_i ratio(query window i, passage window j) / 100`` over the query's
    windows of three words, ``ratio`` being the similarity ``2 * matches / length``
    rounded to a whole per cent (SEAL, make_supervised_dpr_dataset).

    Example:
      >>> start_weights("red fox", ["red fox", "blue"]).tolist()
      [1.6, 0.18]
    """
    query_windows = _windows(query.split())
    if not query_windows or not windows:
        return np.zeros(len(windows))
    ratio_QT = process.cdist(
        query_windows, windows, scorer=fuzz.ratio, dtype=np.float32
    )
    return np.rint(ratio_QT).sum(axis=0, dtype=np.float64) / 100


def span_starts(
    query: str, passage: Passage, n: int, rng: np.random.Generator, *, title: bool
) -> Int[np.ndarray, " J"]:
    """First words of ``n`` spans, drawn with replacement from ``softmax(weights)``.

    Args:
      query: What the spans should be about.
      passage: Where they stand.
      n: How many.
      rng: Decides the draws.
      title: Whether a span may begin in the title.

    Returns:
      Places of words. # Differs from facebookresearch/SEAL:scripts: where no word can
      begin a span, or none agrees with the query, the reference returns the first span
      once; here it is returned ``n`` times.
    """
    first = 0 if title else passage.first_body_word
    is_start_T = passage.can_start.copy()
    is_start_T[:first] = False
    start_J = np.flatnonzero(is_start_T)
    if not len(start_J):
        return np.full(n, min(first, len(passage.words) - 1))
    weight_J = start_weights(query, [passage.windows[j] for j in start_J.tolist()])
    if not weight_J.any():
        return np.full(n, min(first, len(passage.words) - 1))
    mass_J = np.cumsum(np.exp(weight_J - weight_J.max()))
    drawn = np.searchsorted(mass_J, rng.random(n) * mass_J[-1], side="right")
    return start_J[np.minimum(drawn, len(start_J) - 1)]


def sample_spans(
    query: str,
    passage: Passage,
    rng: np.random.Generator,
    *,
    n: int = 10,
    words: int = SPAN_WORDS,
    max_length: int = 10,
    title: bool = True,
) -> list[list[int]]:
    """Tokens of ``n`` spans of a passage that agree with a query.

    Args:
      query: The query's text.
      passage: The document.
      rng: Decides the draws; name its stream by query and document.
      n: Spans to draw, with replacement.
      words: Words of a span; fewer at the passage's end.
      max_length: Tokens kept of each.
      title: Whether a span may begin in the title. # Differs from SEAL, whose body
        spans begin in the text; there the title is an identifier of its own.

    Returns:
      ``n`` token lists, each a substring of ``passage.tokens_L``.
    """
    start_n = span_starts(query, passage, n, rng, title=title)
    return [passage.span(start, words, max_length) for start in start_n.tolist()]


def sample_pairs(
    pairs: Iterable[tuple[corpus.Query, Passage]],
    *,
    seed: int,
    n: int = 10,
    words: int = SPAN_WORDS,
    max_length: int = 10,
    title: bool = True,
) -> list[list[list[int]]]:
    """Spans of many (query, document) pairs; a pair's draws depend on its ids alone."""
    return [
        sample_spans(
            query.text,
            passage,
            randomness.stream(seed, "spans", query.id, passage.id),
            n=n,
            words=words,
            max_length=max_length,
            title=title,
        )
        for query, passage in pairs
    ]


def document_spans(
    passage: Passage,
    rng: np.random.Generator,
    *,
    n: int = 3,
    words: int = SPAN_WORDS,
    max_length: int = 10,
    source_words: int = 24,
) -> list[tuple[str, list[int]]]:
    """Training pairs of a document with itself: a chunk, and a span from elsewhere.

    Starts are uniform over the words that may begin a span. The source is a run of
    words that does not touch the target, from the longer side or, where both sides are
    long enough, from either; a document too short for two runs is its own source.
    """
    start_J = np.flatnonzero(passage.can_start)
    if not len(start_J):
        start_J = np.zeros(1, np.int64)
    drawn = start_J[rng.integers(len(start_J), size=n)].tolist()
    choice_nx2 = rng.random((n, 2)).tolist()
    rows: list[tuple[str, list[int]]] = []
    for start, (side, place) in zip(drawn, choice_nx2, strict=True):
        stop = min(start + words, len(passage.words))
        first, last = _source_range(start, stop, len(passage.words), source_words, side)
        room = max(0, last - first - source_words)
        begin = first + int(place * (room + 1))
        source = passage.text(begin, min(begin + source_words, last))
        rows.append((source, passage.span(start, words, max_length)))
    return rows


def _source_range(
    start: int, stop: int, words: int, wanted: int, side: float
) -> tuple[int, int]:
    left, right = start, words - stop
    if left == right == 0:
        return 0, words
    if min(left, right) >= wanted:
        return (0, start) if side < left / (left + right) else (stop, words)
    return (0, start) if left >= right else (stop, words)


def query_ngrams(
    query: str,
    vocabulary: vocabularies.Vocabulary,
    *,
    max_words: int = 3,
    max_length: int | None = None,
) -> list[list[int]]:
    """Tokens of every run of one to three words of a query, without repetition.

    Each word comes as it is written, with a small and with a capital first letter, in
    every combination: documents begin sentences where queries do not. A run that spells
    more than ``max_length`` tokens is left out. Whether a run occurs anywhere is for an
    index to say.
    """
    found: dict[tuple[int, ...], None] = {}
    words = [match.group() for match in _WORD.finditer(query)]
    for first in range(len(words)):
        for stop in range(first + 1, min(first + max_words, len(words)) + 1):
            forms = [_forms(word) for word in words[first:stop]]
            texts = [" ".join(chosen) for chosen in itertools.product(*forms)]
            for tokens in map(vocabulary.encode, texts):
                if tokens and (max_length is None or len(tokens) <= max_length):
                    found[tuple(tokens)] = None
    return [list(tokens) for tokens in found]


def _forms(word: str) -> list[str]:
    head, tail = word[0], word[1:]
    return list(dict.fromkeys([word, head.lower() + tail, head.upper() + tail]))
