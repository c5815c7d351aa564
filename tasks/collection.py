"""SeqIO tasks of any collection: one parametric registration.

A folder of pairs (``gr_jax.data.pairs``) and a vocabulary become

* ``<collection>_<identifiers>_query``: query → identifier,
* ``<collection>_<identifiers>_document``: document text → identifier,
* ``<collection>_<identifiers>_both``: both, in proportion to their numbers.

A collection and its identifier table become ``<collection>_<identifiers>_judged``: the
queries of each judged split, with retrieval metrics.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from pathlib import Path

import seqio

from gr_jax.core import errors
from gr_jax.data import corpus, pairs, task_builder, vocabulary
from gr_jax.identifiers import codec
from gr_jax.interop import judged_task

_registered: dict[str, str] = {}


@dataclasses.dataclass(frozen=True)
class Registered:
    """Names under which SeqIO knows a collection's examples.

    Attributes:
      query: Task query → identifier, or None if there are no such pairs.
      document: Task document → identifier, or None if there are no such pairs.
      both: Mixture of the tasks there are.
      content: What they were made of.
    """

    query: str | None
    document: str | None
    both: str
    content: task_builder.Content


def register(
    pairs_folder: str | Path,
    vocabulary_folder: str | Path,
    *,
    fraction: float = 1.0,
    cache_root: str | Path | None = None,
) -> Registered:
    """Registers the tasks of a folder of pairs, in place of those of other content.

    Args:
      pairs_folder: As ``gr-jax ids`` or a study leaves it.
      vocabulary_folder: The vocabulary of the sources.
      fraction: Nested share of the queries (documents).
      cache_root: Where ``gr-jax cache`` has put cached copies; one of other content
        is never found.

    Raises:
      ArtifactError: If a file is missing or not as it was written.
    """
    content = task_builder.Content(
        Path(pairs_folder), Path(vocabulary_folder), fraction
    )
    kinds: list[pairs.Kind] = [kind for kind in pairs.KINDS if content.count(kind)]
    if not kinds:
        raise errors.ArtifactError(f"{pairs_folder}: no pairs: make some")
    names: dict[pairs.Kind, str] = {kind: content.name(kind) for kind in kinds}
    both = content.name("both")
    root = None if cache_root is None else Path(cache_root)
    mark = f"{content.digest} {root}"
    if _registered.get(both) != mark:
        seqio.MixtureRegistry.remove(both)
        for kind in kinds:
            seqio.TaskRegistry.remove(names[kind])
            task = task_builder.build(content, kind, cache_root=root)
            seqio.TaskRegistry.add_provider(names[kind], task)
        rates = [(names[kind], float(content.count(kind))) for kind in kinds]
        seqio.MixtureRegistry.add(both, rates)
        _registered[both] = mark
    return Registered(names.get("query"), names.get("document"), both, content)


def register_judged(
    collection_folder: str | Path,
    identifiers_folder: str | Path,
    vocabulary_folder: str | Path,
    *,
    name: str,
) -> str:
    """Registers the judged queries of a collection, in place of a task of this name.

    Args:
      collection_folder: BEIR folder with queries and judgements.
      identifiers_folder: Table that `gr-jax ids` or a study wrote.
      vocabulary_folder: The vocabulary that spelled it.
      name: Of the task.

    Returns:
      The name.

    Raises:
      ArtifactError: If a file is missing, not as it was written, or they do not match.
    """
    task = judged_task.build(
        name,
        corpus.read_collection(Path(collection_folder)),
        codec.load(Path(identifiers_folder)),
        vocabulary.load(Path(vocabulary_folder)),
    )
    seqio.TaskRegistry.remove(name)
    seqio.TaskRegistry.add_provider(name, task)
    return name


def register_study(
    study: str | Path, *, names: Collection[str] | None = None
) -> dict[str, Registered]:
    """Registers the tasks of every identifier kind whose pairs a study holds.

    The judged queries too, where the study holds collection and identifiers.

    Args:
      study: A study's folder: ``pairs/<kind>/`` and ``vocabulary/``, and what judged
        queries need, ``collection/`` and ``identifiers/<kind>/``.
      names: Collections to register; all if None.

    Returns:
      What was registered, by the folder's name.
    """
    folders = sorted(path for path in Path(study, "pairs").glob("*") if path.is_dir())
    found: dict[str, Registered] = {}
    for folder in folders:
        content = task_builder.Content(folder, Path(study, "vocabulary"))
        if names is not None and content.manifest.facts["collection"] not in names:
            continue
        found[folder.name] = register(folder, content.vocabulary_folder)
        judged = Path(study, "collection")
        table = Path(study, "identifiers", folder.name)
        if judged.is_dir() and table.is_dir():
            words = content.vocabulary_folder
            register_judged(judged, table, words, name=content.name("judged"))
    return found


def register_from_environment(names: Collection[str]) -> dict[str, Registered]:
    """As `register_study`, of the study that ``GR_JAX_STUDY`` names, if it does.

    So that a program that can only import a module, such as T5X's trainer, finds the
    tasks.
    """
    study = os.environ.get("GR_JAX_STUDY")
    return register_study(study, names=names) if study else {}
