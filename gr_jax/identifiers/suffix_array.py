"""Suffix array of a token sequence, sorted by libdivsufsort and then checked."""

from __future__ import annotations

import numpy as np
import pydivsufsort
from jaxtyping import Int, Integer, UInt

from gr_jax.core import errors

MAX_TOKENS = 1 << 28
"""Longest sequence: at four bytes a token its byte positions still fit 31 bits."""

_CHUNK = 1 << 22


def bytes_per_token(alphabet: int) -> int:
    """Bytes that hold one token below ``alphabet``."""
    return max(1, (max(alphabet - 1, 1).bit_length() + 7) // 8)


def _big_endian(text_E: UInt[np.ndarray, " E"], width: int) -> np.ndarray:
    """Tokens as ``width`` bytes each, highest byte first, so bytes sort as tokens."""
    packed_Ex = np.empty((text_E.size, width), np.uint8)
    for place in range(width):
        shift = 8 * (width - 1 - place)
        packed_Ex[:, place] = (text_E >> text_E.dtype.type(shift)) & 0xFF
    return packed_Ex.reshape(-1)


def suffix_array(
    text_E: UInt[np.ndarray, " E"], *, alphabet: int
) -> Int[np.ndarray, " E"]:
    """Starts of all suffixes in the order of their tokens; a prefix sorts first.

    The bytes of the tokens are sorted and every suffix that starts inside a token is
    dropped: suffixes at token starts compare as the tokens do.

    Args:
      text_E: Tokens, each below ``alphabet``. Remap them densely before: every byte a
        token does not need saves a third or more of the time.
      alphabet: One more than the largest token.

    Returns:
      A permutation of ``0 … E-1``, int32, checked with `check_order`.

    Raises:
      ResourceError: If the sequence is longer than `MAX_TOKENS`; use shards.

    Example:
      >>> suffix_array(np.array([2, 1, 2, 1], np.uint16), alphabet=3).tolist()
      [3, 1, 2, 0]
    """
    if text_E.size > MAX_TOKENS:
        raise errors.ResourceError(
            f"suffix array: {text_E.size} tokens in one shard: at most {MAX_TOKENS}: "
            "build with more shards"
        )
    if text_E.size == 0:
        return np.zeros(0, np.int32)
    width = bytes_per_token(alphabet)
    byte_order = pydivsufsort.divsufsort(_big_endian(text_E, width))
    order_E = np.empty(text_E.size, np.int32)
    filled = 0
    for start in range(0, byte_order.size, _CHUNK):
        part = byte_order[start : start + _CHUNK]
        kept = part[part % width == 0] // width
        order_E[filled : filled + kept.size] = kept
        filled += kept.size
    check_order(text_E, order_E)
    return order_E


def check_order(
    text_E: UInt[np.ndarray, " E"], order_E: Integer[np.ndarray, " E"]
) -> None:
    """Proves in linear time that ``order_E`` is the suffix array of ``text_E``.

    Neighbours must differ in their first token, or agree in it and have their rests in
    order; by induction on length the whole is then sorted (Burkhardt and Kärkkäinen
    2003).

    Raises:
      ArtifactError: If it is not.
    """
    size = text_E.size
    place_E = np.full(size + 1, -1, np.int32)
    place_E[order_E] = np.arange(size, dtype=np.int32)
    is_sorted = bool(np.all(place_E[:size] >= 0)) and order_E.size == size
    # The empty suffix sorts before all: its place stays -1.
    for start in range(0, size - 1, _CHUNK):
        if not is_sorted:
            break
        stop = min(start + _CHUNK, size - 1)
        rows = order_E[start : stop + 1]
        tokens = text_E[rows]
        rests = place_E[rows + 1]
        is_less = tokens[:-1] < tokens[1:]
        is_tied = (tokens[:-1] == tokens[1:]) & (rests[:-1] < rests[1:])
        is_sorted = bool(np.all(is_less | is_tied))
    if not is_sorted:
        raise errors.ArtifactError(
            "suffix array: rows out of order: the index is damaged: build it anew"
        )
