"""One training run as gin describes it, and the run itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gr_jax.core import artifacts, errors
from gr_jax.core import progress as progresses
from gr_jax.data import arrays, batching
from gr_jax.model import config as model_config
from gr_jax.model import families, t5x_import
from gr_jax.sharding import mesh as meshes
from gr_jax.sharding import rules as sharding_rules
from gr_jax.train import checkpoint, loop, saved
from gr_jax.train import settings as train_settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run is made of; every field has a macro in ``run/train.gin``.

    Attributes:
      model: Config of the model.
      training: Settings of the loop.
      data: Folder of exported examples (`gr_jax.data.arrays`); the verb `train` takes a
        SeqIO task by name and exports it first.
      folder: Where the run is written.
      batch: Rows of a step over all processes.
      lengths: Longest ``inputs`` and ``targets`` in tokens, ends included.
      layout: Several examples in a row, or batches by source length.
      data_seed: Names the order of the examples.
      fraction: Share of the training queries, nested.
      initial_checkpoint: Folder of a run or of imported weights to start from, or one
        ``checkpoint_<step>``, T5X's too.
      mesh: Devices along each axis.
      rules: Logical to mesh axes.
    """

    model: model_config.ModelConfig
    training: train_settings.TrainSettings
    data: str
    folder: str
    batch: int
    lengths: Mapping[str, int]
    layout: batching.Layout = dataclasses.field(default_factory=batching.Layout)
    data_seed: int = 0
    fraction: float = 1.0
    initial_checkpoint: str | None = None
    mesh: meshes.MeshShape = dataclasses.field(default_factory=meshes.MeshShape)
    rules: sharding_rules.Rules = sharding_rules.DEFAULT

    def __post_init__(self) -> None:
        if set(self.lengths) != {"inputs", "targets"}:
            remedy = "give {'inputs': .., 'targets': ..}"
            raise errors.UsageError(
                errors.fault("recipe", "lengths", dict(self.lengths), remedy)
            )
        if not isinstance(self.model, model_config.T5Config | model_config.LlamaConfig):
            remedy = "bind MODEL to a T5Config or LlamaConfig, as model/*.gin do"
            raise errors.UsageError(errors.fault("recipe", "model", self.model, remedy))
        self.layout.checked(self.source_length)

    @property
    def source_length(self) -> int:
        """Padded source tokens."""
        return self.lengths["inputs"]

    @property
    def target_length(self) -> int:
        """Padded target tokens."""
        return self.lengths["targets"]

    def describe(self) -> dict[str, Any]:
        """The recipe as JSON, without paths: a run may be moved."""
        return {
            "model": model_config.to_json(self.model),
            **self.batches(),
        }

    def batches(self) -> dict[str, Any]:
        """What decides the batches of examples: a resumed run must have the same."""
        return {
            "batch": self.batch,
            "lengths": dict(self.lengths),
            "pack": self.layout.pack,
            "buckets": list(self.layout.buckets),
            "data_seed": self.data_seed,
            "fraction": self.fraction,
        }


def run(
    recipe: Recipe, progress: progresses.Progress = progresses.SILENT
) -> loop.TrainResult:
    """Trains, or goes on. Under LoRA the merged model is saved in ``merged/`` too.

    Raises:
      GrJaxError: As `loop.train`; also if the examples do not fit the model.
    """
    folder = Path(recipe.folder)
    examples = arrays.load(Path(recipe.data))
    _check_tokens(examples, recipe)

    def batches(start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        return batching.batches(
            examples,
            recipe.layout,
            batch=recipe.batch,
            source_length=recipe.source_length,
            target_length=recipe.target_length,
            seed=recipe.data_seed,
            steps=recipe.training.steps,
            start_step=start_step,
            fraction=recipe.fraction,
        )

    shape = recipe.mesh
    done = loop.train(
        families.build(recipe.model),
        batches,
        settings=recipe.training,
        folder=folder,
        mesh=meshes.make_mesh(shape.data, shape.fsdp, shape.tensor)
        if math.prod(shape.sizes) != 1
        else None,
        rules=recipe.rules,
        progress=progress,
        init_params=initial(recipe),
        config=recipe.describe(),
        inputs={
            "examples": artifacts.digest_of(Path(recipe.data)),
            "batches": artifacts.canonical_json(recipe.batches()),
        },
    )
    if recipe.training.lora is not None:
        save_merged(folder, done, recipe.describe())
    return done


def initial(recipe: Recipe) -> Any:
    """Parameters to start from, or None for new ones.

    Raises:
      ArtifactError: If there is no such checkpoint, or it is another model's.
    """
    if recipe.initial_checkpoint is None:
        return None
    folder = Path(recipe.initial_checkpoint)
    step = checkpoint.step_of(folder)
    if step is None:
        return saved.find(folder).params()
    if checkpoint.is_ours(folder):
        return checkpoint.read_params(folder.parent, step=step)
    return t5x_import.load(folder, recipe.model)


def save_merged(
    folder: Path, done: loop.TrainResult, config: Mapping[str, Any]
) -> None:
    """Writes the model with its adapters added in, for every other verb to read."""
    checkpoint.save(
        folder / saved.MERGED,
        {"target": done.params},
        checkpoint.Progress(step=done.steps, data_tokens=done.data_tokens),
        config={"run": dict(config)},
        keep=1,
    )


def _check_tokens(examples: arrays.Examples, recipe: Recipe) -> None:
    limit = recipe.model.vocab_size
    for name in ("source_tokens", "target_tokens"):
        top = int(getattr(examples, name).max(initial=0))
        if top >= limit:
            remedy = f"the model knows tokens below {limit}: raise vocab_size"
            raise errors.UsageError(errors.fault(recipe.data, name, top, remedy))
