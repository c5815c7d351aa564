"""Codes against a plain residual quantiser, NumPy embeddings, and awkward inputs."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter

import numpy as np
import pytest

from gr_jax.core import errors, randomness
from gr_jax.identifiers import semantic_ids

LINE = "red fox river water dog wolf stone bridge moon sun star sea"
WORDS = LINE.split()


def _texts(count: int, seed: int = 0) -> list[str]:
    rng = randomness.stream(seed, "test texts")
    return [" ".join(rng.choice(WORDS, size=8).tolist()) for _ in range(count)]


def _plain_tfidf(texts: list[str]) -> np.ndarray:
    """Dense TF-IDF, one word at a time."""
    counts = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    columns = sorted({zlib.crc32(w.encode()) % (1 << 18) for c in counts for w in c})
    rows = np.zeros((len(texts), len(columns)))
    for n, counter in enumerate(counts):
        for word, count in counter.items():
            column = columns.index(zlib.crc32(word.encode()) % (1 << 18))
            documents = sum(word in other for other in counts)
            idf = math.log((1 + len(texts)) / (1 + documents)) + 1
            rows[n, column] = (1 + math.log(count)) * idf
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("dims", [3, 12, 40])
def test_embedding_is_the_best_projection(dims: int) -> None:
    texts = _texts(30)
    table = _plain_tfidf(texts)
    left, scale, _ = np.linalg.svd(table, full_matrices=False)
    rank = min(dims, 12)
    expected = left[:, :rank] * scale[:rank]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = semantic_ids.embed_tfidf_svd(texts, dims, seed=0)
    assert found.shape == (30, dims)
    # Inner products do not see the sign of a direction.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)
    assert not found[:, rank:].any()


def test_embedding_repeats_and_does_not_follow_the_start_vector() -> None:
    texts = _texts(30)
    first = semantic_ids.embed_tfidf_svd(texts, 5, seed=0)
    np.testing.assert_array_equal(first, semantic_ids.embed_tfidf_svd(texts, 5, seed=0))
    other = semantic_ids.embed_tfidf_svd(texts, 5, seed=1)
    np.testing.assert_allclose(first, other, atol=1e-5)


def test_texts_without_words_embed_to_zero() -> None:
    found = semantic_ids.embed_tfidf_svd(["?!", "red fox", ""], 4, seed=0)
    assert not found[[0, 2]].any()
    assert np.linalg.norm(found[1]) == pytest.approx(1)
    assert not semantic_ids.embed_tfidf_svd([""], 4, seed=0).any()


def _clusters(count: int, centre: np.ndarray, seed: int) -> np.ndarray:
    rng = randomness.stream(seed, "test clusters")
    label = np.arange(count) % len(centre)
    noise = rng.normal(scale=0.01, size=(count, centre.shape[1]))
    return (centre[label] + noise).astype(np.float32)


def test_residual_codes_separate_planted_clusters() -> None:
    far = np.array([[10, 0], [-10, 0], [0, 10], [0, -10]], np.float32)
    near = np.array([[0.5, 0.5], [-0.5, -0.5]], np.float32)
    centre = (far[:, None] + near).reshape(8, 2)
    code_NL = semantic_ids.residual_codes(
        _clusters(160, centre, 0), levels=2, codes=4, seed=0
    )
    label = np.arange(160) % 8
    assert code_NL.shape == (160, 2)
    assert code_NL.min() == 0
    assert code_NL.max() == 3
    assert len(np.unique(code_NL, axis=0)) == 8
    for cluster in range(8):
        assert len(np.unique(code_NL[label == cluster], axis=0)) == 1


def test_residual_codes_follow_the_seed() -> None:
    rows = semantic_ids.embed_tfidf_svd(_texts(100), 8, seed=0)
    one = semantic_ids.residual_codes(rows, levels=3, codes=8, seed=5)
    again = semantic_ids.residual_codes(rows, levels=3, codes=8, seed=5)
    np.testing.assert_array_equal(one, again)
    other = semantic_ids.residual_codes(rows, levels=3, codes=8, seed=6)
    assert (one != other).any()
    assert one.dtype == np.int32


@pytest.mark.parametrize("count", [4, 5, 8])
def test_fewer_documents_than_columns(count: int) -> None:
    rows = semantic_ids.embed_tfidf_svd(_texts(count), 64, seed=0)
    code_NL = semantic_ids.residual_codes(rows, levels=3, codes=4, seed=0)
    assert code_NL.shape == (count, 3)
    # As many codes as documents tell distinct texts apart.
    assert len(np.unique(code_NL, axis=0)) == count


@pytest.mark.parametrize("bits", [1, 3, 5, 8, 11])
def test_packed_codes_are_read_back(bits: int) -> None:
    rng = randomness.stream(0, "test bits", bits)
    code_NL = rng.integers(0, 1 << bits, size=(20, 5))
    width = -(-5 * bits // 8)
    packed = np.zeros((20, width), np.uint8)
    for n, row in enumerate(code_NL.tolist()):
        value = sum(code << (bits * level) for level, code in enumerate(row))
        packed[n] = list(value.to_bytes(width, "little"))
    np.testing.assert_array_equal(semantic_ids._unpacked(packed, 5, bits), code_NL)


def test_each_level_lowers_the_error() -> None:
    rows = semantic_ids.embed_tfidf_svd(_texts(200), 8, seed=0)
    previous = float(((rows - rows.mean(axis=0)) ** 2).sum())
    for levels in (1, 2, 3):
        codes = semantic_ids.residual_codes(rows, levels=levels, codes=4, seed=0)
        _, group = np.unique(codes, axis=0, return_inverse=True)
        means = np.stack(
            [rows[group == g].mean(axis=0) for g in range(group.max() + 1)]
        )
        error = float(((rows - means[group]) ** 2).sum())
        assert error < 0.9 * previous
        previous = error


def test_refusals() -> None:
    rows = np.zeros((6, 4), np.float32)
    with pytest.raises(errors.UsageError, match="power of 2"):
        semantic_ids.residual_codes(rows, levels=2, codes=6, seed=0)
    with pytest.raises(errors.InputError, match="at most 4"):
        semantic_ids.residual_codes(rows, levels=2, codes=8, seed=0)
    with pytest.raises(errors.InputError, match="no text"):
        semantic_ids.embed_tfidf_svd([], 4, seed=0)


@pytest.mark.parametrize("count", [1, 2, 7, 40, 120])
def test_kmeans_paths_are_distinct_and_no_path_begins_another(count: int) -> None:
    rows = semantic_ids.embed_tfidf_svd(_texts(count), 6, seed=0)
    paths = [tuple(p) for p in semantic_ids.kmeans_codes(rows, codes=4, seed=0)]
    assert len(set(paths)) == count
    assert all(0 <= code < 4 for path in paths for code in path)
    begun = {path[:length] for path in paths for length in range(1, len(path))}
    assert not begun & set(paths)
    assert paths == [tuple(p) for p in semantic_ids.kmeans_codes(rows, codes=4, seed=0)]


def test_equal_rows_are_cut_into_equal_parts() -> None:
    paths = semantic_ids.kmeans_codes(np.ones((64, 3), np.float32), codes=4, seed=0)
    assert {len(path) for path in paths} == {3}
    assert len({tuple(path) for path in paths}) == 64


def test_kmeans_puts_neighbours_under_one_code() -> None:
    centre = np.array([[5, 0], [-5, 0], [0, 5]], np.float32)
    paths = semantic_ids.kmeans_codes(_clusters(60, centre, 1), codes=3, seed=0)
    label = np.arange(60) % 3
    first = np.array([path[0] for path in paths])
    assert all(len(np.unique(first[label == cluster])) == 1 for cluster in range(3))
