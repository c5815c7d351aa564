"""The compiled programs of training: one initialisation, one step.

They are kept for the life of the process, keyed by all that they depend on, so that
runs of one shape (the data fractions of one size, the seeds) compile once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from gr_jax.model import packing, protocol
from gr_jax.sharding import rules as sharding_rules
from gr_jax.train import lora as adapters
from gr_jax.train import loss as losses
from gr_jax.train import optimizer as optimizers
from gr_jax.train import settings as train_settings
from gr_jax.train import state as states

Batch = dict[str, Array]
Metrics = dict[str, Array]
Seed = Array | np.uint32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """Compiled programs of one (model, settings, mesh, rules).

    Attributes:
      mesh: Where they run; enter it with `jax.set_mesh` around every call.
      batch: Placement of a batch's arrays.
      base: Shapes of the model's parameters; under LoRA they are frozen.
      base_shardings: Their placement.
      shardings: Placement of the state.
      abstract: Shapes, types and placement of the state.
      new_params: ``seed -> params``, the trained ones (adapters under LoRA).
      new_state: ``(params, seed) -> state``; donates the parameters.
      step: ``(state, frozen, batch, numbers) -> (state, metrics)``; donates the state.
      transformation: The optimizer.
    """

    mesh: Mesh
    batch: NamedSharding
    base: Any
    base_shardings: Any
    shardings: states.TrainState
    abstract: states.TrainState
    new_params: Callable[[Seed], Any]
    new_state: Callable[[Any, Seed], states.TrainState]
    step: Callable[..., tuple[states.TrainState, Metrics]]
    transformation: optax.GradientTransformation


@functools.lru_cache(maxsize=64)
def programs(
    model: protocol.GenerativeModel,
    step_settings: train_settings.StepSettings,
    mesh: Mesh,
    rules: sharding_rules.Rules,
    lora: train_settings.LoraSettings | None,
) -> Programs:
    """The programs, made once for each set of arguments (all hashable)."""
    transformation = optimizers.transformation(step_settings)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    base = jax.eval_shape(lambda s: model.init(jax.random.key(s)), seed)
    base_axes = model.param_axes()
    axes = base_axes if lora is None else adapters.axes(base_axes, base, lora)

    def new_params(seed: Seed) -> Any:
        key = jax.random.key(seed)
        with linen.logical_axis_rules(rules.for_flax()):
            return model.init(key) if lora is None else adapters.new(base, lora, key)

    def new_state(params: Any, seed: Seed) -> states.TrainState:
        return states.create(params, transformation, step_settings, seed)

    params = jax.eval_shape(new_params, seed)
    abstract = jax.eval_shape(new_state, params, seed)
    placed = sharding_rules.param_shardings(params, axes, mesh, rules)
    base_placed = sharding_rules.param_shardings(base, base_axes, mesh, rules)
    shardings = states.shardings(abstract, transformation, placed, mesh)
    update = functools.partial(
        _step,
        model=model,
        step_settings=step_settings,
        transformation=transformation,
        decayed=optimizers.is_decayed(axes),
        lora=lora,
    )

    def step(
        state: states.TrainState, frozen: Any, batch: Batch, numbers: dict[str, Array]
    ) -> tuple[states.TrainState, Metrics]:
        with linen.logical_axis_rules(rules.for_flax()):
            return update(state, frozen, batch, numbers)

    whole = NamedSharding(mesh, PartitionSpec())
    return Programs(
        mesh=mesh,
        batch=sharding_rules.batch_sharding(mesh, rules),
        base=_with(base, base_placed),
        base_shardings=base_placed,
        shardings=shardings,
        abstract=_with(abstract, shardings),
        new_params=jax.jit(new_params, out_shardings=placed),
        new_state=jax.jit(new_state, out_shardings=shardings, donate_argnums=0),
        step=jax.jit(step, out_shardings=(shardings, whole), donate_argnums=0),
        transformation=transformation,
    )


def _with(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        shapes,
        shardings,
    )


def _step(
    state: states.TrainState,
    frozen: Any,
    batch: Batch,
    numbers: dict[str, Array],
    *,
    model: protocol.GenerativeModel,
    step_settings: train_settings.StepSettings,
    transformation: optax.GradientTransformation,
    decayed: Any,
    lora: train_settings.LoraSettings | None,
) -> tuple[states.TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)

    def logits(params: Any, part: Batch, key: Array) -> Float[Array, "B L V"]:
        if lora is not None:
            own = jax.random.fold_in(key, 1)
            params = adapters.merge(frozen, params, lora, dropout_key=own)
        packed = packing.of_batch(part)
        options = {} if packed is None else {"packing": packed}
        return model.logits(
            params, part["source_BS"], part["target_BL"], dropout_key=key, **options
        )

    gradient, loss = _gradient(state.params, batch, key, logits, step_settings)
    tokens = jnp.maximum(loss.tokens, 1).astype(jnp.float32)
    gradient = jax.tree.map(lambda g: g / tokens, gradient)
    norm = optax.global_norm(gradient)
    if step_settings.clip_norm:
        scale = jnp.minimum(1.0, step_settings.clip_norm / (norm + 1e-9))
        gradient = jax.tree.map(lambda g: g * scale, gradient)
    rate = optimizers.learning_rate(
        state.step, numbers, schedule=step_settings.schedule
    )
    directions, slots = transformation.update(gradient, state.optimizer, state.params)
    params = optimizers.apply(
        state.params,
        directions,
        rate=rate,
        weight_decay=step_settings.weight_decay,
        decayed=decayed,
    )
    is_finite = jnp.isfinite(loss.objective) & jnp.isfinite(norm)
    mean = loss.nats / tokens
    is_spike, recent_T = _spike(state.recent_T, mean, is_finite, step_settings)
    keep = is_finite & ~is_spike
    # A bad update is computed and thrown away: the parameters never see it.
    params = jax.tree.map(
        lambda new, old: jnp.where(keep, new, old), params, state.params
    )
    slots = jax.tree.map(
        lambda new, old: jnp.where(keep, new, old), slots, state.optimizer
    )
    metrics = {
        "nats": loss.nats,
        "tokens": loss.tokens,
        "objective": loss.objective,
        "gradient_norm": norm,
        "learning_rate": rate,
        "is_finite": is_finite,
        "is_spike": is_spike,
    }
    after = states.TrainState(params, slots, state.step + 1, state.key, recent_T)
    return after, metrics


def _gradient(
    params: Any,
    batch: Batch,
    key: Array,
    logits: Callable[[Any, Batch, Array], Array],
    step_settings: train_settings.StepSettings,
) -> tuple[Any, losses.Loss]:
    """Sum over the batch of gradients, and the sums of the loss."""

    def objective(
        params: Any, part: Batch, key: Array
    ) -> tuple[Float[Array, ""], losses.Loss]:
        loss = losses.cross_entropy(
            logits(params, part, key),
            part["target_BL"],
            z_loss=step_settings.z_loss,
            label_smoothing=step_settings.label_smoothing,
        )
        return loss.objective, loss

    differentiate = jax.grad(objective, has_aux=True)
    parts = step_settings.accumulation
    if parts == 1:
        return differentiate(params, batch, key)

    def cut(rows: Int[Array, "B W"]) -> Int[Array, "A R W"]:
        # Part i takes rows i, i + parts, ...: every device keeps rows of each part.
        return rows.reshape(-1, parts, rows.shape[1]).swapaxes(0, 1)

    def body(total: Any, numbered: tuple[Array, Batch]) -> tuple[Any, None]:
        index, part = numbered
        found = differentiate(params, part, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, total, found), None

    shapes = jax.eval_shape(differentiate, params, batch, key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    numbered = (jnp.arange(parts), jax.tree.map(cut, batch))
    return jax.lax.scan(body, zeros, numbered)[0]


def _spike(
    recent_T: Any,
    mean: Float[Array, ""],
    is_finite: Array,
    step_settings: train_settings.StepSettings,
) -> tuple[Array, Any]:
    """Whether the loss stands out of the last ones, and those after this step."""
    if recent_T is None:
        return jnp.zeros((), bool), None
    # NaN marks places not yet filled, so a spike needs a full window.
    limit = jnp.mean(recent_T) + step_settings.spike_sigma * jnp.std(recent_T)
    is_spike = mean > limit
    after_T = jnp.concatenate([recent_T[1:], mean[None]])
    return is_spike, jnp.where(is_finite & ~is_spike, after_T, recent_T)
