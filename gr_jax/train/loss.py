"""Cross-entropy in nats, summed over real tokens; padding (0) never counts."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gr_jax.model import embedding

Scalar = Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
    """Sums over the real tokens of a batch.

    ``objective`` is what is differentiated: ``nats`` when there is neither label
    smoothing nor z-loss. Divide by ``tokens`` for a mean.
    """

    objective: Array
    nats: Array
    tokens: Array


def cross_entropy(
    logits_BLV: Float[Array, "B L V"],
    target_BL: Int[Array, "B L"],
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> Loss:
    r"""Sums of token losses, padding (token 0) excluded.

    With :math:`p` the softmax and :math:`Z` its normaliser, a token costs
    :math:`(1-\epsilon)(-\log p_y) + \frac{\epsilon}{V}\sum_v(-\log p_v) + c\log^2 Z`,
    the sum over the V tokens that are possible.
    The z-loss is that of PaLM (arXiv:2204.02311, section 5).

    Args:
      logits_BLV: Logits in float32.
      target_BL: Token ids; 0 is padding.
      z_loss: ``c``.
      label_smoothing: ``epsilon``.

    Example:
      >>> out = cross_entropy(jnp.zeros((1, 2, 4)), jnp.array([[3, 0]]))
      >>> round(float(out.nats), 4), int(out.tokens)
      (1.3863, 1)
    """
    vocabulary = logits_BLV.shape[-1]
    is_real_BL = target_BL != 0
    log_z_BL = jax.nn.logsumexp(logits_BLV, axis=-1)
    # A masked sum, not a gather: it splits over a sharded vocabulary and its gradient
    # is no scatter.
    is_target_BLV = (
        jax.lax.broadcasted_iota(target_BL.dtype, (1, 1, vocabulary), 2)
        == target_BL[..., None]
    )
    hit_BL = jnp.sum(jnp.where(is_target_BLV, logits_BLV, 0.0), axis=-1)
    nats_BL = log_z_BL - hit_BL
    objective_BL = nats_BL
    if label_smoothing:
        # Impossible tokens (-inf, or a per-level head's other levels) get no mass.
        is_possible_BLV = logits_BLV > 0.5 * embedding.IMPOSSIBLE
        even_BL = log_z_BL - jnp.mean(logits_BLV, axis=-1, where=is_possible_BLV)
        objective_BL = (1 - label_smoothing) * nats_BL + label_smoothing * even_BL
    if z_loss:
        objective_BL = objective_BL + z_loss * log_z_BL**2
    return Loss(
        objective=jnp.sum(jnp.where(is_real_BL, objective_BL, 0.0)),
        nats=jnp.sum(jnp.where(is_real_BL, nats_BL, 0.0)),
        tokens=jnp.sum(is_real_BL, dtype=jnp.int32),
    )
