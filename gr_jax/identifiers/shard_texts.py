"""A collection cut into shards of whole documents, each one text of dense tokens."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from gr_jax.core import errors
from gr_jax.identifiers import suffix_array, suffix_shard


def cut(starts_T: Int[np.ndarray, " T"], shards: int) -> Int[np.ndarray, " Z"]:
    """First document of each shard, and the number of documents last.

    Args:
      starts_T: Where each document starts, and the number of tokens last.
      shards: At least so many; more where one could not be indexed.

    Raises:
      InputError: If a document is too long for a shard.
    """
    documents = starts_T.size - 1
    # A separator a document and one before the first take space as well.
    size_T = starts_T + np.arange(documents + 1)
    limit = suffix_array.MAX_TOKENS - 1
    count = min(max(shards, -(-int(size_T[-1]) // limit)), documents)
    while True:
        goals = size_T[-1] * np.arange(1, count) / count
        inner = np.searchsorted(size_T, goals)
        # Every shard keeps at least one document.
        inner = np.clip(
            inner, np.arange(1, count), documents - np.arange(count - 1, 0, -1)
        )
        inner = np.maximum.accumulate(inner - np.arange(1, count)) + np.arange(1, count)
        cuts_Z = np.concatenate([[0], inner, [documents]]).astype(np.int64)
        if np.diff(size_T[cuts_Z]).max() <= limit:
            return cuts_Z
        if count == documents:
            raise errors.InputError(
                f"substring index: a document of more than {limit} tokens: split it"
            )
        count = min(documents, count + 1 + count // 8)


def dense(
    tokens_E: np.ndarray, starts_T: np.ndarray, token_of_dense_V: np.ndarray
) -> np.ndarray:
    """Dense tokens of some documents, a separator first and after each."""
    dtype = np.uint16 if token_of_dense_V.size <= 1 << 16 else np.uint32
    dense_of_token_V = np.zeros(int(token_of_dense_V[-1]) + 1, dtype)
    dense_of_token_V[token_of_dense_V[1:]] = np.arange(1, token_of_dense_V.size)
    part_E = tokens_E[starts_T[0] : starts_T[-1]]
    text_E = np.full(part_E.size + starts_T.size, suffix_shard.SEPARATOR, dtype)
    is_token = np.ones(text_E.size, bool)
    is_token[starts_T - starts_T[0] + np.arange(starts_T.size)] = False
    text_E[is_token] = dense_of_token_V[part_E]
    return text_E
