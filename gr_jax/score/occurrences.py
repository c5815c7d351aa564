"""Where keys occur, which occurrences count, and what each adds to a document.

Array code behind `gr_jax.score.evidence`. An occurrence is a key at a place of a
document; a smaller key number means a stronger key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_MOST_CELLS = 1 << 22


def ranges(
    start_R: Int[np.ndarray, " R"], length_R: Int[np.ndarray, " R"]
) -> Int[np.ndarray, " X"]:
    """The numbers of all half-open ranges, one range behind the other.

    Example:
      >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
      [5, 6, 0, 1, 2]
    """
    before_R = np.cumsum(length_R) - length_R
    number_X = np.repeat(start_R - before_R, length_R)
    number_X += np.arange(len(number_X))
    return number_X


def where(is_chosen_X: Bool[np.ndarray, " X"]) -> Int[np.ndarray, " C"]:
    """The places of what is true: `numpy.flatnonzero` at half its price, if small."""
    return is_chosen_X.nonzero()[0]


def is_first(sorted_X: Int[np.ndarray, " X"]) -> Bool[np.ndarray, " X"]:
    """Where each run of equal numbers begins."""
    is_first_X = np.ones(len(sorted_X), bool)
    np.not_equal(sorted_X[1:], sorted_X[:-1], out=is_first_X[1:])
    return is_first_X


class Space:
    """Room for the places and documents of one query, kept from query to query.

    Fresh arrays of millions of places cost more to map than to use.
    """

    def __init__(self, documents: int) -> None:
        self._is_seen_N = np.zeros(documents, bool)
        self._slot_N = np.zeros(documents, np.int32)
        self._owner = np.zeros(0, np.int32)

    def owner(self, size: int) -> Int[np.ndarray, " S"]:
        """Room for a number a place; holds whatever was written there before."""
        if len(self._owner) < size:
            self._owner = np.zeros(2 * size, np.int32)
        return self._owner

    def slots(
        self, document_H: Int[np.ndarray, " H"]
    ) -> tuple[Int[np.ndarray, " G"], Int[np.ndarray, " H"]]:
        """The distinct documents, ascending, and the number of each among them."""
        self._is_seen_N[document_H] = True
        document_G = where(self._is_seen_N)
        self._is_seen_N[document_G] = False
        self._slot_N[document_G] = np.arange(len(document_G), dtype=np.int32)
        return document_G, self._slot_N.take(document_H)


class Occurrences(NamedTuple):
    """Occurrences of keys in documents.

    Attributes:
      group_H: Number of the document among those that are looked at.
      key_H: Key.
      place_H: Place of its first token in the document.
    """

    group_H: Int[np.ndarray, " H"]
    key_H: Int[np.ndarray, " H"]
    place_H: Int[np.ndarray, " H"]


def in_order(
    group_H: Int[np.ndarray, " H"],
    key_H: Int[np.ndarray, " H"],
    place_H: Int[np.ndarray, " H"],
    *,
    keys: int,
    longest: int,
) -> Occurrences:
    """Sorts by document, then strongest first, then by place.

    ``longest`` is the length of the longest document.

    The three numbers are packed into one, as sorting numbers is several times faster
    than sorting by them, and all three come back out of it.

    Example:
      >>> found = in_order(
      ...     np.array([1, 0, 1]), np.array([2, 5, 2]), np.array([7, 0, 3]),
      ...     keys=6, longest=8,
      ... )
      >>> [part.tolist() for part in found]
      [[0, 1, 1], [5, 2, 2], [0, 3, 7]]
    """
    place_bits, key_bits = longest.bit_length(), keys.bit_length()
    group_bits = int(group_H.max(initial=0)).bit_length()
    is_short = place_bits + key_bits + group_bits < 32
    dtype = np.int32 if is_short else np.int64
    packed_H = group_H.astype(dtype) << key_bits
    packed_H |= key_H.astype(dtype)
    packed_H <<= place_bits
    packed_H |= place_H.astype(dtype)
    packed_H.sort()
    pair_H = packed_H >> place_bits
    packed_H &= (1 << place_bits) - 1
    return Occurrences(pair_H >> key_bits, pair_H & ((1 << key_bits) - 1), packed_H)


def pairs(
    group_H: Int[np.ndarray, " H"], key_H: Int[np.ndarray, " H"]
) -> tuple[Int[np.ndarray, " U"], Int[np.ndarray, " U"]]:
    """Each key of each document once, of occurrences that are in order."""
    new = where(is_first(group_H) | is_first(key_H))
    return group_H.take(new), key_H.take(new)


def once(
    group_H: Int[np.ndarray, " H"],
    key_H: Int[np.ndarray, " H"],
    keys: int,
    space: Space,
) -> Int[np.ndarray, " U"]:
    """One occurrence of each key in each document, of occurrences in any order."""
    cells = (int(group_H.max(initial=-1)) + 1) * keys
    cell_H = group_H.astype(np.int64) * keys + key_H
    if cells > _MOST_CELLS:
        return np.unique(cell_H, return_index=True)[1]
    own_H = np.arange(len(cell_H), dtype=np.int32)
    last_C = space.owner(cells)
    last_C[cell_H] = own_H
    return where(last_C.take(cell_H) == own_H)


def settle(
    place_H: Int[np.ndarray, " H"],
    length_H: Int[np.ndarray, " H"],
    size: int,
    space: Space,
) -> Int[np.ndarray, " S"]:
    """Which occurrences remain when each, strongest first, needs free places.

    Equal to going through them in order and taking each that touches none taken
    before. Done in rounds instead: an occurrence that is the strongest at all its
    places is taken, whatever touches a taken one is out, the rest go round again.

    Args:
      place_H: First place of each, strongest first.
      length_H: Places of each, at least 1.
      size: Number of places.
      space: Scratch.

    Returns:
      Their numbers, ascending.
    """
    is_taken_H = np.ones(len(place_H), bool)
    owner = space.owner(size)
    # Of repeated places the last write stays, so the strongest is written last.
    live = np.arange(len(place_H), dtype=np.int32)[::-1]
    while len(live):
        length = length_H.take(live)
        place_X = ranges(place_H.take(live), length)
        own_X = np.repeat(live, length)
        owner[place_X] = own_X
        owner_X = owner.take(place_X)
        lost = where(owner_X != own_X)
        loser, winner = own_X.take(lost), owner_X.take(lost)
        waits_H = np.zeros(len(place_H), bool)
        waits_H[loser] = True
        # Whoever lost no place is taken, and nothing that it beat can follow it.
        out = loser[~waits_H.take(winner)]
        is_taken_H[out] = False
        waits_H[out] = False
        live = where(waits_H).astype(np.int32)[::-1]
    return where(is_taken_H)


class Uses(NamedTuple):
    """Keys of some documents of a query, strongest first.

    Attributes:
      start_T: Uses of document ``g`` are ``start_T[g]:start_T[g + 1]``.
      key_U: Key of each use.
      weight_U: What it adds.
      score_G: Sum of a document's weights.
    """

    start_T: Int[np.ndarray, " T"]
    key_U: Int[np.ndarray, " U"]
    weight_U: Float[np.ndarray, " U"]
    score_G: Float[np.ndarray, " G"]


def uses(
    group_U: Int[np.ndarray, " U"],
    key_U: Int[np.ndarray, " U"],
    weight_K: Float[np.ndarray, " K"],
    set_starts_T: Int[np.ndarray, " T"],
    set_tokens_F: Int[np.ndarray, " F"],
    *,
    repetition: float,
    space: Space,
) -> Uses:
    """What each key adds to each document it was found in.

    ``rep(n) = w(n) * (1 - beta + beta * |set(n) - cov| / |set(n)|)``, ``cov`` being the
    tokens of the stronger keys of the document (SEAL, aggregate_evidence).

    Args:
      group_U: Documents, numbered from 0, ascending, each with a key at least.
      key_U: Their keys (`pairs`).
      weight_K: Weight of each key.
      set_starts_T: Distinct tokens of key ``k`` are ``set_tokens_F[starts[k]:starts[k +
        1]]``.
      set_tokens_F: Those tokens, numbered from 0.
      repetition: ``beta``.
      space: Scratch.
    """
    start_G = where(is_first(group_U))
    repeats = repeated(group_U, key_U, set_starts_T, set_tokens_F, space)
    distinct_U = (set_starts_T[1:] - set_starts_T[:-1]).take(key_U)
    fresh_U = distinct_U - np.bincount(repeats, minlength=len(key_U))
    weight_U = weight_K.take(key_U) * whole(repetition, fresh_U / distinct_U)
    # One by one, strongest first: equal keys add up to equal scores, to the bit.
    score_G = np.bincount(group_U, weights=weight_U, minlength=len(start_G))
    return Uses(np.append(start_G, len(group_U)), key_U, weight_U, score_G)


def joined(parts: Sequence[Uses]) -> Uses:
    """The uses of several lots of documents as one."""
    before = np.cumsum([0, *(len(part.key_U) for part in parts)]).tolist()
    starts = [part.start_T[:-1] + b for part, b in zip(parts, before, strict=False)]
    return Uses(
        np.append(np.concatenate(starts), before[-1]),
        np.concatenate([part.key_U for part in parts]),
        np.concatenate([part.weight_U for part in parts]),
        np.concatenate([part.score_G for part in parts]),
    )


def taken(found: Uses, place_J: Int[np.ndarray, " J"]) -> Uses:
    """The uses of some documents, in another order."""
    first_J = found.start_T.take(place_J)
    length_J = found.start_T.take(place_J + 1) - first_J
    use_U = ranges(first_J, length_J)
    return Uses(
        np.append(0, np.cumsum(length_J)),
        found.key_U.take(use_U),
        found.weight_U.take(use_U),
        found.score_G.take(place_J),
    )


def whole(
    repetition: float, share_U: float | Float[np.ndarray, " U"] = 1.0
) -> float | Float[np.ndarray, " U"]:
    """The part of a key's weight that counts where a share of its tokens is fresh."""
    return 1 - repetition + repetition * share_U


def repeated(
    group_U: Int[np.ndarray, " U"],
    key_U: Int[np.ndarray, " U"],
    set_starts_T: Int[np.ndarray, " T"],
    set_tokens_F: Int[np.ndarray, " F"],
    space: Space,
) -> Int[np.ndarray, " X"]:
    """The uses with a token that an earlier use of their group has, once a token."""
    # Of repeated cells the last write stays, so the first use is written last.
    use_U = np.arange(len(group_U), dtype=np.int32)[::-1]
    key_U, group_U = key_U[::-1], group_U[::-1]
    first_U = set_starts_T.take(key_U)
    distinct_U = set_starts_T.take(key_U + 1) - first_U
    tokens = int(set_tokens_F.max(initial=0)) + 1
    cells = (int(group_U.max(initial=-1)) + 1) * tokens
    cell_X = set_tokens_F.take(ranges(first_U, distinct_U))
    cell_X += np.repeat(group_U.astype(np.int64) * tokens, distinct_U)
    use_X = np.repeat(use_U, distinct_U)
    if cells <= _MOST_CELLS:
        first_C = space.owner(cells)
        first_C[cell_X] = use_X
        return use_X.take(where(first_C.take(cell_X) != use_X))
    placed = np.argsort(cell_X[::-1], kind="stable")
    use_X = use_X[::-1]
    return use_X.take(placed[~is_first(cell_X[::-1].take(placed))])
