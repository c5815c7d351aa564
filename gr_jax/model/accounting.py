"""Parameters and FLOPs by component, from the config alone.

FLOPs are those of matrix products, two for a multiply-add, as they are executed: causal
attention computes its whole rectangle, a cache is attended to over its whole length,
and LLaMA's last layer computes only keys and values of the source. Norms, softmax and
look-ups are left out; on models worth planning they are below 5%.
"""

from __future__ import annotations

import dataclasses

from gr_jax.model import config as model_config
from gr_jax.model import embedding

BACKWARD_FACTOR = 2  # a gradient for each of the two operands of every product


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """Counts of parameters.

    Attributes:
      total: All of them.
      embedding: Input tables (a tied head is counted here).
      head: Output tables of their own.
      non_embedding: Neither of the two: the strict count, axis of every law.
      paper: The paper's count: all but the input embedding.
      components: Strict parameters by part; they sum to ``non_embedding``.
    """

    total: int
    embedding: int
    head: int
    non_embedding: int
    paper: int
    components: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs of one forward pass by part: source, generated part, vocabulary scores."""

    source: float
    target: float
    head: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.source + self.target + self.head


def parameters(config: model_config.ModelConfig) -> Parameters:
    """The parameters of a model, without making any."""
    embeddings, head = _embedding_parameters(config)
    if isinstance(config, model_config.T5Config):
        components = _t5_components(config)
    else:
        components = _llama_components(config)
    strict = sum(components.values())
    return Parameters(
        total=embeddings + head + strict,
        embedding=embeddings,
        head=head,
        non_embedding=strict,
        paper=strict + head,
        components=components,
    )


def forward_flops(
    config: model_config.ModelConfig, *, source: int, target: int
) -> Flops:
    """FLOPs of one teacher-forced example of padded lengths."""
    return Flops(
        source=2.0 * _source_products(config, source),
        target=2.0 * target * _token_products(config, source=source, keys=target),
        head=2.0 * target * _head_products(config),
    )


def train_flops(
    config: model_config.ModelConfig, source: int, target: int, examples: int
) -> float:
    """FLOPs of training on ``examples`` of padded lengths, forward and backward.

    What rematerialisation computes again is not counted: it is not useful work.
    """
    flops = forward_flops(config, source=source, target=target)
    return float(examples) * flops.total * (1 + BACKWARD_FACTOR)


def inference_flops(
    config: model_config.ModelConfig,
    *,
    source: int,
    beams: int,
    steps: int,
    constraint_per_step: float = 0.0,
) -> dict[str, float]:
    """FLOPs of one query's beam search by part.

    Args:
      config: The model.
      source: Padded source length.
      beams: Beams, all of them run at every step.
      steps: Steps, which is also the cache's length.
      constraint_per_step: What the constraint computes for one beam and step.
    """
    tokens = float(beams * steps)
    each = _token_products(config, source=source, keys=steps)
    return {
        "prefill": 2.0 * _source_products(config, source),
        "decode": 2.0 * tokens * each,
        "head": 2.0 * tokens * _head_products(config),
        "constraint": tokens * constraint_per_step,
    }


def _embedding_parameters(config: model_config.ModelConfig) -> tuple[int, int]:
    text = model_config.text_vocab_size(config) * config.embed_dim
    codes = 0
    if config.codes is not None:
        codes = config.codes.levels * config.codes.size * config.embed_dim
    has_own_head = embedding.has_text_logits(config) and not config.tied_head
    return text + codes, (text if has_own_head else 0) + codes


def _t5_components(config: model_config.T5Config) -> dict[str, int]:
    c = config
    attention = _attention_products(c)
    encoder_norms = 2 * c.encoder_layers + 1
    decoder_norms = 3 * c.decoder_layers + 1
    return {
        "encoder_attention": c.encoder_layers * attention,
        "encoder_mlp": c.encoder_layers * _mlp_products(c),
        "decoder_self_attention": c.decoder_layers * attention,
        "decoder_cross_attention": c.decoder_layers * attention,
        "decoder_mlp": c.decoder_layers * _mlp_products(c),
        "relative_bias": 2 * c.heads * c.relative_buckets,
        "norms": (encoder_norms + decoder_norms) * c.embed_dim,
    }


def _llama_components(config: model_config.LlamaConfig) -> dict[str, int]:
    return {
        "attention": config.layers * _attention_products(config),
        "mlp": config.layers * _mlp_products(config),
        "norms": (2 * config.layers + 1) * config.embed_dim,
    }


def _query_products(config: model_config.ModelConfig) -> int:
    """Multiply-adds of one token in the query and output kernels."""
    return 2 * config.embed_dim * config.heads * config.head_dim


def _kv_products(config: model_config.ModelConfig) -> int:
    """Multiply-adds of one token in the key and value kernels."""
    return 2 * config.embed_dim * config.kv_heads * config.head_dim


def _attention_products(config: model_config.ModelConfig) -> int:
    return _query_products(config) + _kv_products(config)


def _mlp_products(config: model_config.ModelConfig) -> int:
    return (len(config.mlp_activations) + 1) * config.embed_dim * config.mlp_dim


def _score_products(config: model_config.ModelConfig, keys: int) -> int:
    """Multiply-adds of one token against ``keys`` keys and their values."""
    return 2 * config.heads * config.head_dim * keys


def _source_products(config: model_config.ModelConfig, source: int) -> int:
    layer = _attention_products(config) + _mlp_products(config)
    layer += _score_products(config, source)
    if isinstance(config, model_config.T5Config):
        crossed = config.decoder_layers * _kv_products(config)
        return source * (config.encoder_layers * layer + crossed)
    # Nothing reads the last layer's output of the source.
    return source * ((config.layers - 1) * layer + _kv_products(config))


def _token_products(config: model_config.ModelConfig, *, source: int, keys: int) -> int:
    layer = _attention_products(config) + _mlp_products(config)
    layer += _score_products(config, source) + _score_products(config, keys)
    if isinstance(config, model_config.T5Config):
        layer += _query_products(config)
    return config.decoder_layers * layer


def _head_products(config: model_config.ModelConfig) -> int:
    width = config.embed_dim
    scored = 0
    if embedding.has_text_logits(config):
        scored += model_config.text_vocab_size(config)
    if config.codes is not None:
        is_joint = config.codes.head == "joint"
        scored += config.codes.size * (config.codes.levels if is_joint else 1)
    return width * scored
