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
from gr_jax.score import candidates, occurrences, reading, rows
from gr_jax.score import keys as key_module

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
    place = _located(flat, np.flatnonzero(is_rare_K), corpus, index, settings)
    bounds_K = np.searchsorted(flat.query_K, np.arange(queries + 1))
    bounds_H = np.searchsorted(place.key_H, bounds_K)
    space = occurrences.Space(len(corpus.document_ids))
    rankings: list[Ranking] = []
    for query in range(queries):
        k, h = slice(*bounds_K[query : query + 2]), slice(*bounds_H[query : query + 2])
        one = key_module.of_query(flat, k.start, k.stop)
        met = _Located(place.key_H[h] - k.start, place.document_H[h], place.place_H[h])
        found = _nominated(one, met, corpus, space, settings)
        others = np.flatnonzero(~is_rare_K[k])
        # Where every key is rare the second stage would find what the first one found.
        if len(others):
            found = found.best(settings.max_documents)
            read = reading.Reading(one, others, corpus)
            found = dataclasses.replace(found, read=read)
        rankings.append(_ranking(found, min(settings.hits, settings.max_documents)))
    return rankings


class _Located(NamedTuple):
    """Occurrences of keys: in which document, and at which of its places."""

    key_H: Int[np.ndarray, " H"]
    document_H: Int[np.ndarray, " H"]
    place_H: Int[np.ndarray, " H"]


def _located(
    flat: key_module.Flat,
    rare_C: Int[np.ndarray, " C"],
    corpus: rows.Corpus,
    index: rows.Index,
    settings: key_module.Settings,
) -> _Located:
    """Every occurrence of the keys that are rare enough to nominate documents."""
    position_H, start_T = index.locate(
        flat.lo_KZ[rare_C],
        flat.hi_KZ[rare_C],
        flat.length_K[rare_C],
        limit=settings.max_hits,
    )
    row_H = corpus.row_of(position_H)
    return _Located(
        np.repeat(rare_C, np.diff(start_T)),
        corpus.row_document_R.take(row_H),
        corpus.place_in_document(position_H, row_H),
    )


def _nominated(
    flat: key_module.Flat,
    met: _Located,
    corpus: rows.Corpus,
    space: occurrences.Space,
    settings: key_module.Settings,
) -> candidates.Candidates:
    """The documents that the located keys occur in."""
    document_G, group_H = space.slots(met.document_H)
    found = occurrences.Occurrences(group_H, met.key_H, met.place_H)
    return candidates.Candidates(flat, document_G, found, corpus, space, settings)


def _ranking(found: candidates.Candidates, most: int) -> Ranking:
    document_H, uses = found.ranked(most)
    return Ranking(
        document_H=document_H,
        score_H=uses.score_G,
        start_T=uses.start_T,
        key_U=found.keys.source_K[uses.key_U],
        weight_U=uses.weight_U,
    )
