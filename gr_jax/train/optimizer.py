"""AdamW, Adafactor and learning rates.

The rate is applied apart, so that runs which differ only in it share a compiled step.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from gr_jax.train import settings as train_settings

Scalar = Float[Array, ""]


def schedule_numbers(settings: train_settings.TrainSettings) -> dict[str, float]:
    """The numbers of a schedule, which a step takes as arguments."""
    return {
        "peak": settings.learning_rate,
        "warmup": float(settings.warmup_steps),
        "steps": float(settings.steps),
        "floor": settings.final_fraction,
    }


def learning_rate(
    step: Int[Array, ""],
    numbers: dict[str, Scalar],
    *,
    schedule: train_settings.Schedule,
) -> Scalar:
    """Learning rate of the update that follows ``step`` finished ones.

    The warm-up rises from ``peak / warmup`` to ``peak``. The first update of
    ``linear`` and ``cosine`` after it has the peak, the end of the run ``floor`` times
    the peak.

    Args:
      step: Updates done before this one.
      numbers: See `schedule_numbers`.
      schedule: Shape after the warm-up; static.
    """
    done = step.astype(jnp.float32)
    warmup = numbers["warmup"]
    rise = jnp.minimum(1.0, (done + 1.0) / jnp.maximum(warmup, 1.0))
    span = jnp.maximum(numbers["steps"] - warmup, 1.0)
    past = jnp.clip((done - warmup) / span, 0.0, 1.0)
    floor = numbers["floor"]
    match schedule:
        case "constant":
            shape = jnp.ones_like(past)
        case "inverse_sqrt":
            start = jnp.maximum(warmup, 1.0)
            shape = jnp.sqrt(start / jnp.maximum(done + 1.0, start))
        case "linear":
            shape = 1.0 - (1.0 - floor) * past
        case "cosine":
            shape = floor + (1.0 - floor) * 0.5 * (1.0 + jnp.cos(jnp.pi * past))
    return numbers["peak"] * rise * shape


def transformation(
    step_settings: train_settings.StepSettings,
) -> optax.GradientTransformation:
    """Gradients to a direction; the caller multiplies by minus the learning rate."""
    if step_settings.optimizer == "adamw":
        return optax.scale_by_adam(
            b1=step_settings.beta1,
            b2=step_settings.beta2,
            eps=step_settings.epsilon,
        )
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )


def is_decayed(axes: Any) -> Any:
    """Which parameters weight decay touches: those with two axes besides layers.

    Args:
      axes: Tree with a tuple of logical axis names at each leaf.
    """
    return jax.tree.map(
        lambda names: len([n for n in names if n not in ("layers", "stack")]) >= 2,
        axes,
        is_leaf=lambda value: isinstance(value, tuple | PartitionSpec),
    )


def apply(
    params: Any,
    directions: Any,
    *,
    rate: Scalar,
    weight_decay: float,
    decayed: Any,
) -> Any:
    """Parameters after one update: ``p - rate * (direction + weight_decay * p)``."""

    def update(param: Array, direction: Array, is_decayed: bool) -> Array:
        if weight_decay and is_decayed:
            direction = direction + weight_decay * param
        return (param - rate * direction).astype(param.dtype)

    return jax.tree.map(update, params, directions, decayed)
