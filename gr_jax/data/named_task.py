"""A SeqIO task or mixture by its name, as T5X users give it, exported for training.

The trainer reads arrays and needs no TensorFlow; this is the step before it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts, errors
from gr_jax.core import progress as progresses
from gr_jax.data import arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedTask:
    """What T5X's ``DatasetConfig`` says of training data.

    Attributes:
      name: Of a task or mixture.
      module: Python module that registers it when imported, if it is not yet.
      split: Of the task.
      use_cached: Read what SeqIO's cache (or `gr-jax cache`) holds of it.
    """

    name: str
    module: str | None = None
    split: str = "train"
    use_cached: bool = False


def prepare(
    named: NamedTask,
    folder: Path,
    *,
    lengths: Mapping[str, int],
    reporter: progresses.Progress = progresses.SILENT,
) -> Path:
    """Exports a task once; a folder that holds it already is checked and used.

    So a resumed run reads what it began with, whatever became of the task meanwhile.

    Args:
      named: The task.
      folder: Where the arrays go.
      lengths: Longest ``inputs``, which are cut, and ``targets``, which are not.
      reporter: Told of finished examples.

    Returns:
      The folder, for `arrays.load`.

    Raises:
      UsageError: If the module or the task is unknown, or the folder holds another.
      ArtifactError: If the folder is damaged.
    """
    asked = {
        "task": named.name,
        "split": named.split,
        "source_length": int(lengths["inputs"]),
    }
    if folder.is_dir():
        manifest = artifacts.read_manifest(
            folder, kind=arrays.KIND, schema_version=arrays.SCHEMA_VERSION
        )
        held = {name: manifest.config.get(name) for name in asked}
        if held != asked:
            remedy = f"{json.dumps(asked)} is asked for: use another MODEL_DIR"
            raise errors.UsageError(
                errors.fault(folder, "examples", json.dumps(held), remedy)
            )
        return folder
    # Imported here: only a run that names a task needs TensorFlow.
    from gr_jax.data import task_builder

    task_builder.export(
        _provider(named),
        folder,
        source_length=asked["source_length"],
        split=named.split,
        use_cached=named.use_cached,
        by_rate=True,
        reporter=reporter,
    )
    return folder


def _provider(named: NamedTask) -> Any:
    import seqio

    if named.module is not None:
        try:
            importlib.import_module(named.module)
        except ImportError as error:
            raise errors.UsageError(
                f"MIXTURE_OR_TASK_MODULE: {named.module}: cannot be imported ({error})"
            ) from None
    try:
        provider = seqio.get_mixture_or_task(named.name)
    except ValueError:
        remedy = "give a folder of examples, or the MIXTURE_OR_TASK_MODULE that has it"
        raise errors.UsageError(
            errors.fault("data", "MIXTURE_OR_TASK_NAME", named.name, remedy)
        ) from None
    missing = sorted({"inputs", "targets"} - set(provider.output_features))
    if missing:
        remedy = "a task of inputs and targets is needed"
        raise errors.UsageError(errors.fault(named.name, "features", missing, remedy))
    return provider
