"""Which model a folder holds: of a run, of merged adapters, an import or a cell."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts, errors
from gr_jax.model import config as model_config
from gr_jax.train import checkpoint

MERGED = "merged"
_CELL = "cell.json"
_CELL_RUN = "train"


@dataclasses.dataclass(frozen=True)
class Saved:
    """A model on disk.

    Attributes:
      folder: Where its whole parameters are: under LoRA those with adapters added in.
      step: The checkpoint meant.
      config: What it is.
      stored_dtype: Type of the files it was imported from; float32 otherwise.
    """

    folder: Path
    step: int
    config: model_config.ModelConfig
    stored_dtype: str = "float32"

    def params(self) -> Any:
        """Its parameters as NumPy arrays."""
        return checkpoint.read_params(self.folder, step=self.step)


def find(folder: Path, step: int | None = None) -> Saved:
    """The model of a folder, its newest checkpoint unless ``step`` names one.

    Raises:
      ArtifactError: If there is no whole checkpoint, or it does not say its model.
    """
    described = None
    if (folder / _CELL).is_file():
        value = artifacts.read_json(folder / _CELL)
        described = {"family": value["cell"]["family"], **value["model"]}
        folder = folder / _CELL_RUN
    if checkpoint.steps(folder / MERGED):
        folder = folder / MERGED
    if step is None:
        found = checkpoint.newest(folder)
        if found is None:
            raise errors.ArtifactError(f"{folder}: no checkpoint: train a model first")
        step, manifest, _ = found
    else:
        manifest, _ = checkpoint.check(folder, step)
    # A run records its recipe, an import the model itself.
    recorded = manifest.config.get("run") or manifest.config
    described = described or recorded.get("model")
    if not isinstance(described, dict) or "family" not in described:
        path = checkpoint.path_of(folder, step)
        raise errors.ArtifactError(f"{path}: model: not recorded: train it anew")
    dtype = str(manifest.config.get("stored_dtype", "float32"))
    return Saved(folder, step, model_config.from_json(described), dtype)


def model_of(folder: str) -> model_config.ModelConfig:
    """The config of a folder's model, for gin: a fine-tuned model is what it was."""
    return find(Path(folder)).config
