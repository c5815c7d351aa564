"""Keys and values: of a prompt (shared by beams) and of the generated part (a beam's).

Arrays only. A layer's pair is a `KeyValue`; a model's cache is a tuple of them, or one
pair with a leading layer axis under ``scan_layers``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from gr_jax.model import config as model_config


class KeyValue(NamedTuple):
    """Keys and values of one layer (or, stacked, of all).

    ``[B, S, K, head_dim]`` where all beams of a query share them, ``[B, M, T, K,
    head_dim]`` where each beam has its own. Typed loosely: scans pass stacked ones.
    """

    key: Any
    value: Any


class Prompt(NamedTuple):
    """A query's source as the decoder's layers see it.

    Attributes:
      layers: A `KeyValue` a layer, or one with a leading layer axis.
      is_source_BS: False where the source is padding.
    """

    layers: Any
    is_source_BS: Any


def empty(config: model_config.ModelConfig, *, shape: tuple[int, int, int]) -> Any:
    """Zeroed room for ``shape = (batch, beams, length)`` generated tokens."""
    full = (*shape, config.kv_heads, config.head_dim)
    if config.scan_layers:
        full = (config.decoder_layers, *full)
        return KeyValue(jnp.zeros(full, config.dtype), jnp.zeros(full, config.dtype))
    return tuple(
        KeyValue(jnp.zeros(full, config.dtype), jnp.zeros(full, config.dtype))
        for _ in range(config.decoder_layers)
    )


def write(old: KeyValue, new: KeyValue, position: Int[Array, ""]) -> KeyValue:
    """``old`` with the tokens of ``new`` written from ``position`` on."""
    key = jax.lax.dynamic_update_slice_in_dim(old.key, new.key, position, axis=2)
    value = jax.lax.dynamic_update_slice_in_dim(old.value, new.value, position, axis=2)
    return KeyValue(key, value)


def reorder(tree: Any, parent_BM: Int[Array, "B M"]) -> Any:
    """Every leaf's beams taken from their parents: only the generated part moves."""

    def take(leaf: Array) -> Array:
        beams_last = leaf.ndim - 4
        shape = [1] * leaf.ndim
        shape[beams_last - 1], shape[beams_last] = parent_BM.shape
        index = parent_BM.reshape(shape)
        return jnp.take_along_axis(leaf, index, axis=beams_last, mode="clip")

    return jax.tree.map(take, tree)


def turned(prompt: Prompt) -> Prompt:
    """The prompt with tokens and heads exchanged, ``[B, K, S, d]``, or back again.

    As products with queries want it: a search keeps it so, instead of having every step
    turn keys and values that do not change.
    """
    layers = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, -3, -2), prompt.layers)
    return Prompt(layers, prompt.is_source_BS)


def joined(prompt: Prompt, *, is_stacked: bool) -> Prompt:
    """One prompt of several with a leading axis, whose rows lie one behind another."""

    def join(leaf: Array, axis: int) -> Array:
        leaf = jnp.moveaxis(leaf, 0, axis)
        return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])

    layers = jax.tree.map(lambda leaf: join(leaf, int(is_stacked)), prompt.layers)
    return Prompt(layers, join(prompt.is_source_BS, 0))


def select(prompt: Prompt, row_B: Int[Array, " B"], *, is_stacked: bool) -> Prompt:
    """Some rows of a prompt, in the order asked for."""
    layers = jax.tree.map(
        lambda leaf: jnp.take(leaf, row_B, axis=int(is_stacked), mode="clip"),
        prompt.layers,
    )
    return Prompt(layers, jnp.take(prompt.is_source_BS, row_B, axis=0, mode="clip"))
