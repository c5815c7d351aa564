"""The best of a query's documents, without scoring all of them.

A document's keys, each once and in full, bound its score from above: overlaps and
repeated tokens only take away. So the documents with the highest bounds are scored, the
last of the best so far is a bar, and what cannot reach it is left out. The result is
that of scoring all (cf. Turtle and Flood 1995, max-score).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int

from gr_jax.score import keys as key_module
from gr_jax.score import occurrences, reading, rows

# Sums in another order differ by rounding; a bound may not be missed for that.
_SLACK = 1 + 1e-9


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Documents of a query, ascending, and the keys located in them.

    With a `reading.Reading` of these documents its keys count as well.
    """

    keys: key_module.Flat
    document_G: Int[np.ndarray, " G"]
    found: occurrences.Occurrences
    corpus: rows.Corpus
    space: occurrences.Space
    settings: key_module.Settings
    read: reading.Reading | None = None

    def best(self, most: int) -> Candidates:
        """Only the best documents; ties are cut by document id."""
        if len(self.document_G) <= most:
            return self
        upper_G, lower_G = self._bounds, self._lower_bounds
        # No need to know by how much a document is among the best.
        is_sure_G = lower_G > _last(upper_G, most + 1) * _SLACK
        score_G = np.where(is_sure_G, lower_G, upper_G)
        is_done_G = is_sure_G | (self._counts == 1)
        self._contest(score_G, is_done_G, most, floor=_last(lower_G, most))
        place_J = np.sort(self._cut(score_G, most))
        return dataclasses.replace(
            self, document_G=self.document_G[place_J], found=self._found_in(place_J)
        )

    def ranked(self, most: int) -> tuple[Int[np.ndarray, " J"], occurrences.Uses]:
        """The best documents, best first, and the keys of each."""
        score_G, is_done_G = self._bounds.copy(), np.zeros(len(self.document_G), bool)
        rounds = self._contest(score_G, is_done_G, most)
        place_J = self._cut(score_G, most)
        scored = np.concatenate([place for place, _ in rounds])
        at_G = np.zeros(len(self.document_G), np.int64)
        at_G[scored] = np.arange(len(scored))
        uses = occurrences.joined([uses for _, uses in rounds])
        return self.document_G[place_J], occurrences.taken(uses, at_G[place_J])

    def _contest(
        self,
        score_G: Float[np.ndarray, " G"],
        is_done_G: Bool[np.ndarray, " G"],
        most: int,
        *,
        floor: float = -np.inf,
    ) -> list[tuple[Int[np.ndarray, " J"], occurrences.Uses]]:
        """Puts scores in the place of bounds where a document can be among the best.

        Args:
          score_G: Scores of what is done, bounds of the rest. Changed.
          is_done_G: What needs no scoring. Changed.
          most: How many are the best.
          floor: All of the best are known to reach it.

        Returns:
          What was scored.
        """
        rounds: list[tuple[Int[np.ndarray, " J"], occurrences.Uses]] = []
        while True:
            bar = max(floor, _last(score_G[is_done_G], most))
            place_J = np.flatnonzero(~is_done_G & (score_G * _SLACK >= bar))
            if not len(place_J) and rounds:
                return rounds
            if len(place_J) > 2 * most:
                # Fewer would give a low bar: some of the highest bounds are far off.
                split = len(place_J) - 2 * most
                chosen = np.argpartition(score_G.take(place_J), split)[split:]
                place_J = np.sort(place_J[chosen])
            uses = self._uses(place_J)
            score_G[place_J], is_done_G[place_J] = uses.score_G, True
            rounds.append((place_J, uses))

    def _cut(
        self, score_G: Float[np.ndarray, " G"], most: int
    ) -> Int[np.ndarray, " J"]:
        """The best, best first, ties by document id."""
        # All that reach the last score that can stay, so that ties are cut by id.
        place_J = np.flatnonzero(score_G >= _last(score_G, most))
        tie_J = self.corpus.id_order.take(self.document_G.take(place_J))
        return place_J[np.lexsort((tie_J, -score_G.take(place_J)))][:most]

    def _uses(self, place_J: Int[np.ndarray, " J"]) -> occurrences.Uses:
        """What each key adds to some of the documents, given ascending."""
        found = self._found_in(place_J)
        document_J = self.document_G.take(place_J)
        if self.read is not None:
            more = self.read.find(document_J)
            found = occurrences.in_order(
                *(np.concatenate(parts) for parts in zip(found, more, strict=True)),
                keys=len(self.keys.weight_K),
                longest=int(self.corpus.length_N.take(document_J).max(initial=0)),
            )
        group_H, key_H = found.group_H, found.key_H
        if not self.settings.allow_overlaps:
            length_J = self.corpus.length_N.take(document_J)
            base_J = np.cumsum(length_J) - length_J
            stays_H = occurrences.settle(
                base_J.take(group_H) + found.place_H,
                self.keys.length_K.take(key_H),
                int(length_J.sum()),
                self.space,
            )
            group_H, key_H = group_H[stays_H], key_H[stays_H]
        return occurrences.uses(
            *occurrences.pairs(group_H, key_H),
            self.keys.weight_K,
            self.keys.set_starts_T,
            self.keys.set_tokens_F,
            repetition=self.settings.repetition,
        )

    def _found_in(self, place_J: Int[np.ndarray, " J"]) -> occurrences.Occurrences:
        """What was located in some of the documents, which are numbered anew."""
        first_J = self._starts.take(place_J)
        count_J = self._starts.take(place_J + 1) - first_J
        at = occurrences.ranges(first_J, count_J)
        return occurrences.Occurrences(
            np.repeat(np.arange(len(place_J), dtype=np.int32), count_J),
            self.found.key_H.take(at),
            self.found.place_H.take(at),
        )

    @functools.cached_property
    def _starts(self) -> Int[np.ndarray, " T"]:
        """Where the occurrences of each document begin."""
        start_G = np.flatnonzero(occurrences.is_first(self.found.group_H))
        return np.append(start_G, len(self.found.group_H))

    @functools.cached_property
    def _pairs(self) -> tuple[Int[np.ndarray, " U"], Int[np.ndarray, " U"]]:
        return occurrences.pairs(self.found.group_H, self.found.key_H)

    @functools.cached_property
    def _counts(self) -> Int[np.ndarray, " G"]:
        """Located keys of each document."""
        return np.bincount(self._pairs[0], minlength=len(self.document_G))

    @functools.cached_property
    def _lower_bounds(self) -> Float[np.ndarray, " G"]:
        """What the strongest located key adds, which nothing takes away from it."""
        group_U, key_U = self._pairs
        strongest_G = key_U[occurrences.is_first(group_U)]
        whole = occurrences.whole(self.settings.repetition)
        return self.keys.weight_K.take(strongest_G) * whole

    @functools.cached_property
    def _bounds(self) -> Float[np.ndarray, " G"]:
        """No document scores more; one with a single key scores that."""
        group_U, key_U = self._pairs
        weight_U = self.keys.weight_K.take(key_U)
        weight_U *= occurrences.whole(self.settings.repetition)
        size = len(self.document_G)
        bound_G = np.bincount(group_U, weights=weight_U, minlength=size)
        if self.read is not None and size:
            bound_G += self.read.bounds(self.document_G)
        return bound_G


def _last(score_J: Float[np.ndarray, " J"], most: int) -> float:
    """The score that the last of the best has; below all if there are fewer."""
    split = len(score_J) - most
    return float(np.partition(score_J, split)[split]) if split >= 0 else -np.inf
