"""T5 1.0 and 1.1: architecture only, with T5X's parameter names."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from gr_jax.model import (
    attention,
    cache,
    embedding,
    layers,
    network,
    positions,
    protocol,
    token_nats,
)
from gr_jax.model import config as model_config
from gr_jax.model import packing as packings


class Shared(NamedTuple):
    """What every layer of a stack is given beside the residual stream."""

    source_mask: Any = None
    own: layers.Own | None = None
    bias_HTS: Any = None


class RelativeBias(nn.Module):
    """The position bias that all layers of a stack share."""

    config: model_config.T5Config
    bidirectional: bool

    @nn.compact
    def __call__(self, query_T: Array, key_S: Array) -> Float[Array, "H T S"]:
        """The bias of queries and keys at these positions."""
        c = self.config
        make = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        axes = ("heads", "relpos_buckets")
        shape = (c.heads, c.relative_buckets)
        return positions.relative_bias(
            layers.declared(self, "rel_embedding", shape, axes, make),
            query_T,
            key_S,
            distance=c.relative_distance,
            bidirectional=self.bidirectional,
        )


class EncoderLayer(nn.Module):
    """Self-attention in both directions, then the feed-forward layer."""

    config: model_config.T5Config

    def setup(self) -> None:
        """Declares the blocks."""
        self.pre_attention_layer_norm = layers.Norm(self.config)
        self.attention = layers.Attention(self.config, 1 / self.config.head_dim)
        self.pre_mlp_layer_norm = layers.Norm(self.config)
        self.mlp = layers.Mlp(self.config)

    def encode(self, x: Array, own: tuple[()], shared: Shared) -> tuple[Array, None]:
        """The residual stream after this layer."""
        del own
        c = self.config
        normed = self.pre_attention_layer_norm(x)
        query, key, value = self.attention.project(normed, ("query", "key", "value"))
        segment = attention.Segment(key, value, shared.source_mask, shared.bias_HTS)
        seen = attention.attend(
            query[:, None],
            (segment,),
            kernel=c.attention,
            dropout=layers.attention_dropout(self, c.dropout_rate),
        )
        added = self.attention.merge(seen[:, 0])
        x = layers.constrain(x + layers.dropped(self, added, c.dropout_rate))
        added = self.mlp(self.pre_mlp_layer_norm(x))
        return layers.constrain(x + layers.dropped(self, added, c.dropout_rate)), None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source, the feed-forward layer."""

    config: model_config.T5Config

    def setup(self) -> None:
        """Declares the blocks."""
        scale = 1 / self.config.head_dim
        self.pre_self_attention_layer_norm = layers.Norm(self.config)
        self.self_attention = layers.Attention(self.config, scale)
        self.pre_cross_attention_layer_norm = layers.Norm(self.config)
        self.encoder_decoder_attention = layers.Attention(self.config, scale)
        self.pre_mlp_layer_norm = layers.Norm(self.config)
        self.mlp = layers.Mlp(self.config)

    def prompt(
        self, encoded: Array, own: tuple[()], shared: None
    ) -> tuple[Array, cache.KeyValue]:
        """Keys and values of the source, as this layer sees it."""
        del own, shared
        key, value = self.encoder_decoder_attention.project(encoded, ("key", "value"))
        return encoded, cache.KeyValue(key, value)

    def extend(
        self, x: Array, own: tuple[Any, Any], shared: Shared
    ) -> tuple[Array, cache.KeyValue]:
        """The residual stream after this layer, and the cache with these tokens."""
        prompt, old = own
        assert shared.own is not None
        drop = partial(layers.dropped, self, rate=self.config.dropout_rate)
        normed = self.pre_self_attention_layer_norm(x)
        query, key, value = self.self_attention.project(
            normed, ("query", "key", "value")
        )
        kept = layers.own_keys(cache.KeyValue(key, value), old, shared.own)
        segment = attention.Segment(
            kept.key, kept.value, shared.own.mask, shared.bias_HTS
        )
        x = layers.constrain(
            x + drop(self.self_attention.merge(self._attend(query, segment)))
        )
        (query,) = self.encoder_decoder_attention.project(
            self.pre_cross_attention_layer_norm(x), ("query",)
        )
        segment = attention.Segment(prompt.key, prompt.value, shared.source_mask)
        x = layers.constrain(
            x + drop(self.encoder_decoder_attention.merge(self._attend(query, segment)))
        )
        return layers.constrain(x + drop(self.mlp(self.pre_mlp_layer_norm(x)))), kept

    def _attend(self, query: Array, segment: attention.Segment) -> Array:
        c = self.config
        dropout = layers.attention_dropout(self, c.dropout_rate)
        return attention.attend(query, (segment,), kernel=c.attention, dropout=dropout)


class Encoder(nn.Module):
    """The encoder's layers and its last norm."""

    config: model_config.T5Config

    def setup(self) -> None:
        """Declares the layers."""
        c = self.config
        self.relpos_bias = RelativeBias(c, bidirectional=True)
        self.layers = layers.stack(EncoderLayer, c, c.encoder_layers, ["encode"])
        self.encoder_norm = layers.Norm(c)

    def __call__(
        self, x_BSD: Float[Array, "B S D"], mask: Bool[Array, "B T S"]
    ) -> Float[Array, "B S D"]:
        """The encoded source; ``T`` of the mask is ``S``, or 1 for all tokens alike."""
        position_S = jnp.arange(x_BSD.shape[1])
        bias_HSS = self.relpos_bias(position_S, position_S)
        shared = Shared(mask, None, bias_HSS)
        x = layers.dropped(self, x_BSD, self.config.dropout_rate)
        x, _ = layers.run_stack(self.layers, "encode", x, (), shared)
        return layers.dropped(self, self.encoder_norm(x), self.config.dropout_rate)


class Decoder(nn.Module):
    """The decoder's layers, its last norm and the head."""

    config: model_config.T5Config

    def setup(self) -> None:
        """Declares the layers."""
        c = self.config
        self.relpos_bias = RelativeBias(c, bidirectional=False)
        methods = ["prompt", "extend"]
        self.layers = layers.stack(DecoderLayer, c, c.decoder_layers, methods)
        self.decoder_norm = layers.Norm(c)
        self.logits_dense = embedding.text_head(c)
        self.code_logits = embedding.code_head(c)

    def prompt(self, encoded_BSD: Float[Array, "B S D"]) -> Any:
        """Every layer's keys and values of the source."""
        return layers.run_stack(self.layers, "prompt", encoded_BSD, (), None)[1]

    def extend(
        self,
        x: Float[Array, "B M T D"],
        prompt: cache.Prompt,
        old: Any,
        position: Any,
        packing: packings.Packing | None = None,
    ) -> tuple[Float[Array, "B M T D"], Any]:
        """The decoder's output and the cache with these tokens."""
        tokens = x.shape[2]
        length = None if old is None else jax.tree.leaves(old)[0].shape[-3]
        own = layers.own_part(tokens, length, position, packing)
        query_T = position + jnp.arange(tokens)
        key_S = jnp.arange(tokens if length is None else length)
        bias_HTS = self.relpos_bias(query_T, key_S)
        shared = Shared(layers.seen_source(prompt, packing), own, bias_HTS)
        x = layers.dropped(self, x, self.config.dropout_rate)
        per_layer = (prompt.layers, old)
        x, kept = layers.run_stack(self.layers, "extend", x, per_layer, shared)
        x = layers.dropped(self, self.decoder_norm(x), self.config.dropout_rate)
        return x, kept

    def head(self, x: Array, embedding_VD: Array) -> embedding.Head:
        """What logits are made of."""
        c = self.config
        codes = None if self.code_logits is None else self.code_logits()
        if not c.tied_head or not embedding.has_text_logits(c):
            text_DV = None if self.logits_dense is None else self.logits_dense()
            return embedding.Head(x, text_DV, codes)
        # The embedding has unit variance; without this logits start too large. Where
        # nothing else reads `x` it is scaled, not a whole table every step.
        scale = c.embed_dim**-0.5
        if codes is None:
            return embedding.Head(x * scale, embedding_VD, is_tied=True)
        return embedding.Head(x, embedding_VD * scale, codes, is_tied=True)


class Module(nn.Module):
    """The whole network; its parameter tree is T5X's."""

    config: model_config.T5Config

    def setup(self) -> None:
        """Declares embeddings, encoder and decoder."""
        self.token_embedder = embedding.token_table(self.config)
        self.code_embedder = embedding.code_embedding(self.config)
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def prefill(
        self, source_BS: Int[Array, "B S"], packing: packings.Packing | None = None
    ) -> cache.Prompt:
        """Encodes the source for the decoder's layers."""
        is_source_BS = protocol.source_mask(source_BS)
        mask = is_source_BS[:, None, :]
        if packing is not None:
            segment_BS = packing.source_segment_BS
            mask = packings.own_segment(segment_BS, segment_BS)
        encoded_BSD = self.encoder(self._embedded(source_BS), mask)
        return cache.Prompt(self.decoder.prompt(encoded_BSD), is_source_BS)

    def extend(
        self,
        prompt: cache.Prompt,
        old: Any,
        token_BMT: Int[Array, "B M T"],
        position: Any,
        packing: packings.Packing | None = None,
    ) -> tuple[Float[Array, "B M T V"], Any]:
        """Logits after each token, and the cache with these tokens (None: no cache)."""
        x = self._embedded(token_BMT)
        x, kept = self.decoder.extend(x, prompt, old, position, packing)
        place = position if packing is None else packing.target_position_BL
        head = self.decoder.head(x, self.token_embedder())
        return embedding.logits(head, config=self.config, position=place), kept

    def nats(
        self,
        prompt: cache.Prompt,
        old: Any,
        token_BMT: Int[Array, "B M T"],
        next_BMT: Int[Array, "B M T"],
        position: Any,
    ) -> tuple[Float[Array, "B M T"], Any]:
        """Log-probability of a token after each token, and the cache with these."""
        x = self._embedded(token_BMT)
        x, kept = self.decoder.extend(x, prompt, old, position)
        head = self.decoder.head(x, self.token_embedder())
        nats_BMT = token_nats.of_next(
            head, next_BMT, config=self.config, position=position
        )
        return nats_BMT, kept

    def __call__(
        self,
        source_BS: Int[Array, "B S"],
        token_BMT: Int[Array, "B M T"],
        packing: packings.Packing | None = None,
    ) -> Float[Array, "B M T V"]:
        """Teacher-forced logits of one or several targets a source."""
        prompt = self.prefill(source_BS, packing)
        return self.extend(prompt, None, token_BMT, 0, packing)[0]

    def _embedded(self, token: Array) -> Array:
        codes = None if self.code_embedder is None else self.code_embedder()
        return layers.constrain(embedding.embedded(token, self.token_embedder(), codes))


@dataclasses.dataclass(frozen=True)
class T5(network.Network):
    """A `protocol.GenerativeModel` of the T5 family."""

    config: model_config.T5Config
    module_class: ClassVar[Any] = Module
