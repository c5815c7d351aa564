"""A dense rival from the same T5 encoder: two towers, one set of weights.

Mean pooling over the mask, one linear layer, no normalisation, inner product; the loss
is the contrastive entropy that it is judged by, on random negatives shared by a batch.
Source: Fang et al. 2024 (arXiv:2403.18684). Its scores of the stored negatives go into
the same contrastive entropy as a generative retriever's summed log-probabilities.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from gr_jax.core import errors, randomness
from gr_jax.core import progress as progress_module
from gr_jax.model import accounting, embedding, protocol, t5
from gr_jax.model import config as model_config

_BACKWARD = 1 + accounting.BACKWARD_FACTOR
_LOG_EVERY = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a dual encoder is made and trained.

    Attributes:
      steps: Updates.
      batch: Pairs an update.
      negatives: Random documents an update, shared by its pairs.
      dims: Length of a vector.
      query_length: Tokens of a query; more are cut off.
      document_length: Tokens of a document; more are cut off.
      learning_rate: Peak of AdamW's rate, after a linear warm-up.
      warmup_steps: Updates of the warm-up.
      weight_decay: AdamW's.
      clip_norm: Global gradient norm.
      seed: Of initial weights and batches.
    """

    steps: int
    batch: int = 128
    negatives: int = 256
    dims: int = 768
    query_length: int = 32
    document_length: int = 180
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights and what they cost; FLOPs count two for a multiply-add."""

    params: Any
    params_non_embedding: int
    params_total: int
    losses_nats: list[float]
    train_flops: float
    query_flops: float
    wall_s: float


class Tower(nn.Module):
    """Text to vector."""

    config: model_config.T5Config
    dims: int

    def setup(self) -> None:
        """Declares embedding, encoder and projection."""
        self.token_embedder = embedding.token_table(self.config)
        self.encoder = t5.Encoder(self.config)
        # Inner products of new vectors are of order one, so the softmax starts flat.
        make = nn.initializers.variance_scaling(
            1.0 / self.dims, "fan_in", "truncated_normal"
        )
        self.projection = nn.Dense(self.dims, use_bias=False, kernel_init=make)

    def __call__(self, source_BS: Int[Array, "B S"]) -> Float[Array, "B D"]:
        """The mean of the encoded tokens, padding left out, projected."""
        is_real_BS = protocol.source_mask(source_BS)
        embedded_BSD = embedding.embedded(source_BS, self.token_embedder(), None)
        encoded_BSD = self.encoder(embedded_BSD, is_real_BS[:, None, :])
        encoded_BSD = encoded_BSD.astype(jnp.float32)
        weight_BS1 = is_real_BS[..., None].astype(jnp.float32)
        total_BD = (encoded_BSD * weight_BS1).sum(1)
        return self.projection(total_BD / jnp.maximum(weight_BS1.sum(1), 1.0))


def padded(rows: Sequence[Sequence[int]], length: int) -> Int[np.ndarray, "B S"]:
    """Token rows as one array, cut at ``length`` and filled up with zeros."""
    table = np.zeros((len(rows), length), np.int32)
    for place, row in enumerate(rows):
        cut = list(row)[:length]
        table[place, : len(cut)] = cut
    return table


def contrast_nats(
    query_BD: Float[Array, "B D"],
    positive_BD: Float[Array, "B D"],
    negative_JD: Float[Array, "J D"],
    is_relevant_BJ: Bool[Array, "B J"],
) -> Float[Array, ""]:
    """Mean contrastive entropy of a batch; negatives that are relevant are left out."""
    positive_B1 = (query_BD * positive_BD).sum(1)[:, None]
    negative_BJ = jnp.where(is_relevant_BJ, -jnp.inf, query_BD @ negative_JD.T)
    scores_BJ = jnp.concatenate([positive_B1, negative_BJ], axis=1)
    return -jax.nn.log_softmax(scores_BJ, axis=1)[:, 0].mean()


def _optimizer(settings: Settings) -> optax.GradientTransformation:
    rate = optax.schedules.warmup_constant_schedule(
        0.0, settings.learning_rate, settings.warmup_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(rate, weight_decay=settings.weight_decay),
    )


def _vectors(
    tower: Tower, params: Any, source_BS: Int[Array, "B S"]
) -> Float[Array, "B D"]:
    found: Any = tower.apply({"params": params}, source_BS)
    return found


@partial(jax.jit, static_argnames=("tower", "settings"), donate_argnums=(0, 1))
def _step(
    params: Any,
    state: Any,
    query_BS: Int[Array, "B S"],
    document_BS: Int[Array, "B T"],
    is_relevant_BJ: Bool[Array, "B J"],
    *,
    tower: Tower,
    settings: Settings,
) -> tuple[Any, Any, Float[Array, ""]]:
    """One update; ``document_BS`` holds the batch's positives, then the negatives."""

    def loss(params: Any) -> Float[Array, ""]:
        query_BD = _vectors(tower, params, query_BS)
        document_BD = _vectors(tower, params, document_BS)
        batch = query_BS.shape[0]
        return contrast_nats(
            query_BD, document_BD[:batch], document_BD[batch:], is_relevant_BJ
        )

    nats, gradient = jax.value_and_grad(loss)(params)
    change, state = _optimizer(settings).update(gradient, state, params)
    return optax.apply_updates(params, change), state, nats


@partial(jax.jit, static_argnames=("tower", "settings"))
def _init(key: jax.Array, *, tower: Tower, settings: Settings) -> tuple[Any, Any]:
    params = nn.unbox(tower.init(key, jnp.ones((1, 1), jnp.int32))["params"])
    return params, _optimizer(settings).init(params)


@partial(jax.jit, static_argnames=("tower",))
def _encode(
    params: Any, source_BS: Int[Array, "B S"], *, tower: Tower
) -> Float[Array, "B D"]:
    return _vectors(tower, params, source_BS)


def encoder_flops(config: model_config.T5Config, dims: int, length: int) -> float:
    """FLOPs of the matrix products of one text of ``length`` padded tokens."""
    parts = accounting.parameters(config).components
    kernels = parts["encoder_attention"] + parts["encoder_mlp"]
    scores = 2 * config.encoder_layers * config.heads * config.head_dim * length
    return 2.0 * (length * (kernels + scores) + config.embed_dim * dims)


def train(
    config: model_config.T5Config,
    *,
    queries: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
    pairs_E2: Int[np.ndarray, "E 2"],
    settings: Settings,
    progress: progress_module.Progress = progress_module.SILENT,
) -> Trained:
    """Trains a dual encoder from scratch.

    Args:
      config: Of the T5 whose encoder it has; the decoder is not made.
      queries: Tokens of the training queries.
      documents: Tokens of all documents: positives and negatives.
      pairs_E2: Row of a query and row of a document relevant to it.
      settings: How.
      progress: Told about every update.

    Raises:
      InputError: If there is no pair.
      NumericError: If the loss is not finite.
    """
    if len(pairs_E2) == 0:
        raise errors.InputError("dual encoder: no (query, document) pair to train on")
    begun = time.monotonic()
    tower = Tower(config, settings.dims)
    source_QS = padded(queries, settings.query_length)
    source_NS = padded(documents, settings.document_length)
    key = jax.random.key(randomness.seed_of(settings.seed, "dual-encoder.init"))
    # Runs that differ in length or seed alone share what is compiled.
    shared = dataclasses.replace(settings, steps=0, seed=0)
    params, state = _init(key, tower=tower, settings=shared)
    known_E = np.unique(
        pairs_E2[:, 0].astype(np.int64) * len(documents) + pairs_E2[:, 1]
    )
    losses: list[float] = []
    progress.start("dual encoder", settings.steps)
    for step in range(settings.steps):
        query_B, document_B, is_relevant_BJ = _draw(
            pairs_E2, known_E, len(documents), settings, step
        )
        params, state, nats = _step(
            params,
            state,
            source_QS[query_B],
            source_NS[document_B],
            is_relevant_BJ,
            tower=tower,
            settings=shared,
        )
        if step % _LOG_EVERY == 0 or step == settings.steps - 1:
            losses.append(_finite(float(nats), step))
            progress.advance(0, contrast=losses[-1])
        progress.advance(1)
    progress.finish()
    table = sum(x.size for x in jax.tree.leaves(params["token_embedder"]))
    total = sum(x.size for x in jax.tree.leaves(params))
    per_query = encoder_flops(config, settings.dims, settings.query_length)
    per_document = encoder_flops(config, settings.dims, settings.document_length)
    texts = settings.batch + settings.negatives
    update = settings.batch * per_query + texts * per_document
    return Trained(
        params=params,
        params_non_embedding=total - table,
        params_total=total,
        losses_nats=losses,
        train_flops=_BACKWARD * settings.steps * update,
        query_flops=per_query + 2.0 * settings.dims * len(documents),
        wall_s=time.monotonic() - begun,
    )


def _finite(nats: float, step: int) -> float:
    if not np.isfinite(nats):
        raise errors.NumericError(
            errors.fault(f"dual encoder: step {step}", "loss", nats, "lower the rate")
        )
    return nats


def _draw(
    pairs_E2: np.ndarray,
    known_E: np.ndarray,
    documents: int,
    settings: Settings,
    step: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries; their positives, then random documents; which of those are relevant."""
    rng = randomness.stream(settings.seed, "dual-encoder.batch", step)
    pair_B2 = pairs_E2[rng.integers(0, len(pairs_E2), settings.batch)]
    negative_J = rng.integers(0, documents, settings.negatives)
    keys_BJ = pair_B2[:, :1].astype(np.int64) * documents + negative_J[None]
    document_B = np.concatenate([pair_B2[:, 1], negative_J])
    return pair_B2[:, 0], document_B, np.isin(keys_BJ, known_E)


def encode(
    config: model_config.T5Config,
    trained: Trained,
    rows: Sequence[Sequence[int]],
    *,
    dims: int,
    length: int,
    batch: int = 256,
) -> Float[np.ndarray, "N D"]:
    """Vectors of texts, in their order.

    Args:
      config: The one it was trained with.
      trained: From `train`.
      rows: Tokens of the texts.
      dims: Length of a vector, as in training.
      length: Tokens of a text; more are cut off.
      batch: Texts at once; the last batch is filled up, so one shape is compiled.
    """
    tower = Tower(config, dims)
    found: list[np.ndarray] = []
    for start in range(0, len(rows), batch):
        chosen = rows[start : start + batch]
        source_BS = np.zeros((batch, length), np.int32)
        source_BS[: len(chosen)] = padded(chosen, length)
        vectors_BD = np.asarray(_encode(trained.params, source_BS, tower=tower))
        found.append(vectors_BD[: len(chosen)])
    return np.concatenate(found) if found else np.zeros((0, dims), np.float32)


def search(
    query_QD: Float[np.ndarray, "Q D"],
    document_ND: Float[np.ndarray, "N D"],
    document_ids: Sequence[str],
    *,
    k: int = 100,
) -> list[list[tuple[str, float]]]:
    """The k documents of largest inner product, exactly; equal ones by document id."""
    ids = list(document_ids)
    rank_N = np.empty(len(ids), np.int64)
    rank_N[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    runs: list[list[tuple[str, float]]] = []
    for query_D in query_QD:
        score_N = document_ND @ query_D
        order = np.lexsort((rank_N, -score_N))[:k]
        runs.append([(ids[n], float(score_N[n])) for n in order])
    return runs


def pair_scores(
    query_QD: Float[np.ndarray, "Q D"],
    document_ND: Float[np.ndarray, "N D"],
    query_R: Int[np.ndarray, " R"],
    document_R: Int[np.ndarray, " R"],
) -> Float[np.ndarray, " R"]:
    """Inner products of (query, document) rows, for `contrastive.candidates_of`."""
    query_RD = query_QD[query_R].astype(np.float64)
    return np.einsum("rd,rd->r", query_RD, document_ND[document_R].astype(np.float64))
