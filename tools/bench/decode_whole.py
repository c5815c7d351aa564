"""Whole decoding, with random weights: ours, and `transformers` in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from gr_jax.core import randomness
from tools.bench import decode_table

VOCABULARY, ITEMS, LENGTH = 32_128, 100_000, 8
BATCH, BEAMS, SOURCE = 8, 10, 32
SHAPE = {"width": 256, "mlp": 1024, "layers": 4, "heads": 4, "head_dim": 64}
_FIRST_CODE = 30_080


def model_of(shape: dict[str, int], vocabulary: int = VOCABULARY) -> tuple[Any, Any]:
    """A T5 of a shape and random parameters."""
    import jax

    from gr_jax.model import config, families

    model = families.build(
        config.T5Config(
            vocab_size=vocabulary,
            embed_dim=shape["width"],
            mlp_dim=shape["mlp"],
            heads=shape["heads"],
            head_dim=shape["head_dim"],
            encoder_layers=shape["layers"],
            decoder_layers=shape["layers"],
            mlp_activations=("relu",),
            tied_head=True,
        )
    )
    return model, model.init(jax.random.key(0))


def llama_of(shape: dict[str, int], vocabulary: int = VOCABULARY) -> tuple[Any, Any]:
    """A LLaMA of a shape and random parameters."""
    import jax

    from gr_jax.model import config, families

    model = families.build(
        config.LlamaConfig(
            vocab_size=vocabulary,
            embed_dim=shape["width"],
            mlp_dim=shape["mlp"],
            layers=shape["layers"],
            heads=shape["heads"],
            kv_heads=shape["heads"],
            head_dim=shape["head_dim"],
            start_token=1,
            tied_head=True,
        )
    )
    return model, model.init(jax.random.key(0))


def identifiers(items: int = ITEMS) -> np.ndarray:
    """Different random codes, in the range that both programs use."""
    rng = randomness.stream(0, "bench identifiers")
    codes = rng.integers(_FIRST_CODE, VOCABULARY, (items, LENGTH))
    return np.unique(codes, axis=0)


def constraint_of(rows_NL: np.ndarray) -> Any:
    """The constraint of a catalogue."""
    from gr_jax.decode import prefix_tree
    from gr_jax.identifiers import constraint_index

    tree = constraint_index.build_matrix(rows_NL, VOCABULARY)
    return prefix_tree.PrefixTreeConstraint.of(tree)


def queries(source: int = SOURCE) -> list[list[int]]:
    """One batch."""
    rng = randomness.stream(0, "bench queries", source)
    return rng.integers(3, _FIRST_CODE, (BATCH, source)).tolist()


def measure(
    torch_python: Path | None, rounds: int, source: int = SOURCE
) -> dict[str, float]:
    """Seconds a batch of our decoding, with and without jumps, and of the peer.

    Args:
      torch_python: Interpreter of the peer; None leaves it out.
      rounds: Turns that are timed.
      source: Tokens of each query. The peer keeps their keys once for every beam.
    """
    import jax

    from gr_jax.decode import session

    rows = identifiers()
    constraint = constraint_of(rows)
    model, params = model_of(SHAPE)
    asked = queries(source)
    calls: dict[str, Callable[[], Any]] = {}
    for name, jump in (("ours", None), ("no jump", 0)):
        decoder = session.DecodeSession(
            model,
            params,
            constraint,
            beams=BEAMS,
            batch=BATCH,
            options=session.Options(jump=jump),
        )
        calls[name] = lambda d=decoder: [r.logprob_M for r in d.decode(asked)]
    if torch_python is None:
        return decode_table.interleaved(calls, rounds)
    with subprocess.Popen(
        [str(torch_python), str(Path(__file__).with_name("decode_transformers.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as peer:
        into, out = cast(TextIO, peer.stdin), cast(TextIO, peer.stdout)
        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        settings = SHAPE | {"vocabulary": VOCABULARY, "beams": BEAMS, "length": LENGTH}
        settings |= {"device": device}
        given = {"rows": rows.tolist(), "queries": asked, "settings": settings}
        print(json.dumps(given), file=into, flush=True)

        def ask() -> float:
            print("again", file=into, flush=True)
            answer = out.readline()
            if not answer:
                sys.exit("the peer stopped: see its message above")
            return float(answer)

        calls["transformers"] = ask
        found = decode_table.interleaved(calls, rounds)
        into.close()
    return found
