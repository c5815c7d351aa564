"""The best of a query's documents, without scoring all of them.

A document's keys, each in full, bound its score from above: overlaps and repeated
tokens only take away. Where no two keys share a token nothing is taken, and the bound
is the score. Of the rest the documents with the highest bounds are scored, the last of
the best so far is a bar, and what cannot reach it is left out. The result is that of
scoring all (cf. Turtle and Flood 1995, max-score).
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
    """Documents of a query, ascending, and the keys located in them, strongest first.

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
        score_G = self._bounds.copy()
        bar, _ = self._contest(score_G, self._is_apart, most)
        place_J = occurrences.where(score_G >= bar)
        place_J = np.sort(place_J[self._first(score_G.take(place_J), place_J, most)])
        return dataclasses.replace(
            self, document_G=self.document_G[place_J], found=self._found_in(place_J)
        )

    def ranked(self, most: int) -> tuple[Int[np.ndarray, " J"], occurrences.Uses]:
        """The best documents, best first, and the keys of each."""
        is_done_G = np.zeros(len(self.document_G), bool)
        _, rounds = self._contest(self._bounds.copy(), is_done_G, most)
        place_J = np.concatenate([place for place, _ in rounds])
        uses = occurrences.joined([uses for _, uses in rounds])
        first = self._first(uses.score_G, place_J, most)
        order = np.lexsort((self._tie(place_J[first]), -uses.score_G[first]))
        first = first[order]
        return self.document_G[place_J[first]], occurrences.taken(uses, first)

    def _contest(
        self,
        score_G: Float[np.ndarray, " G"],
        is_done_G: Bool[np.ndarray, " G"],
        most: int,
    ) -> tuple[float, list[tuple[Int[np.ndarray, " J"], occurrences.Uses]]]:
        """Puts scores in the place of bounds where a document can be among the best.

        Args:
          score_G: Scores of what is done, bounds of the rest. Changed.
          is_done_G: What needs no scoring. Changed.
          most: How many are the best.

        Returns:
          A bar that all of the best reach, and what was scored.
        """
        rounds: list[tuple[Int[np.ndarray, " J"], occurrences.Uses]] = []
        while True:
            bar = _last(score_G[is_done_G], most)
            place_J = occurrences.where(~is_done_G & (score_G * _SLACK >= bar))
            if not len(place_J) and rounds:
                return bar, rounds
            is_all = len(place_J) <= 2 * most
            if not is_all:
                # Fewer would give a low bar: some of the highest bounds are far off.
                split = len(place_J) - 2 * most
                chosen = np.argpartition(score_G.take(place_J), split)[split:]
                place_J = np.sort(place_J[chosen])
            uses = self._uses(place_J)
            score_G[place_J], is_done_G[place_J] = uses.score_G, True
            rounds.append((place_J, uses))
            if is_all:
                return bar, rounds

    def _first(
        self,
        score_J: Float[np.ndarray, " J"],
        place_J: Int[np.ndarray, " J"],
        most: int,
    ) -> Int[np.ndarray, " F"]:
        """Which of some documents are the best, in no order; ties go by document id."""
        last = _last(score_J, most)
        above, tied = (
            occurrences.where(score_J > last),
            occurrences.where(score_J == last),
        )
        room = most - len(above)
        if len(tied) > room:
            tied = tied[np.argsort(self._tie(place_J.take(tied)))[:room]]
        return np.append(above, tied)

    def _tie(self, place_J: Int[np.ndarray, " J"]) -> Int[np.ndarray, " J"]:
        return self.corpus.id_order.take(self.document_G.take(place_J))

    def _uses(self, place_J: Int[np.ndarray, " J"]) -> occurrences.Uses:
        """What each key adds to some of the documents, given ascending."""
        found = self._found_in(place_J)
        document_J = self.document_G.take(place_J)
        length_J = self.corpus.length_N.take(document_J)
        if self.read is not None:
            more = self.read.find(document_J)
            parts = (np.concatenate(both) for both in zip(found, more, strict=True))
            found = occurrences.Occurrences(*parts)
        group_H, key_H, place_H = occurrences.in_order(
            *found,
            keys=len(self.keys.weight_K),
            longest=self.corpus.longest_document,
        )
        if not self.settings.allow_overlaps:
            base_J = np.cumsum(length_J) - length_J
            stays = occurrences.settle(
                base_J.take(group_H) + place_H,
                self.keys.length_K.take(key_H),
                int(length_J.sum()),
                self.space,
            )
            group_H, key_H = group_H.take(stays), key_H.take(stays)
        return occurrences.uses(
            *occurrences.pairs(group_H, key_H),
            self.keys.weight_K,
            self.keys.set_starts_T,
            self.keys.set_tokens_F,
            repetition=self.settings.repetition,
            space=self.space,
        )

    def _found_in(self, place_J: Int[np.ndarray, " J"]) -> occurrences.Occurrences:
        """What was located in some of the documents, which are numbered anew."""
        number_G = np.full(len(self.document_G), -1, np.int32)
        number_G[place_J] = np.arange(len(place_J), dtype=np.int32)
        number_H = number_G.take(self.found.group_H)
        kept = occurrences.where(number_H >= 0)
        return occurrences.Occurrences(
            number_H.take(kept),
            self.found.key_H.take(kept),
            self.found.place_H.take(kept),
        )

    @functools.cached_property
    def _is_apart(self) -> Bool[np.ndarray, " G"]:
        """Where no two occurrences share a token; there the bound is the score."""
        group_H, key_H, _ = self.found
        size = len(self.document_G)
        several = occurrences.where(
            np.bincount(group_H, minlength=size).take(group_H) > 1
        )
        group_S = group_H.take(several)
        repeats = occurrences.repeated(
            group_S,
            key_H.take(several),
            self.keys.set_starts_T,
            self.keys.set_tokens_F,
            self.space,
        )
        is_apart_G = np.ones(size, bool)
        is_apart_G[group_S.take(repeats)] = False
        return is_apart_G

    @functools.cached_property
    def _bounds(self) -> Float[np.ndarray, " G"]:
        """No document scores more."""
        group_H, key_H, _ = self.found
        size = len(self.document_G)
        if self.read is not None:
            # Reading costs more than counting each key once.
            keys = len(self.keys.weight_K)
            chosen = occurrences.once(group_H, key_H, keys, self.space)
            group_H, key_H = group_H.take(chosen), key_H.take(chosen)
        weight_H = self.keys.weight_K.take(key_H)
        weight_H *= occurrences.whole(self.settings.repetition)
        bound_G = np.bincount(group_H, weights=weight_H, minlength=size)
        if self.read is not None and size:
            bound_G += self.read.bounds(self.document_G)
        return bound_G


def _last(score_J: Float[np.ndarray, " J"], most: int) -> float:
    """The score that the last of the best has; below all if there are fewer."""
    split = len(score_J) - most
    return float(np.partition(score_J, split)[split]) if split >= 0 else -np.inf
