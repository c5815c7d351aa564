"""Parameters as a Hugging Face folder: ``config.json`` and safetensors, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gr_jax.core import artifacts, errors
from gr_jax.core.progress import SILENT, Progress
from gr_jax.model import config as model_config
from gr_jax.model import hf_config, hf_layout, protocol, shards

SHARD_BYTES = 5 * 10**9


def save(
    folder: Path,
    config: model_config.ModelConfig,
    params: protocol.Params,
    *,
    dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = SILENT,
) -> None:
    """Writes a model in Hugging Face's form; an older folder is replaced whole.

    Args:
      folder: Where to.
      config: The model's; codes need to be rows of the embedding.
      params: Its parameters.
      dtype: What to store. From an import in bfloat16, ``bfloat16`` is exact.
      shard_bytes: Limit of one file.
      progress: Told of every tensor.

    Raises:
      UsageError: If the model has no such form, or the dtype is unknown.
    """
    if dtype not in model_config.DTYPES:
        remedy = f"use one of {', '.join(model_config.DTYPES)}"
        raise errors.UsageError(errors.fault("export", "dtype", dtype, remedy))
    listed = hf_layout.entries(config)
    width = jnp.dtype(dtype).itemsize
    sizes = [(e.name, _leaf(params, e).size * width) for e in listed]
    progress.start("export", len(listed))
    with artifacts.staged(folder) as temporary:
        content = hf_config.to_hugging_face(config, dtype=dtype)
        artifacts.write_json(temporary / "config.json", content)
        named = _tensors(params, listed, dtype, progress)
        shards.write(temporary, named, sizes, shard_bytes=shard_bytes)
    progress.finish()


def _tensors(
    params: protocol.Params,
    listed: list[hf_layout.Entry],
    dtype: str,
    progress: Progress,
) -> Iterator[tuple[str, np.ndarray]]:
    for entry in listed:
        array = np.asarray(_leaf(params, entry))
        array = array.T if entry.is_transposed else array
        progress.advance()
        yield entry.name, np.ascontiguousarray(array.astype(jnp.dtype(dtype)))


def _leaf(params: protocol.Params, entry: hf_layout.Entry) -> Any:
    leaf: Any = params
    for step in entry.path:
        leaf = leaf[step]
    return leaf if entry.layer is None else leaf[entry.layer]
