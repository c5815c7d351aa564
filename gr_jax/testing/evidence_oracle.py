"""Evidence by plain Python: dictionaries, loops and a trie, one document at a time.

Shares no code with `gr_jax.score`. The tests compare against it and the benchmark
measures the distance.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

Tokens = tuple[int, ...]
Count = Callable[[Tokens, bool], int]
Positions = Callable[[Tokens, bool], list[int]]
Used = list[tuple[int, float]]


def weight(
    logprob: float, count: int, tokens: int, *, smoothing: float, exponent: float
) -> float:
    """``max(0, ln odds ratio) ** exponent`` of one key."""
    if not count:
        return 0.0
    p = min(logprob, 0.0) - 1e-10
    q = (count + smoothing) / (tokens + smoothing)
    if q >= 1:
        return 0.0
    odds = p - math.log(-math.expm1(p)) - math.log(q) + math.log1p(-q)
    return max(0.0, odds) ** exponent


def discounted(key: Tokens, worth: float, covered: set[int], beta: float) -> float:
    """A key's weight where some of its tokens were brought by stronger keys."""
    tokens = set(key)
    return worth * (1 - beta + beta * len(tokens - covered) / len(tokens))


class Aggregator:
    """Documents of one query at a time.

    Args:
      rows: Tokens of each row.
      row_documents: Document of each row.
      document_ids: Ids.
      count: How often a key occurs; how often it begins a row, if asked.
      positions: The places counted, in the rows laid end to end.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        row_documents: Sequence[int],
        document_ids: Sequence[str],
        count: Count,
        positions: Positions,
    ) -> None:
        self.rows = [list(row) for row in rows]
        self.row_documents = list(row_documents)
        self.document_ids = list(document_ids)
        self.count = count
        self.positions = positions
        self.starts = [0]
        for row in self.rows:
            self.starts.append(self.starts[-1] + len(row))
        self.rows_of: dict[int, list[int]] = {}
        for row, document in enumerate(self.row_documents):
            self.rows_of.setdefault(document, []).append(row)

    def rank(
        self,
        keys: Sequence[Tokens],
        logprobs: Sequence[float],
        *,
        titles: Sequence[bool] = (),
        unigrams: Sequence[bool] = (),
        late: Sequence[bool] = (),
        factors: Sequence[float] = (),
        exponent: float = 2.0,
        beta: float = 0.8,
        smoothing: float = 5.0,
        max_hits: int = 1500,
        max_documents: int = 1500,
        skip_count: int = 10_000_000,
        allow_overlaps: bool = False,
        hits: int = 100,
    ) -> list[tuple[str, float, Used]]:
        """``(document id, score, keys with weights)``, best first."""
        title = dict(enumerate(titles))
        is_late = dict(enumerate(late))
        factor = dict(enumerate(factors))
        worth: dict[int, float] = {}
        counts: dict[int, int] = {}
        for place, key in enumerate(keys):
            if not key:
                continue
            counts[place] = self.count(key, bool(title.get(place)))
            single = bool(dict(enumerate(unigrams)).get(place))
            value = weight(
                logprobs[place],
                counts[place],
                self.starts[-1],
                smoothing=smoothing,
                exponent=1.0 if single else exponent,
            ) * factor.get(place, 1.0)
            if value > 0 and counts[place] <= skip_count:
                worth[place] = value
        order = sorted(worth, key=lambda k: (bool(is_late.get(k)), -worth[k], k))
        rare = [k for k in order if counts[k] <= max_hits and not bool(is_late.get(k))]
        found = {k: self.positions(keys[k], bool(title.get(k))) for k in rare}
        nominated = self._nominate(keys, rare, found, worth, beta, allow_overlaps)
        nominated = nominated[:max_documents]
        ranked: list[tuple[int, float, Used]] = []
        tree = self._trie([(keys[k], k) for k in order])
        for document, _ in nominated:
            used = self._full(
                document, keys, order, tree, title, worth, beta, allow_overlaps
            )
            ranked.append((document, sum(w for _, w in used), used))
        ranked.sort(key=lambda row: (-row[1], self.document_ids[row[0]]))
        return [(self.document_ids[d], s, used) for d, s, used in ranked[:hits]]

    def _nominate(
        self,
        keys: Sequence[Tokens],
        rare: list[int],
        found: dict[int, list[int]],
        worth: dict[int, float],
        beta: float,
        allow_overlaps: bool,
    ) -> list[tuple[int, float]]:
        """Documents by their rare keys, best first."""
        covered: set[int] = set()
        keys_of: dict[int, list[int]] = {}
        for k in rare:
            for position in sorted(found[k]):
                span = range(position, position + len(keys[k]))
                if not allow_overlaps and any(p in covered for p in span):
                    continue
                covered.update(span)
                row = bisect.bisect_right(self.starts, position) - 1
                mine = keys_of.setdefault(self.row_documents[row], [])
                if k not in mine:
                    mine.append(k)
        scores: list[tuple[int, float]] = []
        for document, mine in keys_of.items():
            tokens: set[int] = set()
            score = 0.0
            for k in mine:
                score += discounted(keys[k], worth[k], tokens, beta)
                tokens.update(keys[k])
            scores.append((document, score))
        scores.sort(key=lambda pair: (-pair[1], self.document_ids[pair[0]]))
        return scores

    def _trie(self, keys: list[tuple[Tokens, int]]) -> dict:
        root: dict = {}
        for key, number in keys:
            node = root
            for token in key:
                node = node.setdefault(token, {})
            node.setdefault("keys", []).append(number)
        return root

    def _full(
        self,
        document: int,
        keys: Sequence[Tokens],
        order: list[int],
        tree: dict,
        title: dict[int, bool],
        worth: dict[int, float],
        beta: float,
        allow_overlaps: bool,
    ) -> Used:
        """The keys of one document, strongest first, and what each adds."""
        rank = {k: place for place, k in enumerate(order)}
        matches: list[tuple[int, int, int]] = []
        for row in self.rows_of[document]:
            tokens = self.rows[row]
            for begin in range(len(tokens)):
                node, end = tree, begin
                while end < len(tokens) and tokens[end] in node:
                    node = node[tokens[end]]
                    end += 1
                    for k in node.get("keys", ()):
                        if begin == 0 or not title.get(k):
                            matches.append((rank[k], self.starts[row] + begin, k))
        matches.sort()
        taken: set[int] = set()
        tokens_seen: set[int] = set()
        used: dict[int, float] = {}
        for _, position, k in matches:
            span = range(position, position + len(keys[k]))
            if not allow_overlaps and any(p in taken for p in span):
                continue
            taken.update(span)
            if k not in used:
                used[k] = discounted(keys[k], worth[k], tokens_seen, beta)
                tokens_seen.update(keys[k])
        return list(used.items())
