"""Finds keys by reading documents: those too frequent to be located one by one."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from gr_jax.score import keys as key_module
from gr_jax.score import occurrences, rows

_BITS_8xY = np.unpackbits(np.arange(256, dtype=np.uint8)[None], axis=0) * 1.0


class _Trie(NamedTuple):
    """Keys as a tree: node 0 is where keys begin, node 1 where titles do.

    Attributes:
      edge_E: ``node * vocabulary_size + token`` of every edge, ascending; edge ``e``
        leads to node ``e + 2``.
      key_N: Key that ends at each node, or -1.
      has_children_N: Whether any edge leaves a node.
      first_C: The edge that each key begins with.
    """

    edge_E: Int[np.ndarray, " E"]
    key_N: Int[np.ndarray, " N"]
    has_children_N: Bool[np.ndarray, " N"]
    first_C: Int[np.ndarray, " C"]


def _trie(
    keys: key_module.Flat, chosen_C: Int[np.ndarray, " C"], vocabulary_size: int
) -> _Trie:
    """The tree of some keys, built level by level; of equal keys the strongest."""
    start_C, length_C = keys.starts_T.take(chosen_C), keys.length_K.take(chosen_C)
    node_C = keys.is_title_K.take(chosen_C).astype(np.int64)
    key_N = [np.full(2, -1)]
    edges: list[np.ndarray] = [np.zeros(0, np.int64)]
    first_C = node_C
    nodes = 2
    for depth in range(int(length_C.max(initial=0))):
        live = occurrences.where(length_C > depth)
        token = keys.tokens_F[start_C[live] + depth]
        edge, place = np.unique(
            node_C[live] * vocabulary_size + token, return_inverse=True
        )
        # A key has a token at least, so at first all are live.
        first_C = first_C if depth else place
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
    return _Trie(edge_E, np.concatenate(key_N), has_children_N, first_C)


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
        weight_B = np.bincount(self._trie.first_C, keys.weight_K.take(chosen_C))
        self._root_B = self._trie.edge_E[: len(weight_B)]
        self._weight_B = weight_B

    def bounds(self, document_G: Int[np.ndarray, " G"]) -> Float[np.ndarray, " G"]:
        """What the keys can add to each document at most, without reading it.

        A key is taken to be wherever its first token is, and to be everywhere if that
        is none of the common ones.
        """
        common = self._corpus.common
        bytes_GxY = common.bits_NxB.take(document_G, axis=0)
        bit_B = common.bit_V.take(self._root_B % self._corpus.vocabulary_size)
        weight_B = np.where(bit_B >= 0, self._weight_B, 0.0)
        bits = 8 * bytes_GxY.shape[1]
        weight_Yx8 = np.bincount(bit_B % bits, weight_B, bits).reshape(-1, 8)
        bound_G = np.full(len(document_G), (self._weight_B - weight_B).sum())
        # What each value of a byte adds; frequent tokens share few bytes.
        for byte in np.flatnonzero(weight_Yx8.any(axis=1)).tolist():
            bound_G += (weight_Yx8[byte] @ _BITS_8xY).take(bytes_GxY[:, byte])
        return bound_G

    def find(self, document_J: Int[np.ndarray, " J"]) -> occurrences.Occurrences:
        """Every occurrence in some documents, numbered from 0; in no order."""
        corpus = self._corpus
        row_R, group_R = corpus.rows_of(document_J)
        end_R = corpus.row_starts_T.take(row_R + 1)
        live = self._beginnings(row_R, end_R)
        ended: list[_Live] = []
        for depth in itertools.count(1):
            ended.append(_only(live, self._trie.key_N.take(live.node_H) >= 0))
            goes_on = self._trie.has_children_N.take(live.node_H)
            goes_on &= end_R.take(live.row_H) > live.position_H + depth
            live = self._stepped(_only(live, goes_on), depth)
            if not len(live.node_H):
                break
        done = _Live(*(np.concatenate(parts) for parts in zip(*ended, strict=True)))
        return occurrences.Occurrences(
            group_R.take(done.row_H),
            self._trie.key_N.take(done.node_H),
            corpus.place_in_document(done.position_H, row_R.take(done.row_H)),
        )

    def _stepped(self, live: _Live, depth: int) -> _Live:
        """Beginnings of ``depth`` tokens that the next token continues."""
        edge_E, vocabulary_size = self._trie.edge_E, self._corpus.vocabulary_size
        token_H = self._corpus.tokens_E.take(live.position_H + depth)
        edge_H = live.node_H * vocabulary_size + token_H
        at_H = np.searchsorted(edge_E, edge_H)
        is_edge_H = edge_E.take(at_H, mode="clip") == edge_H
        return _only(_Live(live.position_H, at_H + 2, live.row_H), is_edge_H)

    def _beginnings(
        self, row_R: Int[np.ndarray, " R"], end_R: Int[np.ndarray, " R"]
    ) -> _Live:
        """First tokens of keys, and of titles at the beginnings of rows.

        Most tokens start none, so one look-up a token is all that most of them cost.
        """
        corpus = self._corpus
        start_R = corpus.row_starts_T.take(row_R)
        window_R = (end_R - start_R + (rows.WIDTH - 1)) // rows.WIDTH
        row_X = np.repeat(np.arange(len(row_R)), window_R)
        # Where each row would begin if its windows were all there is.
        begin_R = start_R - rows.WIDTH * (np.cumsum(window_R) - window_R)
        from_X = begin_R.take(row_X) + np.arange(0, rows.WIDTH * len(row_X), rows.WIDTH)
        token_X = corpus.windows[from_X].ravel()
        begun = np.searchsorted(self._root_B, corpus.vocabulary_size)
        is_first_V = np.zeros(corpus.vocabulary_size, bool)
        is_first_V[self._root_B[:begun]] = True
        at = occurrences.where(is_first_V.take(token_X))
        row_H = row_X.take(at // rows.WIDTH)
        position_H = begin_R.take(row_H) + at
        # The last window of a row goes on into the next one.
        inside = occurrences.where(position_H < end_R.take(row_H))
        node_H = 2 + np.searchsorted(self._root_B, token_X.take(at.take(inside)))
        live = _Live(position_H.take(inside), node_H, row_H.take(inside))
        if begun == len(self._root_B):
            return live
        own_R = occurrences.where(window_R > 0)
        titles = _Live(start_R.take(own_R), np.ones(len(own_R), np.int64), own_R)
        titles = self._stepped(titles, 0)
        return _Live(*(np.append(*parts) for parts in zip(live, titles, strict=True)))


def _only(live: _Live, is_kept_H: Bool[np.ndarray, " H"]) -> _Live:
    kept = occurrences.where(is_kept_H)
    return _Live(*(part.take(kept) for part in live))
