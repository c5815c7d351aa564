"""Hugging Face's ``config.json`` and our configs, both ways."""

from __future__ import annotations

from typing import Any

from gr_jax.core import errors
from gr_jax.model import config as model_config

_GATED = {
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
    "relu": ("relu",),
    "gated-relu": ("relu", "linear"),
}


def from_hugging_face(
    value: dict[str, Any], *, where: object, **options: Any
) -> model_config.ModelConfig:
    """The config of a Hugging Face model.

    Args:
      value: Content of ``config.json``.
      where: The file, for messages.
      **options: Fields that file does not decide, such as ``dtype`` or
        ``scan_layers``; they win over what it says.

    Raises:
      InputError: If the model is of another family, or uses what ours lack.
    """
    family = value.get("model_type")
    if family in ("t5", "mt5"):
        return _t5(value, where, options)
    if family == "llama":
        return _llama(value, where, options)
    raise errors.InputError(
        errors.fault(where, "model_type", family, "t5, mt5 and llama can be read")
    )


def to_hugging_face(config: model_config.ModelConfig, *, dtype: str) -> dict[str, Any]:
    """Content of ``config.json`` for a model, readable by transformers 4 and 5."""
    if isinstance(config, model_config.T5Config):
        activations = {v: k for k, v in _GATED.items()}
        return {
            "architectures": ["T5ForConditionalGeneration"],
            "model_type": "t5",
            "is_encoder_decoder": True,
            "vocab_size": config.vocab_size,
            "d_model": config.embed_dim,
            "d_kv": config.head_dim,
            "d_ff": config.mlp_dim,
            "num_layers": config.encoder_layers,
            "num_decoder_layers": config.decoder_layers,
            "num_heads": config.heads,
            "relative_attention_num_buckets": config.relative_buckets,
            "relative_attention_max_distance": config.relative_distance,
            "dropout_rate": config.dropout_rate,
            "layer_norm_epsilon": config.norm_epsilon,
            "feed_forward_proj": activations[config.mlp_activations],
            "tie_word_embeddings": config.tied_head,
            "decoder_start_token_id": config.start_token,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": dtype,
        }
    value: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": config.mlp_activations[0],
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": config.start_token,
        "torch_dtype": dtype,
    }
    scaling = config.rope_scaling
    if scaling is not None:
        value["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_length,
        }
        value["max_position_embeddings"] = int(scaling.original_length * scaling.factor)
    return value


def _t5(
    value: dict[str, Any], where: object, options: dict[str, Any]
) -> model_config.T5Config:
    activation = value.get("feed_forward_proj", "relu")
    if activation not in _GATED:
        remedy = f"one of {', '.join(_GATED)} can be read"
        fault = errors.fault(where, "feed_forward_proj", activation, remedy)
        raise errors.InputError(fault)
    layers = _needed(value, "num_layers", where)
    fields: dict[str, Any] = {
        "vocab_size": _needed(value, "vocab_size", where),
        "embed_dim": _needed(value, "d_model", where),
        "mlp_dim": _needed(value, "d_ff", where),
        "heads": _needed(value, "num_heads", where),
        "head_dim": _needed(value, "d_kv", where),
        "encoder_layers": layers,
        "decoder_layers": value.get("num_decoder_layers") or layers,
        "mlp_activations": _GATED[activation],
        # Differs from huggingface/transformers 5: it ties every T5 in memory; what a
        # checkpoint holds is still what this key says.
        "tied_head": value.get("tie_word_embeddings", True),
        "relative_buckets": value.get("relative_attention_num_buckets", 32),
        "relative_distance": value.get("relative_attention_max_distance", 128),
        "norm_epsilon": value.get("layer_norm_epsilon", 1e-6),
        "start_token": value.get("decoder_start_token_id") or 0,
    }
    return model_config.T5Config(**{**fields, **options})


def _llama(
    value: dict[str, Any], where: object, options: dict[str, Any]
) -> model_config.LlamaConfig:
    for name in ("attention_bias", "mlp_bias"):
        if value.get(name):
            fault = errors.fault(where, name, True, "only models without can be read")
            raise errors.InputError(fault)
    if value.get("hidden_act", "silu") != "silu":
        fault = errors.fault(where, "hidden_act", value["hidden_act"], "silu is read")
        raise errors.InputError(fault)
    rope = dict(value.get("rope_parameters") or value.get("rope_scaling") or {})
    heads = _needed(value, "num_attention_heads", where)
    width = _needed(value, "hidden_size", where)
    start = value.get("bos_token_id")
    fields: dict[str, Any] = {
        "vocab_size": _needed(value, "vocab_size", where),
        "embed_dim": width,
        "mlp_dim": _needed(value, "intermediate_size", where),
        "heads": heads,
        "kv_heads": value.get("num_key_value_heads") or heads,
        "head_dim": value.get("head_dim") or width // heads,
        "layers": _needed(value, "num_hidden_layers", where),
        "start_token": 1 if start is None else start,
        "tied_head": value.get("tie_word_embeddings", False),
        "rope_theta": float(value.get("rope_theta") or rope.get("rope_theta", 1e4)),
        "rope_scaling": _scaling(rope, where),
        "norm_epsilon": value.get("rms_norm_eps", 1e-6),
    }
    return model_config.LlamaConfig(**{**fields, **options})


def _scaling(rope: dict[str, Any], where: object) -> model_config.RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        fault = errors.fault(where, "rope_type", kind, "default and llama3 are read")
        raise errors.InputError(fault)
    return model_config.RopeScaling(
        factor=float(_needed(rope, "factor", where)),
        low_freq_factor=float(rope.get("low_freq_factor", 1.0)),
        high_freq_factor=float(rope.get("high_freq_factor", 4.0)),
        original_length=int(rope.get("original_max_position_embeddings", 8192)),
    )


def _needed(value: dict[str, Any], name: str, where: object) -> Any:
    if value.get(name) is None:
        raise errors.InputError(f"{where}: {name}: missing: give the model's own file")
    return value[name]
