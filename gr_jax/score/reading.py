"""Finds keys by reading documents: those too frequent to be located one by one."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from gr_jax.score import keys as key_module
from gr_jax.score import occurrences, rows


class _Trie(NamedTuple):
    """Keys as a tree: node 0 is where keys begin, node 1 where titles do.

    Attributes:
      edge_E: ``node * vocabulary_size + token`` of every edge, ascending; edge ``e``
        leads to node ``e + 2``.
      key_N: Key that ends at each node, or -1.
      has_children_N: Whether any edge leaves a node.
    """

    edge_E: Int[np.ndarray, " E"]
    key_N: Int[np.ndarray, " N"]
    has_children_N: Bool[np.ndarray, " N"]


def _trie(
    keys: key_module.Flat, chosen_C: Int[np.ndarray, " C"], vocabulary_size: int
) -> _Trie:
    """The tree of some keys, built level by level; of equal keys the strongest."""
    first_C, length_C = keys.starts_T.take(chosen_C), keys.length_K.take(chosen_C)
    node_C = keys.is_title_K.take(chosen_C).astype(np.int64)
    key_N = [np.full(2, -1)]
    edges: list[np.ndarray] = [np.zeros(0, np.int64)]
    nodes = 2
    for depth in range(int(length_C.max(initial=0))):
        live = np.flatnonzero(length_C > depth)
        token = keys.tokens_F[first_C[live] + depth]
        edge, place = np.unique(
            node_C[live] * vocabulary_size + token, return_inverse=True
        )
        edges.append(edge)
        node_C[live] = nodes + place
        key = np.full(len(edge), -1)
        # Written backwards, so that the strongest of equal keys is written last.
        ends = live[length_C[live] == depth + 1][::-1]
        key[node_C[ends] - nodes] = chosen_C[ends]
        key_N.append(key)
        nodes += len(edge)
    # Nodes are numbered as their edges come, and edges rise with the node they leave.
    edge_E = np.concatenate(edges)
    has_children_N = np.zeros(nodes, bool)
    has_children_N[edge_E // vocabulary_size] = True
    return _Trie(edge_E, np.concatenate(key_N), has_children_N)


class _Live(NamedTuple):
    """Beginnings of keys: where, how far the tree was followed, in which row."""

    position_H: Int[np.ndarray, " H"]
    node_H: Int[np.ndarray, " H"]
    row_H: Int[np.ndarray, " H"]


class Reading:
    """Some keys of a query, which are looked for in documents by reading them.

    Args:
      keys: All keys of the query.
      chosen_C: Those that are looked for, ascending.
      corpus: All documents.
    """

    def __init__(
        self,
        keys: key_module.Flat,
        chosen_C: Int[np.ndarray, " C"],
        corpus: rows.Corpus,
    ) -> None:
        self._corpus = corpus
        self._trie = _trie(keys, chosen_C, corpus.vocabulary_size)
        first_C = keys.tokens_F.take(keys.starts_T.take(chosen_C))
        self._token_B, number_C = np.unique(first_C, return_inverse=True)
        self._weight_B = np.bincount(number_C, weights=keys.weight_K.take(chosen_C))

    def bounds(self, document_G: Int[np.ndarray, " G"]) -> Float[np.ndarray, " G"]:
        """What the keys can add to each document at most, without reading it.

        A key is taken to be wherever its first token is, and to be everywhere if that
        is none of the common ones.
        """
        common = self._corpus.common
        bit_B = common.bit_V.take(self._token_B)
        is_common_B = bit_B >= 0
        bound = float(self._weight_B[~is_common_B].sum())
        bit_b = bit_B[is_common_B]
        byte_Gxb = common.bits_NxB[document_G[:, None], bit_b >> 3]
        is_in_Gxb = (byte_Gxb >> (7 - (bit_b & 7)).astype(np.uint8)) & np.uint8(1)
        # Not a product of matrices: waking BLAS's threads costs more than all of this.
        return np.einsum("gb,b->g", is_in_Gxb, self._weight_B[is_common_B]) + bound

    def find(self, document_J: Int[np.ndarray, " J"]) -> occurrences.Occurrences:
        """Every occurrence in some documents, numbered from 0; in no order."""
        trie, corpus = self._trie, self._corpus
        row_R, group_R = corpus.rows_of(document_J)
        live = self._beginnings(row_R)
        end_R = corpus.row_starts_T.take(row_R + 1)
        ended: list[_Live] = []
        for depth in itertools.count(1):
            token = corpus.tokens_E.take(live.position_H + (depth - 1))
            edge = live.node_H * corpus.vocabulary_size + token
            at = np.searchsorted(trie.edge_E, edge)
            is_edge = trie.edge_E.take(at, mode="clip") == edge
            live = _only(_Live(live.position_H, at + 2, live.row_H), is_edge)
            ended.append(_only(live, trie.key_N.take(live.node_H) >= 0))
            goes_on = trie.has_children_N.take(live.node_H)
            goes_on &= end_R.take(live.row_H) > live.position_H + depth
            live = _only(live, goes_on)
            if not len(live.node_H):
                break
        done = _Live(*(np.concatenate(parts) for parts in zip(*ended, strict=True)))
        return occurrences.Occurrences(
            group_R.take(done.row_H),
            trie.key_N.take(done.node_H),
            corpus.place_in_document(done.position_H, row_R.take(done.row_H)),
        )

    def _beginnings(self, row_R: Int[np.ndarray, " R"]) -> _Live:
        """Places whose token starts a key, and beginnings of rows if one is a title.

        Most tokens start none, so one look-up a token is all that most of them cost.
        """
        corpus = self._corpus
        start_R = corpus.row_starts_T.take(row_R)
        end_R = corpus.row_starts_T.take(row_R + 1)
        window_R = -((start_R - end_R) // rows.WIDTH)
        row_X = np.repeat(np.arange(len(row_R)), window_R)
        begin_R = start_R - rows.WIDTH * (np.cumsum(window_R) - window_R)
        begin_X = begin_R.take(row_X)
        from_X = begin_X + np.arange(0, rows.WIDTH * len(row_X), rows.WIDTH)
        is_first_V = np.zeros(corpus.vocabulary_size, bool)
        is_first_V[self._token_B] = True
        at = np.flatnonzero(is_first_V.take(corpus.windows[from_X]))
        window = at // rows.WIDTH
        row_H, position_H = row_X.take(window), begin_X.take(window) + at
        # The last window of a row goes on into the next one.
        is_inside = position_H < end_R.take(row_H)
        position_H, row_H = position_H[is_inside], row_H[is_inside]
        node_H = np.zeros(len(row_H), np.int64)
        if self._trie.has_children_N[1]:
            begun_R = np.flatnonzero(window_R)
            position_H = np.append(position_H, start_R.take(begun_R))
            node_H = np.append(node_H, np.ones(len(begun_R), np.int64))
            row_H = np.append(row_H, begun_R)
        return _Live(position_H, node_H, row_H)


def _only(live: _Live, is_kept_H: Bool[np.ndarray, " H"]) -> _Live:
    kept = np.flatnonzero(is_kept_H)
    return _Live(*(part.take(kept) for part in live))
