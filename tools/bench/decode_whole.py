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

VOCABULARY, ITEMS, LENGTH = 32_128, 100_000, 8
BATCH, BEAMS, SOURCE = 8, 10, 32
SHAPE = {"width": 256, "mlp": 1024, "layers": 4, "heads": 4, "head_dim": 64}
_FIRST_CODE = 30_080


def _model(shape: dict[str, int], vocabulary: int) -> tuple[Any, Any]:
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


def identifiers() -> np.ndarray:
    """Different random codes, in the range that both programs use."""
    rng = randomness.stream(0, "bench identifiers")
    codes = rng.integers(_FIRST_CODE, VOCABULARY, (ITEMS, LENGTH))
    return np.unique(codes, axis=0)


def queries() -> list[list[int]]:
    """One batch."""
    rng = randomness.stream(0, "bench queries")
    return rng.integers(3, _FIRST_CODE, (BATCH, SOURCE)).tolist()


def measure(torch_python: Path | None, rounds: int) -> dict[str, float]:
    """Seconds a batch of our decoding, with and without jumps, and of the peer."""
    from gr_jax.decode import prefix_tree, session
    from gr_jax.identifiers import constraint_index
    from tools.bench import decode

    rows = identifiers()
    tree = constraint_index.build_matrix(rows, VOCABULARY)
    constraint = prefix_tree.PrefixTreeConstraint.of(tree)
    model, params = _model(SHAPE, VOCABULARY)
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
        calls[name] = lambda d=decoder: [r.logprob_M for r in d.decode(queries())]
    if torch_python is None:
        return decode.interleaved(calls, rounds)
    with subprocess.Popen(
        [str(torch_python), str(Path(__file__).with_name("decode_transformers.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as peer:
        into, out = cast(TextIO, peer.stdin), cast(TextIO, peer.stdout)
        settings = SHAPE | {"vocabulary": VOCABULARY, "beams": BEAMS, "length": LENGTH}
        given = {"rows": rows.tolist(), "queries": queries(), "settings": settings}
        print(json.dumps(given), file=into, flush=True)

        def ask() -> float:
            print("again", file=into, flush=True)
            answer = out.readline()
            if not answer:
                sys.exit("the peer stopped: see its message above")
            return float(answer)

        calls["transformers"] = ask
        found = decode.interleaved(calls, rounds)
        into.close()
    return found


def measure_prompt(source: int, rounds: int) -> dict[str, float]:
    """Seconds of LENGTH decoder steps with a shared and with a replicated prompt."""
    import jax
    import jax.numpy as jnp

    from tools.bench import decode

    model, params = _model(SHAPE, VOCABULARY)
    rng = randomness.stream(0, "bench prompt", source)
    source_BS = jnp.asarray(rng.integers(3, 100, (BATCH, source)), jnp.int32)

    def steps(params: Any, prompt: Any, batch: int, beams: int) -> Any:
        def step(place: Any, carry: Any) -> Any:
            cache, token = carry
            logits, cache = model.extend(params, prompt, cache, token, place)
            parent = jnp.broadcast_to(jnp.arange(beams)[None], (batch, beams))
            cache = model.reorder(cache, parent)
            return cache, logits.argmax(axis=3).astype(jnp.int32)

        token = jnp.full((batch, beams, 1), model.start_token, jnp.int32)
        start = (model.empty_cache(batch, beams, LENGTH), token)
        return jax.lax.fori_loop(0, LENGTH, step, start)[1]

    run = jax.jit(steps, static_argnums=(2, 3))
    shared = jax.jit(model.prefill)(params, source_BS)
    replicated = model.select(shared, jnp.repeat(jnp.arange(BATCH), BEAMS))
    return decode.interleaved(
        {
            "shared": lambda: run(params, shared, BATCH, BEAMS),
            "replicated": lambda: run(params, replicated, BATCH * BEAMS, 1),
        },
        rounds,
    )


def measure_share(items: int, rounds: int) -> dict[str, float]:
    """Seconds of a decoder step of a T5-small-sized model, and what the tree adds.

    The tree's part is the step less logsumexp, which every scored step needs.
    """
    import jax
    import jax.numpy as jnp

    from gr_jax.decode import prefix_tree
    from gr_jax.identifiers import constraint_index
    from tools.bench import decode, decode_steps

    small = {"width": 512, "mlp": 2048, "layers": 6, "heads": 8, "head_dim": 64}
    model, params = _model(small, VOCABULARY)
    codes = decode.catalogue(items, 2048, is_skewed=False)
    tree = constraint_index.build_matrix(codes, 2048)
    constraint = prefix_tree.PrefixTreeConstraint.of(tree)
    source_BS = jnp.full((BATCH, SOURCE), 5, jnp.int32)
    prompt = jax.jit(model.prefill)(params, source_BS)
    cache = model.empty_cache(BATCH, BEAMS, LENGTH)
    token = jnp.full((BATCH, BEAMS, 1), 7, jnp.int32)
    position = jnp.asarray(2, jnp.int32)
    extend = jax.jit(lambda p, c, t, i: model.extend(params, p, c, t, i)[0])
    normalise = jax.jit(lambda x: jax.nn.logsumexp(x, axis=2))
    propose = jax.jit(lambda c, s, x, y: c.propose(s, x, y, BEAMS))
    totals = {"model": 0.0, "constraint": 0.0}
    for depth in (1, 2, 3, 5):
        step = decode_steps.draw(codes, 2048, depth, BATCH, BEAMS)
        state = decode_steps.tree_state(tree, step)
        logits_BMV = jnp.pad(step.logits_BMV, ((0, 0), (0, 0), (0, VOCABULARY - 2048)))
        found = decode.interleaved(
            {
                "model": lambda: extend(prompt, cache, token, position),
                "sum": lambda x=logits_BMV: normalise(x),
                "step": lambda s=state, x=logits_BMV, y=step.score_BM: propose(
                    constraint, s, x, y
                ),
            },
            rounds,
            repeats=3,
        )
        totals["model"] += found["model"] + found["sum"]
        totals["constraint"] += max(0.0, found["step"] - found["sum"])
    return totals
