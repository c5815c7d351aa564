"""Checkpoints: T5X's layout written by Orbax, a manifest with digests beside it.

``checkpoint_<step>/state`` holds ``{target, state: {step, key, param_states}}``;
``progress.json`` what the host counts; ``manifest.json`` the digest of each file. A
checkpoint appears whole or not at all, and one that does not match its manifest is
never loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gr_jax.core import artifacts, errors

KIND = "checkpoint"
SCHEMA_VERSION = 1
_PROGRESS = "progress.json"
_NAME = re.compile(r"checkpoint_(\d+)")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """What the host knows of a run at a step.

    Attributes:
      step: Finished steps.
      data_tokens: Target tokens seen, padding excluded.
      examples_seen: Rows with a target seen.
      wall_s: Time spent, resumed runs together.
      window: Sums since the last line of the log.
      skipped: Steps whose update was thrown away.
      arrays: Type and shape of each array, by path.
    """

    step: int
    data_tokens: int = 0
    examples_seen: int = 0
    wall_s: float = 0.0
    window: dict[str, Any] = dataclasses.field(default_factory=dict)
    skipped: list[int] = dataclasses.field(default_factory=list)
    arrays: dict[str, list[Any]] = dataclasses.field(default_factory=dict)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"checkpoint_{step}"


def step_of(path: Path) -> int | None:
    """The step that a folder's name gives it, None if it is no checkpoint's name."""
    found = _NAME.fullmatch(path.name)
    return None if found is None else int(found[1])


def is_ours(path: Path) -> bool:
    """Whether this package wrote a checkpoint folder, as a manifest in it says."""
    return (path / artifacts.MANIFEST).is_file()


def steps(folder: Path) -> list[int]:
    """Steps with a checkpoint folder, ascending, valid or not."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(p.name) for p in folder.iterdir() if p.is_dir())
    return sorted(int(name[1]) for name in names if name)


def described(tree: Any) -> dict[str, list[Any]]:
    """Type and shape of each array of a tree, by path."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            str(leaf.dtype),
            list(leaf.shape),
        ]
        for path, leaf in found
    }


def save(
    folder: Path,
    tree: Mapping[str, Any],
    progress: Progress,
    *,
    config: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
    inputs: Mapping[str, str] | None = None,
    keep: int | None = None,
) -> Path:
    """Writes a checkpoint and then deletes all but the newest ``keep``.

    Args:
      folder: The run's folder.
      tree: ``{"target": params}``, with ``"state"`` where training may go on from it.
      progress: Its ``step`` names the checkpoint; ``arrays`` is filled in here.
      config: The operative configuration.
      seeds: By purpose.
      inputs: Digests of what the run reads, by name.
      keep: None keeps all.

    Raises:
      ResourceError: If it cannot be written; an older checkpoint is left as it was.
    """
    final = path_of(folder, progress.step)
    temporary = folder / f".{final.name}.tmp"
    is_first = jax.process_index() == 0
    try:
        if is_first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        _meet("made")
        with contextlib.closing(_checkpointer()) as writer:
            writer.save(
                temporary.absolute() / "state", args=ocp.args.PyTreeSave(dict(tree))
            )
        if is_first:
            noted = dataclasses.replace(progress, arrays=described(tree))
            artifacts.write_json(temporary / _PROGRESS, dataclasses.asdict(noted))
            artifacts.write_manifest(
                temporary,
                kind=KIND,
                schema_version=SCHEMA_VERSION,
                config=config,
                seeds=seeds,
                inputs=inputs,
                facts={"step": progress.step},
            )
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            _delete_old(folder, progress.step, keep)
        _meet("saved")
    except (OSError, ValueError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise errors.ResourceError(
            f"{final}: cannot be saved ({errors.shown(reason)}): free space or "
            "mend the folder; older checkpoints are untouched"
        ) from error
    return final


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _meet(place: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoint {place}")


def _delete_old(folder: Path, step: int, keep: int | None) -> None:
    if keep is None:
        return
    older = [s for s in steps(folder) if s < step]
    for old in older[: max(0, len(older) - (keep - 1))]:
        shutil.rmtree(path_of(folder, old), ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Removes what saves that were cut short left; the caller holds the folder."""
    for path in folder.glob(".checkpoint_*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def check(
    folder: Path, step: int, *, verify: artifacts.Verify = "full"
) -> tuple[artifacts.Manifest, Progress]:
    """The manifest and progress of a checkpoint, after verifying it.

    Raises:
      ArtifactError: Names the file that is missing or not the one written, or says
        that the folder is another step's.
    """
    path = path_of(folder, step)
    manifest = artifacts.read_manifest(
        path, kind=KIND, schema_version=SCHEMA_VERSION, verify=verify
    )
    progress = Progress(**artifacts.read_json(path / _PROGRESS))
    if progress.step != step:
        remedy = f"this is a copy of checkpoint_{progress.step}: remove it"
        raise errors.ArtifactError(errors.fault(path, "step", progress.step, remedy))
    return manifest, progress


def newest(
    folder: Path, *, verify: artifacts.Verify = "full"
) -> tuple[int, artifacts.Manifest, Progress] | None:
    """The newest valid checkpoint, None if there is none at all.

    Invalid newer ones are logged, one warning each, and passed over.

    Raises:
      ArtifactError: If there are checkpoints and none is valid.
    """
    found = steps(folder)
    last_error: errors.ArtifactError | None = None
    for step in reversed(found):
        try:
            return step, *check(folder, step, verify=verify)
        except errors.ArtifactError as error:
            _log.warning("%s (an older checkpoint is used)", error)
            last_error = error
    if last_error is not None:
        raise last_error
    return None


def restore(folder: Path, step: int, like: Any, shardings: Any) -> dict[str, Any]:
    """The tree of a checkpoint, placed as asked; call `check` first.

    Args:
      folder: The run's folder.
      step: Which.
      like: Tree of shapes and types that it must have, all of them.
      shardings: The same tree of shardings.

    Raises:
      ArtifactError: Names the array that is missing, unknown, or of another shape or
        type.
    """
    path = path_of(folder, step)
    saved = Progress(**artifacts.read_json(path / _PROGRESS)).arrays
    wanted = described(like)
    for name in sorted(set(saved) | set(wanted)):
        if saved.get(name) != wanted.get(name):
            remedy = f"{wanted.get(name)} is needed: is this the model's checkpoint?"
            raise errors.ArtifactError(
                errors.fault(path, name, saved.get(name), remedy)
            )
    arguments = jax.tree.map(
        lambda leaf, sharding: ocp.ArrayRestoreArgs(
            sharding=sharding, global_shape=leaf.shape, dtype=leaf.dtype
        ),
        like,
        shardings,
    )
    return _read(path, like, arguments)


def read_params(folder: Path, *, step: int | None = None, shardings: Any = None) -> Any:
    """The parameters of a run, without its optimizer state.

    Args:
      folder: The run's folder.
      step: Which checkpoint; the newest valid one unless given.
      shardings: Tree of shardings; NumPy arrays come back without one.

    Raises:
      ArtifactError: If there is no such checkpoint, or it is not whole.
    """
    if step is None:
        found = newest(folder)
        if found is None:
            raise errors.ArtifactError(f"{folder}: no checkpoint: train first")
        step, _, progress = found
    else:
        _, progress = check(folder, step)
    like: dict[str, Any] = {}
    for name, (dtype, shape) in progress.arrays.items():
        *above, last = name.split("/")
        if above[0] != "target":
            continue
        node = like
        for part in above:
            node = node.setdefault(part, {})
        node[last] = jax.ShapeDtypeStruct(tuple(shape), jax.numpy.dtype(dtype))
    if shardings is None:
        arguments = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like
        )
    else:
        arguments = jax.tree.map(
            lambda leaf, sharding: ocp.ArrayRestoreArgs(
                sharding=sharding, global_shape=leaf.shape, dtype=leaf.dtype
            ),
            like,
            {"target": shardings},
        )
    path = path_of(folder, step)
    return _read(path, like, arguments)["target"]


def _read(path: Path, like: Any, arguments: Any) -> dict[str, Any]:
    with contextlib.closing(_checkpointer()) as reader:
        try:
            return reader.restore(
                path.absolute() / "state",
                args=ocp.args.PyTreeRestore(
                    item=like, restore_args=arguments, partial_restore=True
                ),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = errors.shown(str(error).splitlines()[0] if str(error) else error)
            raise errors.ArtifactError(
                f"{path}: cannot be read ({reason}): make it anew"
            ) from error
