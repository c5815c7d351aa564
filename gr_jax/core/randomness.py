"""Named streams of random numbers: the same name gives the same numbers anywhere.

A stream is named by a seed, a purpose and indices. Two purposes never share numbers,
and no stream depends on how many numbers another one has drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np


def _words(seed: int, purpose: str, indices: tuple[int | str, ...]) -> list[int]:
    name = "\x1f".join([str(int(seed)), purpose, *(str(i) for i in indices)])
    digest = hashlib.sha256(name.encode()).digest()
    return [int.from_bytes(digest[i : i + 8], "little") for i in range(0, 32, 8)]


def stream(seed: int, purpose: str, *indices: int | str) -> np.random.Generator:
    """The NumPy generator of one named stream (Philox, keyed by SHA-256).

    Example:
      >>> int(stream(0, "negatives", 3).integers(100))
      52
      >>> int(stream(0, "negatives", 4).integers(100))
      28
    """
    words = _words(seed, purpose, indices)
    key = np.array(words[:2], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def seed_of(seed: int, purpose: str, *indices: int | str) -> int:
    """A seed below 2^31 for a library that takes only an integer (jax.random.key)."""
    return _words(seed, purpose, indices)[0] & 0x7FFFFFFF


def rank_of(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends only on the name.

    Sorting by it gives nested subsets: the first half of a collection stays inside the
    first three quarters of it, whatever else the collection holds.
    """
    return _words(seed, purpose, (name,))[0] / 2.0**64
