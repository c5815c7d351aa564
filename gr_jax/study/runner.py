"""Runs a study: prepares, runs the cells that are missing, gathers their records."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator
from pathlib import Path
from typing import Any

from gr_jax.baselines import bm25
from gr_jax.core import artifacts, errors
from gr_jax.core import progress as progresses
from gr_jax.evaluate import metrics, trec
from gr_jax.study import cell as cells
from gr_jax.study import grid, prepare

RECORDS = "records.jsonl"
STUDY = "study.json"
_BM25 = (
    ("bm25", "plain", 0.9, 0.4),
    ("bm25-k1-1.2", "plain", 1.2, 0.75),
    ("bm25-train-queries", "train-queries", 0.9, 0.4),
)


@dataclasses.dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count`` of a study's cells."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard written ``I/N``.

        Raises:
          UsageError: If it is not of that form or out of range.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdigit() and count.isdigit()):
            raise errors.UsageError(f"--shard: {text!r}: write I/N, such as 0/4")
        if not int(index) < int(count):
            raise errors.UsageError(f"--shard: {text!r}: I goes from 0 to N - 1")
        return cls(int(index), int(count))

    @property
    def name(self) -> str:
        """Its name among locks."""
        return f"{self.index}-of-{self.count}"


def run(
    folder: Path,
    study: grid.Study,
    *,
    shard: Shard | None = None,
    config_text: str = "",
    progress: progresses.Progress = progresses.SILENT,
) -> list[dict[str, Any]]:
    """Runs what is missing of a study and returns its records, oldest cell first.

    Args:
      folder: Of the study; one process a shard may hold it.
      study: What is asked. A folder keeps to the study it was begun with.
      shard: The part of the cells to run here.
      config_text: The operative configuration, kept beside the results.
      progress: Told of stages, cells and steps.

    Raises:
      UsageError: If another process runs this study, or the folder is another study's.
    """
    shard = shard or Shard()
    with _held(folder, shard):
        _keep_or_refuse(folder, study, config_text)
        material = prepare.prepare(folder, study, progress)
        _baselines(material)
        todo = plan(material)[shard.index :: shard.count]
        progress.start("cells", len(todo))
        for one in todo:
            _run_cell(one, progress)
            gather(material)
        progress.finish()
        return gather(material)


def prepare_only(
    folder: Path,
    study: grid.Study,
    *,
    config_text: str = "",
    progress: progresses.Progress = progresses.SILENT,
) -> None:
    """Makes what all shards share, so that they can start side by side."""
    with _held(folder, Shard()):
        _keep_or_refuse(folder, study, config_text)
        _baselines(prepare.prepare(folder, study, progress))


def gather_all(folder: Path, study: grid.Study) -> list[dict[str, Any]]:
    """The records of all cells that are done, as `gather`."""
    return gather(prepare.Material(folder, study))


def plan(material: prepare.Material) -> list[cells.Run]:
    """Every cell of a study with its folder."""
    study = material.study
    examples = {kind: len(material.examples(kind)) for kind in study.identifiers}
    return [
        cells.Run(material, cell, cells.folder_of(material, cell))
        for cell in grid.expand(study, examples)
    ]


def _run_cell(one: cells.Run, progress: progresses.Progress) -> None:
    if one.is_done:
        progress.advance(1, cell=f"{one.cell.label} (kept)")
        return
    found = cells.run(one, progress)
    best = found[-1].metrics
    progress.advance(
        1,
        cell=one.cell.label,
        ce=best["ce"].value,
        **{"recall@10": best["recall@10"].value},
    )


def gather(material: prepare.Material) -> list[dict[str, Any]]:
    """Writes ``records.jsonl`` from the cells that are done; returns its records."""
    found: list[dict[str, Any]] = []
    for one in plan(material):
        if one.is_done:
            found += artifacts.read_jsonl(one.folder / cells.RECORDS)
    # Shards write this file one after the other; each writes all that is done by then.
    artifacts.write_jsonl(material.folder / RECORDS, found)
    return found


def _keep_or_refuse(folder: Path, study: grid.Study, config_text: str) -> None:
    value = {"study": study.to_json(), "operative_config": config_text}
    path = folder / STUDY
    # Through JSON, so that tuples compare as the lists they are stored as.
    wanted = artifacts.canonical_json(value["study"])
    if path.is_file():
        stored = artifacts.read_json(path)["study"]
        if artifacts.canonical_json(stored) != wanted:
            changed = _differences(stored, value["study"])
            raise errors.UsageError(
                f"{folder}: holds another study ({', '.join(changed)} differ): choose "
                "another --study folder"
            )
        return
    artifacts.write_json(path, value)


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    plain = [
        {k: artifacts.canonical_json(v) for k, v in each.items()}
        for each in (one, other)
    ]
    names = sorted(plain[0].keys() | plain[1].keys())
    return [n for n in names if plain[0].get(n) != plain[1].get(n)]


def _baselines(material: prepare.Material) -> None:
    """BM25 on the same split, stored once."""
    study = material.study
    for name, variant, k1, b in _BM25:
        folder = material.folder / "baselines" / name
        if (folder / artifacts.MANIFEST).is_file():
            continue
        found = bm25.run(
            material.collection,
            study.split,
            k=100,
            variant=variant,  # type: ignore[arg-type]
            k1=k1,
            b=b,
        )
        ranked = {query: found.get(query, []) for query in material.evaluated}
        measures, per_query = metrics.evaluate_run(
            ranked, material.qrels, seed=study.seed, resamples=study.resamples
        )
        with artifacts.staged(folder) as staged:
            trec.write_run(staged / "run.trec", ranked)
            artifacts.write_jsonl(
                staged / "per_query.jsonl",
                [{"query": q, **row} for q, row in sorted(per_query.items())],
            )
            artifacts.write_json(
                staged / "metrics.json",
                {k: dataclasses.asdict(m) for k, m in measures.items()},
            )
            artifacts.write_manifest(
                staged,
                kind="baseline",
                schema_version=1,
                config={"variant": variant, "k1": k1, "b": b, "split": study.split},
            )


@contextlib.contextmanager
def _held(folder: Path, shard: Shard) -> Generator[None]:
    """Keeps other processes from these cells; shards of one count may run at once."""
    locks = folder / "locks"
    with artifacts.locked(locks / shard.name):
        others = [p.parent.name for p in locks.glob("*/lock.json")]
        clash = [n for n in others if not n.endswith(f"-of-{shard.count}")]
        if clash:
            raise errors.UsageError(
                f"{folder}: in use as shard {clash[0]}: wait for it, or use the same N"
            )
        yield
