"""Weights of a Hugging Face folder as parameters: streamed, no torch, no pickle.

One tensor is in memory beside the parameters at any time. Stored bfloat16 and float16
become float32 exactly.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gr_jax.core import artifacts, errors
from gr_jax.core.progress import SILENT, Progress
from gr_jax.model import config as model_config
from gr_jax.model import families, hf_config, hf_layout, protocol, shards

_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Imported:
    """A model from elsewhere: config, host arrays, and the dtype of the files."""

    config: model_config.ModelConfig
    params: protocol.Params
    stored_dtype: str


def load(folder: Path, *, progress: Progress = SILENT, **options: Any) -> Imported:
    """The model of a Hugging Face folder.

    Args:
      folder: Holds ``config.json`` and ``*.safetensors``.
      progress: Told of every tensor.
      **options: Fields of the config that the folder does not decide (``dtype``,
        ``scan_layers``, ``remat``, ``attention``, ``dropout_rate``, ``start_token``).

    Raises:
      ArtifactError: If a file or tensor is missing, pickled, unknown or of another
        shape than the config says.
      InputError: If the config is of a model we do not have.
    """
    path = folder / "config.json"
    config = hf_config.from_hugging_face(
        artifacts.read_json(path), where=path, **options
    )
    wanted = {entry.name: entry for entry in hf_layout.entries(config)}
    files = shards.tensor_files(folder)
    missing = sorted(wanted.keys() - files.keys())
    if missing:
        raise errors.ArtifactError(
            f"{folder}: {missing[0]}: no such tensor (of {len(missing)} missing): "
            "get the whole model"
        )
    for name in files.keys() - wanted.keys():
        if not hf_layout.is_redundant(name, config):
            raise errors.ArtifactError(
                f"{files[name]}: {name}: not a tensor of this architecture: "
                "check config.json"
            )
    params = _allocated(config)
    dtypes: set[str] = set()
    progress.start("import", len(wanted))
    for name, tensor in shards.tensors({n: files[n] for n in wanted}):
        dtypes.add(tensor.dtype.name)
        _place(params, wanted[name], tensor, where=files[name])
        progress.advance()
    progress.finish()
    return Imported(config, params, dtypes.pop() if len(dtypes) == 1 else "float32")


def _allocated(config: model_config.ModelConfig) -> protocol.Params:
    """Room for the parameters; pages are taken only as they are written."""
    model = families.build(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes)


def _place(
    params: protocol.Params, entry: hf_layout.Entry, tensor: np.ndarray, *, where: Path
) -> None:
    if tensor.dtype.name not in _DTYPES:
        remedy = f"one of {', '.join(_DTYPES)} can be read"
        raise errors.ArtifactError(
            errors.fault(f"{where}: {entry.name}", "dtype", tensor.dtype.name, remedy)
        )
    leaf: Any = params
    for step in entry.path:
        leaf = leaf[step]
    target = leaf if entry.layer is None else leaf[entry.layer]
    source = tensor.T if entry.is_transposed else tensor
    if source.shape != target.shape:
        shape = target.shape[::-1] if entry.is_transposed else target.shape
        raise errors.ArtifactError(
            errors.fault(
                f"{where}: {entry.name}", "shape", tensor.shape, f"{shape} by config"
            )
        )
    np.copyto(target, source, casting="unsafe")
