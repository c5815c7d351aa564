"""LLaMA 2 and 3: architecture only, with names in T5X's style.

A training row is ``[source, start, target]``; the source is right-padded and masked and
positions skip the padding. Source and target are computed one after the other, as in
decoding, so the last layer computes nothing of the source but its keys and values.
"""

from __future__ import annotations

import dataclasses
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
    splash,
    token_nats,
)
from gr_jax.model import config as model_config
from gr_jax.model import packing as packings


class Shared(NamedTuple):
    """What every layer is given beside the residual stream."""

    rotation: positions.Rotation
    source_mask: Any
    own: layers.Own | None = None
    rows: splash.Rows | None = None


class DecoderLayer(nn.Module):
    """Causal self-attention, then the feed-forward layer."""

    config: model_config.LlamaConfig

    def setup(self) -> None:
        """Declares the blocks."""
        self.pre_self_attention_layer_norm = layers.Norm(self.config)
        self.self_attention = layers.Attention(self.config)
        self.pre_mlp_layer_norm = layers.Norm(self.config)
        self.mlp = layers.Mlp(self.config)

    def prompt(
        self, x: Float[Array, "B 1 S D"], own: tuple[()], shared: Shared
    ) -> tuple[Float[Array, "B 1 S D"], cache.KeyValue]:
        """The source after this layer, and its keys and values."""
        del own
        query, new = self._project(x, shared.rotation)
        new = cache.KeyValue(new.key[:, 0], new.value[:, 0])
        segment = attention.Segment(new.key, new.value, shared.source_mask)
        return self._finish(x, query, (segment,), shared.rows), new

    def extend(
        self, x: Float[Array, "B M T D"], own: tuple[Any, Any], shared: Shared
    ) -> tuple[Float[Array, "B M T D"], cache.KeyValue]:
        """The residual stream after this layer, and the cache with these tokens."""
        prompt, old = own
        assert shared.own is not None
        query, new = self._project(x, shared.rotation)
        kept = layers.own_keys(new, old, shared.own)
        segments = (
            attention.Segment(prompt.key, prompt.value, shared.source_mask),
            attention.Segment(kept.key, kept.value, shared.own.mask),
        )
        return self._finish(x, query, segments, shared.rows), kept

    def _project(
        self, x: Array, turn: positions.Rotation
    ) -> tuple[Array, cache.KeyValue]:
        normed = self.pre_self_attention_layer_norm(x)
        names = ("query", "key", "value")
        query, key, value = self.self_attention.project(normed, names)
        new = cache.KeyValue(positions.rotate(key, turn), value)
        return positions.rotate(query, turn), new

    def _finish(
        self,
        x: Array,
        query: Array,
        segments: tuple[attention.Segment, ...],
        rows: splash.Rows | None,
    ) -> Array:
        c = self.config
        seen = attention.attend(
            query,
            segments,
            scale=c.head_dim**-0.5,
            kernel=c.attention,
            dropout=layers.attention_dropout(self, c.dropout_rate),
            rows=rows,
        )
        added = self.self_attention.merge(seen)
        x = layers.constrain(x + layers.dropped(self, added, c.dropout_rate))
        added = self.mlp(self.pre_mlp_layer_norm(x))
        return layers.constrain(x + layers.dropped(self, added, c.dropout_rate))


class Decoder(nn.Module):
    """The layers, the last norm and the head."""

    config: model_config.LlamaConfig

    def setup(self) -> None:
        """Declares the layers."""
        c = self.config
        self.layers = layers.stack(DecoderLayer, c, c.layers, ["prompt", "extend"])
        self.decoder_norm = layers.Norm(c)
        self.logits_dense = embedding.text_head(c)
        self.code_logits = embedding.code_head(c)

    def prompt(
        self,
        x_BSD: Float[Array, "B S D"],
        is_source_BS: Bool[Array, "B S"],
        packing: packings.Packing | None = None,
    ) -> Any:
        """Every layer's keys and values of the source."""
        place_S = jnp.arange(x_BSD.shape[1])
        causal_SS = place_S[None, :] <= place_S[:, None]
        position_BS, seen_BSS = place_S[None], is_source_BS[:, None, :]
        segment_BS = is_source_BS.astype(jnp.int32)
        if packing is not None:
            segment_BS = packing.source_segment_BS
            position_BS = packing.source_position_BS
            seen_BSS = packings.own_segment(segment_BS, segment_BS)
        shared = Shared(
            self._rotation(position_BS),
            causal_SS[None] & seen_BSS,
            rows=splash.Rows(segment_BS, segment_BS),
        )
        return layers.run_stack(self.layers, "prompt", x_BSD[:, None], (), shared)[1]

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
        if packing is None:
            length_B1 = prompt.is_source_BS.sum(axis=1, keepdims=True)
            position_BT = length_B1 + position + jnp.arange(tokens)[None]
        else:
            lengths_BT = packings.source_lengths(packing)
            position_BT = lengths_BT + packing.target_position_BL
        seen = layers.seen_source(prompt, packing)
        rows = splash.whole_rows(prompt.is_source_BS, tokens, packing)
        shared = Shared(
            self._rotation(position_BT), seen, own, None if old is not None else rows
        )
        x = layers.dropped(self, x, self.config.dropout_rate)
        per_layer = (prompt.layers, old)
        x, kept = layers.run_stack(self.layers, "extend", x, per_layer, shared)
        return self.decoder_norm(x), kept

    def head(self, x: Array, embedding_VD: Array) -> embedding.Head:
        """What logits are made of."""
        c = self.config
        codes = None if self.code_logits is None else self.code_logits()
        if c.tied_head and embedding.has_text_logits(c):
            return embedding.Head(x, embedding_VD, codes, is_tied=True)
        text_DV = None if self.logits_dense is None else self.logits_dense()
        return embedding.Head(x, text_DV, codes)

    def _rotation(self, position_BT: Int[Array, "B T"]) -> positions.Rotation:
        rate = positions.rotary_wavelengths(self.config)
        return positions.rotation(position_BT, rate, dtype=self.config.dtype)


class Module(nn.Module):
    """The whole network."""

    config: model_config.LlamaConfig

    def setup(self) -> None:
        """Declares embeddings and decoder."""
        self.token_embedder = embedding.token_table(self.config)
        self.code_embedder = embedding.code_embedding(self.config)
        self.decoder = Decoder(self.config)

    def prefill(
        self, source_BS: Int[Array, "B S"], packing: packings.Packing | None = None
    ) -> cache.Prompt:
        """Runs the source through the layers."""
        is_source_BS = protocol.source_mask(source_BS)
        x_BSD = self._embedded(source_BS)
        x_BSD = layers.dropped(self, x_BSD, self.config.dropout_rate)
        layers_of = self.decoder.prompt(x_BSD, is_source_BS, packing)
        return cache.Prompt(layers_of, is_source_BS)

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
class Llama(network.Network):
    """A `protocol.GenerativeModel` of the LLaMA family."""

    config: model_config.LlamaConfig
    module_class: ClassVar[Any] = Module
