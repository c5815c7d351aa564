r"""Low-rank adapters: a kernel becomes :math:`W + \frac{\alpha}{r} A B`.

Source: Hu et al. 2021 (arXiv:2106.09685), section 4.1. The sum is formed in weight
space inside the step, so any model and any kernel can be adapted without a change to
the architecture, and a merged model computes what the adapted one did. Adapters alone
are trained and saved.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array

from gr_jax.core import errors
from gr_jax.train import settings as train_settings

Params = dict[str, Any]
_FACTORS = ("lora_a", "lora_b")


def is_target(path: str, settings: train_settings.LoraSettings) -> bool:
    """Whether a parameter (``encoder/layers_0/attention/query/kernel``) is adapted."""
    return any(re.search(pattern, path) for pattern in settings.targets)


def targets(params: Params, settings: train_settings.LoraSettings) -> list[str]:
    """Paths of the adapted kernels.

    Raises:
      UsageError: If there is none, or one is no matrix.
    """
    found = [(p, leaf) for p, leaf in _walk(params) if is_target(p, settings)]
    if not found:
        remedy = f"no parameter matches; the first is {_walk(params)[0][0]}"
        raise errors.UsageError(
            errors.fault("lora", "targets", list(settings.targets), remedy)
        )
    for path, leaf in found:
        if len(leaf.shape) < 2:
            raise errors.UsageError(
                errors.fault("lora", "targets", path, "adapt kernels, not vectors")
            )
    return [path for path, _ in found]


def new(
    params: Params, settings: train_settings.LoraSettings, key: jax.Array
) -> Params:
    """New adapters: A normal with variance 1 / inputs, B zero, so nothing changes yet.

    Args:
      params: Parameters, or their shapes.
      settings: Rank and targets.
      key: Of the draw; an adapter's numbers do not depend on the others.
    """
    adapters: Params = {}
    leaves = dict(_walk(params))
    for index, path in enumerate(targets(params, settings)):
        *stack, rows, columns = leaves[path].shape
        own = jax.random.fold_in(key, index)
        a = jax.random.normal(own, (*stack, rows, settings.rank)) * rows**-0.5
        b = jnp.zeros((*stack, settings.rank, columns))
        _put(adapters, path, {"lora_a": a, "lora_b": b})
    return adapters


def axes(
    param_axes: Params, params: Params, settings: train_settings.LoraSettings
) -> Params:
    """Logical axis names of the adapters: those of the kernel, the rank as ``lora``."""
    names = dict(_walk(param_axes))
    found: Params = {}
    for path in targets(params, settings):
        *stack, rows, columns = names[path]
        factors = {
            "lora_a": PartitionSpec(*stack, rows, "lora"),
            "lora_b": PartitionSpec(*stack, "lora", columns),
        }
        _put(found, path, factors)
    return found


def merge(
    params: Params,
    adapters: Params,
    settings: train_settings.LoraSettings,
    *,
    dropout_key: jax.Array | None = None,
) -> Params:
    """Parameters with the adapters added in: what the base model then computes with.

    Args:
      params: The base model's; left as they are.
      adapters: As from `new`.
      settings: Rank, alpha, targets.
      dropout_key: Drops input features of each adapter (rows of A), the same ones for
        the whole batch. Differs from dropping them anew for every token, which needs
        the adapter inside the layer.
    """
    merged: Params = {}
    scale = settings.alpha / settings.rank
    adapted = {path: index for index, path in enumerate(targets(params, settings))}
    for path, leaf in _walk(params):
        if path in adapted:
            a, b = (_get(adapters, path)[name] for name in _FACTORS)
            if dropout_key is not None and settings.dropout:
                own = jax.random.fold_in(dropout_key, adapted[path])
                a = _dropped(a, settings.dropout, own)
            leaf = leaf + (scale * (a @ b)).astype(leaf.dtype)
        _put(merged, path, leaf)
    return merged


def _dropped(a: Array, rate: float, key: jax.Array) -> Array:
    kept = jax.random.bernoulli(key, 1 - rate, (*a.shape[:-1], 1))
    return jnp.where(kept, a / (1 - rate), 0.0)


@jax.jit
def fingerprint(params: Params) -> Array:
    """A checksum of parameters that is the same on every mesh.

    Integer sums do not depend on their order. It tells apart the base models an
    adapter could be put on; it is no defence against forgery.
    """
    total = jnp.zeros((), jnp.uint32)
    for index, leaf in enumerate(jax.tree.leaves(params)):
        words = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
        place = jnp.zeros(words.shape, jnp.uint32)
        for axis in range(words.ndim):
            step = jnp.uint32(2654435761 + 2 * axis * 40503)
            along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
            place = place * jnp.uint32(31) + along * step
        mixed = (words ^ (words >> 15)) * (2 * place + 1)
        total = total * jnp.uint32(16777619) + jnp.sum(mixed, dtype=jnp.uint32)
        total = total ^ jnp.uint32(index)
    return total


def _walk(tree: Params) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda value: isinstance(value, tuple | PartitionSpec)
    )[0]
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in found
    ]


def _put(tree: Params, path: str, value: Any) -> None:
    *above, last = path.split("/")
    for part in above:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _get(tree: Params, path: str) -> Any:
    for part in path.split("/"):
        tree = tree[part]
    return tree
