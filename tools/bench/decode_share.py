"""The constraint's share of a search's time, step by step on real states."""

from __future__ import annotations

import functools
from typing import Any

from tools.bench import decode_table, decode_whole

SMALL = {"width": 512, "mlp": 2048, "layers": 6, "heads": 8, "head_dim": 64}
LARGE = {"width": 1024, "mlp": 4096, "layers": 24, "heads": 16, "head_dim": 64}


def measure(shape: dict[str, int], items: int, rounds: int) -> dict[str, float]:
    """Seconds over all steps of a search: the model, `propose`, and logsumexp alone.

    A search is made step by step; each step's model call and selection are timed in
    turn on the beams that it reached. The constraint's selection includes logsumexp,
    without which there are no log-probabilities whatever is legal.
    """
    import jax
    import jax.numpy as jnp

    model, params = decode_whole.model_of(shape)
    constraint = decode_whole.constraint_of(decode_whole.identifiers(items))
    batch, beams = decode_whole.BATCH, decode_whole.BEAMS
    length = decode_whole.LENGTH
    source_BS = jnp.asarray(decode_whole.queries(), jnp.int32)
    prompt = jax.jit(model.prefill)(params, source_BS)
    extend = jax.jit(functools.partial(model.extend, params))
    propose = jax.jit(lambda c, s, x, y: c.propose(s, x, y, beams))
    normalise = jax.jit(lambda x: jax.nn.logsumexp(x, axis=2))
    reorder = jax.jit(model.reorder)
    state = constraint.initial(batch, 1)
    score_BM = jnp.zeros((batch, 1))
    token_BM = jnp.full((batch, 1), model.start_token, jnp.int32)
    cache = model.empty_cache(batch, 1, length)
    totals: dict[str, float] = {"model": 0.0, "propose": 0.0, "logsumexp": 0.0}
    for step in range(length):
        place = jnp.asarray(step, jnp.int32)
        feed = functools.partial(extend, prompt, cache, token_BM[:, :, None], place)
        logits_BM1V, after = feed()
        logits_BMV = logits_BM1V[:, :, 0]
        select = functools.partial(propose, constraint, state, logits_BMV, score_BM)
        calls: dict[str, Any] = {"model": feed, "propose": select}
        calls["logsumexp"] = functools.partial(normalise, logits_BMV)
        for name, seconds in decode_table.interleaved(calls, rounds).items():
            totals[name] += seconds
        found = select()
        cache = reorder(after, found.parent_BC)
        state, score_BM, token_BM = found.state, found.score_BC, found.token_BC
    return totals
