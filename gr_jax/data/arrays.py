"""Training examples as flat arrays, in memory and in files, without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, UInt8

from gr_jax.core import artifacts, errors
from gr_jax.data import ordering, pairs, vocabulary

KIND = "examples"
SCHEMA_VERSION = 1
QUERY = 0
DOCUMENT = 1
_FIELDS = ("source_tokens", "target_tokens", "source_starts", "target_starts")
_ROW_FIELDS = ("query_rank", "kind")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Ragged sources and targets of E examples; example e owns ``starts[e:e+2]``.

    Attributes:
      source_tokens: Sources end to end, end pieces included.
      source_starts: Where each begins; one more than there are examples.
      target_tokens: Identifiers end to end, their end tokens included.
      target_starts: Where each begins; one more than there are examples.
      query_rank: In [0, 1), from the query's id (the document's, where there is no
        query): the examples below a fraction are nested in those below a larger one.
      kind: 0 query to identifier, 1 document to identifier.
    """

    source_tokens: Int32[np.ndarray, " S"]
    source_starts: Int64[np.ndarray, " T"]
    target_tokens: Int32[np.ndarray, " L"]
    target_starts: Int64[np.ndarray, " T"]
    query_rank: Float[np.ndarray, " E"]
    kind: UInt8[np.ndarray, " E"]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def source_lengths(self) -> Int64[np.ndarray, " E"]:
        """Tokens of every source."""
        return np.diff(self.source_starts)

    @property
    def target_lengths(self) -> Int64[np.ndarray, " E"]:
        """Tokens of every target."""
        return np.diff(self.target_starts)

    def source(self, row: int) -> list[int]:
        """The source of one example."""
        start, end = self.source_starts[row : row + 2]
        return self.source_tokens[start:end].tolist()

    def target(self, row: int) -> list[int]:
        """The target of one example."""
        start, end = self.target_starts[row : row + 2]
        return self.target_tokens[start:end].tolist()


def rank_of(name: str) -> float:
    """Where an id stands in [0, 1) among all ids: `select` keeps those below."""
    return float(ordering.rank_of(name))


def _starts(lengths: list[int]) -> Int64[np.ndarray, " T"]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _flat(rows: list[list[int]]) -> Int32[np.ndarray, " E"]:
    total = sum(map(len, rows))
    return np.fromiter((t for row in rows for t in row), np.int32, count=total)


def from_rows(
    sources: list[list[int]],
    targets: list[list[int]],
    names: list[str],
    kinds: list[int],
) -> Examples:
    """Examples of token lists; ``names`` are the ids that give the ranks.

    Raises:
      InputError: If a source or a target is empty.
    """
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if not source or not target:
            which = "target" if source else "source"
            raise errors.InputError(
                f"examples: {names[row]}: {which}: empty: it needs a token"
            )
    ranks = {name: ordering.rank_of(name) for name in set(names)}
    return Examples(
        source_tokens=_flat(sources),
        source_starts=_starts(list(map(len, sources))),
        target_tokens=_flat(targets),
        target_starts=_starts(list(map(len, targets))),
        query_rank=np.array([ranks[name] for name in names], np.float32),
        kind=np.array(kinds, np.uint8),
    )


def from_pairs(
    rows: Iterable[pairs.Pair], vocab: vocabulary.Vocabulary, *, source_length: int = 0
) -> Examples:
    """Examples of pairs, in their order; SeqIO's tasks over them hold the same tokens.

    Args:
      rows: Pairs; their sources are text.
      vocab: Makes tokens of the sources.
      source_length: Longest source, its end piece included; 0 for no limit.
    """
    given = list(rows)
    distinct = list(dict.fromkeys(pair.source for pair in given))
    encoded = vocab.encode_batch(distinct)
    limit = max(source_length - 1, 0) if source_length else None
    tokens = {
        text: [*ids[:limit], vocabulary.EOS]
        for text, ids in zip(distinct, encoded, strict=True)
    }
    return from_rows(
        [tokens[pair.source] for pair in given],
        [pair.target for pair in given],
        [pair.rank_name for pair in given],
        [DOCUMENT if pair.kind == "document" else QUERY for pair in given],
    )


def concatenate(parts: list[Examples]) -> Examples:
    """Examples of several parts, one after the other."""

    def joined(field: str) -> np.ndarray:
        return np.concatenate([getattr(part, field) for part in parts])

    def starts(field: str) -> np.ndarray:
        lengths = [np.diff(getattr(part, field)) for part in parts]
        return np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(
            np.int64
        )

    return Examples(
        source_tokens=joined("source_tokens"),
        source_starts=starts("source_starts"),
        target_tokens=joined("target_tokens"),
        target_starts=starts("target_starts"),
        query_rank=joined("query_rank"),
        kind=joined("kind"),
    )


def _take(
    tokens: np.ndarray, starts: np.ndarray, rows_E: Int64[np.ndarray, " E"]
) -> tuple[np.ndarray, np.ndarray]:
    lengths = starts[rows_E + 1] - starts[rows_E]
    new_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = np.repeat(starts[rows_E] - new_starts[:-1], lengths)
    return tokens[np.arange(new_starts[-1]) + shift], new_starts


def take(examples: Examples, rows_E: Int64[np.ndarray, " E"]) -> Examples:
    """The examples of given rows, in that order."""
    source_tokens, source_starts = _take(
        examples.source_tokens, examples.source_starts, rows_E
    )
    target_tokens, target_starts = _take(
        examples.target_tokens, examples.target_starts, rows_E
    )
    return Examples(
        source_tokens=source_tokens,
        source_starts=source_starts,
        target_tokens=target_tokens,
        target_starts=target_starts,
        query_rank=examples.query_rank[rows_E],
        kind=examples.kind[rows_E],
    )


def select(
    examples: Examples, fraction: float, *, keep_documents: bool = False
) -> Examples:
    """The examples of a nested share of the queries (and documents).

    All identifiers of a query stay together, and a smaller fraction's examples are
    among a larger one's.

    Args:
      examples: All of them.
      fraction: Share of the ids, in (0, 1].
      keep_documents: Keep every document example, whatever the fraction.

    Raises:
      UsageError: If the fraction is out of range or leaves nothing.
    """
    if not 0 < fraction <= 1:
        raise errors.UsageError(f"fraction: {fraction}: give one in (0, 1]")
    if fraction == 1:
        return examples
    is_kept_E: Bool[np.ndarray, " E"] = examples.query_rank < fraction
    if keep_documents:
        is_kept_E = is_kept_E | (examples.kind == DOCUMENT)
    if not is_kept_E.any():
        raise errors.UsageError(f"fraction: {fraction}: leaves no example: raise it")
    return take(examples, np.flatnonzero(is_kept_E))


def save(
    folder: Path,
    examples: Examples,
    *,
    config: dict[str, object] | None = None,
    inputs: dict[str, str] | None = None,
    facts: dict[str, object] | None = None,
) -> None:
    """Stores examples as ``.npy`` files with a manifest."""
    save_shards(folder, [examples], config=config, inputs=inputs, facts=facts)


def save_shards(
    folder: Path,
    shards: Iterable[Examples],
    *,
    config: dict[str, object] | None = None,
    inputs: dict[str, str] | None = None,
    facts: dict[str, object] | None = None,
) -> None:
    """Stores examples shard by shard: memory holds one at a time.

    Raises:
      InputError: If there are no examples.
    """
    counts = {"examples": 0, "source tokens": 0, "target tokens": 0, "shards": 0}
    with artifacts.staged(folder) as staged:
        for shard in shards:
            part = staged / f"{counts['shards']:05d}"
            part.mkdir()
            for field in (*_FIELDS, *_ROW_FIELDS):
                np.save(part / f"{field}.npy", getattr(shard, field), False)
            counts["shards"] += 1
            counts["examples"] += len(shard)
            counts["source tokens"] += len(shard.source_tokens)
            counts["target tokens"] += len(shard.target_tokens)
        if not counts["examples"]:
            raise errors.InputError(f"{folder}: examples: none: raise the fraction")
        artifacts.write_manifest(
            staged,
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            config=config,
            inputs=inputs,
            facts={**counts, **(facts or {})},
        )


def load(folder: Path, *, verify: artifacts.Verify = "full") -> Examples:
    """Stored examples; one shard is mapped, not read, until batches touch it.

    Raises:
      ArtifactError: If the folder is missing or not what was written.
    """
    artifacts.read_manifest(
        folder, kind=KIND, schema_version=SCHEMA_VERSION, verify=verify
    )
    parts: list[Examples] = []
    for part in sorted(p for p in folder.iterdir() if p.is_dir()):
        fields = {
            field: np.load(part / f"{field}.npy", mmap_mode="r", allow_pickle=False)
            for field in (*_FIELDS, *_ROW_FIELDS)
        }
        parts.append(Examples(**fields))
    return parts[0] if len(parts) == 1 else concatenate(parts)
