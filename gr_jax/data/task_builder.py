"""SeqIO tasks over a folder of pairs, and their examples as arrays."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import seqio

from gr_jax.core import artifacts, progress
from gr_jax.data import arrays, pairs, preprocessors, sources, vocabulary

CACHED_KIND = "cached-task"
CACHED_SCHEMA_VERSION = 1
_SHARD_EXAMPLES = 1_000_000
_OTHER = re.compile(r"\W+")


@dataclasses.dataclass(frozen=True)
class Content:
    """What tasks are made of.

    Attributes:
      pairs_folder: As `pairs.save` writes it.
      vocabulary_folder: As `vocabulary.train` writes it; makes tokens of the sources.
      fraction: Nested share of the queries (documents), as `arrays.select` takes it.
      verify: How much of the pairs is checked against their manifest.
    """

    pairs_folder: Path
    vocabulary_folder: Path
    fraction: float = 1.0
    verify: artifacts.Verify = "full"

    @functools.cached_property
    def manifest(self) -> artifacts.Manifest:
        """The pairs' manifest, after checking the pairs against it."""
        return artifacts.read_manifest(
            self.pairs_folder,
            kind=pairs.KIND,
            schema_version=pairs.SCHEMA_VERSION,
            verify=self.verify,
        )

    @functools.cached_property
    def vocab(self) -> vocabulary.Vocabulary:
        """The vocabulary of the sources, verified."""
        return vocabulary.load(self.vocabulary_folder)

    @functools.cached_property
    def digest(self) -> str:
        """One hash of all of it: what a cached copy must agree with."""
        made_of = [artifacts.digest_of(self.pairs_folder), self.vocab.fingerprint]
        return artifacts.content_hash([*made_of, float(self.fraction)])

    def name(self, what: str) -> str:
        """``<collection>_<identifiers>_<what>``, in letters SeqIO allows."""
        facts = self.manifest.facts
        parts = [str(facts["collection"]), str(facts["identifiers"]), what]
        return "_".join(_OTHER.sub("_", part) for part in parts)

    def count(self, kind: pairs.Kind) -> int:
        """Pairs of a kind."""
        return int(self.manifest.facts["pairs"][kind])

    def cache_folder(self, root: Path, kind: pairs.Kind) -> Path:
        """Where the cached copy of exactly this content lies."""
        return root / self.digest[:16] / self.name(kind)


def features(content: Content) -> dict[str, Any]:
    """``inputs``: pieces and an end piece. ``targets``: identifier tokens as stored."""
    vocab = seqio.SentencePieceVocabulary(str(content.vocab.path))
    size = int(content.manifest.facts["target vocabulary"])
    identifiers = seqio.PassThroughVocabulary(size, eos_id=vocabulary.EOS)
    return {
        "inputs": seqio.Feature(vocab, add_eos=True, dtype=preprocessors.tf.int32),
        "targets": seqio.Feature(
            identifiers, add_eos=False, dtype=preprocessors.tf.int32
        ),
    }


class _Task(seqio.Task):
    """A task that takes a cached copy of its own content or none.

    SeqIO trusts a cache by the task's name alone, wherever one lies.
    """

    def __init__(self, name: str, *, cached: Path | None, **settings: Any):
        super().__init__(name, **settings)
        self._cached = cached

    @property
    def cache_dir(self) -> str | None:
        return None if self._cached is None else str(self._cached)


def _checked_cache(
    content: Content, kind: pairs.Kind, root: Path | None
) -> Path | None:
    if root is None:
        return None
    folder = content.cache_folder(root, kind)
    if not folder.is_dir():
        return None
    artifacts.read_manifest(
        folder, kind=CACHED_KIND, schema_version=CACHED_SCHEMA_VERSION
    )
    return folder


def build(
    content: Content, kind: pairs.Kind, *, cache_root: Path | None = None
) -> seqio.Task:
    """One task, not registered.

    Args:
      content: Pairs and vocabulary.
      kind: Which pairs.
      cache_root: Where `caching.cache` puts copies; one of other content is not seen.

    Raises:
      ArtifactError: If a file is missing or not as it was written.
    """
    return _Task(
        content.name(kind),
        cached=_checked_cache(content, kind, cache_root),
        source=sources.pair_source(content.pairs_folder, kind),
        preprocessors=[
            preprocessors.parse_pairs,
            functools.partial(preprocessors.keep_fraction, fraction=content.fraction),
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features=features(content),
    )


def _shards(
    rows: Iterator[dict[str, Any]], size: int, reporter: progress.Progress
) -> Iterator[arrays.Examples]:
    """Examples of SeqIO's rows, a bounded number at a time."""
    held: list[dict[str, Any]] = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield _examples(held)
            reporter.advance(len(held))
            held = []
    if held:
        yield _examples(held)
        reporter.advance(len(held))


def _examples(rows: list[dict[str, Any]]) -> arrays.Examples:
    def flat(field: str) -> tuple[np.ndarray, np.ndarray]:
        tokens = [np.asarray(row[field], np.int32) for row in rows]
        starts = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        return np.concatenate(tokens), starts

    source_tokens, source_starts = flat("inputs")
    target_tokens, target_starts = flat("targets")
    return arrays.Examples(
        source_tokens=source_tokens,
        source_starts=source_starts,
        target_tokens=target_tokens,
        target_starts=target_starts,
        query_rank=np.array([row["rank"] for row in rows], np.float32),
        kind=np.array([row["is_document"] for row in rows], np.uint8),
    )


def _rows(
    task: seqio.Task, source_length: int | None, split: str, use_cached: bool
) -> Iterator[dict[str, Any]]:
    lengths = None if source_length is None else {"inputs": source_length}
    dataset = task.get_dataset(
        sequence_length=lengths, split=split, shuffle=False, use_cached=use_cached
    )
    for place, row in enumerate(dataset.as_numpy_iterator()):
        if "rank" in row:
            yield row
        else:
            # A task from elsewhere: its examples have no query to rank by.
            rank = arrays.rank_of(f"{task.name} {place}")
            yield {**row, "rank": rank, "is_document": 0}


def _mixed(
    rows_of: Mapping[str, Callable[[], Iterator[dict[str, Any]]]],
    rates: Mapping[str, float] | None,
) -> Iterator[dict[str, Any]]:
    """Rows of tasks, one task after the other, each row as often as its rate asks."""
    if rates is None or len(rates) == 1:
        for rows in rows_of.values():
            yield from rows()
        return
    weights = {
        name: rates[name] / max(1, sum(1 for _ in rows()))
        for name, rows in rows_of.items()
    }
    least = min(weights.values())
    for name, rows in rows_of.items():
        times = weights[name] / least
        for place, row in enumerate(rows()):
            # Spread evenly: `times` copies of a row on average, never none.
            copies = math.floor((place + 1) * times) - math.floor(place * times)
            for _ in range(copies):
                yield row


def export(
    provider: seqio.Task | seqio.Mixture,
    folder: Path,
    *,
    source_length: int | None = None,
    split: str = sources.SPLIT,
    use_cached: bool = False,
    by_rate: bool = False,
    shard_examples: int = _SHARD_EXAMPLES,
    inputs: dict[str, str] | None = None,
    reporter: progress.Progress = progress.SILENT,
) -> None:
    """Stores the examples of a task as arrays that train without TensorFlow.

    The tokens are SeqIO's, bit for bit, in its unshuffled order; a mixture gives its
    tasks by name, one after the other. Memory holds one shard. A task without the
    features of `build` needs ``inputs`` and ``targets`` alone.

    Args:
      provider: Task or mixture.
      folder: Written whole or not at all; `arrays.load` reads it.
      source_length: Longest source, its end piece included; None for no limit.
      split: Of the task.
      use_cached: Read the cached copy of the task.
      by_rate: Repeat the rows of a mixture's tasks so that one epoch holds them in
        the mixture's proportions; else each row comes once.
      shard_examples: Examples a shard.
      inputs: Digests of what the task was made of.
      reporter: Told of finished examples.
    """
    # By name: SeqIO keeps a mixture's tasks in no order that holds between processes.
    tasks = (
        sorted(provider.tasks, key=lambda t: t.name)
        if isinstance(provider, seqio.Mixture)
        else [provider]
    )
    known = [task.num_input_examples(split) for task in tasks]
    total = sum(n for n in known if n) if all(known) else None
    reporter.start(f"export {provider.name}", total)
    rates = None
    if by_rate and isinstance(provider, seqio.Mixture):
        rates = {task.name: float(provider.get_rate(task)) for task in tasks}
    asked = (source_length, split, use_cached)
    rows = _mixed(
        {task.name: functools.partial(_rows, task, *asked) for task in tasks}, rates
    )
    arrays.save_shards(
        folder,
        _shards(rows, shard_examples, reporter),
        config={
            "task": provider.name,
            "split": split,
            "source_length": source_length,
        },
        inputs=inputs,
    )
    reporter.finish()
