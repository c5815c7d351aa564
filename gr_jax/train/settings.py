"""What a training run is told: one frozen dataclass, bound by gin."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from gr_jax.core import errors

Optimizer = Literal["adamw", "adafactor"]
Schedule = Literal["constant", "inverse_sqrt", "linear", "cosine"]
_OPTIMIZERS = ("adamw", "adafactor")
_SCHEDULES = ("constant", "inverse_sqrt", "linear", "cosine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters: ``W + (alpha / rank) A B`` on the kernels that match.

    ``targets`` are regular expressions, each searched in a parameter's path. Dropout
    drops input features of an adapter, the same ones for a whole batch.
    """

    rank: int
    alpha: float = 16.0
    targets: tuple[str, ...] = (r"(query|value)/kernel$",)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        _check("lora", "rank", self.rank, self.rank >= 1, "at least 1")
        _check("lora", "dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The part of the settings that a compiled step depends on, and nothing else.

    Runs that differ only in learning rate, number of steps or seed share a step.
    """

    optimizer: Optimizer
    schedule: Schedule
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip_norm: float
    z_loss: float
    label_smoothing: float
    accumulation: int
    spike_sigma: float
    spike_window: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything about a run but the model, the data and the mesh.

    Attributes:
      steps: Optimizer updates in all, resumed ones included.
      seed: Of initial parameters and dropout; the data has its own.
      optimizer: ``adamw`` or ``adafactor`` (with T5X's parameter scaling).
      learning_rate: Peak of the schedule. Adafactor multiplies it by the parameter's
        root mean square.
      schedule: After a linear warm-up, ``constant``; ``inverse_sqrt`` (peak times
        sqrt(warmup / step)); ``linear`` or ``cosine`` down to ``final_fraction``.
      warmup_steps: Updates of the linear warm-up.
      final_fraction: Of the peak, where ``linear`` and ``cosine`` end.
      weight_decay: Decoupled, on matrices only.
      beta1: First moment decay (AdamW).
      beta2: Second moment decay (AdamW).
      epsilon: AdamW's.
      clip_norm: Global gradient norm; 0 does not clip.
      z_loss: Weight of log(Z)^2 a token.
      label_smoothing: Mass spread evenly over the vocabulary.
      accumulation: Parts a batch is cut into, one after another, to save memory.
      spike_sigma: Skip an update whose loss is this many standard deviations above the
        mean of the last ``spike_window``; 0 never skips.
      spike_window: Losses remembered for it.
      bad_steps: Updates with a NaN or infinity that are skipped before the run fails.
      log_every: Steps a line of ``log.jsonl``; metrics are fetched only then.
      save_every: Steps a checkpoint; 0 saves at the end only.
      keep: Checkpoints kept.
      tensorboard: Whether to write TensorBoard events.
      lora: Train adapters only.
    """

    steps: int
    seed: int = 0
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_steps: int = 0
    final_fraction: float = 0.1
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    accumulation: int = 1
    spike_sigma: float = 0.0
    spike_window: int = 128
    bad_steps: int = 0
    log_every: int = 20
    save_every: int = 0
    keep: int = 1
    tensorboard: bool = True
    lora: LoraSettings | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "log_every", "keep", "spike_window"):
            value = getattr(self, name)
            _check("train", name, value, value >= 1, "at least 1")
        for name in ("warmup_steps", "save_every", "z_loss", "clip_norm", "bad_steps"):
            value = getattr(self, name)
            _check("train", name, value, value >= 0, "not negative")
        smoothing = self.label_smoothing
        _check("train", "label_smoothing", smoothing, 0 <= smoothing < 1, "in [0, 1)")
        known = self.optimizer in _OPTIMIZERS
        _check("train", "optimizer", self.optimizer, known, " or ".join(_OPTIMIZERS))
        known = self.schedule in _SCHEDULES
        _check("train", "schedule", self.schedule, known, " or ".join(_SCHEDULES))

    def for_step(self) -> StepSettings:
        """What the compiled step depends on."""
        names = [field.name for field in dataclasses.fields(StepSettings)]
        return StepSettings(**{name: getattr(self, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        value = dataclasses.asdict(self)
        if self.lora is not None:
            value["lora"]["targets"] = list(self.lora.targets)
        return value


# What may change between a save and a resume without changing the run's result.
FREE_ON_RESUME = frozenset({"log_every", "save_every", "keep", "tensorboard"})


def incompatibilities(
    saved: dict[str, Any], settings: TrainSettings
) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from a saved run's and would make resuming another run.

    ``steps`` may change where the schedule does not depend on it.
    """
    now = settings.to_json()
    free = set(FREE_ON_RESUME)
    if settings.schedule in ("constant", "inverse_sqrt"):
        free.add("steps")
    names = sorted((set(now) | set(saved)) - free)
    return {
        name: (saved.get(name), now.get(name))
        for name in names
        if saved.get(name) != now.get(name)
    }


def _check(where: str, field: str, value: object, holds: bool, remedy: str) -> None:
    if not holds:
        raise errors.UsageError(errors.fault(where, field, value, f"must be {remedy}"))
