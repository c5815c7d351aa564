"""The rival of `tools.bench.train`: transformers and PyTorch, one step at a time.

Run by an interpreter that has both. It reads one JSON line of sizes, then for every
line ``N`` on stdin times N steps and answers with their seconds.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def build(asked: dict[str, Any]) -> Any:
    """The same architecture and widths as ours, new weights."""
    # Runs in an environment of its own, which alone has torch and transformers.
    # Untyped: its types know less than it takes, and mostly it is not here at all.
    transformers: Any = importlib.import_module("transformers")

    shape, vocabulary = asked["model"], asked["model"]["vocab_size"]
    if asked["family"] == "t5":
        config = transformers.T5Config(
            vocab_size=vocabulary,
            d_model=shape["embed_dim"],
            d_kv=shape["head_dim"],
            d_ff=shape["mlp_dim"],
            num_layers=shape["encoder_layers"],
            num_decoder_layers=shape["decoder_layers"],
            num_heads=shape["heads"],
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=0,
            pad_token_id=0,
        )
        model = transformers.T5ForConditionalGeneration(config)
        # transformers 5 ties the head of T5 1.1 whatever the config says.
        own = model.lm_head.weight.detach().clone()
        model.lm_head.weight = type(model.lm_head.weight)(own)
        return model
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape["embed_dim"],
        intermediate_size=shape["mlp_dim"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"],
        tie_word_embeddings=False,
    )
    return transformers.LlamaForCausalLM(config)


def main() -> int:
    """Answers on stdout until stdin ends."""
    import torch  # pyright: ignore[reportMissingImports]

    asked = json.loads(sys.stdin.readline())
    torch.manual_seed(0)
    torch.set_num_threads(asked["threads"])
    model = build(asked).train()
    if asked["optimizer"] == "adamw":
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-3, weight_decay=0.0, fused=True
        )
    else:
        optimizer = torch.optim.Adafactor(model.parameters(), lr=1e-3)
    source = torch.tensor(asked["source"])
    target = torch.tensor(asked["target"])

    def loss() -> Any:
        if asked["family"] == "t5":
            return model(input_ids=source, labels=target).loss
        start = torch.full_like(target[:, :1], 3)
        joined = torch.cat([source, start, target[:, :-1]], 1)
        # Only the target's logits, as ours; the default would compute the source's too.
        kept = model(input_ids=joined, logits_to_keep=target.shape[1]).logits
        flat = kept.reshape(-1, kept.shape[-1])
        return torch.nn.functional.cross_entropy(flat, target.reshape(-1))

    if asked["compile"]:
        loss = torch.compile(loss)
    print(
        json.dumps({"params": sum(p.numel() for p in model.parameters())}), flush=True
    )
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line)):
            optimizer.zero_grad(set_to_none=True)
            found = loss()
            found.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        # Fetching the last loss waits for the work to be done.
        found.item()  # pyright: ignore[reportPossiblyUnboundVariable]  # at least one
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
