"""Both families at a size that compiles in a second, with parameters of order one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gr_jax.model import config as model_config
from gr_jax.model import protocol

VOCAB = 31
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "embed_dim": 16,
    "mlp_dim": 24,
    "heads": 4,
    "head_dim": 4,
}
T5 = model_config.T5Config(
    **_SHAPE,
    encoder_layers=2,
    decoder_layers=2,
    relative_buckets=8,
    relative_distance=6,
)
LLAMA = model_config.LlamaConfig(**_SHAPE, layers=2, kv_heads=2, start_token=3)


def random_params(model: protocol.GenerativeModel) -> protocol.Params:
    """Parameters of order one, so that every part of the network can be seen."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.normal(size=leaf.shape) * (0.4 if len(leaf.shape) > 1 else 1.0),
            jnp.float32,
        ),
        shapes,
    )
