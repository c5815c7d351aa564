"""Keys found by reading, and bounds without reading, against looking at every place."""

from __future__ import annotations

import numpy as np
import pytest

from gr_jax.core import randomness
from gr_jax.identifiers import substring_index
from gr_jax.score import keys, reading, rows

VOCABULARY = 14
Texts = list[list[int]]


def _corpus(seed: int) -> tuple[Texts, rows.Corpus]:
    """Rows of 0 to 15 tokens, more of them than documents, none of a document last."""
    rng = randomness.stream(seed, "reading")
    texts = [rng.integers(4, VOCABULARY, rng.integers(0, 16)).tolist() for _ in "x" * 9]
    texts[0] = [4, 5, 6]
    owner_R = np.array([0, 1, 2, 3, 4, 5, 2, 0, 2])
    starts_T = np.cumsum([0, *map(len, texts)])
    tokens_E = np.concatenate([np.array(text, np.int32) for text in texts])
    names = [f"d{place}" for place in range(6)]
    return texts, rows.Corpus(tokens_E, starts_T, owner_R, names, VOCABULARY)


def _flat(corpus: rows.Corpus, seed: int, count: int) -> keys.Flat:
    rng = randomness.stream(seed, "reading keys")
    made = {(4, 5): 0.0, (4,): 0.0}
    while len(made) < count:
        size = int(rng.integers(1, 4))
        made[tuple(rng.integers(4, VOCABULARY, size).tolist())] = 0.0
    index = substring_index.build(
        corpus.tokens_E, corpus.row_starts_T, vocabulary_size=VOCABULARY
    )
    query = keys.Keys(
        tokens=list(made),
        logprob_K=-rng.random(len(made)),
        is_title_K=rng.random(len(made)) < 0.3,
    )
    flat = keys.flat([query], len(corpus.tokens_E), index, keys.Settings())
    return keys.of_query(flat, 0, len(flat.weight_K))


def _by_hand(
    texts: Texts, corpus: rows.Corpus, flat: keys.Flat, chosen: list[int], document: int
) -> list[tuple[int, int]]:
    """``(key, place)`` of every occurrence in a document."""
    found, before = [], 0
    for row in np.flatnonzero(corpus.row_document_R == document).tolist():
        text = texts[row]
        for k in chosen:
            begin = int(flat.starts_T[k])
            key = flat.tokens_F[begin : begin + int(flat.length_K[k])].tolist()
            places = [0] if flat.is_title_K[k] else range(len(text))
            found += [
                (k, before + place)
                for place in places
                if text[place : place + len(key)] == key
            ]
        before += len(text)
    return sorted(found)


@pytest.mark.parametrize("seed", range(4))
def test_reading_finds_every_occurrence_and_bounds_hold(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some first tokens are common, some are not.
    monkeypatch.setattr(rows, "COMMON", 6)
    monkeypatch.setattr(rows, "_DOCUMENTS", 4)
    texts, corpus = _corpus(seed)
    flat = _flat(corpus, seed, 40)
    chosen = np.arange(seed % 2, len(flat.weight_K), 2)
    read = reading.Reading(flat, chosen, corpus)
    document_J = np.array([0, 2, 3, 5])
    found = read.find(document_J)
    bound_J = read.bounds(document_J)
    total = 0
    for group, document in enumerate(document_J.tolist()):
        mine = found.group_H == group
        pairs = zip(
            found.key_H[mine].tolist(), found.place_H[mine].tolist(), strict=True
        )
        expected = _by_hand(texts, corpus, flat, chosen.tolist(), document)
        assert sorted(pairs) == expected
        total += len(expected)
        held = {k for k, _ in expected}
        assert bound_J[group] >= sum(flat.weight_K[k] for k in held) - 1e-9
    assert total > 10
    # They are bounds of something: not every key is counted everywhere.
    assert bound_J.min() < flat.weight_K[chosen].sum() - 1e-6


def test_common_tokens_of_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "COMMON", 3)
    monkeypatch.setattr(rows, "_DOCUMENTS", 4)
    texts, corpus = _corpus(7)
    count_V = np.bincount(corpus.tokens_E, minlength=VOCABULARY)
    common = corpus.common
    held = np.unpackbits(common.bits_NxB, axis=1).astype(bool)
    assert sorted(common.bit_V)[-3:] == [0, 1, 2]
    for token in np.argsort(-count_V, kind="stable")[:3].tolist():
        for document in range(6):
            own = np.flatnonzero(corpus.row_document_R == document)
            is_in = any(token in texts[row] for row in own)
            assert held[document, common.bit_V[token]] == is_in
