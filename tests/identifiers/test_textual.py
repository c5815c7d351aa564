"""Span sampling against a slow plain-Python sampler; substrings by construction."""

from __future__ import annotations

import math
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from gr_jax.core import errors, randomness
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import stopwords, textual

TEXTS = [
    ("Red Fox", "The quick red fox jumps over the lazy dog near the river bank."),
    ("Rivers", "A river carries water from the mountains to the sea, slowly."),
    ("", "Foxes, wolves and dogs are canids\u3000; café naïve 北京 \U0001f98a end"),
    ("Of the", "to be or not to be"),
    ("Alone", ""),
]
DOCUMENTS = [corpus.Document(f"d{i}", *pair) for i, pair in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> vocabularies.Vocabulary:
    folder = tmp_path_factory.mktemp("vocabulary") / "toy"
    texts = [f"{title} {text}" for title, text in TEXTS[:2]]
    return vocabularies.train(texts, folder, pieces=320)


@pytest.fixture(scope="module")
def passages(vocabulary: vocabularies.Vocabulary) -> list[textual.Passage]:
    return textual.passages(DOCUMENTS, vocabulary)


def _longest_common_subsequence(a: str, b: str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        above = row[:]
        for j, y in enumerate(b):
            row[j + 1] = above[j] + 1 if x == y else max(above[j + 1], row[j])
    return row[-1]


def _slow_weights(query: str, words: list[str]) -> dict[int, float]:
    """Weight of each start, as the reference describes it, pair by pair."""
    asked = query.lower().split()
    words = [word.lower() for word in words]
    weights: dict[int, float] = {}
    for j, word in enumerate(words):
        if word in stopwords.ENGLISH:
            continue
        weights[j] = 0.0
        b = " ".join(words[j : j + 3])
        for i in range(len(asked)):
            a = " ".join(asked[i : i + 3])
            share = 2 * _longest_common_subsequence(a, b) / (len(a) + len(b))
            weights[j] += round(100 * share) / 100
    return weights


QUERIES = ["Which red fox jumps over a dog?", "river water", "Ω", "where do foxes live"]


@pytest.mark.parametrize("query", QUERIES)
def test_weights_equal_the_slow_sampler(
    query: str, passages: list[textual.Passage]
) -> None:
    for passage in passages[:3]:
        slow = _slow_weights(query, list(passage.words))
        fast = textual.start_weights(query, passage.windows)
        assert set(np.flatnonzero(passage.can_start).tolist()) == set(slow)
        for start, weight in slow.items():
            assert fast[start] == pytest.approx(weight, abs=1e-9)


@hypothesis.settings(max_examples=80, deadline=None)
@hypothesis.given(
    strategies.text("ab c", max_size=12),
    strategies.lists(strategies.text("abc", min_size=1, max_size=4), max_size=6),
)
def test_weights_of_any_words(query: str, words: list[str]) -> None:
    windows = [" ".join(words[i : i + 3]) for i in range(len(words))]
    fast = textual.start_weights(query, windows)
    slow = _slow_weights(query, words)
    for start, weight in slow.items():
        assert fast[start] == pytest.approx(weight, abs=1e-9)


def test_starts_follow_the_softmax_of_the_weights(
    passages: list[textual.Passage],
) -> None:
    query, n = "red fox", 20_000
    rng = randomness.stream(0, "test")
    starts = textual.span_starts(query, passages[0], n, rng, title=True)
    slow = _slow_weights(query, list(passages[0].words))
    total = sum(math.exp(weight) for weight in slow.values())
    for start, weight in slow.items():
        share = math.exp(weight) / total
        error = math.sqrt(share * (1 - share) / n)
        assert abs((starts == start).mean() - share) < 5 * error


def test_without_a_start_the_first_span_comes_n_times(
    passages: list[textual.Passage],
) -> None:
    rng = randomness.stream(0, "test")
    assert not passages[3].can_start.any()
    spans = textual.sample_spans("anything", passages[3], rng, n=4)
    assert spans == [passages[3].span(0, 10, 10)] * 4
    # A query that agrees with nothing, and a query without a word.
    for query in ("Ω", "  "):
        starts = textual.span_starts(query, passages[0], 3, rng, title=False)
        assert starts.tolist() == [2, 2, 2]


def _is_substring(span: list[int], tokens: list[int]) -> bool:
    return any(
        tokens[i : i + len(span)] == span for i in range(len(tokens) - len(span) + 1)
    )


def test_spans_are_substrings_of_the_indexed_tokens(
    passages: list[textual.Passage], vocabulary: vocabularies.Vocabulary
) -> None:
    for document, passage in zip(DOCUMENTS, passages, strict=True):
        indexed = vocabulary.encode(f"{document.title} {document.text}".strip())
        assert passage.tokens_L.tolist() == indexed
        rng = randomness.stream(1, "test", document.id)
        spans = textual.sample_spans("red river dogs", passage, rng, n=30)
        spans += [span for _, span in textual.document_spans(passage, rng, n=30)]
        for span in spans:
            assert 1 <= len(span) <= 10
            assert _is_substring(span, indexed)


def test_words_are_those_of_the_text(
    passages: list[textual.Passage], vocabulary: vocabularies.Vocabulary
) -> None:
    expected = "Red Fox The quick red fox jumps over the lazy dog near the river bank."
    assert passages[0].words == tuple(expected.split())
    assert passages[0].first_body_word == 2
    # Ideographic space is white space to the vocabulary; bytes spell what it lacks.
    assert passages[2].words[-4:] == ("naïve", "北京", "\U0001f98a", "end")
    for passage in passages:
        assert len(passage.word_starts_T) == len(passage.words) + 1
        for i, word in enumerate(passage.words):
            tokens = passage.tokens_L[slice(*passage.word_starts_T[i : i + 2])]
            assert vocabulary.decode(tokens.tolist()) == word


def test_span_covers_whole_words_until_it_is_cut(
    passages: list[textual.Passage], vocabulary: vocabularies.Vocabulary
) -> None:
    whole = passages[0].span(3, 4, 1000)
    assert vocabulary.decode(whole) == "quick red fox jumps"
    assert passages[0].span(3, 4, 5) == whole[:5]


def test_title_can_be_kept_out(passages: list[textual.Passage]) -> None:
    rng = randomness.stream(0, "test")
    inside = textual.span_starts("red fox", passages[0], 500, rng, title=True)
    outside = textual.span_starts("red fox", passages[0], 500, rng, title=False)
    assert inside.min() == 0
    assert outside.min() >= 2


def test_pairs_depend_on_their_ids_alone(passages: list[textual.Passage]) -> None:
    queries = [corpus.Query(f"q{i}", text) for i, text in enumerate(QUERIES)]
    pairs = [(query, passage) for query in queries for passage in passages]
    forward = textual.sample_pairs(pairs, seed=7)
    backward = textual.sample_pairs(pairs[::-1], seed=7)
    assert forward == backward[::-1]
    assert forward != textual.sample_pairs(pairs, seed=8)


def test_document_spans_and_sources_are_apart(
    passages: list[textual.Passage], vocabulary: vocabularies.Vocabulary
) -> None:
    rng = randomness.stream(0, "test")
    text = " ".join(passages[0].words)
    for source, span in textual.document_spans(
        passages[0], rng, n=50, words=2, source_words=3
    ):
        assert source in text
        assert 1 <= len(source.split()) <= 3
        target = vocabulary.decode(span)
        places = [
            text[: i + 1].count(" ")
            for i in range(len(text))
            if text.startswith(source, i)
        ]
        starts = [i for i in range(len(text)) if text.startswith(target, i)]
        assert any(
            place + len(source.split()) <= text[: i + 1].count(" ")
            or place >= text[: i + 1].count(" ") + 2
            for place in places
            for i in starts
        )


def test_empty_documents_are_named(vocabulary: vocabularies.Vocabulary) -> None:
    empty = [corpus.Document("void", "", " \t ")]
    with pytest.raises(errors.InputError, match="void: text"):
        textual.passages(empty, vocabulary)


def test_query_ngrams_are_all_runs_in_all_forms(
    vocabulary: vocabularies.Vocabulary,
) -> None:
    found = textual.query_ngrams("is Red fox, isn't it?", vocabulary)
    texts = {vocabulary.decode(tokens) for tokens in found}
    words = ["is", "Red", "fox", "isn't", "it"]
    runs = [words[i:j] for i in range(5) for j in range(i + 1, min(i + 3, 5) + 1)]
    expected = set()
    for run in runs:
        made = [""]
        for word in run:
            made = [
                f"{before} {form}".strip()
                for before in made
                for form in (word.lower(), word.capitalize())
            ]
        expected |= set(made)
    assert texts == expected
    assert len(found) == len(texts)
    short = textual.query_ngrams("is Red fox, isn't it?", vocabulary, max_length=2)
    assert {tuple(t) for t in short} == {tuple(t) for t in found if len(t) <= 2}
    assert textual.query_ngrams(" ?! ", vocabulary) == []


@pytest.mark.data
def test_thousands_of_pairs_per_second(shared_data: Path, tmp_path: Path) -> None:
    collection = corpus.read_collection(shared_data / "squad-1k")
    documents = collection.documents[:200]
    texts = [document.text for document in documents]
    vocabulary = vocabularies.train(texts, tmp_path / "v", pieces=1000)
    made = textual.passages(documents, vocabulary)
    queries = [q for q in collection.queries.values() if q.text.strip()][:1000]
    pairs = [(q, made[i % len(made)]) for i, q in enumerate(queries)]
    began = time.perf_counter()
    textual.sample_pairs(pairs, seed=0)
    # A quarter of a second on two idle cores; the limit leaves room for a busy one.
    assert time.perf_counter() - began < 4
