"""The peer of `decode_whole`: run by an interpreter that has torch and transformers.

Reads catalogue, queries and shape as one line of JSON, then decodes the batch once for
every further line and answers with the seconds.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def main() -> int:
    """Serves until standard input ends."""
    import torch  # type: ignore[import-not-found]

    # Untyped: its types know less than it takes, and mostly it is not here at all.
    transformers: Any = importlib.import_module("transformers")

    torch.set_num_threads(1)
    given = json.loads(sys.stdin.readline())
    shape = given["settings"]
    config = transformers.T5Config(
        vocab_size=shape["vocabulary"],
        d_model=shape["width"],
        d_ff=shape["mlp"],
        num_layers=shape["layers"],
        num_decoder_layers=shape["layers"],
        num_heads=shape["heads"],
        d_kv=shape["head_dim"],
        decoder_start_token_id=0,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    device = torch.device(shape["device"])
    model = transformers.T5ForConditionalGeneration(config).eval().to(device)
    root: dict[int, Any] = {}
    for row in given["rows"]:
        node = root
        for token in row:
            node = node.setdefault(token, {})

    def allowed(batch: int, tokens: Any) -> list[int]:
        del batch
        node = root
        for token in tokens.tolist()[1:]:
            node = node.get(token, {})
        return list(node) or [0]

    source = torch.tensor(given["queries"], device=device)
    with torch.inference_mode():
        for _ in sys.stdin:
            began = time.perf_counter()
            model.generate(
                input_ids=source,
                num_beams=shape["beams"],
                num_return_sequences=shape["beams"],
                max_new_tokens=shape["length"],
                do_sample=False,
                prefix_allowed_tokens_fn=allowed,
            )
            if device.type == "cuda":
                torch.cuda.synchronize()
            print(time.perf_counter() - began, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
