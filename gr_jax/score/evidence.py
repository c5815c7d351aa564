"""From generated n-grams to documents: how much each document is spoken for.

Follows SEAL's aggregate_evidence (facebookresearch/SEAL:seal/keys.py) without its
slips: coverage marks the tokens that matched, no start symbol is assumed, nothing
depends on one tokenizer's ids. A key is worth ``w(n) = max(0, ln(odds of n under the
model / odds of n in the collection)) ** alpha``; a document gets each of its keys once,
strongest first, on tokens no stronger key holds, less where it repeats their tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gr_jax.core import errors
from gr_jax.core import progress as progresses
from gr_jax.score import keys as key_module
from gr_jax.score import occurrences, rows

Tokens = Sequence[int]
_MOST_QUERIES = 32
_MOST_OCCURRENCES = 8_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """The documents of one query, best first, and what speaks for each.

    Attributes:
      document_H: Index of each document.
      score_H: Its score.
      start_T: Keys of document ``h`` are ``start_T[h]:start_T[h + 1]``.
      key_U: Place of each key in the query's `Keys`, strongest first.
      weight_U: What it adds to the score.
    """

    document_H: Int[np.ndarray, " H"]
    score_H: Float[np.ndarray, " H"]
    start_T: Int[np.ndarray, " T"]
    key_U: Int[np.ndarray, " U"]
    weight_U: Float[np.ndarray, " U"]

    def keys_of(self, rank: int) -> list[tuple[int, float]]:
        """``(key, weight)`` of the document at a rank (from 0), strongest first."""
        chosen = slice(self.start_T[rank], self.start_T[rank + 1])
        keys, weights = self.key_U[chosen].tolist(), self.weight_U[chosen].tolist()
        return list(zip(keys, weights, strict=True))

    def hits(self, document_ids: Sequence[str]) -> list[tuple[str, float]]:
        """The ranking as a run holds it: ``(document id, score)``, best first."""
        places: list[int] = self.document_H.tolist()
        scores: list[float] = self.score_H.tolist()
        return [(document_ids[p], s) for p, s in zip(places, scores, strict=True)]


def aggregate(
    queries: Sequence[key_module.Keys],
    corpus: rows.Corpus,
    index: rows.Index,
    *,
    settings: key_module.Settings | None = None,
    progress: progresses.Progress = progresses.SILENT,
) -> list[Ranking]:
    """Ranks documents by the keys generated for each query.

    Stage 1: keys of at most ``max_hits`` occurrences nominate documents, and the best
    ``max_documents`` of each query stay. Stage 2: those are scored with all keys.

    Args:
      queries: Keys of each query, equal ones merged (`keys.merged`).
      corpus: The rows that ``index`` was built of.
      index: Counts and locates keys.
      settings: Defaults are the paper's.
      progress: Is told of finished queries.

    Returns:
      A ranking a query; documents without a key are not in it, ties go by document id.

    Raises:
      NumericError: If a log-probability is NaN or above 0; the query's place is named.
    """
    chosen = settings or key_module.Settings()
    _check(queries)
    rankings: list[Ranking] = []
    progress.start("aggregate", len(queries))
    for block in _blocks(queries, chosen):
        flat = key_module.flat(block, len(corpus.tokens_E), index, chosen)
        rankings += _ranked(flat, len(block), corpus, index, chosen)
        progress.advance(len(block))
    progress.finish()
    return rankings


def _check(queries: Sequence[key_module.Keys]) -> None:
    for place, keys in enumerate(queries):
        logprob_K = np.asarray(keys.logprob_K)
        # Rounding may leave a certain key a hair above 0.
        if not (logprob_K <= 1e-4).all():
            raise errors.NumericError(
                f"evidence: query {place}: a log-probability is NaN or above 0: "
                "look at the decoder's scores"
            )


def _blocks(
    queries: Sequence[key_module.Keys], settings: key_module.Settings
) -> Generator[Sequence[key_module.Keys]]:
    """Queries in blocks whose occurrences fit in memory."""
    widest = max((len(keys.tokens) for keys in queries), default=1)
    fitting = _MOST_OCCURRENCES // max(1, widest * settings.max_hits)
    size = max(1, min(_MOST_QUERIES, fitting))
    for first in range(0, len(queries), size):
        yield queries[first : first + size]


def _ranked(
    flat: key_module.Flat,
    queries: int,
    corpus: rows.Corpus,
    index: rows.Index,
    settings: key_module.Settings,
) -> list[Ranking]:
    is_rare_K = (flat.count_K <= settings.max_hits) & ~flat.is_late_K
    rare = np.flatnonzero(is_rare_K)
    key_H, position_H = rare, rare
    if len(rare):
        position_H, start_T = index.locate(
            flat.lo_KZ[rare], flat.hi_KZ[rare], settings.max_hits
        )
        key_H = np.repeat(rare, np.diff(start_T))
    bounds_K = np.searchsorted(flat.query_K, np.arange(queries + 1))
    bounds_H = np.searchsorted(key_H, bounds_K)
    space = occurrences.Space(len(corpus.row_document_R))
    trie = occurrences.trie(
        flat.query_K,
        flat.is_title_K,
        flat.starts_T,
        flat.tokens_F,
        queries=queries,
        vocabulary_size=corpus.vocabulary_size,
    )
    rankings: list[Ranking] = []
    for query in range(queries):
        k, h = slice(*bounds_K[query : query + 2]), slice(*bounds_H[query : query + 2])
        one = key_module.of_query(flat, k.start, k.stop)
        found = _nominated(
            one, key_H[h] - k.start, position_H[h], corpus, space, settings
        )
        best = _best(found, corpus, settings.max_documents)
        # Where every key is rare the second stage would find what the first one found.
        if not is_rare_K[k].all():
            read = _Reading(trie, query, k.start, corpus.vocabulary_size)
            documents = np.sort(found.document_G[best])
            found = _read(one, read, documents, corpus, space, settings)
            best = _best(found, corpus, settings.hits)
        rankings.append(_ranking(one, found, best[: settings.hits]))
    return rankings


def _nominated(
    flat: key_module.Flat,
    key_H: np.ndarray,
    position_H: np.ndarray,
    corpus: rows.Corpus,
    space: occurrences.Space,
    settings: key_module.Settings,
) -> occurrences.Uses:
    """Stage 1: what located keys add to the documents they occur in."""
    position_H = _by_place(flat, key_H, position_H)
    row_H = corpus.row_of(position_H)
    row_S, slot_H = space.slots(row_H)
    if not settings.allow_overlaps:
        length_S = corpus.length_R.take(row_S)
        base_S = np.cumsum(length_S) - length_S - corpus.row_starts_T.take(row_S)
        place_H = base_S.take(slot_H) + position_H
        length_H = flat.length_K.take(key_H)
        stays_H = occurrences.settle(place_H, length_H, int(length_S.sum()), space)
        key_H, slot_H = key_H[stays_H], slot_H[stays_H]
    return _uses(flat, row_S, slot_H, key_H, corpus, settings)


def _by_place(
    flat: key_module.Flat, key_H: np.ndarray, position_H: np.ndarray
) -> np.ndarray:
    """Positions in text order where occurrences of one key can overlap.

    They can only if the key repeats a token; the earlier one is then the stronger.
    """
    repeats_K = np.diff(flat.set_starts_T) < flat.length_K
    chosen = np.flatnonzero(repeats_K.take(key_H)) if len(key_H) else key_H
    if not len(chosen):
        return position_H
    ordered = position_H.copy()
    by_place = np.lexsort((position_H[chosen], key_H[chosen]))
    ordered[chosen] = position_H[chosen][by_place]
    return ordered


def _uses(
    flat: key_module.Flat,
    row_S: np.ndarray,
    slot_H: np.ndarray,
    key_H: np.ndarray,
    corpus: rows.Corpus,
    settings: key_module.Settings,
) -> occurrences.Uses:
    document_S = corpus.row_document_R.take(row_S)
    if (document_S[1:] > document_S[:-1]).all():
        document_G, group_H = document_S, slot_H
    else:
        document_G, group_S = np.unique(document_S, return_inverse=True)
        group_H = group_S.take(slot_H)
    return occurrences.uses(
        document_G,
        group_H,
        key_H,
        flat.weight_K,
        flat.set_starts_T,
        flat.set_tokens_F,
        repetition=settings.repetition,
    )


class _Reading(NamedTuple):
    """The trie of a block's keys, seen from one query."""

    trie: occurrences.Trie
    query: int
    first_key: int
    vocabulary_size: int

    def scan(
        self, token_X: np.ndarray, row_X: np.ndarray, end_R: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places and keys, the keys numbered as the query's own."""
        place_H, key_H = occurrences.scan(
            self.trie, self.query, token_X, row_X, end_R, self.vocabulary_size
        )
        return place_H, key_H - self.first_key


def _read(
    flat: key_module.Flat,
    read: _Reading,
    document_J: np.ndarray,
    corpus: rows.Corpus,
    space: occurrences.Space,
    settings: key_module.Settings,
) -> occurrences.Uses:
    """Stage 2: what all keys add to some documents, found by reading them."""
    row_R = corpus.rows_of(document_J)
    length_R = corpus.length_R.take(row_R)
    end_R = np.cumsum(length_R)
    token_X = corpus.tokens_E.take(
        occurrences.ranges(corpus.row_starts_T.take(row_R), length_R)
    )
    row_X = np.repeat(np.arange(len(row_R), dtype=np.int32), length_R)
    place_H, key_H = read.scan(token_X, row_X, end_R)
    order = occurrences.order(key_H, len(flat.weight_K))
    place_H, key_H = place_H.take(order), key_H.take(order)
    if not settings.allow_overlaps:
        length_H = flat.length_K.take(key_H)
        stays_H = occurrences.settle(place_H, length_H, len(token_X), space)
        place_H, key_H = place_H[stays_H], key_H[stays_H]
    return _uses(flat, row_R, row_X.take(place_H), key_H, corpus, settings)


def _best(
    uses: occurrences.Uses, corpus: rows.Corpus, most: int
) -> Int[np.ndarray, " H"]:
    """Places of the best documents, best first, ties by document id."""
    score_G, place_G = uses.score_G, np.arange(len(uses.score_G))
    if len(score_G) > most:
        # All that reach the last score that can stay, so that ties are cut by id.
        least = np.partition(score_G, len(score_G) - most)[len(score_G) - most]
        place_G = np.flatnonzero(score_G >= least)
    tie_G = corpus.id_order.take(uses.document_G.take(place_G))
    return place_G[np.lexsort((tie_G, -score_G[place_G]))][:most]


def _ranking(
    flat: key_module.Flat, uses: occurrences.Uses, place_H: np.ndarray
) -> Ranking:
    first_H = uses.start_T[place_H]
    length_H = uses.start_T[place_H + 1] - first_H
    use_U = occurrences.ranges(first_H, length_H)
    return Ranking(
        document_H=uses.document_G[place_H],
        score_H=uses.score_G[place_H],
        start_T=np.append(0, np.cumsum(length_H)),
        key_U=flat.source_K[uses.key_U[use_U]],
        weight_U=uses.weight_U[use_U],
    )
