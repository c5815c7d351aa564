"""Our models for `python -m t5x.train`, `t5x.eval` and `t5x.infer`.

T5X asks for methods, not for a base class, so `Model` imports none of it until a method
needs its metrics. T5X is not on the package index: install it from its repository
beside this package. Its checkpoints of our models and our own have the same layout and
names (``target/...``), so either trainer can start from the other's parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.linen import partitioning
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from gr_jax.core import errors
from gr_jax.decode import beam, prefix_tree, selection
from gr_jax.identifiers import constraint_index
from gr_jax.model import config as model_config
from gr_jax.model import families, protocol
from gr_jax.train import loss as losses

Batch = Mapping[str, jax.Array]
DecodeFn = Callable[..., tuple[Array, Array]]
_SOURCE, _TARGET = "encoder_input_tokens", "decoder_target_tokens"


class Model:
    """What T5X's trainer, evaluator and `infer` call, for both families.

    Both read SeqIO's encoder-decoder batches: a decoder-only model takes its source
    and its target apart, too. Packed batches are refused.

    Args:
      config: Of the model.
      input_vocabulary: SeqIO vocabulary of sources.
      output_vocabulary: SeqIO vocabulary of targets.
      optimizer_def: T5X's own optimizer, injected by gin; may be None to decode.
      decode_fn: From ``(model, params, source_BS)`` to tokens ``[B, L]`` and scores
        ``[B]``; `constrained` makes one. Without it `predict_batch` is refused.
      label_smoothing: As in `gr_jax.train`.
      z_loss: As in `gr_jax.train`.
    """

    def __init__(
        self,
        config: model_config.ModelConfig,
        input_vocabulary: Any,
        output_vocabulary: Any,
        optimizer_def: Any = None,
        *,
        decode_fn: DecodeFn | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
    ) -> None:
        # Imported here: SeqIO brings TensorFlow.
        import seqio

        self.FEATURE_CONVERTER_CLS = seqio.EncDecFeatureConverter
        self.model = families.build(config)
        self.module = self.model
        self.input_vocabulary = input_vocabulary
        self.output_vocabulary = output_vocabulary
        self.optimizer_def = optimizer_def
        self.decode_fn = decode_fn
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss

    def get_initial_variables(
        self,
        rng: jax.Array,
        input_shapes: Mapping[str, Any],
        input_types: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """``params`` and ``params_axes``, the names T5X partitions by."""
        del input_shapes, input_types
        return {"params": self.model.init(rng), "params_axes": params_axes(self.model)}

    def loss_fn(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[Float[Array, ""], Any]:
        """Mean objective a real target token, and T5X's metrics."""
        # By name: there are no stubs, and no package where the user brought none.
        t5x_models = importlib.import_module("t5x.models")

        logits_BLV, loss = self._loss(params, batch, dropout_rng)
        mean = loss.objective / jnp.maximum(loss.tokens, 1)
        is_real_BL = batch[_TARGET] != 0
        metrics = t5x_models.compute_base_metrics(
            logits=logits_BLV,
            targets=batch[_TARGET],
            mask=is_real_BL,
            loss=loss.objective,
            segment_ids={
                "encoder_input_tokens": batch[_SOURCE] != 0,
                "decoder_target_tokens": is_real_BL,
            },
        )
        return mean, metrics

    def eval_fn(self, params: Any, batch: Batch) -> tuple[Float[Array, ""], Any]:
        """`loss_fn` without dropout."""
        return self.loss_fn(params, batch, None)

    def score_batch(
        self, params: Any, batch: Batch, return_intermediates: bool = False
    ) -> Float[Array, " B"]:
        """Summed log-probability of each target, padding excluded.

        Raises:
          UsageError: If intermediates are asked for.
        """
        if return_intermediates:
            raise errors.UsageError("t5x: score_batch: intermediates are not kept")
        logits_BLV = self._logits(params, batch, None)
        logp_BLV = jax.nn.log_softmax(logits_BLV)
        target_BL = batch[_TARGET]
        logp_BL = jnp.take_along_axis(logp_BLV, target_BL[..., None], axis=-1)[..., 0]
        return jnp.sum(jnp.where(target_BL != 0, logp_BL, 0.0), axis=-1)

    def predict_batch(
        self, params: Any, batch: Batch, rng: jax.Array | None = None
    ) -> Array:
        """Tokens of the best identifier of each query."""
        return self.predict_batch_with_aux(params, batch, rng)[0]

    def predict_batch_with_aux(
        self, params: Any, batch: Batch, rng: jax.Array | None = None, **options: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Tokens of the best identifier of each query, and their scores.

        Raises:
          UsageError: If the model was made without ``decode_fn``.
        """
        del rng, options
        if self.decode_fn is None:
            raise errors.UsageError(
                "t5x: predict_batch: no decode_fn: bind gr_jax.interop.t5x.constrained"
            )
        token_BL, score_B = self.decode_fn(self.model, params, batch[_SOURCE])
        return token_BL, {"scores": score_B}

    def _loss(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None
    ) -> tuple[Array, losses.Loss]:
        logits_BLV = self._logits(params, batch, dropout_rng)
        loss = losses.cross_entropy(
            logits_BLV,
            batch[_TARGET],
            z_loss=self.z_loss,
            label_smoothing=self.label_smoothing,
        )
        return logits_BLV, loss

    def _logits(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None
    ) -> Float[Array, "B L V"]:
        if any(name.endswith("_segment_ids") for name in batch):
            raise errors.UsageError(
                "t5x: batch: packed: bind PACK = False (identifiers are short)"
            )
        # T5X's batches are int32; its dummy batch of compilation need not be.
        source, target = (batch[name].astype(jnp.int32) for name in (_SOURCE, _TARGET))
        return self.model.logits(params, source, target, dropout_key=dropout_rng)


def params_axes(model: protocol.GenerativeModel) -> dict[str, Any]:
    """Logical axis names as T5X keeps them: leaves renamed ``..._axes``."""

    def renamed(tree: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in tree.items():
            if isinstance(value, PartitionSpec):
                metadata = partitioning.AxisMetadata(names=tuple(value))
                found[f"{name}_axes"] = metadata
            else:
                found[name] = renamed(value)
        return found

    return renamed(model.param_axes())


def constrained(index: str, *, beams: int = 16, max_length: int = 16) -> DecodeFn:
    """A ``decode_fn`` that can only write identifiers of a prefix tree.

    Args:
      index: Folder that `gr-jax index` wrote.
      beams: Beams of the search.
      max_length: Tokens of the longest identifier.
    """
    constraint = prefix_tree.PrefixTreeConstraint.of(constraint_index.load(Path(index)))
    settings = selection.Settings(beams=beams, max_length=max_length)

    def decode(
        model: protocol.GenerativeModel, params: Any, source_BS: Array
    ) -> tuple[Array, Array]:
        found = beam.search(
            model,
            params,
            model.prefill(params, source_BS.astype(jnp.int32)),
            constraint,
            settings=settings,
            batch=source_BS.shape[0],
        )
        return found.token_BML[:, 0], found.logprob_BM[:, 0]

    return decode
