"""Frozen descriptions of the two families, checked when they are made.

No size has a default: sizes live in ``gin_configs/model`` and in `model.ladder`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from gr_jax.core import errors

Remat = Literal["none", "dots", "full"]
Attention = Literal["plain", "fused", "flash"]
CodeHead = Literal["joint", "level"]

DTYPES = ("float32", "bfloat16", "float16")
ACTIVATIONS = ("relu", "gelu", "silu", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeTables:
    """One table of code embeddings a level, apart for input and output (RIPOR).

    Code ``c`` of level ``l`` is token ``vocab_size - levels * size + l * size + c``.

    Attributes:
      levels: Tokens of an identifier.
      size: Codes of one level.
      head: ``joint`` scores the text vocabulary and all codes at every position;
        ``level`` scores at position ``l`` the codes of level ``l`` alone (every other
        token is impossible, -inf), which is RIPOR's head and has no text part.
    """

    levels: int
    size: int
    head: CodeHead = "joint"

    def __post_init__(self) -> None:
        _positive(self, "levels", "size")
        _one_of(self, "head", ("joint", "level"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """LLaMA 3's stretching of rotary wavelengths beyond the trained length."""

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        _positive(self, "factor", "low_freq_factor", "original_length")
        if self.high_freq_factor <= self.low_freq_factor:
            raise _fault(self, "high_freq_factor", "make it larger than the low one")


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
    """An encoder-decoder of the T5 family.

    T5 1.0 has ``mlp_activations=("relu",)`` and ``tied_head=True``; T5 1.1 has
    ``("gelu", "linear")`` and a head of its own.

    Attributes:
      vocab_size: Rows of the embedding, codes included.
      embed_dim: Width of the residual stream.
      mlp_dim: Width inside the feed-forward layer.
      heads: Attention heads.
      head_dim: Width of one head; ``heads * head_dim`` need not be ``embed_dim``.
      encoder_layers: Layers of the encoder.
      decoder_layers: Layers of the decoder.
      mlp_activations: One activation each for the factors of the hidden layer.
      tied_head: Whether the embedding, scaled by ``embed_dim ** -0.5``, is the head.
      relative_buckets: Buckets of the relative position bias.
      relative_distance: Distance from which on all share the last bucket.
      start_token: First input of the decoder.
      codes: Tables of codes of their own, or None.
      dropout_rate: Applied where a dropout key is given.
      norm_epsilon: Added to the mean square.
      embedding_std: Standard deviation of a new embedding.
      dtype: What is computed in; parameters are float32.
      scan_layers: One compiled layer run in a loop over stacked parameters.
      remat: What the backward pass computes again instead of keeping.
      attention: ``plain``, ``fused`` (`jax.nn.dot_product_attention`) or ``flash``
        (the platform's own kernel; an error where it has none).
    """

    vocab_size: int
    embed_dim: int
    mlp_dim: int
    heads: int
    head_dim: int
    encoder_layers: int
    decoder_layers: int
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    tied_head: bool = False
    relative_buckets: int = 32
    relative_distance: int = 128
    start_token: int = 0
    codes: CodeTables | None = None
    dropout_rate: float = 0.0
    norm_epsilon: float = 1e-6
    embedding_std: float = 1.0
    dtype: str = "float32"
    scan_layers: bool = False
    remat: Remat = "none"
    attention: Attention = "plain"

    def __post_init__(self) -> None:
        sizes = ("encoder_layers", "decoder_layers", "relative_distance")
        _positive(self, *sizes)
        if self.relative_buckets < 4 or self.relative_buckets % 4:
            raise _fault(self, "relative_buckets", "use a multiple of 4")
        if self.relative_distance <= self.relative_buckets // 2:
            raise _fault(self, "relative_distance", "make it > half the buckets")
        _check_common(self)

    @property
    def kv_heads(self) -> int:
        """Key and value heads: as many as query heads."""
        return self.heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """A decoder-only model of the LLaMA family.

    Attributes:
      vocab_size: Rows of the embedding, codes included.
      embed_dim: Width of the residual stream.
      mlp_dim: Width inside the feed-forward layer.
      heads: Query heads.
      kv_heads: Key and value heads; a divisor of ``heads``.
      head_dim: Width of one head, even.
      layers: Layers.
      start_token: Stands between the source and the target; first of the generated
        part.
      tied_head: Whether the embedding is the head (unscaled, unlike T5's).
      rope_theta: Base of the rotary wavelengths.
      rope_scaling: LLaMA 3's scaling, or None.
      mlp_activations: As in `T5Config`.
      codes: As in `T5Config`.
      dropout_rate: As in `T5Config`.
      norm_epsilon: As in `T5Config`.
      embedding_std: As in `T5Config`.
      dtype: As in `T5Config`.
      scan_layers: As in `T5Config`.
      remat: As in `T5Config`.
      attention: As in `T5Config`.
    """

    vocab_size: int
    embed_dim: int
    mlp_dim: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    start_token: int
    tied_head: bool = False
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    mlp_activations: tuple[str, ...] = ("silu", "linear")
    codes: CodeTables | None = None
    dropout_rate: float = 0.0
    norm_epsilon: float = 1e-5
    embedding_std: float = 1.0
    dtype: str = "float32"
    scan_layers: bool = False
    remat: Remat = "none"
    attention: Attention = "plain"

    def __post_init__(self) -> None:
        _positive(self, "layers", "kv_heads", "rope_theta")
        if self.heads % self.kv_heads:
            raise _fault(self, "kv_heads", f"use a divisor of heads={self.heads}")
        if self.head_dim % 2:
            raise _fault(self, "head_dim", "rotary positions need an even width")
        _check_common(self)

    @property
    def decoder_layers(self) -> int:
        """All of its layers: the name that both families answer to."""
        return self.layers


ModelConfig = T5Config | LlamaConfig


def to_json(config: ModelConfig) -> dict[str, Any]:
    """A JSON object that `from_json` turns back into the config."""
    return {"family": _FAMILY_NAMES[type(config)], **dataclasses.asdict(config)}


def from_json(value: dict[str, Any]) -> ModelConfig:
    """The config of a JSON object.

    Raises:
      UsageError: If the family or a field is unknown, or a value is refused.
    """
    fields = dict(value)
    family = fields.pop("family", None)
    if family not in _FAMILIES:
        raise errors.UsageError(
            errors.fault("model config", "family", family, "use t5 or llama")
        )
    if fields.get("codes") is not None:
        fields["codes"] = CodeTables(**fields["codes"])
    if fields.get("rope_scaling") is not None:
        fields["rope_scaling"] = RopeScaling(**fields["rope_scaling"])
    fields["mlp_activations"] = tuple(fields["mlp_activations"])
    try:
        return _FAMILIES[family](**fields)
    except TypeError as error:
        raise errors.UsageError(f"model config: {family}: {error}") from None


_FAMILIES: dict[str, type[T5Config] | type[LlamaConfig]] = {
    "t5": T5Config,
    "llama": LlamaConfig,
}
_FAMILY_NAMES: dict[type, str] = {made: name for name, made in _FAMILIES.items()}


def text_vocab_size(config: ModelConfig) -> int:
    """Tokens that are not codes with tables of their own."""
    if config.codes is None:
        return config.vocab_size
    return config.vocab_size - config.codes.levels * config.codes.size


def _check_common(config: ModelConfig) -> None:
    _positive(config, "vocab_size", "embed_dim", "mlp_dim", "heads", "head_dim")
    _positive(config, "norm_epsilon", "embedding_std")
    _one_of(config, "dtype", DTYPES)
    _one_of(config, "remat", ("none", "dots", "full"))
    _one_of(config, "attention", ("plain", "fused", "flash"))
    if not 0.0 <= config.dropout_rate < 1.0:
        raise _fault(config, "dropout_rate", "use a rate in [0, 1)")
    known = all(name in ACTIVATIONS for name in config.mlp_activations)
    if not config.mlp_activations or not known:
        raise _fault(config, "mlp_activations", f"use some of {ACTIVATIONS}")
    if text_vocab_size(config) < 1:
        raise _fault(config, "vocab_size", "count the text tokens and the codes")
    if not 0 <= config.start_token < config.vocab_size:
        raise _fault(config, "start_token", f"use an id below {config.vocab_size}")


def _positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise _fault(config, name, "use a positive number")


def _one_of(config: object, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(config, name) not in allowed:
        raise _fault(config, name, f"use one of {', '.join(allowed)}")


def _fault(config: object, name: str, remedy: str) -> errors.UsageError:
    where = type(config).__name__
    return errors.UsageError(errors.fault(where, name, getattr(config, name), remedy))
