"""One token of every beam at a time: T5X's way of asking a model, to ours and back.

T5X keeps ``[B * M]`` rows, a dictionary of cached arrays and a function from the last
tokens to logits. `SlicedModel` answers our search from these; `as_t5x` makes these of
our models.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gr_jax.model import protocol

ToLogits = Callable[[Any], tuple[Array, Any]]


class SlicedModel:
    """What `decode.beam` asks of a model, answered by T5X's function and cache.

    T5X has repeated the encoded source for all beams, so every call computes them all:
    the first, in which our search has one beam, computes it M times.

    Args:
      to_logits: T5X's function from a ``DecodingState`` to logits ``[B * M, V]``.
      cache: T5X's cache of ``B`` rows.
      beams: ``M``.
      batch: ``B``.
      offset: Axes before the batch's in the cache: 1 under T5X's scanned layers.
    """

    start_token = 0

    def __init__(
        self,
        to_logits: ToLogits,
        cache: Mapping[str, Any],
        *,
        beams: int,
        batch: int,
        offset: int,
    ) -> None:
        self._to_logits = to_logits
        self._cache = cache
        self._beams, self._batch, self._offset = beams, batch, offset
        # By name: there are no stubs, and no package where the user brought none.
        self._t5x = importlib.import_module("t5x.decoding")

    def empty_cache(self, batch: int, beams: int, length: int) -> Any:
        """T5X's cache with an axis of beams; its length was fixed when it was made."""
        del batch, beams, length
        add = functools.partial(
            self._t5x.add_beam_dim, beam_size=self._beams, offset=self._offset
        )
        return self._t5x.cache_map(add, self._cache)

    def reorder(self, cache: Any, parent_BM: Int[Array, "B M"]) -> Any:
        """The cache of the chosen parents."""
        size = self._beams
        return self._t5x.cache_gather_beams(
            cache, parent_BM, self._batch, size, size, True, self._offset
        )

    def extend(
        self,
        params: Any,
        prompt: Any,
        cache: Any,
        token_BMT: Int[Array, "B M 1"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B M 1 V"], Any]:
        """Logits of what follows each beam's token, and the cache with it."""
        del params, prompt
        asked = token_BMT.shape[1]
        token_BM1 = jnp.broadcast_to(token_BMT, (self._batch, self._beams, 1))
        flatten = functools.partial(self._t5x.flatten_beam_dim, offset=self._offset)
        state = self._t5x.DecodingState(
            cur_index=position,
            sequences=None,
            cur_token=token_BM1.reshape(-1, 1),
            cache=self._t5x.cache_map(flatten, cache),
        )
        logits, flat = self._to_logits(state)
        logits_BM1V = logits.reshape(self._batch, self._beams, 1, -1)
        kept = logits_BM1V[:, :asked].astype(jnp.float32)
        apart = functools.partial(
            self._t5x.unflatten_beam_dim,
            batch_size=self._batch,
            beam_size=self._beams,
            offset=self._offset,
        )
        return kept, self._t5x.cache_map(apart, flat)


def as_t5x(
    model: protocol.GenerativeModel,
    params: Any,
    source_BS: Int[Array, "B S"],
    *,
    beams: int,
    length: int,
) -> tuple[dict[str, Array], ToLogits, int]:
    """A cache of B rows, the function from tokens to logits, and the cache's offset.

    Args:
      model: Ours.
      params: Of the model.
      source_BS: Padded sources.
      beams: Rows of a query when the function is called; the prompt is repeated.
      length: Room of the cache in tokens.
    """
    batch = source_BS.shape[0]
    row_R = jnp.repeat(jnp.arange(batch), beams)
    prompt = model.select(model.prefill(params, source_BS), row_R)
    leaves, tree = jax.tree.flatten(model.empty_cache(batch, 1, length))
    # Ours are [.., B, M, T, K, head_dim]; T5X adds its beams itself.
    offset = leaves[0].ndim - 5
    names = [f"{place:04d}" for place in range(len(leaves))]
    cache = {
        name: jnp.squeeze(leaf, offset + 1)
        for name, leaf in zip(names, leaves, strict=True)
    }

    def to_logits(state: Any) -> tuple[Array, Any]:
        # From scratch all rows stand at one place, whether T5X counts rows or not.
        position = jnp.max(state.cur_index)
        # T5X begins every sequence with padding.
        is_first = position == 0
        token_R1 = jnp.where(is_first, model.start_token, state.cur_token)
        held = [jnp.expand_dims(state.cache[name], offset + 1) for name in names]
        logits_R11V, after = model.extend(
            params, prompt, jax.tree.unflatten(tree, held), token_R1[:, None], position
        )
        kept = [jnp.squeeze(leaf, offset + 1) for leaf in jax.tree.leaves(after)]
        return logits_R11V[:, 0, 0], dict(zip(names, kept, strict=True))

    return cache, to_logits, offset
