"""Log-probabilities of given tokens, without a table of all logits.

Where nothing is left to choose, one number of a row of logits is wanted, and the sum of
the others. A few thousand columns at a time these stay in a processor's cache.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gr_jax.model import config as model_config
from gr_jax.model import embedding, log_sum, products

# Logits at a time. Measured on CPU with 400 rows and V=32k: 2^20 take 72 ms, all at
# once 96 ms. An accelerator is kept busy by large products.
_LOGITS, _LOGITS_CPU = 1 << 27, 1 << 20


def of_next(
    head: embedding.Head,
    next_BMT: Int[Array, "B M T"],
    *,
    config: model_config.ModelConfig,
    position: Any,
) -> Float[Array, "B M T"]:
    """Log-probability of a token after each token fed; NaN where logits are none.

    Args:
      head: The decoder's output and the kernels of its logits.
      next_BMT: The token whose log-probability is wanted.
      config: Says how codes are scored.
      position: Scalar index in the generated part of the first token fed.
    """
    if config.codes is None:
        return _of_text(head, next_BMT.reshape(-1)).reshape(next_BMT.shape)

    def one(given: tuple[Array, Array, Array]) -> Array:
        place, hidden_BMD, next_BM = given
        alone = head._replace(hidden_BMTD=hidden_BMD[:, :, None])
        logits_BM1V = embedding.logits(alone, config=config, position=position + place)
        own, total, is_bad = _parts(logits_BM1V[:, :, 0], next_BM)
        return jnp.where(is_bad, jnp.nan, own - total)

    place_T = jnp.arange(next_BMT.shape[2])
    hidden_TBMD = jnp.moveaxis(head.hidden_BMTD, 2, 0)
    nats_TBM = jax.lax.map(one, (place_T, hidden_TBMD, jnp.moveaxis(next_BMT, 2, 0)))
    return jnp.moveaxis(nats_TBM, 0, 2)


def _of_text(head: embedding.Head, next_R: Int[Array, " R"]) -> Float[Array, " R"]:
    """As `of_next`, block by block of the vocabulary."""
    hidden_RD = head.hidden_BMTD.reshape(-1, head.hidden_BMTD.shape[-1])
    rows, vocabulary = next_R.shape[0], head.text.shape[0 if head.is_tied else 1]
    room = _LOGITS_CPU if jax.default_backend() == "cpu" else _LOGITS
    blocks = min(-(-rows * vocabulary // room), vocabulary)
    width = -(-vocabulary // blocks)

    def block(place: Array) -> tuple[Array, Array, Array]:
        # The last block ends where the vocabulary does and skips what it shares.
        start = jnp.minimum(place * width, vocabulary - width)
        columns_Dv = head.columns(start, width)
        logits_Rv = products.product(hidden_RD, columns_Dv, "float32")
        is_new_v = jnp.arange(width) >= place * width - start
        logits_Rv = jnp.where(is_new_v[None], logits_Rv, -jnp.inf)
        return _parts(logits_Rv, next_R - start)

    own_NR, total_NR, is_bad_NR = jax.lax.map(block, jnp.arange(blocks))
    nats_R = own_NR.max(axis=0) - log_sum.log_sum_exp(total_NR.T)
    return jnp.where(is_bad_NR.any(axis=0), jnp.nan, nats_R)


def _parts(
    logits: Float[Array, "*rows V"], token: Int[Array, "*rows"]
) -> tuple[Array, Array, Array]:
    """The token's logit (-inf: not here), the sum of all, and whether one is NaN."""
    width = logits.shape[-1]
    own = jnp.take_along_axis(
        logits, jnp.clip(token, 0, width - 1)[..., None], axis=-1, mode="clip"
    )[..., 0]
    own = jnp.where((token >= 0) & (token < width), own, -jnp.inf)
    return own, log_sum.log_sum_exp(logits), jnp.isnan(logits.sum(axis=-1))
