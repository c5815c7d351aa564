"""A model without weights: each prefix has logits of its own, the same everywhere.

Logits are a hash of the source, of every generated token and of the candidate token.
So they differ for each path of the search, a token written to the wrong beam or place
changes everything behind it, and NumPy computes the same numbers one prefix at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_ODD = 2654435761
_STEP = 40503
_MIX = (0x85EBCA6B, 0xC2B2AE35)


def _mixed(hashed: Any) -> Any:
    """Murmur3's finaliser on uint32 arrays of either library."""
    for shift, factor in zip((16, 13), _MIX, strict=True):
        hashed = (hashed ^ (hashed >> shift)) * hashed.dtype.type(factor)
    return hashed ^ (hashed >> 16)


@dataclasses.dataclass(frozen=True)
class HashModel:
    """Implements `model.protocol.GenerativeModel` without parameters.

    Attributes:
      vocab_size: Width of the logits.
      spread: Range of the logits in nats; the larger, the more decided the model.
      start_token: First token of every generated part.
    """

    vocab_size: int
    spread: float = 6.0
    start_token: int = 0

    @property
    def config(self) -> Any:
        """Nothing: there is no architecture."""
        return None

    def init(self, key: jax.Array) -> dict[str, Any]:
        """No parameters."""
        del key
        return {}

    def param_axes(self) -> dict[str, Any]:
        """No parameters."""
        return {}

    def prefill(
        self, params: dict[str, Any], source_BS: Int[Array, "B S"]
    ) -> Int[Array, " B"]:
        """The hash of each source; trailing zeros change nothing."""
        del params
        hash_B = jnp.zeros(source_BS.shape[0], jnp.uint32)
        for place in range(source_BS.shape[1]):
            token_B = source_BS[:, place].astype(jnp.uint32)
            hash_B = jnp.where(token_B != 0, _push(hash_B, token_B), hash_B)
        return hash_B

    def select(
        self, prompt: Int[Array, " B"], row_B: Int[Array, " B"]
    ) -> Int[Array, " B"]:
        """The prompts of some rows."""
        return prompt[row_B]

    def empty_cache(self, batch: int, beams: int, length: int) -> Any:
        """Room for tokens."""
        return jnp.zeros((batch, beams, length), jnp.int32)

    def reorder(self, cache: Any, parent_BM: Int[Array, "B M"]) -> Any:
        """The tokens of the parents."""
        return jnp.take_along_axis(cache, parent_BM[:, :, None], axis=1)

    def extend(
        self,
        params: dict[str, Any],
        prompt: Int[Array, " B"],
        cache: Any,
        token_BMT: Int[Array, "B M T"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B M T V"], Any]:
        """Logits after each token, given all before it."""
        del params
        steps = token_BMT.shape[2]
        cache = jax.lax.dynamic_update_slice_in_dim(cache, token_BMT, position, axis=2)

        def push(hash_BM: Array, token_BM: Array) -> tuple[Array, Array]:
            hash_BM = _push(hash_BM, token_BM.astype(jnp.uint32))
            return hash_BM, hash_BM

        start_BM = jnp.broadcast_to(prompt[:, None], cache.shape[:2])
        _, hash_LBM = jax.lax.scan(push, start_BM, jnp.moveaxis(cache, 2, 0))
        hash_TBM = jax.lax.dynamic_slice_in_dim(hash_LBM, position, steps, axis=0)
        hash_BMT1 = jnp.moveaxis(hash_TBM, 0, 2)[..., None]
        vocabulary_111V = jnp.arange(self.vocab_size, dtype=jnp.uint32)[
            None, None, None, :
        ]
        mixed = _mixed(hash_BMT1 ^ (vocabulary_111V * jnp.uint32(_ODD)))
        unit = (mixed >> 8).astype(jnp.float32) / (1 << 24)
        return unit * self.spread, cache

    def nats(
        self,
        params: dict[str, Any],
        prompt: Int[Array, " B"],
        cache: Any,
        token_BMT: Int[Array, "B M T"],
        next_BMT: Int[Array, "B M T"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B M T"], Any]:
        """Log-probabilities of given tokens, and the cache."""
        logits_BMTV, cache = self.extend(params, prompt, cache, token_BMT, position)
        own_BMT1 = jnp.take_along_axis(logits_BMTV, next_BMT[..., None], axis=3)
        return own_BMT1[..., 0] - jax.nn.logsumexp(logits_BMTV, axis=3), cache

    def logits(
        self,
        params: dict[str, Any],
        source_BS: Int[Array, "B S"],
        target_BL: Int[Array, "B L"],
        *,
        dropout_key: jax.Array | None = None,
    ) -> Float[Array, "B L V"]:
        """Teacher-forced logits."""
        del dropout_key
        batch, length = target_BL.shape
        fed_BL = jnp.pad(
            target_BL[:, :-1], ((0, 0), (1, 0)), constant_values=self.start_token
        )
        prompt = self.prefill(params, source_BS)
        cache = self.empty_cache(batch, 1, length)
        position = jnp.zeros((), jnp.int32)
        return self.extend(params, prompt, cache, fed_BL[:, None], position)[0][:, 0]

    def next_nats(
        self, source: Sequence[int], prefix: Sequence[int]
    ) -> Float[np.ndarray, " V"]:
        """Log-probabilities after one prefix, in float64, by NumPy."""
        hashed = np.zeros(1, np.uint32)
        for token in [t for t in source if t] + [self.start_token, *prefix]:
            hashed = _push(hashed, np.uint32(token))
        candidate = np.arange(self.vocab_size, dtype=np.uint32) * np.uint32(_ODD)
        unit = (_mixed(hashed ^ candidate) >> 8).astype(np.float64) / (1 << 24)
        logits = unit * self.spread
        return logits - np.log(np.exp(logits).sum())


def _push(hashed: Any, token: Any) -> Any:
    number = hashed.dtype.type
    return _mixed(hashed * number(_ODD) + (token + number(1)) * number(_STEP))
