"""Makes the stored logits of tiny random Hugging Face models, one .npz a variant.

    python tests/model/golden/make_golden.py

Needs torch and transformers (extra ``parity``) and nothing of this project. Each file
holds the config, the weights, a padded batch and the float32 logits of transformers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

VOCAB = 40
T5: dict[str, Any] = {
    "model_type": "t5",
    "vocab_size": VOCAB,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 3,
    "max_position_embeddings": 256,
}
ROPE_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "t5_1_0": {**T5, "feed_forward_proj": "relu", "tie_word_embeddings": True},
    "t5_1_1": T5,
    "t5_1_1_uneven": {**T5, "num_layers": 1, "num_decoder_layers": 3, "num_heads": 3},
    "t5_1_0_untied": {**T5, "feed_forward_proj": "relu"},
    "t5_1_1_tied": {**T5, "tie_word_embeddings": True},
    "llama_mha": LLAMA,
    "llama_gqa_2": {**LLAMA, "num_key_value_heads": 2},
    "llama_mqa": {**LLAMA, "num_key_value_heads": 1},
    "llama_gqa_2_tied": {
        **LLAMA,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "head_dim": 12,
    },
    "llama3_rope": {
        **LLAMA,
        "num_key_value_heads": 2,
        "rope_theta": 500_000.0,
        "rope_scaling": ROPE_LLAMA3,
    },
}


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources of 19, 7 and 1 tokens padded to 20, and targets of 6."""
    rng = np.random.default_rng(seed)
    source_BS = rng.integers(4, VOCAB, (3, 20))
    for row, length in enumerate((19, 7, 1)):
        source_BS[row, length:] = 0
    return source_BS, rng.integers(4, VOCAB, (3, 6))


def reference(name: str, seed: int = 0) -> Any:
    """A transformers model with weights of a size that makes logits of order one."""
    import torch
    import transformers

    value = VARIANTS[name]
    torch.manual_seed(seed)
    if value["model_type"] == "t5":
        config = transformers.T5Config(**value)
        config._attn_implementation = "eager"
        model = transformers.T5ForConditionalGeneration(config)
        if not value["tie_word_embeddings"]:
            # transformers 5 ties every T5 unless a checkpoint holds both matrices.
            model.lm_head.weight = torch.nn.Parameter(
                torch.empty_like(model.lm_head.weight)
            )
    else:
        config = transformers.LlamaConfig(**value)
        config._attn_implementation = "eager"
        model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.copy_(1 + 0.2 * torch.randn_like(weight))
            elif "embed" in key or "shared" in key or "relative" in key:
                weight.copy_(torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) / math.sqrt(weight.shape[1]))
    return model.eval()


def logits(model: Any, source_BS: np.ndarray, target_BL: np.ndarray) -> np.ndarray:
    """Teacher-forced logits of transformers, ``[B, L, V]``."""
    import torch

    source, mask, inputs = _inputs(model, source_BS, target_BL)
    with torch.no_grad():
        if model.config.model_type == "t5":
            out = model(input_ids=source, attention_mask=mask, decoder_input_ids=inputs)
            return out.logits.numpy()
        out = model(
            input_ids=torch.cat([source, inputs], 1),
            attention_mask=torch.cat([mask, torch.ones_like(inputs)], 1),
            position_ids=_positions(mask, inputs.shape[1]),
        )
    return out.logits[:, source_BS.shape[1] :].numpy()


def cached_logits(
    model: Any, source_BS: np.ndarray, target_BL: np.ndarray
) -> np.ndarray:
    """The same, a token at a time through the cache of transformers."""
    import torch

    source, mask, inputs = _inputs(model, source_BS, target_BL)
    steps, past = [], None
    is_t5 = model.config.model_type == "t5"
    with torch.no_grad():
        if is_t5:
            encoded = model.get_encoder()(input_ids=source, attention_mask=mask)
        else:
            position = _positions(mask, 0)
            out = model(
                input_ids=source,
                attention_mask=mask,
                position_ids=position,
                use_cache=True,
            )
            past = out.past_key_values
        for t in range(inputs.shape[1]):
            token = inputs[:, t : t + 1]
            if is_t5:
                out = model(
                    encoder_outputs=encoded,
                    attention_mask=mask,
                    decoder_input_ids=token,
                    past_key_values=past,
                    use_cache=True,
                )
            else:
                full = torch.cat([mask, torch.ones_like(inputs[:, : t + 1])], 1)
                out = model(
                    input_ids=token,
                    attention_mask=full,
                    use_cache=True,
                    position_ids=_positions(mask, t + 1)[:, -1:],
                    past_key_values=past,
                )
            past = out.past_key_values
            steps.append(out.logits)
    return torch.cat(steps, 1).numpy()


def weights(model: Any) -> dict[str, np.ndarray]:
    """The weights under the names of a checkpoint file."""
    held = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    if _is_tied(model):
        held.pop("lm_head.weight", None)
    held.pop("encoder.embed_tokens.weight", None)
    held.pop("decoder.embed_tokens.weight", None)
    return held


def _is_tied(model: Any) -> bool:
    if model.config.model_type == "t5":
        return bool(model.config.scale_decoder_outputs)
    return bool(model.config.tie_word_embeddings)


def _inputs(model: Any, source_BS: np.ndarray, target_BL: np.ndarray) -> tuple:
    import torch

    source = torch.tensor(source_BS)
    mask = (source != 0).long()
    is_t5 = model.config.model_type == "t5"
    start = 0 if is_t5 else model.config.bos_token_id
    inputs = torch.tensor(np.pad(target_BL[:, :-1], ((0, 0), (1, 0))))
    inputs[:, 0] = start
    return source, mask, inputs


def _positions(mask: Any, more: int) -> Any:
    """Positions that skip the padding between source and target."""
    import torch

    source = torch.arange(mask.shape[1])[None].expand_as(mask)
    target = mask.sum(1, keepdim=True) + torch.arange(more)[None]
    return torch.cat([source, target], 1)


def main() -> None:
    """Writes every variant beside this file."""
    for name in VARIANTS:
        model = reference(name)
        source_BS, target_BL = batch(0)
        path = Path(__file__).with_name(f"{name}.npz")
        np.savez_compressed(
            path,
            config=np.frombuffer(json.dumps(VARIANTS[name]).encode(), np.uint8),
            source_BS=source_BS,
            target_BL=target_BL,
            logits_BLV=logits(model, source_BS, target_BL),
            **{f"weight/{k}": v for k, v in weights(model).items()},
        )


if __name__ == "__main__":
    main()
