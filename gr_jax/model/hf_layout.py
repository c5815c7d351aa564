"""Which Hugging Face tensor is which parameter, for both families.

A table, so that import, export and their tests cannot disagree.
"""

from __future__ import annotations

import dataclasses
import re

from gr_jax.core import errors
from gr_jax.model import config as model_config
from gr_jax.model import embedding

# Copies and buffers that say nothing the listed tensors do not.
_REDUNDANT = re.compile(
    r"(encoder|decoder)\.embed_tokens\.weight"
    r"|.*rotary_emb\.inv_freq"
    r"|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of a Hugging Face checkpoint.

    Attributes:
      name: Its name there.
      path: Where it stands in the tree of parameters.
      layer: Its row where layers are stacked, or None.
      is_transposed: Whether its two axes are swapped there (``[out, in]``).
    """

    name: str
    path: tuple[str, ...]
    layer: int | None
    is_transposed: bool


def entries(config: model_config.ModelConfig) -> list[Entry]:
    """Every tensor of a model, in the order of its layers.

    Raises:
      UsageError: If codes have tables of their own, which that form cannot hold.
    """
    if config.codes is not None:
        raise errors.UsageError(
            errors.fault(
                "model config",
                "codes",
                config.codes,
                "no Hugging Face form: train with codes as rows of the embedding",
            )
        )
    if isinstance(config, model_config.T5Config):
        return _t5(config)
    return _llama(config)


def is_redundant(name: str, config: model_config.ModelConfig) -> bool:
    """Whether a tensor that `entries` does not list may be skipped."""
    if name == "lm_head.weight" and config.tied_head:
        return True
    return _REDUNDANT.fullmatch(name) is not None


def _t5(config: model_config.T5Config) -> list[Entry]:
    found = [Entry("shared.weight", ("token_embedder", "embedding"), None, False)]
    found += _t5_stack(config, "encoder", config.encoder_layers)
    found += _t5_stack(config, "decoder", config.decoder_layers)
    return found + _head(config)


def _t5_stack(config: model_config.T5Config, stack: str, count: int) -> list[Entry]:
    bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    found = [Entry(bias, (stack, "relpos_bias", "rel_embedding"), None, True)]
    is_decoder = stack == "decoder"
    own = "self_attention" if is_decoder else "attention"
    blocks = [("SelfAttention", own, f"pre_{own}_layer_norm")]
    if is_decoder:
        cross = "encoder_decoder_attention"
        blocks.append(("EncDecAttention", cross, "pre_cross_attention_layer_norm"))
    gated = len(config.mlp_activations) > 1
    inner = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
    for i in range(count):
        place = _Place(stack, i, is_stacked=config.scan_layers)
        for j, (theirs, ours, norm) in enumerate(blocks):
            name = f"{stack}.block.{i}.layer.{j}"
            found.append(place.norm(f"{name}.layer_norm.weight", norm))
            for letter, leaf in zip("qkvo", _ATTENTION, strict=True):
                found.append(place.kernel(f"{name}.{theirs}.{letter}", ours, leaf))
        name = f"{stack}.block.{i}.layer.{len(blocks)}"
        found.append(place.norm(f"{name}.layer_norm.weight", "pre_mlp_layer_norm"))
        for leaf in inner:
            found.append(place.kernel(f"{name}.DenseReluDense.{leaf}", "mlp", leaf))
    last = (stack, f"{stack}_norm", "scale")
    return [*found, Entry(f"{stack}.final_layer_norm.weight", last, None, False)]


def _llama(config: model_config.LlamaConfig) -> list[Entry]:
    table = ("token_embedder", "embedding")
    found = [Entry("model.embed_tokens.weight", table, None, False)]
    norms = (
        ("input_layernorm", "pre_self_attention_layer_norm"),
        ("post_attention_layernorm", "pre_mlp_layer_norm"),
    )
    inner = (("gate_proj", "wi_0"), ("up_proj", "wi_1"), ("down_proj", "wo"))
    for i in range(config.layers):
        place = _Place("decoder", i, is_stacked=config.scan_layers)
        layer = f"model.layers.{i}"
        found += [place.norm(f"{layer}.{a}.weight", b) for a, b in norms]
        for letter, leaf in zip("qkvo", _ATTENTION, strict=True):
            name = f"{layer}.self_attn.{letter}_proj"
            found.append(place.kernel(name, "self_attention", leaf))
        found += [place.kernel(f"{layer}.mlp.{a}", "mlp", b) for a, b in inner]
    last = ("decoder", "decoder_norm", "scale")
    return [*found, Entry("model.norm.weight", last, None, False), *_head(config)]


def _head(config: model_config.ModelConfig) -> list[Entry]:
    if config.tied_head or not embedding.has_text_logits(config):
        return []
    return [Entry("lm_head.weight", ("decoder", "logits_dense", "kernel"), None, True)]


_ATTENTION = ("query", "key", "value", "out")


@dataclasses.dataclass(frozen=True)
class _Place:
    """A layer's place in the tree: a name of its own, or a row of stacked arrays."""

    stack: str
    layer: int
    is_stacked: bool

    def norm(self, name: str, ours: str) -> Entry:
        return Entry(name, self._path(ours, "scale"), self._row(), False)

    def kernel(self, name: str, block: str, leaf: str) -> Entry:
        path = self._path(block, leaf, "kernel")
        return Entry(f"{name}.weight", path, self._row(), True)

    def _path(self, *rest: str) -> tuple[str, ...]:
        group = "layers" if self.is_stacked else f"layers_{self.layer}"
        return (self.stack, group, *rest)

    def _row(self) -> int | None:
        return self.layer if self.is_stacked else None
