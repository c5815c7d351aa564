"""Sets of safetensors files: read a tensor at a time, written a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from gr_jax.core import artifacts, errors

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file of every tensor of a checkpoint.

    Raises:
      ArtifactError: If there are no safetensors, or a shard is missing.
    """
    index = folder / INDEX
    if index.is_file():
        table = artifacts.read_json(index).get("weight_map")
        if not isinstance(table, dict):
            raise errors.ArtifactError(f"{index}: weight_map: missing: get it anew")
        files = {name: _inside(folder, shard) for name, shard in table.items()}
        for path in sorted(set(files.values())):
            if not path.is_file():
                raise errors.ArtifactError(f"{path}: missing: get all shards")
        return files
    single = folder / SINGLE
    if single.is_file():
        with _opened(single) as file:
            return dict.fromkeys(file.keys(), single)
    pickles = sorted(p.name for glob in _PICKLES for p in folder.glob(glob))
    if pickles:
        raise errors.ArtifactError(
            f"{folder / pickles[0]}: pickled weights can run code and are refused: "
            "get or convert to safetensors"
        )
    raise errors.ArtifactError(f"{single}: missing: get the model's safetensors")


def tensors(files: dict[str, Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content of tensors, one in memory at a time, shard after shard."""
    for name, path in sorted(files.items(), key=lambda item: (item[1], item[0])):
        # Opened anew for each: closing gives back the pages that reading mapped.
        with _opened(path) as file:
            if name not in set(file.keys()):
                raise errors.ArtifactError(
                    f"{path}: {name}: not in this shard: get it anew"
                )
            tensor = file.get_tensor(name)
        yield name, tensor
        del tensor


def write(
    folder: Path,
    named: Iterator[tuple[str, np.ndarray]],
    sizes: Sequence[tuple[str, int]],
    *,
    shard_bytes: int,
) -> list[str]:
    """Writes tensors as one file, or as shards of at most ``shard_bytes`` and an index.

    Args:
      folder: Where to.
      named: The tensors, in the order of ``sizes``.
      sizes: Name and bytes of each.
      shard_bytes: Limit of a file; a larger tensor has a file of its own.

    Returns:
      The names of the files.
    """
    groups = _groups(sizes, shard_bytes)
    total = len(groups)
    table: dict[str, str] = {}
    written: list[str] = []
    for i, group in enumerate(groups):
        name = SINGLE if total == 1 else f"model-{i + 1:05d}-of-{total:05d}.safetensors"
        held = dict(next(named) for _ in group)
        metadata = {"format": "pt"}
        safetensors_numpy.save_file(held, folder / name, metadata=metadata)
        table.update(dict.fromkeys(held, name))
        written.append(name)
    if total > 1:
        size = sum(bytes_ for _, bytes_ in sizes)
        index = {"metadata": {"total_size": size}, "weight_map": table}
        artifacts.write_json(folder / INDEX, index)
        written.append(INDEX)
    return written


def _groups(sizes: Sequence[tuple[str, int]], limit: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    used = 0
    for name, size in sizes:
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    return groups


def _inside(folder: Path, name: Any) -> Path:
    if not isinstance(name, str) or Path(name).name != name:
        raise errors.ArtifactError(
            errors.fault(folder / INDEX, "weight_map", name, "name files beside it")
        )
    return folder / name


def _opened(path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="np")
    except (safetensors.SafetensorError, OSError) as error:
        raise errors.ArtifactError(
            f"{path}: not a safetensors file ({error}): get it anew"
        ) from None
