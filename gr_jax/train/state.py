"""What a training step changes: parameters, optimizer, counter, key."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gr_jax.train import settings as train_settings

Leaf = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """One pytree, donated to every step.

    ``params`` are the trained ones only; frozen ones travel beside the state and take
    no optimizer memory. ``recent_T`` holds the last losses where spikes are skipped,
    and is None otherwise.
    """

    params: Leaf
    optimizer: Leaf
    step: Leaf
    key: Leaf
    recent_T: Leaf


def create(
    params: Any,
    transformation: optax.GradientTransformation,
    step_settings: train_settings.StepSettings,
    seed: Any,
) -> TrainState:
    """The state before the first step; traceable."""
    window = step_settings.spike_window
    return TrainState(
        params=params,
        optimizer=transformation.init(params),
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(jax.random.key(seed)),
        recent_T=jnp.full((window,), jnp.nan) if step_settings.spike_sigma else None,
    )


def shardings(
    abstract: TrainState,
    transformation: optax.GradientTransformation,
    param_shardings: Any,
    mesh: Mesh,
) -> TrainState:
    """Placement of a state: moments lie as their parameters, the rest everywhere."""
    whole = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any, param: Any, sharding: NamedSharding) -> NamedSharding:
        # Adafactor's row and column slots have fewer axes than their parameter.
        return sharding if leaf.shape == param.shape else whole

    optimizer = optax.tree_map_params(
        transformation,
        place,
        abstract.optimizer,
        abstract.params,
        param_shardings,
        transform_non_params=lambda _: whole,
    )
    return TrainState(
        params=param_shardings,
        optimizer=optimizer,
        step=whole,
        key=whole,
        recent_T=None if abstract.recent_T is None else whole,
    )


def to_tree(state: TrainState) -> dict[str, Any]:
    """The state as nested dictionaries, in T5X's checkpoint layout."""
    inner: dict[str, Any] = {"step": state.step, "key": state.key}
    if state.recent_T is not None:
        inner["recent_losses"] = state.recent_T
    slots: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state.optimizer)[0]:
        parts = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        node = slots
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = leaf
    if slots:
        inner["param_states"] = slots
    return {"target": state.params, "state": inner}


def from_tree(tree: dict[str, Any], like: TrainState) -> TrainState:
    """The inverse of `to_tree`, with the structure of ``like``."""
    inner = tree["state"]
    paths, structure = jax.tree_util.tree_flatten_with_path(like.optimizer)
    leaves = []
    for path, _ in paths:
        node = inner["param_states"]
        for part in jax.tree_util.keystr(path, simple=True, separator="/").split("/"):
            node = node[part]
        leaves.append(node)
    return TrainState(
        params=tree["target"],
        optimizer=jax.tree_util.tree_unflatten(structure, leaves),
        step=inner["step"],
        key=inner["key"],
        recent_T=inner.get("recent_losses"),
    )
