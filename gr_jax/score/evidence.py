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

import numpy as np
from jaxtyping import Float, Int

from gr_jax.core import errors
from gr_jax.core import progress as progresses
from gr_jax.score import keys as key_module
from gr_jax.score import occurrences, rows

Tokens = Sequence[int]
_MOST_QUERIES = 8
_MOST_OCCURRENCES = 8_000_000
_MOST_CELLS = 32_000_000


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
    for block in _blocks(queries, corpus, chosen):
        flat = key_module.flat(block, len(corpus.tokens_E), index, chosen)
        rankings += _ranked(flat, corpus, index, chosen)
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
    queries: Sequence[key_module.Keys],
    corpus: rows.Corpus,
    settings: key_module.Settings,
) -> Generator[Sequence[key_module.Keys]]:
    """Queries in blocks whose occurrences and document tables fit in memory."""
    widest = max((len(keys.tokens) for keys in queries), default=1)
    cells = max(len(corpus.row_document_R), len(corpus.document_ids))
    size = min(
        _MOST_QUERIES,
        _MOST_OCCURRENCES // max(1, widest * settings.max_hits),
        _MOST_CELLS // cells,
    )
    size = max(1, size)
    for first in range(0, len(queries), size):
        yield queries[first : first + size]


def _nominated(
    flat: key_module.Flat,
    chosen_J: np.ndarray,
    corpus: rows.Corpus,
    index: rows.Index,
    settings: key_module.Settings,
) -> occurrences.Uses:
    """Stage 1: what some keys add to the documents they occur in."""
    if not len(chosen_J):
        return _uses(flat, chosen_J, chosen_J, settings)
    position_H, start_T = index.locate(
        flat.lo_KZ[chosen_J], flat.hi_KZ[chosen_J], settings.max_hits
    )
    key_H = np.repeat(chosen_J, np.diff(start_T))
    if not settings.allow_overlaps:
        # Occurrences of one key may overlap too; then the earlier one is taken.
        tokens = len(corpus.tokens_E)
        key_H, position_H = np.divmod(np.sort(key_H * tokens + position_H), tokens)
    row_H = corpus.row_of(position_H)
    query_H = flat.query_K[key_H]
    if not settings.allow_overlaps:
        cell_H = query_H * len(corpus.row_document_R) + row_H
        base_C, size = _layout(cell_H, flat.queries, corpus)
        place_H = base_C[cell_H] + position_H - corpus.row_starts_T[row_H]
        stays_H = occurrences.settle(place_H, flat.length_K[key_H], size)
        key_H, row_H, query_H = key_H[stays_H], row_H[stays_H], query_H[stays_H]
    group_H = query_H * len(corpus.document_ids) + corpus.row_document_R[row_H]
    return _uses(flat, group_H, key_H, settings)


def _uses(
    flat: key_module.Flat,
    group_H: np.ndarray,
    key_H: np.ndarray,
    settings: key_module.Settings,
) -> occurrences.Uses:
    return occurrences.uses(
        group_H,
        key_H,
        flat.weight_K,
        flat.set_starts_T,
        flat.set_tokens_F,
        repetition=settings.repetition,
    )


def _layout(
    cell_H: np.ndarray, queries: int, corpus: rows.Corpus
) -> tuple[np.ndarray, int]:
    """First place of each (query, row) that occurs, rows laid end to end; places."""
    row_count = len(corpus.row_document_R)
    is_seen_C = np.zeros(queries * row_count, bool)
    is_seen_C[cell_H] = True
    cells = np.flatnonzero(is_seen_C)
    length = corpus.length_R[cells % row_count]
    base_C = np.zeros(queries * row_count, np.int64)
    base_C[cells] = np.cumsum(length) - length
    return base_C, int(length.sum())


def _best(
    uses: occurrences.Uses, query: int, corpus: rows.Corpus, most: int
) -> Int[np.ndarray, " H"]:
    """Places of a query's best groups, best first, ties by document id."""
    documents = len(corpus.document_ids)
    bounds = np.searchsorted(uses.group_G, [query * documents, (query + 1) * documents])
    place_G = np.arange(*bounds)
    score_G = uses.score_G[place_G]
    if len(place_G) > most:
        # All that reach the last score that can stay, so that ties are cut by id.
        least = np.partition(score_G, len(score_G) - most)[len(score_G) - most]
        place_G = place_G[score_G >= least]
        score_G = uses.score_G[place_G]
    tie_G = corpus.id_order[uses.group_G[place_G] % documents]
    return place_G[np.lexsort((tie_G, -score_G))][:most]


def _ranked(
    flat: key_module.Flat,
    corpus: rows.Corpus,
    index: rows.Index,
    settings: key_module.Settings,
) -> list[Ranking]:
    is_rare_K = (flat.count_K <= settings.max_hits) & ~flat.is_late_K
    first = _nominated(flat, np.flatnonzero(is_rare_K), corpus, index, settings)
    kept = [
        _best(first, query, corpus, settings.max_documents)
        for query in range(flat.queries)
    ]
    # Where every key is rare the second stage would find what the first one found.
    is_two_staged_Q = np.zeros(flat.queries, bool)
    is_two_staged_Q[flat.query_K[~is_rare_K]] = True
    second = first
    if is_two_staged_Q.any():
        places = [kept[query] for query in np.flatnonzero(is_two_staged_Q)]
        group_J = np.sort(first.group_G[np.concatenate(places)])
        second = _read(flat, group_J, corpus, settings)
    return [
        _ranking(flat, second, _best(second, query, corpus, settings.hits), corpus)
        if is_two_staged_Q[query]
        else _ranking(flat, first, kept[query][: settings.hits], corpus)
        for query in range(flat.queries)
    ]


def _read(
    flat: key_module.Flat,
    group_J: np.ndarray,
    corpus: rows.Corpus,
    settings: key_module.Settings,
) -> occurrences.Uses:
    """Stage 2: what all keys add to some documents, found by reading them."""
    documents, vocabulary_size = len(corpus.document_ids), corpus.vocabulary_size
    row_R, group_R = corpus.rows_of(group_J % documents, group_J)
    query_R = group_R // documents
    length_R = corpus.length_R[row_R]
    place_X = np.arange(int(length_R.sum()))
    token_X = corpus.tokens_E[occurrences.ranges(corpus.row_starts_T[row_R], length_R)]
    end_R = np.cumsum(length_R)
    last_X = np.repeat(end_R - 1, length_R)
    # Keys that begin documents have roots of their own, tried at first tokens alone.
    trie = occurrences.trie(
        flat.query_K + flat.queries * flat.is_title_K,
        flat.starts_T,
        flat.tokens_F,
        roots=2 * flat.queries,
        vocabulary_size=vocabulary_size,
    )
    starts = (place_X, end_R - length_R)
    roots = (np.repeat(query_R, length_R), query_R + flat.queries)
    scans = [
        occurrences.scan(
            trie, token_X, last_X, place, root, vocabulary_size=vocabulary_size
        )
        for place, root in zip(starts, roots, strict=True)
    ]
    place_H, key_H = (np.concatenate(parts) for parts in zip(*scans, strict=True))
    order = occurrences.order(key_H, len(flat.query_K))
    place_H, key_H = place_H[order], key_H[order]
    if not settings.allow_overlaps:
        stays_H = occurrences.settle(place_H, flat.length_K[key_H], len(place_X))
        place_H, key_H = place_H[stays_H], key_H[stays_H]
    row_H = np.searchsorted(end_R, place_H, side="right")
    return _uses(flat, group_R[row_H], key_H, settings)


def _ranking(
    flat: key_module.Flat,
    uses: occurrences.Uses,
    place_H: np.ndarray,
    corpus: rows.Corpus,
) -> Ranking:
    first_H = uses.start_T[place_H]
    length_H = uses.start_T[place_H + 1] - first_H
    use_U = occurrences.ranges(first_H, length_H)
    return Ranking(
        document_H=uses.group_G[place_H] % len(corpus.document_ids),
        score_H=uses.score_G[place_H],
        start_T=np.append(0, np.cumsum(length_H)),
        key_U=flat.source_K[uses.key_U[use_U]],
        weight_U=uses.weight_U[use_U],
    )
