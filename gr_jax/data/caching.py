"""Tokenised copies of tasks on disk, as SeqIO reads them, in an order that holds.

One input file becomes one output file, here or on Apache Beam's workers: the bytes are
the same either way. (SeqIO's own pipeline shuffles between the two, differently every
time.)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import seqio

from gr_jax.core import artifacts, errors, progress
from gr_jax.data import pairs, sources, task_builder, tensorflow_cpu

tf = tensorflow_cpu.tf


@dataclasses.dataclass(frozen=True)
class Shard:
    """One input file and where its copy goes; small enough to send to a worker."""

    content: task_builder.Content
    kind: pairs.Kind
    index: int
    count: int
    folder: Path

    @property
    def path(self) -> Path:
        """The output file, named as SeqIO expects."""
        prefix = seqio.get_cached_tfrecord_prefix(str(self.folder), sources.SPLIT)
        return Path(f"{prefix}-{self.index:05d}-of-{self.count:05d}")


def _rows(task: seqio.Task, shard: Shard) -> Iterator[dict[str, Any]]:
    info = seqio.ShardInfo(index=shard.index, num_shards=shard.count)
    dataset = task.source.get_dataset(sources.SPLIT, shuffle=False, shard_info=info)
    yield from task.preprocess_precache(dataset, seed=0).as_numpy_iterator()


def _described(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    features: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        tensor = tf.constant(value)
        shape = [None, *tensor.shape.as_list()[1:]] if tensor.shape.rank else []
        features[name] = {"shape": shape, "dtype": tensor.dtype.name}
    return features


def write_shard(shard: Shard) -> dict[str, Any]:
    """Writes one file; returns its counts and, of its first example, the features."""
    # A worker may be another process: the task is built from files, not looked up.
    task = task_builder.build(shard.content, shard.kind)
    stats: dict[str, Any] = {"index": shard.index, "examples": 0, "features": None}
    stats |= {"inputs_tokens": 0, "targets_tokens": 0}
    stats |= {"inputs_max_tokens": 0, "targets_max_tokens": 0}
    with tf.io.TFRecordWriter(str(shard.path)) as writer:
        for row in _rows(task, shard):
            writer.write(seqio.dict_to_tfexample(row).SerializeToString())
            stats["features"] = stats["features"] or _described(row)
            stats["examples"] += 1
            for field in ("inputs", "targets"):
                length = len(row[field])
                stats[f"{field}_tokens"] += length
                most = f"{field}_max_tokens"
                stats[most] = max(stats[most], length)
    return stats


def _on_beam(shards: list[Shard], arguments: list[str]) -> list[dict[str, Any]]:
    try:
        import apache_beam as beam
        from apache_beam.io import textio
        from apache_beam.options import pipeline_options
    except ImportError:
        raise errors.UsageError(
            "cache: Apache Beam: not installed: pip install 'gr-jax[cache]'"
        ) from None
    report = shards[0].folder / "beam.jsonl"
    options = pipeline_options.PipelineOptions(arguments)
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "shards" >> beam.Create(shards)
            | "spread" >> beam.Reshuffle()
            | "write" >> beam.Map(write_shard)
            | "as text" >> beam.Map(json.dumps)
            | "report"
            >> textio.WriteToText(str(report), num_shards=1, shard_name_template="")
        )
    found = artifacts.read_jsonl(report)
    report.unlink()
    return sorted(found, key=lambda stats: stats["index"])


def _summed(found: list[dict[str, Any]]) -> dict[str, int]:
    names = [name for name in found[0] if name not in ("index", "features")]
    return {
        name: (max if "max" in name else sum)(stats[name] for stats in found)
        for name in names
    }


def cache(
    content: task_builder.Content,
    kind: pairs.Kind,
    root: Path,
    *,
    beam: list[str] | None = None,
    reporter: progress.Progress = progress.SILENT,
) -> Path:
    """Writes the cached copy of a task, or finds it made already.

    Args:
      content: Pairs and vocabulary; their hash names the folder.
      kind: Which pairs.
      root: Holds the copies of every content.
      beam: Apache Beam's pipeline arguments (``[]``: its local runner); None for none.
      reporter: Told of finished files.

    Returns:
      The task's folder.

    Raises:
      ArtifactError: If an input or an earlier copy is not as it was written.
    """
    folder = content.cache_folder(root, kind)
    if folder.is_dir():
        task_builder.build(content, kind, cache_root=root)  # Checks the copy.
        return folder
    count = int(content.manifest.facts["shards"])
    # The manifest has just been checked, every file with it: workers need not again.
    checked = dataclasses.replace(content, verify="none")
    reporter.start(f"cache {content.name(kind)}", count)
    with artifacts.staged(folder) as staged:
        shards = [Shard(checked, kind, i, count, staged) for i in range(count)]
        if beam is not None:
            found = _on_beam(shards, beam)
        else:
            found = []
            for shard in shards:
                found.append(write_shard(shard))
                reporter.advance()
        _describe(staged, found, count)
        artifacts.write_manifest(
            staged,
            kind=task_builder.CACHED_KIND,
            schema_version=task_builder.CACHED_SCHEMA_VERSION,
            config={"fraction": content.fraction},
            inputs={"content": content.digest},
            facts={"task": content.name(kind), **_summed(found)},
        )
    reporter.finish()
    return folder


def _describe(folder: Path, found: list[dict[str, Any]], shards: int) -> None:
    """The three files by which SeqIO knows a cached task."""
    features = next((stats["features"] for stats in found if stats["features"]), None)
    if features is None:
        raise errors.InputError("cache: no examples: raise the fraction")
    info = {"num_shards": shards, "features": features}
    info |= {"seqio_version": seqio.__version__}
    split = sources.SPLIT
    artifacts.write_json(Path(seqio.get_cached_info_path(str(folder), split)), info)
    stats_path = Path(seqio.get_cached_stats_path(str(folder), split))
    artifacts.write_json(stats_path, _summed(found))
    artifacts.write_text(folder / "COMPLETED", "")
