"""Host batches and parameters onto the devices, each process sending its own rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from gr_jax.core import errors
from gr_jax.model import packing
from gr_jax.train import checkpoint

HostBatch = Mapping[str, np.ndarray]
Batches = Callable[[int], Iterator[HostBatch]]
FIELDS = ("source_BS", "target_BL")


def feed(
    batches: Batches, start: int, sharding: NamedSharding, *, accumulation: int = 1
) -> Iterator[tuple[dict[str, jax.Array], int]]:
    """Batches on the devices from a step on, each with its count of examples.

    A batch has ``source_BS`` and ``target_BL``, and where rows are packed all of
    `packing.FIELDS`. Rows without a target are no examples.

    Raises:
      UsageError: If a batch lacks a field or cannot be split evenly.
      InputError: If the batches end.
    """
    ways = _ways(sharding) * accumulation
    step = start
    for batch in batches(start):
        names = FIELDS
        if any(name in batch for name in packing.FIELDS):
            names = (*FIELDS, *packing.FIELDS)
        missing = [name for name in names if name not in batch]
        if missing:
            remedy = f"a batch has {' and '.join(names)}"
            raise errors.UsageError(errors.fault("batch", "field", missing, remedy))
        rows = len(batch[FIELDS[0]])
        if rows % ways:
            remedy = f"must be a multiple of {ways} (devices x accumulation)"
            raise errors.UsageError(errors.fault("batch", "rows", rows, remedy))
        arrays = {name: np.asarray(batch[name], np.int32) for name in names}
        yield put(arrays, sharding), _examples(arrays)
        step += 1
    raise errors.InputError(
        f"data: ends before step {step + 1}: allow more epochs, or ask for fewer steps"
    )


def _examples(arrays: Mapping[str, np.ndarray]) -> int:
    if packing.FIELDS[0] in arrays:
        # Targets of a row are numbered from 1.
        return int(arrays["target_segment_BL"].max(axis=1).sum())
    return int(np.count_nonzero(arrays["target_BL"][:, 0]))


def _ways(sharding: NamedSharding) -> int:
    part = sharding.spec[0]
    axes = () if part is None else (part,) if isinstance(part, str) else part
    return math.prod(int(sharding.mesh.shape[axis]) for axis in axes)


def put(arrays: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """A global batch on the devices.

    Every process has the whole batch and sends the rows of its own devices, so no row
    is sent twice and none is left out, however the mesh lies over the processes.
    """
    if jax.process_count() == 1:
        return jax.device_put(arrays, sharding)
    return {
        name: jax.make_array_from_callback(rows.shape, sharding, rows.__getitem__)
        for name, rows in arrays.items()
    }


def place(params: Any, like: Any, shardings: Any) -> Any:
    """A copy of given parameters, typed and placed as the model wants them.

    Args:
      params: Arrays of the host or of a device; left as they are.
      like: Tree of shapes and types.
      shardings: The same tree of shardings.

    Raises:
      ArtifactError: Names the parameter that is missing, unknown or of another shape.
    """
    wanted, given = checkpoint.described(like), checkpoint.described(params)
    for name in sorted(set(wanted) | set(given)):
        shape = wanted[name][1] if name in wanted else None
        if name not in given or given[name][1] != shape:
            remedy = f"the model's shape is {shape}"
            raise errors.ArtifactError(
                errors.fault("initial parameters", name, given.get(name), remedy)
            )
    return jax.tree.map(
        lambda value, shape, sharding: jax.device_put(
            np.array(value, shape.dtype), sharding
        ),
        params,
        like,
        shardings,
    )
