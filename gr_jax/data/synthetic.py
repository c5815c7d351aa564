"""A planted collection of any size, the same bytes on every machine.

Document i describes entity i: a unique pair of name parts, a unique pair of place and
product, and attributes it shares with others. A query asks for an attribute by name, or
for the entity by place and product, in one of a few hundred wordings. How many queries
a document has follows Zipf's law. Integer arithmetic only: no float is ever compared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from jaxtyping import Int64

from gr_jax.core import artifacts, errors
from gr_jax.data import corpus, judgements

NAME = "synthetic"
SPLITS: tuple[str, ...] = ("train", "dev", "test", "unseen")
LEAST, MOST = 100, 10_000_000
_MASK = (1 << 64) - 1
_UNSEEN_ONE_IN = 10
_EVALUATION_QUERIES = 1000
_ZIPF_SHIFT = 10
_WEIGHT = 1 << 32

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_SYLLABLES = [c + v for c in _CONSONANTS for v in _VOWELS]

_KINDS = ("workshop", "guild", "harbour", "orchard", "library", "foundry", "choir")
_KIND_WORDS = {
    "workshop": ("workshop", "atelier", "studio"),
    "guild": ("guild", "trade union", "brotherhood"),
    "harbour": ("harbour", "port", "haven"),
    "orchard": ("orchard", "fruit garden", "grove"),
    "library": ("library", "house of books", "reading room"),
    "foundry": ("foundry", "smelter", "ironworks"),
    "choir": ("choir", "chorus", "singing group"),
}
_MATERIALS = ("oak", "slate", "copper", "linen", "glass", "clay", "wool", "amber")
_COLOURS = ("red", "green", "blue", "white", "black", "yellow", "grey", "violet")
_FEATURES = ("kind", "place", "product", "material", "colour", "year")
_FEATURE_WORDS = {
    "kind": ("kind", "sort of place", "type"),
    "place": ("home town", "location", "place"),
    "product": ("product", "main good", "speciality"),
    "material": ("building material", "material", "fabric"),
    "colour": ("colour", "flag colour", "emblem colour"),
    "year": ("founding year", "year of origin", "date of foundation"),
}
_BY_NAME = (
    "what is the {feature} of {name}",
    "{name} {feature}",
    "tell me the {feature} of {name}",
    "which {feature} does {name} have",
    "i want to know the {feature} of {name}",
    "{feature} for {name}",
)
_BY_PLACE = (
    "which {kind} in {place} makes {product}{extra}",
    "{kind} of {place} known for {product}{extra}",
    "{product} from the {kind} in {place}{extra}",
    "name the {kind} that sells {product} at {place}{extra}",
    "who supplies {product} in {place}, the {kind}{extra}",
    "looking for a {place} {kind} with {product}{extra}",
)
_EXTRAS = ("", " built of {material}", " under a {colour} flag", " founded in {year}")
_NAMED_WORDINGS = len(_BY_NAME) * len(_FEATURES) * 3
_PLACED_WORDINGS = len(_BY_PLACE) * len(_EXTRAS) * 3
WORDINGS = _NAMED_WORDINGS + _PLACED_WORDINGS
# Prime to WORDINGS, and large: neighbouring numbers get different templates.
_STRIDES = (67, 71, 73, 77, 79, 83, 89, 97)


def mixed(*words: int) -> int:
    """64 scattered bits of some integers (SplitMix64, absorbing one at a time)."""
    state = 0x9E3779B97F4A7C15
    for word in words:
        state = (state ^ (word & _MASK)) * 0xBF58476D1CE4E5B9 & _MASK
        state ^= state >> 27
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def _word(number: int, salt: int, ending: str) -> str:
    """An invented word; different numbers below 70³ give different words."""
    space = len(_SYLLABLES) ** 3
    number = (number * 99_991 + salt) % space  # 99,991 is prime: a bijection.
    first, rest = divmod(number, len(_SYLLABLES) ** 2)
    second, third = divmod(rest, len(_SYLLABLES))
    return _SYLLABLES[first] + _SYLLABLES[second] + _SYLLABLES[third] + ending


@dataclasses.dataclass(frozen=True)
class _Shuffle:
    """A bijection of [0, size): x ↦ (a·x + b) mod size, with a prime to size."""

    size: int
    seed: int
    purpose: int

    @cached_property
    def _factors(self) -> tuple[int, int]:
        multiplier = mixed(self.seed, self.purpose, 1) % self.size | 1
        while math.gcd(multiplier, self.size) != 1:
            multiplier += 1
        return multiplier, mixed(self.seed, self.purpose, 2) % self.size

    def __call__(self, value: int) -> int:
        multiplier, shift = self._factors
        return (multiplier * value + shift) % self.size


@dataclasses.dataclass(frozen=True)
class World:
    """Every document and query of a size and a seed, any of them on its own.

    Attributes:
      documents: How many entities there are.
      seed: Names the world.
      queries_per_document: Train queries, on average over all documents.
    """

    documents: int
    seed: int = 0
    queries_per_document: int = 4

    def __post_init__(self) -> None:
        if not LEAST <= self.documents <= MOST:
            raise errors.UsageError(
                f"synthetic: documents: {self.documents}: from {LEAST} to {MOST}"
            )

    @cached_property
    def _side(self) -> int:
        return math.isqrt(self.documents - 1) + 1

    @cached_property
    def _names(self) -> _Shuffle:
        return _Shuffle(self.documents, self.seed, 11)

    @cached_property
    def _places(self) -> _Shuffle:
        return _Shuffle(self.documents, self.seed, 12)

    @cached_property
    def _ranks(self) -> _Shuffle:
        return _Shuffle(self.documents, self.seed, 13)

    @cached_property
    def _cumulated(self) -> Int64[np.ndarray, " N"]:
        """Weights 2^32 // (rank + 10), summed up: Zipf's law with a rounded head."""
        rank = np.arange(self.documents, dtype=np.int64)
        return np.cumsum(_WEIGHT // (rank + _ZIPF_SHIFT))

    def name(self, entity: int) -> str:
        """Two words; each is shared by many entities, the pair by none."""
        first, last = divmod(self._names(entity), self._side)
        given = _word(first, mixed(self.seed, 21) % 343_000, "n")
        family = _word(last, mixed(self.seed, 22) % 343_000, "rd")
        return f"{given.capitalize()} {family.capitalize()}"

    def features(self, entity: int) -> dict[str, str]:
        """What is true of an entity; place and product together of it alone."""
        place, product = divmod(self._places(entity), self._side)
        bits = mixed(self.seed, 31, entity)
        return {
            "kind": _KINDS[bits % len(_KINDS)],
            "place": _word(place, mixed(self.seed, 23) % 343_000, "burg").capitalize(),
            "product": _word(product, mixed(self.seed, 24) % 343_000, "ce"),
            "material": _MATERIALS[(bits >> 8) % len(_MATERIALS)],
            "colour": _COLOURS[(bits >> 16) % len(_COLOURS)],
            "year": str(1400 + (bits >> 24) % 500),
        }

    def document(self, entity: int) -> corpus.Document:
        """The description of an entity; it names a neighbour, as real texts do."""
        facts = self.features(entity)
        name = self.name(entity)
        neighbour = self.name(mixed(self.seed, 32, entity) % self.documents)
        sentences = [
            f"{name} is the {facts['kind']} of {facts['place']}.",
            f"It was founded in {facts['year']} and is known for its"
            f" {facts['product']}.",
            f"The house is built of {facts['material']} and flies a"
            f" {facts['colour']} flag.",
            f"It trades with {neighbour}.",
        ]
        turn = mixed(self.seed, 33, entity) % 3
        middle = sentences[1:]
        text = " ".join([sentences[0], *middle[turn:], *middle[:turn]])
        return corpus.Document(self.id(entity), name, text)

    def id(self, entity: int) -> str:
        """The document id of an entity."""
        return f"e{entity:08d}"

    def is_unseen(self, entity: int) -> bool:
        """Whether the entity has no query in train, dev and test: one in ten."""
        return mixed(self.seed, 41, entity) % _UNSEEN_ONE_IN == 0

    def train_queries(self, entity: int) -> int:
        """How many train queries an entity has; they add up to the world's number."""
        if self.is_unseen(entity):
            return 0
        rank = self._ranks(entity)
        total = self.documents * self.queries_per_document
        weight = int(self._cumulated[-1])
        before = int(self._cumulated[rank - 1]) if rank else 0
        share = int(self._cumulated[rank]) * total // weight - before * total // weight
        return min(share, WORDINGS - 2)  # Two wordings stay for dev and test.

    def wording(self, entity: int, number: int) -> str:
        """One of the `WORDINGS` queries of an entity, all different."""
        bits = mixed(self.seed, 51, entity)
        stride = _STRIDES[bits % len(_STRIDES)]
        number = (number * stride + (bits >> 8)) % WORDINGS
        facts = self.features(entity)
        if number < _NAMED_WORDINGS:
            number, synonym = divmod(number, 3)
            template, feature = divmod(number, len(_FEATURES))
            words = _FEATURE_WORDS[_FEATURES[feature]][synonym]
            return _BY_NAME[template].format(feature=words, name=self.name(entity))
        number, synonym = divmod(number - _NAMED_WORDINGS, 3)
        template, extra = divmod(number, len(_EXTRAS))
        kind = _KIND_WORDS[facts["kind"]][synonym]
        more = _EXTRAS[extra].format(**facts)
        return _BY_PLACE[template].format(**{**facts, "kind": kind, "extra": more})

    def _is_drawn(self, entity: int, purpose: int) -> bool:
        wanted = min(_EVALUATION_QUERIES, max(self.documents // 4, 1))
        return mixed(self.seed, purpose, entity) % self.documents < wanted

    def queries(self, entity: int) -> Iterator[tuple[str, corpus.Query]]:
        """Queries of an entity with their splits.

        Dev and test ask for documents that have train queries, in wordings these do
        not use; about 1,000 queries each (a quarter of a small world's documents).
        """
        count = self.train_queries(entity)
        numbered = [("train", number) for number in range(count)]
        if self.is_unseen(entity):
            # One in ten documents only: draw ten times as often.
            if any(self._is_drawn(entity, 70 + k) for k in range(_UNSEEN_ONE_IN)):
                numbered.append(("unseen", 0))
        elif count:
            for split, purpose, number in (("dev", 61, count), ("test", 62, count + 1)):
                if self._is_drawn(entity, purpose):
                    numbered.append((split, number))
        for split, number in numbered:
            id = f"{self.id(entity)}-{number:03d}"
            yield split, corpus.Query(id, self.wording(entity, number))


def make(*, seed: int = 0, documents: int | None = None) -> corpus.Collection:
    """A synthetic collection in memory; 1,000 documents unless said.

    Raises:
      UsageError: If the size is out of range.
    """
    world = World(1000 if documents is None else documents, seed)
    queries: dict[str, corpus.Query] = {}
    qrels: dict[str, corpus.Qrels] = {split: {} for split in SPLITS}
    for entity in range(world.documents):
        for split, query in world.queries(entity):
            queries[query.id] = query
            qrels[split][query.id] = {world.id(entity): 1}
    rows = [world.document(entity) for entity in range(world.documents)]
    return corpus.Collection(NAME, rows, queries, qrels)


def _write_queries(folder: Path, world: World) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    (folder / "qrels").mkdir()

    def opened(stack: ExitStack, name: str) -> TextIO:
        path = folder / name
        return stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))

    with ExitStack() as stack:
        texts = opened(stack, "queries.jsonl")
        files = {split: opened(stack, f"qrels/{split}.tsv") for split in SPLITS}
        for file in files.values():
            file.write("\t".join(judgements.HEADER) + "\n")
        for entity in range(world.documents):
            for split, query in world.queries(entity):
                texts.write(corpus.query_line(query))
                files[split].write(f"{query.id}\t{world.id(entity)}\t1\n")
                counts[split] += 1
    return counts


def write(
    folder: Path, world: World, *, config: Mapping[str, Any] | None = None
) -> artifacts.Manifest:
    """Writes a world as a collection folder, entity by entity.

    The files are those that `corpus.write_collection` makes of `make`; memory holds
    eight bytes a document.
    """
    with artifacts.staged(folder) as staged:
        lines = (
            corpus.document_line(world.document(entity))
            for entity in range(world.documents)
        )
        corpus.write_rows(staged / "corpus.jsonl", lines)
        counts = _write_queries(staged, world)
        return artifacts.write_manifest(
            staged,
            kind=corpus.KIND,
            schema_version=corpus.SCHEMA_VERSION,
            config=config,
            seeds={"collection": world.seed},
            facts={
                "name": NAME,
                "documents": world.documents,
                "queries": sum(counts.values()),
                "splits": {
                    split: {"queries": n, "judgements": n}
                    for split, n in counts.items()
                },
            },
        )
