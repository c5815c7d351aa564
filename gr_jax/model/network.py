"""The part of `protocol.GenerativeModel` that both families share: apply and reorder.

A family's Linen module has the methods ``prefill`` and ``extend``; everything else
follows from its config.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from gr_jax.model import cache as kv_cache
from gr_jax.model import config as model_config
from gr_jax.model import packing as packings
from gr_jax.model import protocol

# Source tokens that a CPU takes through all layers at a time.
_TOKENS_CPU = 512


@dataclasses.dataclass(frozen=True)
class Network:
    """A config, and its Linen module applied to plain parameters."""

    config: model_config.ModelConfig
    module_class: ClassVar[Any]

    @property
    def vocab_size(self) -> int:
        """Width of the logits, codes included."""
        return self.config.vocab_size

    @property
    def start_token(self) -> int:
        """First token of every generated part."""
        return self.config.start_token

    def init(self, key: jax.Array) -> protocol.Params:
        """New parameters."""
        return _init(self, key)

    def param_axes(self) -> protocol.Params:
        """The tree of parameters with logical axis names as leaves."""
        boxed = jax.eval_shape(partial(_boxed_init, self), jax.random.key(0))
        return nn.get_partition_spec(boxed)

    def logits(
        self,
        params: protocol.Params,
        source_BS: Int[Array, "B S"],
        target_BL: Int[Array, "B L"],
        *,
        dropout_key: jax.Array | None = None,
        packing: packings.Packing | None = None,
    ) -> Float[Array, "B L V"]:
        """Teacher-forced logits; see `protocol.GenerativeModel.logits`."""
        if packing is None:
            inputs_BL = protocol.decoder_inputs(target_BL, self.start_token)
        else:
            inputs_BL = packings.decoder_inputs(target_BL, self.start_token, packing)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        module = self.module_class(self.config)
        logits_B1LV = module.apply(
            {"params": params}, source_BS, inputs_BL[:, None, :], packing, rngs=rngs
        )
        return logits_B1LV[:, 0]

    def prefill(
        self, params: protocol.Params, source_BS: Int[Array, "B S"]
    ) -> kv_cache.Prompt:
        """The source's keys and values."""
        batch, length = source_BS.shape
        most = max(1, _TOKENS_CPU // length)
        rows = max(n for n in range(1, batch + 1) if batch % n == 0 and n <= most)
        if jax.default_backend() != "cpu" or rows == batch:
            return self._prefilled(params, source_BS)
        # A few queries through all layers at a time: their activations stay in cache.
        source_NBS = source_BS.reshape(-1, rows, length)
        prompt = jax.lax.map(lambda part: self._prefilled(params, part), source_NBS)
        return kv_cache.joined(prompt, is_stacked=self.config.scan_layers)

    def _prefilled(
        self, params: protocol.Params, source_BS: Int[Array, "B S"]
    ) -> kv_cache.Prompt:
        module = self.module_class(self.config)
        prompt = module.apply({"params": params}, source_BS, method="prefill")
        return kv_cache.turned(prompt)

    def select(
        self, prompt: kv_cache.Prompt, row_B: Int[Array, " B"]
    ) -> kv_cache.Prompt:
        """The prompts of some rows."""
        return kv_cache.select(prompt, row_B, is_stacked=self.config.scan_layers)

    def empty_cache(self, batch: int, beams: int, length: int) -> Any:
        """Room for generated tokens."""
        shape = (batch, beams, length)
        return kv_cache.empty(self.config, shape=shape)

    def reorder(self, cache: protocol.Cache, parent_BM: Int[Array, "B M"]) -> Any:
        """The cache of the chosen parents."""
        return kv_cache.reorder(cache, parent_BM)

    def extend(
        self,
        params: protocol.Params,
        prompt: kv_cache.Prompt,
        cache: protocol.Cache,
        token_BMT: Int[Array, "B M T"],
        position: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "B M T V"], Any]:
        """Logits of what follows each token, and the cache with these tokens."""
        module = self.module_class(self.config)
        return module.apply(
            {"params": params},
            kv_cache.turned(prompt),
            cache,
            token_BMT,
            position,
            method="extend",
        )

    def nats(
        self,
        params: protocol.Params,
        prompt: kv_cache.Prompt,
        cache: protocol.Cache,
        token_BMT: Int[Array, "B M T"],
        next_BMT: Int[Array, "B M T"],
        position: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "B M T"], Any]:
        """Log-probability of a token after each token, and the cache with these."""
        given = (kv_cache.turned(prompt), cache, token_BMT, next_BMT, position)
        module = self.module_class(self.config)
        return module.apply({"params": params}, *given, method="nats")


def _boxed_init(network: Network, key: jax.Array) -> protocol.Params:
    source_BS = jnp.ones((1, 1), jnp.int32)
    token_BMT = jnp.ones((1, 1, 1), jnp.int32)
    # Parameters do not depend on the kernel, which this machine need not have.
    config = dataclasses.replace(network.config, attention="plain")
    module = network.module_class(config)
    return module.init(key, source_BS, token_BMT)["params"]


@partial(jax.jit, static_argnums=0)
def _init(network: Network, key: jax.Array) -> protocol.Params:
    return nn.unbox(_boxed_init(network, key))
