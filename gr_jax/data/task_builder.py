"""SeqIO tasks over a folder of pairs, and their examples as arrays."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seqio

from gr_jax.core import artifacts, progress
from gr_jax.data import arrays, pairs, preprocessors, sources, vocabulary

_SHARD_EXAMPLES = 1_000_000
_OTHER = re.compile(r"\W+")


@dataclasses.dataclass(frozen=True)
class Content:
    """What tasks are made of.

    Attributes:
      pairs_folder: As `pairs.save` writes it.
      vocabulary_folder: As `vocabulary.train` writes it; makes tokens of the sources.
    """

    pairs_folder: Path
    vocabulary_folder: Path

    @functools.cached_property
    def manifest(self) -> artifacts.Manifest:
        """The pairs' manifest; the files themselves are checked when tasks are made."""
        return artifacts.read_manifest(
            self.pairs_folder, kind=pairs.KIND, schema_version=pairs.SCHEMA_VERSION
        )

    @functools.cached_property
    def vocab(self) -> vocabulary.Vocabulary:
        """The vocabulary of the sources, verified."""
        return vocabulary.load(self.vocabulary_folder)

    @functools.cached_property
    def digest(self) -> str:
        """One hash of pairs and vocabulary: what a cached copy must agree with."""
        digests = [artifacts.digest_of(self.pairs_folder), self.vocab.fingerprint]
        return artifacts.content_hash(digests)

    def name(self, what: str) -> str:
        """``<collection>_<identifiers>_<what>``, in letters SeqIO allows."""
        facts = self.manifest.facts
        parts = [str(facts["collection"]), str(facts["identifiers"]), what]
        return "_".join(_OTHER.sub("_", part) for part in parts)

    def count(self, kind: pairs.Kind) -> int:
        """Pairs of a kind."""
        return int(self.manifest.facts["pairs"][kind])

    def cache_folder(self, root: Path) -> Path:
        """Where cached copies of exactly this content lie.

        SeqIO trusts a cache by its task's name alone; the hash makes a copy of other
        pairs or another vocabulary impossible to find.
        """
        return root / self.digest[:16]


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


def build(content: Content, kind: pairs.Kind, *, fraction: float = 1.0) -> seqio.Task:
    """One task, not registered.

    Args:
      content: Pairs and vocabulary.
      kind: Which pairs.
      fraction: Nested share of the queries (documents), as `arrays.select` takes it.

    Raises:
      ArtifactError: If a file is missing or not as it was written.
    """
    return seqio.Task(
        content.name(kind),
        source=sources.pair_source(content.pairs_folder, kind),
        preprocessors=[
            preprocessors.parse_pairs,
            functools.partial(preprocessors.keep_fraction, fraction=fraction),
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
    tasks: Sequence[seqio.Task], source_length: int | None, use_cached: bool
) -> Iterator[dict[str, Any]]:
    lengths = None if source_length is None else {"inputs": source_length}
    for task in tasks:
        dataset = task.get_dataset(
            sequence_length=lengths,
            split=sources.SPLIT,
            shuffle=False,
            use_cached=use_cached,
        )
        yield from dataset.as_numpy_iterator()


def export(
    provider: seqio.Task | seqio.Mixture,
    folder: Path,
    *,
    source_length: int | None = None,
    use_cached: bool = False,
    shard_examples: int = _SHARD_EXAMPLES,
    inputs: dict[str, str] | None = None,
    reporter: progress.Progress = progress.SILENT,
) -> None:
    """Stores the examples of a task as arrays that train without TensorFlow.

    The tokens are SeqIO's, bit for bit, in its unshuffled order; a mixture gives its
    tasks by name, one after the other, each once. Memory holds one shard.

    Args:
      provider: Task or mixture.
      folder: Written whole or not at all; `arrays.load` reads it.
      source_length: Longest source, its end piece included; None for no limit.
      use_cached: Read the cached copy of the task.
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
    known = [task.num_input_examples(sources.SPLIT) for task in tasks]
    total = sum(n for n in known if n) if all(known) else None
    reporter.start(f"export {provider.name}", total)
    rows = _rows(tasks, source_length, use_cached)
    arrays.save_shards(
        folder,
        _shards(rows, shard_examples, reporter),
        config={"task": provider.name, "source_length": source_length},
        inputs=inputs,
    )
    reporter.finish()
