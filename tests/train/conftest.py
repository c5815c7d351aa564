"""A model small enough to compile in a second, and endless batches for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec


@dataclasses.dataclass(frozen=True)
class BagModel:
    """Predicts each token from the one before and the bag of source tokens."""

    vocab_size: int = 32
    width: int = 16
    dropout_rate: float = 0.0
    start_token: int = 0
    poison: int | None = None

    def init(self, key: jax.Array) -> dict[str, Any]:
        keys = jax.random.split(key, 3)
        return {
            "token_embedder": {
                "embedding": jax.random.normal(keys[0], (self.vocab_size, self.width))
            },
            "mlp": {
                "wi": {"kernel": 0.2 * jax.random.normal(keys[1], (self.width, 32))},
                "wo": {"kernel": 0.2 * jax.random.normal(keys[2], (32, self.width))},
            },
            "norm": {"scale": jnp.ones((self.width,))},
        }

    def param_axes(self) -> dict[str, Any]:
        return {
            "token_embedder": {"embedding": PartitionSpec("vocab", "embed")},
            "mlp": {
                "wi": {"kernel": PartitionSpec("embed", "mlp")},
                "wo": {"kernel": PartitionSpec("mlp", "embed")},
            },
            "norm": {"scale": PartitionSpec("embed")},
        }

    def logits(
        self,
        params: dict[str, Any],
        source_BS: jax.Array,
        target_BL: jax.Array,
        *,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        table = params["token_embedder"]["embedding"]
        is_real = (source_BS != 0)[..., None]
        bag = jnp.sum(jnp.where(is_real, table[source_BS], 0.0), axis=1)
        before = jnp.pad(target_BL[:, :-1], ((0, 0), (1, 0)))
        hidden = (table[before] + bag[:, None]) * params["norm"]["scale"][None, None]
        if dropout_key is not None and self.dropout_rate:
            kept = jax.random.bernoulli(
                dropout_key, 1 - self.dropout_rate, hidden.shape
            )
            hidden = jnp.where(kept, hidden / (1 - self.dropout_rate), 0.0)
        inner = jax.nn.gelu(hidden @ params["mlp"]["wi"]["kernel"])
        logits = (inner @ params["mlp"]["wo"]["kernel"]) @ table.T
        if self.poison is None:
            return logits
        return jnp.where(jnp.any(source_BS == self.poison), jnp.nan, logits)


def batches(start: int, rows: int = 16) -> Iterator[dict[str, np.ndarray]]:
    step = start
    while True:
        generator = np.random.default_rng(step)
        source = generator.integers(1, 32, (rows, 6), dtype=np.int32)
        target = source[:, :4].copy()
        target[: rows // 2, 3] = 0
        yield {"source_BS": source, "target_BL": target}
        step += 1


@pytest.fixture
def tiny_model() -> Callable[..., BagModel]:
    return BagModel


@pytest.fixture
def endless() -> Callable[..., Iterator[dict[str, np.ndarray]]]:
    return batches
