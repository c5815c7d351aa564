"""Codes: short token sequences, shared beginnings for documents that are alike.

Embeddings come in from outside, or from `embed_tfidf_svd`, which needs no model. On one
thread, the default, every result is a function of the inputs and the seed.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

import faiss
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Float, Int

from gr_jax.core import errors, randomness

_BUCKETS = 1 << 18
_WORD = re.compile(r"\w+")
_KMEANS_ROUNDS = 20


def _hashed_counts(texts: Sequence[str]) -> scipy.sparse.csr_array:
    """Word counts of every text, words hashed into 2^18 columns."""
    columns: list[int] = []
    counts: list[int] = []
    starts = [0]
    known: dict[str, int] = {}
    for text in texts:
        for word, count in sorted(Counter(_WORD.findall(text.lower())).items()):
            if word not in known:
                # CRC-32 is the same on every machine; hash() is not.
                known[word] = zlib.crc32(word.encode()) % _BUCKETS
            columns.append(known[word])
            counts.append(count)
        starts.append(len(columns))
    table = scipy.sparse.csr_array(
        (np.array(counts, np.float64), np.array(columns), np.array(starts)),
        shape=(len(texts), _BUCKETS),
    )
    table.sum_duplicates()
    return table


def _tfidf(texts: Sequence[str]) -> tuple[scipy.sparse.csr_array, int]:
    """Rows ``(1 + ln tf) * (ln((1 + n) / (1 + df)) + 1)`` of unit length; columns."""
    table = _hashed_counts(texts)
    occurring, column = np.unique(table.indices, return_inverse=True)
    documents_V = np.bincount(column, minlength=len(occurring))
    idf_V = np.log((1 + len(texts)) / (1 + documents_V)) + 1
    table.data = (1 + np.log(table.data)) * idf_V[column]
    # Columns that never occur would only widen the decomposition.
    table = scipy.sparse.csr_array(
        (table.data, column.astype(np.int32), table.indptr),
        shape=(len(texts), len(occurring)),
    )
    length_N = np.sqrt(table.multiply(table).sum(axis=1))
    scale = scipy.sparse.diags_array(1 / np.where(length_N > 0, length_N, 1))
    return scipy.sparse.csr_array(scale @ table), len(occurring)


def embed_tfidf_svd(
    texts: Sequence[str], dims: int, seed: int
) -> Float[np.ndarray, "N D"]:
    """Unit-length embeddings of texts from their words alone (float32).

    Hashed TF-IDF, then the leading ``dims`` singular directions; each direction is
    turned so that its largest component is positive. Where the texts span fewer
    directions, the columns left over are zero.

    Args:
      texts: One a document; a document's training queries may be appended to its text.
      dims: Columns wanted.
      seed: Decides the start vector of the decomposition.

    Raises:
      InputError: If there is no text.
    """
    if not texts:
        raise errors.InputError("embeddings: no text: give a collection")
    table, columns = _tfidf(texts)
    rows = len(texts)
    rank = min(dims, rows, columns)
    embedding_ND = np.zeros((len(texts), dims), np.float32)
    if not rank:
        return embedding_ND
    if rank < min(rows, columns):
        rng = randomness.stream(seed, "svd")
        start = rng.uniform(0.5, 1.0, size=min(rows, columns))
        left, scale, right = _leading(table, rank, start)
    else:
        # ARPACK finds fewer than all directions; so small a table is done densely.
        left, scale, right = np.linalg.svd(table.toarray(), full_matrices=False)
    order = np.argsort(-scale, kind="stable")[:rank]
    largest = np.abs(right[order]).argmax(axis=1)
    sign = np.sign(right[order, largest])
    projected = left[:, order] * (scale[order] * sign)
    length_N1 = np.linalg.norm(projected, axis=1, keepdims=True)
    embedding_ND[:, :rank] = projected / np.where(length_N1 > 0, length_N1, 1)
    return embedding_ND


def _leading(
    table: scipy.sparse.csr_array, rank: int, start: Float[np.ndarray, " N"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found: Any = scipy.sparse.linalg.svds(table, k=rank, v0=start)
    return found


@contextlib.contextmanager
def _threads(count: int) -> Generator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def residual_codes(
    embeddings_ND: Float[np.ndarray, "N D"],
    *,
    levels: int,
    codes: int,
    seed: int,
    threads: int = 1,
) -> Int[np.ndarray, "N L"]:
    """Residual-quantised codes: level ``l`` quantises what levels before it left.

    Args:
      embeddings_ND: float32 rows.
      levels: ``L``, codes of a document.
      codes: Codes a level may take: a power of two, at most the number of documents.
      seed: Decides the centroids.
      threads: More are faster, and may round differently.

    Returns:
      int32 codes in ``[0, codes)``.

    Raises:
      UsageError: If ``codes`` is no power of two.
      InputError: If there are fewer documents than codes.
    """
    bits = codes.bit_length() - 1
    if codes < 2 or codes != 1 << bits:
        raise errors.UsageError(f"identifiers (rq): codes: {codes}: give a power of 2")
    if len(embeddings_ND) < codes:
        most = 1 << (len(embeddings_ND).bit_length() - 1)
        raise errors.InputError(
            f"identifiers (rq): codes: {codes} for {len(embeddings_ND)} documents: "
            f"give at most {most}"
        )
    rows_ND = np.ascontiguousarray(_turned(embeddings_ND), np.float32)
    quantizer = faiss.ResidualQuantizer(rows_ND.shape[1], levels, bits)
    quantizer.cp.seed = randomness.seed_of(seed, "residual codes")
    quantizer.cp.min_points_per_centroid = 1
    # Codes are prefixes to generate, so each level is chosen on its own: the search
    # over several levels that FAISS makes by default costs level 1 half its entropy
    # (2.9 of 6 bits against 5.8 on 1,000 passages) and twice the collisions.
    quantizer.max_beam_size = 1
    with _threads(threads):
        quantizer.train(rows_ND)
        packed = quantizer.compute_codes(rows_ND)
    return _unpacked(packed, levels, bits)


def _turned(rows_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """The rows in at most ``N`` columns, distances unchanged: FAISS needs D <= N."""
    if rows_ND.shape[1] <= len(rows_ND):
        return rows_ND
    left, scale, _ = np.linalg.svd(rows_ND, full_matrices=False)
    return left * scale


def _unpacked(
    packed_NxB: Int[np.ndarray, "N B"], levels: int, bits: int
) -> Int[np.ndarray, "N L"]:
    """Codes of ``bits`` bits each, the first in the lowest bits of the first byte."""
    bits_Nx = np.unpackbits(packed_NxB, axis=1, bitorder="little")
    digits = bits_Nx[:, : levels * bits].reshape(len(packed_NxB), levels, bits)
    weight = 1 << np.arange(bits, dtype=np.int32)
    return (digits.astype(np.int32) * weight).sum(axis=2, dtype=np.int32)


def kmeans_codes(
    embeddings_ND: Float[np.ndarray, "N D"], *, codes: int, seed: int, threads: int = 1
) -> list[list[int]]:
    """Hierarchical k-means codes (DSI, NCI): the path of clusters to each document.

    A cluster of at most ``codes`` documents numbers them; a larger one is split again.
    One that k-means cannot split (equal documents) is cut into equal parts, so codes
    are always distinct.
    """
    rows_ND = np.ascontiguousarray(embeddings_ND, np.float32)
    paths: list[list[int]] = [[] for _ in rows_ND]
    waiting: list[Int[np.ndarray, " N"]] = [np.arange(len(rows_ND))]
    split = 0
    while waiting:
        members_N = waiting.pop()
        if len(members_N) <= codes:
            label_N = np.arange(len(members_N))
        else:
            split_seed = randomness.seed_of(seed, "k-means", split)
            label_N = _clusters(rows_ND[members_N], codes, split_seed, threads)
            split += 1
            if label_N.min() == label_N.max():
                label_N = np.arange(len(members_N)) * codes // len(members_N)
            parts = [members_N[label_N == label] for label in np.unique(label_N)]
            waiting += [part for part in reversed(parts) if len(part) > 1]
        for member, label in zip(members_N.tolist(), label_N.tolist(), strict=True):
            paths[member].append(label)
    return paths


def _clusters(
    rows_ND: Float[np.ndarray, "N D"], count: int, seed: int, threads: int
) -> Int[np.ndarray, " N"]:
    kmeans = faiss.Kmeans(
        rows_ND.shape[1],
        count,
        niter=_KMEANS_ROUNDS,
        seed=seed,
        min_points_per_centroid=1,
    )
    with _threads(threads):
        kmeans.train(rows_ND)
        _, label_N = kmeans.assign(rows_ND)
    return label_N
