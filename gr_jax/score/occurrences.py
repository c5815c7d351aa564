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

from gr_jax.core import errors

_LONGEST_COMPOSITE = 1 << 62


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


def order(key_H: Int[np.ndarray, " H"], keys: int) -> Int[np.ndarray, " H"]:
    """Places of occurrences sorted by key, those of one key as they came."""
    # NumPy sorts 16-bit numbers by radix, several times faster than longer ones.
    small_H = key_H.astype(np.uint16) if keys <= 1 << 16 else key_H
    return np.argsort(small_H, kind="stable")


def settle(
    place_H: Int[np.ndarray, " H"], length_H: Int[np.ndarray, " H"], size: int
) -> Bool[np.ndarray, " H"]:
    """Which occurrences remain when each, strongest first, needs free places.

    Equal to going through them in order and taking each that touches none taken
    before. Done in rounds instead: an occurrence that is the strongest at all its
    places is taken, whatever touches a taken place is out, the rest go round again.

    Args:
      place_H: First place of each, strongest first.
      length_H: Places of each, at least 1.
      size: Number of places.
    """
    is_taken_H = np.zeros(len(place_H), bool)
    owner = np.empty(size, np.int32)
    is_used = np.zeros(size, bool)
    live = np.arange(len(place_H))
    while len(live):
        length = length_H[live]
        place_X = ranges(place_H[live], length)
        order_X = np.repeat(np.arange(len(live), dtype=np.int32), length)
        # Of repeated places the last write stays, so the strongest is written last.
        owner[place_X[::-1]] = order_X[::-1]
        first = np.cumsum(length) - length
        wins = np.logical_and.reduceat(owner[place_X] == order_X, first)
        is_taken_H[live[wins]] = True
        is_used[place_X[np.repeat(wins, length)]] = True
        live = live[~np.logical_or.reduceat(is_used[place_X], first)]
    return is_taken_H


class Uses(NamedTuple):
    """Keys of each group (a document of a query), strongest first.

    Attributes:
      group_G: Number of each group, ascending.
      start_T: Uses of group ``g`` are ``start_T[g]:start_T[g + 1]``.
      key_U: Key of each use.
      weight_U: What it adds.
      score_G: Sum of a group's weights.
    """

    group_G: Int[np.ndarray, " G"]
    start_T: Int[np.ndarray, " T"]
    key_U: Int[np.ndarray, " U"]
    weight_U: Float[np.ndarray, " U"]
    score_G: Float[np.ndarray, " G"]


def uses(
    group_H: Int[np.ndarray, " H"],
    key_H: Int[np.ndarray, " H"],
    weight_K: Float[np.ndarray, " K"],
    token_starts_K: Int[np.ndarray, " T"],
    tokens_F: Int[np.ndarray, " F"],
    *,
    repetition: float,
) -> Uses:
    """What each key adds to each document it was found in, once a document.

    ``rep(n) = w(n) * (1 - beta + beta * |set(n) - cov| / |set(n)|)``, ``cov`` being the
    tokens of the stronger keys of the document (SEAL, aggregate_evidence).

    Args:
      group_H: Group of each occurrence.
      key_H: Its key.
      weight_K: Weight of each key.
      token_starts_K: Distinct tokens of key ``k`` are ``tokens_F[starts[k]:starts[k +
        1]]``.
      tokens_F: Those tokens.
      repetition: ``beta``.
    """
    keys = len(weight_K)
    pair_U = np.sort(group_H * keys + key_H)
    pair_U = pair_U[_is_first(pair_U)]
    owner_U, key_U = np.divmod(pair_U, max(keys, 1))
    start_G = np.flatnonzero(_is_first(owner_U))
    start_T = np.append(start_G, len(pair_U))
    group_U = np.repeat(np.arange(len(start_G)), np.diff(start_T))
    distinct_U = (token_starts_K[1:] - token_starts_K[:-1])[key_U]
    fresh_U = distinct_U.copy()
    # Only where a document has several keys can one repeat the tokens of another.
    shared_U = np.flatnonzero((start_T[1:] - start_T[:-1])[group_U] > 1)
    fresh_U[shared_U] = _fresh_tokens(
        group_U[shared_U], key_U[shared_U], token_starts_K, tokens_F
    )
    share_U = fresh_U / np.maximum(distinct_U, 1)
    weight_U = weight_K[key_U] * (1 - repetition + repetition * share_U)
    score_G = np.add.reduceat(weight_U, start_G) if len(start_G) else np.zeros(0)
    return Uses(owner_U[start_G], start_T, key_U, weight_U, score_G)


def _is_first(sorted_X: Int[np.ndarray, " X"]) -> Bool[np.ndarray, " X"]:
    is_first_X = np.ones(len(sorted_X), bool)
    np.not_equal(sorted_X[1:], sorted_X[:-1], out=is_first_X[1:])
    return is_first_X


def _fresh_tokens(
    group_U: Int[np.ndarray, " U"],
    key_U: Int[np.ndarray, " U"],
    token_starts_K: Int[np.ndarray, " T"],
    tokens_F: Int[np.ndarray, " F"],
) -> Int[np.ndarray, " U"]:
    """How many tokens of each use no earlier use of its group has."""
    if not len(group_U):
        return np.zeros(0, np.int64)
    length_U = token_starts_K[key_U + 1] - token_starts_K[key_U]
    token_X = tokens_F[ranges(token_starts_K[key_U], length_U)].astype(np.int64)
    use_X = np.repeat(np.arange(len(group_U)), length_U)
    tokens = int(tokens_F.max()) + 1
    if (int(group_U[-1]) + 1) * tokens * len(group_U) >= _LONGEST_COMPOSITE:
        raise errors.ResourceError(
            "evidence: too many documents in one pass: ask fewer queries at a time"
        )
    # Sorted by group, token and use: the first of a (group, token) is its fresh use.
    mixed_X = np.sort((group_U[use_X] * tokens + token_X) * len(group_U) + use_X)
    owner_X, use_X = np.divmod(mixed_X, len(group_U))
    return np.bincount(use_X[_is_first(owner_X)], minlength=len(group_U))


class Trie(NamedTuple):
    """Keys of several queries as edges ``node * vocabulary + token``, sorted.

    Attributes:
      edge_E: The edges of all nodes.
      child_E: Node behind each edge.
      first_V: Node behind each first token of each root, or -1.
      key_N: Key that ends at each node, or -1.
      has_children_N: Whether any edge leaves a node.
    """

    edge_E: Int[np.ndarray, " E"]
    child_E: Int[np.ndarray, " E"]
    first_V: Int[np.ndarray, " V"]
    key_N: Int[np.ndarray, " N"]
    has_children_N: Bool[np.ndarray, " N"]


def trie(
    root_K: Int[np.ndarray, " K"],
    token_starts_K: Int[np.ndarray, " T"],
    tokens_F: Int[np.ndarray, " F"],
    *,
    roots: int,
    vocabulary_size: int,
) -> Trie:
    """The trie of all keys, nodes ``0`` to ``roots - 1`` being the roots.

    Args:
      root_K: Root of each key.
      token_starts_K: Key ``k`` is ``tokens_F[starts[k]:starts[k + 1]]``.
      tokens_F: Tokens of the keys.
      roots: Number of roots.
      vocabulary_size: Every token is below it.

    Of equal keys of one root the strongest, which is the first, is kept.
    """
    length_K = token_starts_K[1:] - token_starts_K[:-1]
    node_K = root_K.astype(np.int64)
    key_N = [np.full(roots, -1)]
    edges: list[np.ndarray] = [np.zeros(0, np.int64)]
    nodes = roots
    for depth in range(int(length_K.max(initial=0))):
        live = np.flatnonzero(length_K > depth)
        token = tokens_F[token_starts_K[live] + depth]
        edge, place = np.unique(
            node_K[live] * vocabulary_size + token, return_inverse=True
        )
        edges.append(edge)
        node_K[live] = nodes + place
        key = np.full(len(edge), -1)
        ends = live[length_K[live] == depth + 1][::-1]
        key[node_K[ends] - nodes] = ends
        key_N.append(key)
        nodes += len(edge)
    # Nodes are numbered as their edges come, and edges rise with the node they leave.
    edge_E, child_E = np.concatenate(edges), np.arange(roots, nodes)
    has_children_N = np.zeros(nodes, bool)
    has_children_N[edge_E // vocabulary_size] = True
    first_V = np.full(roots * vocabulary_size, -1)
    firsts = int(np.searchsorted(edge_E, roots * vocabulary_size))
    first_V[edge_E[:firsts]] = child_E[:firsts]
    return Trie(edge_E, child_E, first_V, np.concatenate(key_N), has_children_N)


def scan(
    found: Trie,
    token_X: Int[np.ndarray, " X"],
    last_X: Int[np.ndarray, " X"],
    place_P: Int[np.ndarray, " P"],
    root_P: Int[np.ndarray, " P"],
    *,
    vocabulary_size: int,
) -> tuple[Int[np.ndarray, " H"], Int[np.ndarray, " H"]]:
    """Every occurrence of a trie's keys that starts at one of some places.

    Args:
      found: The keys.
      token_X: Tokens of the rows, laid end to end.
      last_X: Last place of the row that holds each place.
      place_P: Where a key may start.
      root_P: Root of each: the query that asks for its row.
      vocabulary_size: Every token is below it.

    Returns:
      ``(place_H, key_H)``; the places of one key come in the order of ``place_P``.
    """
    # The first step looks at every place: a table is quicker there than a search.
    first_V = found.first_V
    node = first_V[root_P * vocabulary_size + token_X[place_P]]
    live = np.flatnonzero(node >= 0)
    place, node = place_P[live], node[live]
    places: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    for depth in itertools.count(1):
        key = found.key_N[node]
        is_end = key >= 0
        places.append(place[is_end])
        keys.append(key[is_end])
        goes_on = found.has_children_N[node] & (last_X[place] >= place + depth)
        place, node = place[goes_on], node[goes_on]
        if not len(place):
            break
        edge = node * vocabulary_size + token_X[place + depth]
        at = np.searchsorted(found.edge_E, edge)
        at = np.minimum(at, len(found.edge_E) - 1)
        goes_on = found.edge_E[at] == edge
        place, node = place[goes_on], found.child_E[at[goes_on]]
    return np.concatenate(places), np.concatenate(keys)
