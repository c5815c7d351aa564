"""What sharing a prompt's keys and values among beams is worth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tools.bench import decode_table, decode_whole


@dataclasses.dataclass(frozen=True)
class Replicated:
    """A model whose prompt is kept once for every beam, as most programs do.

    Implements what a search asks of `model.protocol.GenerativeModel`; all else is the
    same program. The copies are made before the search and never move in it.
    """

    model: Any
    beams: int

    @property
    def start_token(self) -> int:
        """The model's."""
        return self.model.start_token

    def prefill(self, params: Any, source_BS: Any) -> Any:
        """The prompt of every beam, those of a query one behind the other."""
        import jax.numpy as jnp

        row_BxM = jnp.repeat(jnp.arange(source_BS.shape[0]), self.beams)
        return self.model.select(self.model.prefill(params, source_BS), row_BxM)

    def empty_cache(self, batch: int, beams: int, length: int) -> Any:
        """The model's, each beam as a query."""
        return self.model.empty_cache(batch * beams, 1, length)

    def reorder(self, cache: Any, parent_BM: Any) -> Any:
        """The cache of the parents."""
        import jax
        import jax.numpy as jnp

        batch, beams = parent_BM.shape
        have = jax.tree.leaves(cache)[0].shape[0] // batch
        row_BM = parent_BM + have * jnp.arange(batch)[:, None]
        row_E = row_BM.reshape(batch * beams)
        return jax.tree.map(lambda leaf: jnp.take(leaf, row_E, axis=0), cache)

    def extend(
        self, params: Any, prompt: Any, cache: Any, token_BMT: Any, position: Any
    ) -> Any:
        """The model's, each beam as a query with a prompt of its own."""
        import jax
        import jax.numpy as jnp

        batch, beams, tokens = token_BMT.shape
        if beams == 1:
            rows = jax.tree.leaves(prompt)[0].shape[0]
            prompt = self.model.select(prompt, jnp.arange(0, rows, self.beams))
        logits, cache = self.model.extend(
            params, prompt, cache, token_BMT.reshape(-1, 1, tokens), position
        )
        return logits.reshape(batch, beams, tokens, -1), cache

    def nats(
        self,
        params: Any,
        prompt: Any,
        cache: Any,
        token_BMT: Any,
        next_BMT: Any,
        position: Any,
    ) -> Any:
        """The model's, each beam as a query with a prompt of its own."""
        batch, beams, tokens = token_BMT.shape
        rows = (batch * beams, 1, tokens)
        nats, cache = self.model.nats(
            params,
            prompt,
            cache,
            token_BMT.reshape(rows),
            next_BMT.reshape(rows),
            position,
        )
        return nats.reshape(batch, beams, tokens), cache


def measure(make: Any, source: int, rounds: int) -> dict[str, float]:
    """Seconds of the prefill, and of searches with a shared and a replicated prompt.

    Refuses to go on if the two do not find the same beams.

    Args:
      make: Gives model and parameters of a shape.
      source: Tokens of each query.
      rounds: Turns that are timed.
    """
    import jax
    import jax.numpy as jnp

    from gr_jax.decode import beam, selection

    model, params = make(decode_whole.SHAPE)
    constraint = decode_whole.constraint_of(decode_whole.identifiers())
    batch, beams = decode_whole.BATCH, decode_whole.BEAMS
    settings = selection.Settings(beams=beams, max_length=decode_whole.LENGTH)
    source_BS = jnp.asarray(decode_whole.queries(source), jnp.int32)
    calls: dict[str, Any] = {}
    encode = jax.jit(model.prefill)
    calls["prefill"] = lambda: encode(params, source_BS)
    for name, which in (("shared", model), ("replicated", Replicated(model, beams))):
        prompt = jax.jit(which.prefill)(params, source_BS)
        calls[name] = lambda m=which, p=prompt: beam.search(
            m, params, p, constraint, settings=settings, batch=batch
        )
    one, other = calls["shared"](), calls["replicated"]()
    if not np.array_equal(one.token_BML, other.token_BML):
        raise SystemExit("shared and replicated prompts find different beams")
    return decode_table.interleaved(calls, rounds)
