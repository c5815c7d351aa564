"""What a study asks, and the list of runs that answers it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from gr_jax.core import errors
from gr_jax.identifiers import codec
from gr_jax.identifiers import views as views_module
from gr_jax.train import settings

Layout = Literal["cross", "grid"]
FAMILIES = ("t5", "llama")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """One way of decoding a trained model."""

    beam: int
    max_length: int
    query_keys: bool
    views: str = views_module.BODY

    @property
    def rescoring(self) -> str:
        """Which keys count beside those of the body's search: ``none``, or a list."""
        keys = ["query-keys"] if self.query_keys else []
        if self.views != views_module.BODY:
            keys.append(self.views)
        return ", ".join(keys) or "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One model to train, and the ways it is decoded."""

    family: str
    size: str
    identifier_kind: str
    fraction: float
    steps: int
    seed: int
    decodings: tuple[Decoding, ...]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Cell:
        """The cell of its JSON form."""
        decodings = tuple(Decoding(**each) for each in value["decodings"])
        return cls(**{**value, "decodings": decodings})

    @property
    def label(self) -> str:
        """A short name for people; the hash is the real one."""
        data = f"{self.fraction:g}"
        return f"{self.family} {self.size} {self.identifier_kind} data {data}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study: collection, identifiers, and the axes that are varied.

    ``cross`` varies one axis at a time from the base run; ``grid`` trains every pair of
    size and fraction, which a joint law needs. Every trained model is decoded at the
    base beam; ``beams_everywhere`` decodes each at all beams, else only the base run.

    Amounts of data are nested fractions of the training queries. Each run takes the
    same number of optimizer steps at the same batch, so that data is not confounded
    with steps; with ``epochs`` set, steps follow the data instead.

    Attributes:
      collection: ``builtin:NAME`` or the path of a BEIR folder.
      identifiers: Kinds, such as ``ngram`` and ``rq``.
      sizes: Ladder sizes to train, by family (``t5``, ``llama``).
      base_sizes: The size at which data and beams are varied, by family.
      fractions: Amounts of data, as nested shares of the training queries.
      training: Steps, learning rate and all else about one training.
      batch: Examples a step.
      learning_rate_width: Learning rates are scaled by ``sqrt(this / width)``, so that
        one setting serves all sizes; 0 does not scale.
      documents: For built-in collections, how many documents; None: all.
      queries: Evaluation queries, a seeded choice; None: the whole split.
      scored_queries: Of these, how many are scored for the contrastive metrics.
      source_length: Tokens of a source, its end piece included; longer ones are cut.
      max_length: Tokens of a generated n-gram; codes have their own length.
      query_keys: Whether the query's own n-grams are further keys (n-grams only); with
        both values every model is decoded both ways.
      views: What n-gram models are searched for, each as `identifiers.views` writes it,
        such as ``body+title``; every model is decoded in each way. The index and the
        training pairs hold all views that are named.
      view_tokens: Tokens of a title or pseudo-query; the rest is cut.
      spans_per_query: N-grams sampled for a training query and its document.
      spans_per_document: Training pairs of a document with itself.
      scored_spans: N-grams scored for a (query, document).
      codes: Codes of a level (``rq``).
      code_levels: Levels before the suffix (``rq``).
      negatives: Documents every evaluation query is contrasted with.
      seed: Of collection, vocabulary, identifiers, negatives and resamples.
      resamples: Bootstrap resamples of every interval.
      decode_batch: Queries decoded at once.
      examples_shown: Queries whose evidence is kept for the report.
    """

    collection: str
    identifiers: tuple[str, ...]
    sizes: Mapping[str, tuple[str, ...]]
    base_sizes: Mapping[str, str]
    fractions: tuple[float, ...]
    beams: tuple[int, ...]
    base_beam: int
    training: settings.TrainSettings
    batch: int
    seeds: tuple[int, ...] = (0,)
    layout: Layout = "cross"
    beams_everywhere: bool = False
    epochs: float | None = None
    learning_rate_width: int = 0
    documents: int | None = None
    split: str = "test"
    queries: int | None = None
    scored_queries: int | None = None
    vocabulary_pieces: int = 4096
    source_length: int = 48
    max_length: int = 8
    query_keys: tuple[bool, ...] = (False,)
    views: tuple[str, ...] = (views_module.BODY,)
    view_tokens: int = 30
    spans_per_query: int = 10
    spans_per_document: int = 10
    scored_spans: int = 4
    code_levels: int = 4
    codes: int = 32
    embedding_dims: int = 128
    negatives: int = 256
    seed: int = 0
    resamples: int = 1000
    decode_batch: int = 32
    examples_shown: int = 20

    def __post_init__(self) -> None:
        for family, sizes in self.sizes.items():
            _check("sizes", family, family in FAMILIES, f"one of {FAMILIES}")
            base = self.base_sizes.get(family)
            _check("base_sizes", base, base in sizes, f"one of {family}'s {sizes}")
        _check("sizes", self.sizes, bool(self.sizes), "at least one family")
        _check("identifiers", self.identifiers, bool(self.identifiers), "not empty")
        _check("base_beam", self.base_beam, self.base_beam in self.beams, "a beam")
        _check("query_keys", self.query_keys, bool(self.query_keys), "not empty")
        _check("views", self.views, bool(self.views), "not empty")
        views_module.union(self.views)
        _check("view_tokens", self.view_tokens, self.view_tokens >= 1, "at least 1")
        _check("beams", self.beams, min(self.beams) >= 1, "at least 1 each")
        in_range = all(0 < f <= 1 for f in self.fractions)
        _check("fractions", self.fractions, in_range and self.fractions, "in (0, 1]")
        _check("layout", self.layout, self.layout in ("cross", "grid"), "cross or grid")

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON."""
        value = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**value, "training": self.training.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Study:
        """The study of its JSON form."""
        fields: dict[str, Any] = {
            name: tuple(entry) if isinstance(entry, list) else entry
            for name, entry in value.items()
        }
        fields["sizes"] = {k: tuple(v) for k, v in value["sizes"].items()}
        training = dict(value["training"])
        if training.get("lora") is not None:
            training["lora"] = settings.LoraSettings(**training["lora"])
        fields["training"] = settings.TrainSettings(**training)
        return cls(**fields)


def _check(field: str, value: object, holds: object, remedy: str) -> None:
    if not holds:
        raise errors.UsageError(
            errors.fault("study", field, value, f"must be {remedy}")
        )


def _pairs(study: Study, family: str) -> list[tuple[str, float]]:
    full = max(study.fractions)
    sizes = study.sizes[family]
    if study.layout == "grid":
        return [(size, f) for size in sizes for f in sorted(study.fractions)]
    base = study.base_sizes[family]
    rest = [f for f in sorted(study.fractions) if f != full]
    return [(size, full) for size in sizes] + [(base, f) for f in rest]


def expand(study: Study, examples: Mapping[str, int]) -> list[Cell]:
    """The runs of a study, in the order they are run.

    Args:
      study: What is asked.
      examples: Training examples at fraction 1 of each identifier kind, which
        ``epochs`` are counted in.
    """
    axes = [
        (kind, family, size, fraction, seed)
        for kind in study.identifiers
        for family in study.sizes
        for size, fraction in _pairs(study, family)
        for seed in study.seeds
    ]
    return [
        Cell(
            family=family,
            size=size,
            identifier_kind=kind,
            fraction=fraction,
            steps=_steps(study, fraction, examples[kind]),
            seed=seed,
            decodings=_decodings(study, kind, family, size, fraction),
        )
        for kind, family, size, fraction, seed in axes
    ]


def _decodings(
    study: Study, kind: str, family: str, size: str, fraction: float
) -> tuple[Decoding, ...]:
    is_base = size == study.base_sizes[family] and fraction == max(study.fractions)
    every = study.beams_everywhere or is_base
    beams = sorted(study.beams) if every else [study.base_beam]
    ways = [(False, views_module.BODY)]
    if kind == codec.NGRAM:
        known = dict.fromkeys(study.views)
        ways = [
            (keys, views) for keys in sorted(set(study.query_keys)) for views in known
        ]
    return tuple(
        Decoding(beam=beam, max_length=study.max_length, query_keys=keys, views=views)
        for keys, views in ways
        for beam in beams
    )


def _steps(study: Study, fraction: float, examples: int) -> int:
    if study.epochs is None:
        return study.training.steps
    return max(1, round(study.epochs * fraction * examples / study.batch))
