"""Where keys occur, which occurrences count, and what each adds to a document.

Array code behind `gr_jax.score.evidence`. An occurrence is a key at a place; a smaller
key number means a stronger key. Places are local: the rows that are looked at, laid end
to end.
"""

from __future__ import annotations

import itertools
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
    total = int(length_R.sum())
    return np.repeat(start_R - before_R, length_R) + np.arange(total)


def distinct(
    starts_T: Int[np.ndarray, " T"], tokens_F: Int[np.ndarray, " F"]
) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " G"]]:
    """The set of tokens of each ragged row, in the same form.

    Example:
      >>> starts, tokens = distinct(np.array([0, 3, 4]), np.array([7, 2, 7, 5]))
      >>> starts.tolist(), tokens.tolist()
      ([0, 2, 3], [2, 7, 5])
    """
    row_F = np.repeat(np.arange(len(starts_T) - 1), np.diff(starts_T))
    tokens = int(tokens_F.max(initial=0)) + 1
    row_G, token_G = np.divmod(np.unique(row_F * tokens + tokens_F), tokens)
    count_R = np.bincount(row_G, minlength=len(starts_T) - 1)
    return np.append(0, np.cumsum(count_R)), token_G


def order(number_H: Int[np.ndarray, " H"], limit: int) -> Int[np.ndarray, " H"]:
    """Places sorted by a number in ``[0, limit)``, equal ones as they came.

    NumPy sorts 16-bit numbers by radix, several times faster than longer ones, so
    longer ones are sorted in passes of 16 bits.
    """
    placed = np.argsort(number_H.astype(np.uint16), kind="stable")
    shift = 16
    while limit > 1 << shift:
        digit_H = (number_H >> shift).astype(np.uint16)
        placed = placed[np.argsort(digit_H[placed], kind="stable")]
        shift += 16
    return placed


class Space:
    """Room for the places of one query, kept from query to query.

    Fresh arrays of millions of places cost more to map than to use.
    """

    def __init__(self, rows: int) -> None:
        self.is_seen_R = np.zeros(rows, bool)
        self.slot_R = np.zeros(rows, np.int32)
        self._owner = np.zeros(0, np.int32)
        self._is_used = np.zeros(0, bool)

    def places(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """``(owner, is_used)``, the latter all false; whoever sets it clears it."""
        if len(self._owner) < size:
            self._owner = np.zeros(2 * size, np.int32)
            self._is_used = np.zeros(2 * size, bool)
        return self._owner, self._is_used

    def slots(
        self, row_H: Int[np.ndarray, " H"]
    ) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " H"]]:
        """The distinct rows, ascending, and the number of each row among them."""
        self.is_seen_R[row_H] = True
        row_S = np.flatnonzero(self.is_seen_R)
        self.is_seen_R[row_S] = False
        self.slot_R[row_S] = np.arange(len(row_S), dtype=np.int32)
        return row_S, self.slot_R.take(row_H)


def settle(
    place_H: Int[np.ndarray, " H"],
    length_H: Int[np.ndarray, " H"],
    size: int,
    space: Space,
) -> Bool[np.ndarray, " H"]:
    """Which occurrences remain when each, strongest first, needs free places.

    Equal to going through them in order and taking each that touches none taken
    before. Done in rounds instead: an occurrence that is the strongest at all its
    places is taken, whatever touches a taken place is out, the rest go round again.

    Args:
      place_H: First place of each, strongest first.
      length_H: Places of each, at least 1.
      size: Number of places.
      space: Scratch.
    """
    is_taken_H = np.zeros(len(place_H), bool)
    owner, is_used = space.places(size)
    taken: list[np.ndarray] = []
    live = np.arange(len(place_H))
    while len(live):
        length = length_H.take(live)
        place_X = ranges(place_H.take(live), length)
        order_X = np.repeat(np.arange(len(live), dtype=np.int32), length)
        # Of repeated places the last write stays, so the strongest is written last.
        owner[place_X[::-1]] = order_X[::-1]
        first = np.cumsum(length) - length
        wins = np.logical_and.reduceat(owner.take(place_X) == order_X, first)
        is_taken_H[live[wins]] = True
        taken.append(place_X[wins.take(order_X)])
        is_used[taken[-1]] = True
        live = live[~np.logical_or.reduceat(is_used.take(place_X), first)]
    for place_X in taken:
        is_used[place_X] = False
    return is_taken_H


class Uses(NamedTuple):
    """Keys of each document of a query, strongest first.

    Attributes:
      document_G: The documents, ascending.
      start_T: Uses of document ``g`` are ``start_T[g]:start_T[g + 1]``.
      key_U: Key of each use.
      weight_U: What it adds.
      score_G: Sum of a document's weights.
    """

    document_G: Int[np.ndarray, " G"]
    start_T: Int[np.ndarray, " T"]
    key_U: Int[np.ndarray, " U"]
    weight_U: Float[np.ndarray, " U"]
    score_G: Float[np.ndarray, " G"]


def uses(
    document_G: Int[np.ndarray, " G"],
    group_H: Int[np.ndarray, " H"],
    key_H: Int[np.ndarray, " H"],
    weight_K: Float[np.ndarray, " K"],
    set_starts_T: Int[np.ndarray, " T"],
    set_tokens_F: Int[np.ndarray, " F"],
    *,
    repetition: float,
) -> Uses:
    """What each key adds to each document it was found in, once a document.

    ``rep(n) = w(n) * (1 - beta + beta * |set(n) - cov| / |set(n)|)``, ``cov`` being the
    tokens of the stronger keys of the document (SEAL, aggregate_evidence).

    Args:
      document_G: Documents that occurrences are counted for.
      group_H: Place of each occurrence's document among them.
      key_H: Its key, ascending.
      weight_K: Weight of each key.
      set_starts_T: Distinct tokens of key ``k`` are ``set_tokens_F[starts[k]:starts[k +
        1]]``.
      set_tokens_F: Those tokens, numbered from 0.
      repetition: ``beta``.
    """
    placed = order(group_H, len(document_G))
    group_H, key_H = group_H.take(placed), key_H.take(placed)
    is_new_H = _is_first(group_H) | _is_first(key_H)
    group_U, key_U = group_H[is_new_H], key_H[is_new_H]
    start_G = np.flatnonzero(_is_first(group_U))
    start_T = np.append(start_G, len(group_U))
    length_K = set_starts_T[1:] - set_starts_T[:-1]
    distinct_U = length_K.take(key_U)
    fresh_U = distinct_U.copy()
    # Only where a document has several keys can one repeat the tokens of another.
    count_G = start_T[1:] - start_T[:-1]
    shared_U = np.flatnonzero(np.repeat(count_G > 1, count_G))
    fresh_U[shared_U] = _fresh_tokens(
        group_U.take(shared_U), key_U.take(shared_U), set_starts_T, set_tokens_F
    )
    share_U = fresh_U / np.maximum(distinct_U, 1)
    weight_U = weight_K.take(key_U) * (1 - repetition + repetition * share_U)
    score_G = np.add.reduceat(weight_U, start_G) if len(start_G) else np.zeros(0)
    return Uses(document_G[group_U[start_G]], start_T, key_U, weight_U, score_G)


def _is_first(sorted_X: Int[np.ndarray, " X"]) -> Bool[np.ndarray, " X"]:
    is_first_X = np.ones(len(sorted_X), bool)
    np.not_equal(sorted_X[1:], sorted_X[:-1], out=is_first_X[1:])
    return is_first_X


def _fresh_tokens(
    group_U: Int[np.ndarray, " U"],
    key_U: Int[np.ndarray, " U"],
    set_starts_T: Int[np.ndarray, " T"],
    set_tokens_F: Int[np.ndarray, " F"],
) -> Int[np.ndarray, " U"]:
    """How many tokens of each use no earlier use of its group has."""
    if not len(group_U):
        return np.zeros(0, np.int64)
    first_U = set_starts_T.take(key_U)
    length_U = set_starts_T.take(key_U + 1) - first_U
    token_X = set_tokens_F.take(ranges(first_U, length_U))
    use_X = np.repeat(np.arange(len(group_U), dtype=np.int32), length_U)
    tokens, groups = int(set_tokens_F.max()) + 1, int(group_U[-1]) + 1
    cell_X = np.repeat(group_U.astype(np.int64) * tokens, length_U) + token_X
    if groups * tokens <= _MOST_CELLS:
        # Written backwards, so that each (group, token) is left to its first use.
        first_C = np.empty(groups * tokens, np.int32)
        first_C[cell_X[::-1]] = use_X[::-1]
        is_fresh_X = first_C.take(cell_X) == use_X
        return np.bincount(use_X[is_fresh_X], minlength=len(group_U))
    placed = order(cell_X, groups * tokens)
    is_fresh_X = _is_first(cell_X.take(placed))
    return np.bincount(use_X.take(placed)[is_fresh_X], minlength=len(group_U))


class Trie(NamedTuple):
    """The keys of many queries; each has a root for keys and the next for titles.

    Attributes:
      edge_E: ``node * vocabulary + token`` of every edge, ascending.
      child_E: Node behind each edge.
      key_N: Key that ends at each node, or -1.
      has_children_N: Whether any edge leaves a node.
    """

    edge_E: Int[np.ndarray, " E"]
    child_E: Int[np.ndarray, " E"]
    key_N: Int[np.ndarray, " N"]
    has_children_N: Bool[np.ndarray, " N"]


def trie(
    query_K: Int[np.ndarray, " K"],
    is_title_K: Bool[np.ndarray, " K"],
    starts_T: Int[np.ndarray, " T"],
    tokens_F: Int[np.ndarray, " F"],
    *,
    queries: int,
    vocabulary_size: int,
) -> Trie:
    """The trie of the keys of some queries, built level by level.

    Args:
      query_K: Query of each key.
      is_title_K: Which keys only match at the beginning of a row.
      starts_T: Key ``k`` is ``tokens_F[starts_T[k]:starts_T[k + 1]]``.
      tokens_F: Tokens of the keys.
      queries: Query ``q`` has the roots ``2 q`` and ``2 q + 1``.
      vocabulary_size: Every token is below it.

    Of equal keys the strongest, which is the first, is kept.
    """
    length_K = starts_T[1:] - starts_T[:-1]
    node_K = 2 * query_K.astype(np.int64) + is_title_K
    nodes = 2 * queries
    key_N = [np.full(nodes, -1)]
    edges: list[np.ndarray] = [np.zeros(0, np.int64)]
    for depth in range(int(length_K.max(initial=0))):
        live = np.flatnonzero(length_K > depth)
        token = tokens_F[starts_T[live] + depth]
        edge, place = np.unique(
            node_K[live] * vocabulary_size + token, return_inverse=True
        )
        edges.append(edge)
        node_K[live] = nodes + place
        key = np.full(len(edge), -1)
        # Written backwards, so that the strongest of equal keys is written last.
        ends = live[length_K[live] == depth + 1][::-1]
        key[node_K[ends] - nodes] = ends
        key_N.append(key)
        nodes += len(edge)
    # Nodes are numbered as their edges come, and edges rise with the node they leave.
    edge_E, child_E = np.concatenate(edges), np.arange(2 * queries, nodes)
    has_children_N = np.zeros(nodes, bool)
    has_children_N[edge_E // vocabulary_size] = True
    return Trie(edge_E, child_E, np.concatenate(key_N), has_children_N)


def scan(
    found: Trie,
    query: int,
    token_X: Int[np.ndarray, " X"],
    row_X: Int[np.ndarray, " X"],
    end_R: Int[np.ndarray, " R"],
    vocabulary_size: int,
) -> tuple[Int[np.ndarray, " H"], Int[np.ndarray, " H"]]:
    """Every occurrence of a query's keys in rows laid end to end.

    Args:
      found: The keys of all queries.
      query: Whose keys are looked for.
      token_X: Tokens of the rows.
      row_X: Row of each place.
      end_R: Place behind the last of each row.
      vocabulary_size: Every token is below it.

    Returns:
      ``(place_H, key_H)``; the places of one key ascend.
    """
    # The first step looks at every place: a table is quicker there than a search.
    base = 2 * query * vocabulary_size
    own = slice(*np.searchsorted(found.edge_E, [base, base + 2 * vocabulary_size]))
    first_V = np.full(2 * vocabulary_size, -1, np.int32)
    first_V[found.edge_E[own] - base] = found.child_E[own]
    node_X = first_V.take(token_X)
    place = np.flatnonzero(node_X >= 0)
    node = node_X.take(place)
    if first_V[vocabulary_size:].max() >= 0:
        # The first place of a row is tried once more, from the root of the titles.
        begin = np.append(0, end_R[:-1])
        title = first_V.take(token_X.take(begin) + np.int64(vocabulary_size))
        place = np.append(place, begin[title >= 0])
        node = np.append(node, title[title >= 0])
    places: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    for depth in itertools.count(1):
        key = found.key_N.take(node)
        is_end = key >= 0
        places.append(place[is_end])
        keys.append(key[is_end])
        goes_on = found.has_children_N.take(node)
        place, node = place[goes_on], node[goes_on]
        is_inside = end_R.take(row_X.take(place)) > place + depth
        place, node = place[is_inside], node[is_inside]
        if not len(place):
            break
        edge = node.astype(np.int64) * vocabulary_size + token_X.take(place + depth)
        at = np.searchsorted(found.edge_E, edge)
        at = np.minimum(at, len(found.edge_E) - 1)
        goes_on = found.edge_E.take(at) == edge
        place, node = place[goes_on], found.child_E.take(at[goes_on])
    return np.concatenate(places), np.concatenate(keys)
