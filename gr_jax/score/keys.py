"""Keys: the n-grams generated for a query, and what each is worth."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gr_jax.core import errors
from gr_jax.score import occurrences, rows

Tokens = Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How evidence is weighed.

    Attributes:
      exponent: ``alpha`` of the weight of an n-gram.
      repetition: ``beta``: 0 counts repeated tokens in full, 1 not at all.
      smoothing: Added to a key's count, and to the collection's tokens.
      max_hits: Keys with more occurrences do not nominate documents, but count in
        those that others nominate.
      max_documents: Documents of a query that are scored in full.
      skip_count: Keys with more occurrences are not looked at.
      allow_overlaps: Whether keys may share tokens of a document.
      hits: Documents returned for a query.
      constant_probability: The control: if given, every key has this probability in
        place of the model's.
    """

    exponent: float = 2.0
    repetition: float = 0.8
    smoothing: float = 5.0
    max_hits: int = 1500
    max_documents: int = 1500
    skip_count: int = 10_000_000
    allow_overlaps: bool = False
    hits: int = 100
    constant_probability: float | None = None

    def __post_init__(self) -> None:
        """Refuses settings without a meaning."""
        if not 0 <= self.repetition <= 1:
            raise _setting("repetition", self.repetition, "between 0 and 1")
        if self.exponent <= 0 or self.smoothing <= 0:
            value = (self.exponent, self.smoothing)
            raise _setting("exponent, smoothing", value, "above 0")
        if min(self.max_hits, self.max_documents, self.hits) < 1:
            value = (self.max_hits, self.max_documents, self.hits)
            raise _setting("max_hits, max_documents, hits", value, "at least 1")
        constant = self.constant_probability
        if constant is not None and not 0 < constant < 1:
            raise _setting("constant_probability", constant, "between 0 and 1")


def _setting(name: str, value: object, remedy: str) -> errors.UsageError:
    return errors.UsageError(errors.fault("evidence", name, value, remedy))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of one query; equal keys should be merged first (`merged`).

    Attributes:
      tokens: Each key's tokens; an empty one is passed over.
      logprob_K: Its summed log-probability under the model.
      is_title_K: Whether it is the beginning of a document and matches nowhere else.
      is_unigram_K: Whether it is one token of the first step's distribution: weighed
        without the exponent.
      is_late_K: Whether it only fills places that no other key of the document holds,
        and nominates none.
      factor_K: Multiplies its weight; None: 1 for all.
      lo_KZ: First rows of each key in the index, one column a shard, where the decoder
        has them already; otherwise they are looked up.
      hi_KZ: End rows.
    """

    tokens: Sequence[Tokens]
    logprob_K: Float[np.ndarray, " K"]
    is_title_K: np.ndarray | None = None
    is_unigram_K: np.ndarray | None = None
    is_late_K: np.ndarray | None = None
    factor_K: Float[np.ndarray, " K"] | None = None
    lo_KZ: Int[np.ndarray, "K Z"] | None = None
    hi_KZ: Int[np.ndarray, "K Z"] | None = None


def merged(keys: Keys) -> Keys:
    """Equal keys as one, with the larger log-probability, in order of appearance."""
    best: dict[tuple[object, ...], int] = {}
    titles, unigrams, late = flags(keys)
    factor_K = factors(keys)
    marks = (mark.tolist() for mark in (titles, unigrams, late, factor_K))
    for place, (tokens, *mark) in enumerate(zip(keys.tokens, *marks, strict=True)):
        name = (*tokens, *mark)
        known = best.setdefault(name, place)
        if keys.logprob_K[place] > keys.logprob_K[known]:
            best[name] = place
    chosen = np.array(list(best.values()), np.int64)
    return Keys(
        tokens=[keys.tokens[place] for place in chosen.tolist()],
        logprob_K=np.asarray(keys.logprob_K, np.float64)[chosen],
        is_title_K=titles[chosen],
        is_unigram_K=unigrams[chosen],
        is_late_K=late[chosen],
        factor_K=factor_K[chosen],
        lo_KZ=None if keys.lo_KZ is None else keys.lo_KZ[chosen],
        hi_KZ=None if keys.hi_KZ is None else keys.hi_KZ[chosen],
    )


def flags(keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(is_title_K, is_unigram_K, is_late_K)``, false where they are not given."""
    given = (keys.is_title_K, keys.is_unigram_K, keys.is_late_K)
    none_K = np.zeros(len(keys.tokens), bool)
    titles, unigrams, late = (
        none_K if flag is None else np.asarray(flag, bool) for flag in given
    )
    return titles, unigrams, late


def factors(keys: Keys) -> Float[np.ndarray, " K"]:
    """``factor_K``, 1 where it is not given."""
    if keys.factor_K is None:
        return np.ones(len(keys.tokens))
    return np.asarray(keys.factor_K, np.float64)


def joined(parts: Sequence[Keys]) -> Keys:
    """The keys of several sources as one, equal ones merged."""
    marks = [flags(part) for part in parts]
    titles, unigrams, late = (np.concatenate(m) for m in zip(*marks, strict=True))
    return merged(
        Keys(
            tokens=[tokens for part in parts for tokens in part.tokens],
            logprob_K=np.concatenate([part.logprob_K for part in parts]),
            is_title_K=titles,
            is_unigram_K=unigrams,
            is_late_K=late,
            factor_K=np.concatenate([factors(part) for part in parts]),
        )
    )


def with_unigrams(
    keys: Keys,
    logprob_V: Float[np.ndarray, " V"],
    *,
    top: int = 5000,
    first: int = 4,
    factor: float = 1.0,
) -> Keys:
    """The keys, and the likeliest first tokens as keys of one token.

    As many of the likeliest as there are keys become keys themselves; the others only
    fill free places. Tokens that are keys already are left out.

    Args:
      keys: N-grams.
      logprob_V: The model's log-probabilities of the first token.
      top: Tokens looked at.
      first: Tokens below are control tokens and are left out.
      factor: Multiplies the weight of each token.
    """
    known = {tuple(tokens) for tokens in keys.tokens if len(tokens) == 1}
    best = np.argsort(-logprob_V, kind="stable")[:top].tolist()
    chosen = [token for token in best if token >= first and (token,) not in known]
    counts = len(keys.tokens), len(chosen)
    titles, unigrams, late = flags(keys)
    return Keys(
        tokens=[*keys.tokens, *([token] for token in chosen)],
        logprob_K=np.concatenate([keys.logprob_K, logprob_V[chosen]]),
        is_title_K=np.concatenate([titles, np.zeros(counts[1], bool)]),
        is_unigram_K=np.concatenate([unigrams, np.ones(counts[1], bool)]),
        is_late_K=np.concatenate([late, np.arange(counts[1]) >= counts[0]]),
        factor_K=np.concatenate([factors(keys), np.full(counts[1], factor)]),
    )


def key_weights(
    logprob_K: Float[np.ndarray, " K"],
    count_K: Int[np.ndarray, " K"],
    tokens: int,
    *,
    smoothing: float = 5.0,
    exponent: float | Float[np.ndarray, " K"] = 2.0,
) -> Float[np.ndarray, " K"]:
    """Weights of keys: how much likelier the model finds them than the collection.

    ``w = max(0, ln[p(1 - q) / (q(1 - p))]) ** alpha`` with ``p = exp(s - 1e-10)`` and
    ``q = (count + smoothing) / (tokens + smoothing)``; 0 where a key does not occur.

    Args:
      logprob_K: ``s``, natural logarithms.
      count_K: Occurrences in the collection.
      tokens: Tokens of the collection.
      smoothing: Added to both.
      exponent: ``alpha``.

    Example:
      >>> key_weights(np.log([0.5]), np.array([5]), 95).round(4).tolist()
      [4.8278]
    """
    p_log_K = np.asarray(logprob_K, np.float64) - 1e-10
    q_K = (np.asarray(count_K, np.float64) + smoothing) / (tokens + smoothing)
    with np.errstate(divide="ignore"):
        odds_K = p_log_K - np.log(-np.expm1(p_log_K)) - np.log(q_K) + np.log1p(-q_K)
    weight_K = np.maximum(odds_K, 0.0) ** exponent
    return np.where(np.asarray(count_K) > 0, weight_K, 0.0)


class Flat(NamedTuple):
    """Keys that can count, those of a query together and strongest first."""

    query_K: np.ndarray
    source_K: np.ndarray
    weight_K: np.ndarray
    count_K: np.ndarray
    lo_KZ: np.ndarray
    hi_KZ: np.ndarray
    is_title_K: np.ndarray
    is_late_K: np.ndarray
    length_K: np.ndarray
    starts_T: np.ndarray
    tokens_F: np.ndarray
    set_starts_T: np.ndarray
    set_tokens_F: np.ndarray


def flat(
    queries: Sequence[Keys], tokens: int, index: rows.Index, settings: Settings
) -> Flat:
    """The keys of a block of queries as arrays.

    Args:
      queries: Keys of each query.
      tokens: Tokens of the collection.
      index: Says how often each key occurs, and where.
      settings: Decide what a key is worth.
    """
    ngrams = list(itertools.chain.from_iterable(keys.tokens for keys in queries))
    sizes = [len(keys.tokens) for keys in queries]
    marks = [flags(keys) for keys in queries]
    is_title_K, is_unigram_K, is_late_K = (
        np.concatenate(parts) for parts in zip(*marks, strict=True)
    )
    query_K = np.repeat(np.arange(len(queries)), sizes)
    source_K = occurrences.ranges(np.zeros(len(sizes), np.int64), np.array(sizes))
    lo_KZ, hi_KZ = _intervals(queries, ngrams, is_title_K, index)
    count_K = np.maximum(hi_KZ - lo_KZ, 0).sum(axis=1)
    logprob_K = np.concatenate([np.asarray(k.logprob_K, np.float64) for k in queries])
    if settings.constant_probability is not None:
        logprob_K = np.full(len(ngrams), np.log(settings.constant_probability))
    weight_K = key_weights(
        np.minimum(logprob_K, 0.0),
        count_K,
        tokens,
        smoothing=settings.smoothing,
        exponent=np.where(is_unigram_K, 1.0, settings.exponent),
    )
    weight_K = weight_K * np.concatenate([factors(keys) for keys in queries])
    length_K = np.fromiter(map(len, ngrams), np.int64, len(ngrams))
    counts = (weight_K > 0) & (count_K <= settings.skip_count) & (length_K > 0)
    kept = np.flatnonzero(counts)
    order = np.lexsort((-weight_K[kept], is_late_K[kept], query_K[kept]))
    kept = kept[order]
    starts_T = np.append(0, np.cumsum(length_K[kept]))
    given_F = np.fromiter(
        itertools.chain.from_iterable(ngrams), np.int64, int(length_K.sum())
    )
    given_K = np.cumsum(length_K) - length_K
    flat_F = given_F[occurrences.ranges(given_K[kept], length_K[kept])]
    set_starts_T, set_tokens_F = _sets(query_K[kept], length_K[kept], flat_F)
    return Flat(
        query_K=query_K[kept],
        source_K=source_K[kept],
        weight_K=weight_K[kept],
        count_K=count_K[kept],
        lo_KZ=lo_KZ[kept],
        hi_KZ=hi_KZ[kept],
        is_title_K=is_title_K[kept],
        is_late_K=is_late_K[kept],
        length_K=length_K[kept],
        starts_T=starts_T,
        tokens_F=flat_F,
        set_starts_T=set_starts_T,
        set_tokens_F=set_tokens_F,
    )


def of_query(flat: Flat, first: int, end: int) -> Flat:
    """The keys ``first`` to ``end - 1``, numbered from 0."""
    sets = slice(flat.set_starts_T[first], flat.set_starts_T[end])
    own = slice(flat.starts_T[first], flat.starts_T[end])
    cut = {
        name: getattr(flat, name)[first:end]
        for name in Flat._fields
        if name.endswith(("_K", "_KZ"))
    }
    return Flat(
        **cut,
        starts_T=flat.starts_T[first : end + 1] - flat.starts_T[first],
        tokens_F=flat.tokens_F[own],
        set_starts_T=flat.set_starts_T[first : end + 1] - flat.set_starts_T[first],
        set_tokens_F=flat.set_tokens_F[sets],
    )


def _sets(
    query_K: np.ndarray, length_K: np.ndarray, tokens_F: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct tokens of each key, where they begin; numbered from 0 in each query."""
    queries = int(query_K.max(initial=-1)) + 1
    size_Q = np.bincount(query_K, length_K, queries).astype(np.int64)
    bounds_T = np.append(0, np.cumsum(size_Q))
    last_of_V = np.empty(int(tokens_F.max(initial=0)) + 1, np.int64)
    last_F = np.empty_like(tokens_F)
    for begin, end in itertools.pairwise(bounds_T.tolist()):
        own_F = tokens_F[begin:end]
        last_of_V[own_F] = np.arange(begin, end)
        last_F[begin:end] = last_of_V.take(own_F)
    # A token's last place in a query stands for it; such places are counted.
    before_T = np.append(0, np.cumsum(last_F == np.arange(len(last_F))))
    number_F = before_T.take(last_F)
    number_F -= np.repeat(before_T.take(bounds_T[:-1]), size_Q)
    numbers = int(number_F.max(initial=0)) + 1
    of_key_X = np.sort(
        np.repeat(np.arange(len(length_K)), length_K) * numbers + number_F
    )
    of_key_X = of_key_X[occurrences.is_first(of_key_X)]
    key_X, number_X = np.divmod(of_key_X, numbers)
    count_K = np.bincount(key_X, minlength=len(length_K))
    return np.append(0, np.cumsum(count_K)), number_X


def _intervals(
    queries: Sequence[Keys],
    ngrams: Sequence[Tokens],
    is_title_K: np.ndarray,
    index: rows.Index,
) -> tuple[np.ndarray, np.ndarray]:
    known = [(keys.lo_KZ, keys.hi_KZ) for keys in queries]
    given = [pair for lo, hi in known if (pair := _pair(lo, hi)) is not None]
    if len(given) == len(queries):
        lows, highs = zip(*given, strict=True)
        return np.concatenate(lows), np.concatenate(highs)
    lo_KZ, hi_KZ = index.find(ngrams)
    titles = np.flatnonzero(is_title_K)
    if len(titles):
        chosen = [ngrams[place] for place in titles.tolist()]
        lo_KZ, hi_KZ = lo_KZ.copy(), hi_KZ.copy()
        lo_KZ[titles], hi_KZ[titles] = index.find(chosen, at_document_start=True)
    return lo_KZ, hi_KZ


def _pair(
    lo_KZ: np.ndarray | None, hi_KZ: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | None:
    return None if lo_KZ is None or hi_KZ is None else (lo_KZ, hi_KZ)
