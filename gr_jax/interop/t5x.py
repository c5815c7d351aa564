"""Our models for `python -m t5x.train`, `t5x.eval` and `t5x.infer`.

`Model` is a `t5x.models.BaseTransformerModel`, made when it is first asked for: T5X is
not on the package index, so nothing here imports it before. T5X's loss, metrics and
trainer are used as they are; `Methods` adds what T5X leaves to a model. Its checkpoints
of our models and our own have one layout and the same names (``target/...``), so either
trainer can start from the other's parameters.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import core
from flax.linen import partitioning
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from gr_jax.core import errors
from gr_jax.interop import t5x_decoding
from gr_jax.model import config as model_config
from gr_jax.model import families, protocol
from gr_jax.model import packing as packings

Batch = Mapping[str, jax.Array]
Aux = dict[str, Any]
_SOURCE, _TARGET = "encoder_input_tokens", "decoder_target_tokens"
_WEIGHTS = "decoder_loss_weights"


def __getattr__(name: str) -> Any:
    """`Model`, which needs T5X to be made."""
    if name == "Model":
        return _model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _model_class() -> type:
    try:
        models = importlib.import_module("t5x.models")
    except ImportError as error:
        raise errors.UsageError(
            f"t5x: cannot be imported ({error}): docs/t5x.md says how to set it up"
        ) from None
    text = f"{Methods.__doc__}"
    members = {"__module__": __name__, "__doc__": text}
    return type("Model", (Methods, models.BaseTransformerModel), members)


class Methods:
    """What T5X leaves to a model, for both families, over any base class like T5X's.

    Both families read SeqIO's encoder-decoder batches: a decoder-only model takes its
    source and its target apart, too. Packed batches (``pack = True``) are scored and
    learned from as rows of single pairs are; decoding needs a row a query.

    Args:
      config: Of the model.
      input_vocabulary: SeqIO vocabulary of sources.
      output_vocabulary: SeqIO vocabulary of targets.
      optimizer_def: T5X's own optimizer, injected by gin; may be None to decode.
      decode_fn: `t5x_decoding.constrained`, or a decoding function of T5X's.
      label_smoothing: As in T5X.
      z_loss: As in T5X.
      loss_normalizing_factor: As in T5X, whose default is None, a sum. Here it is what
        `gr_jax.train` does: the mean over real target tokens.
      default_decoder_params: T5X's `DecoderParams`; `decode_fn` decides if None.

    Raises:
      UsageError: If labels are to be smoothed over a head that scores one level.
    """

    FEATURE_CONVERTER_CLS: Any
    _decode_fn: Any
    output_vocabulary: Any

    def __init__(
        self,
        config: model_config.ModelConfig,
        input_vocabulary: Any,
        output_vocabulary: Any,
        optimizer_def: Any = None,
        *,
        decode_fn: Any = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: Any = "NUM_REAL_TARGET_TOKENS",
        default_decoder_params: Any = None,
    ) -> None:
        # Imported here: SeqIO brings TensorFlow.
        import seqio

        if label_smoothing and config.codes and config.codes.head == "level":
            remedy = "T5X smooths over impossible tokens: use 0 or codes.head joint"
            raise errors.UsageError(
                errors.fault("t5x", "label_smoothing", label_smoothing, remedy)
            )
        self.FEATURE_CONVERTER_CLS = seqio.EncDecFeatureConverter
        self.model = families.build(config)
        self._default_decoder_params = default_decoder_params
        given = {
            "module": families.module(config),
            "input_vocabulary": input_vocabulary,
            "output_vocabulary": output_vocabulary,
            "optimizer_def": optimizer_def,
            "decode_fn": decode_fn,
            "label_smoothing": label_smoothing,
            "z_loss": z_loss,
            "loss_normalizing_factor": loss_normalizing_factor,
        }
        super().__init__(**given)  # T5X's base class comes next.

    def get_initial_variables(
        self,
        rng: jax.Array,
        input_shapes: Mapping[str, Any],
        input_types: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """``params`` and ``params_axes``, the names T5X partitions by."""
        del input_shapes, input_types
        return {"params": self.model.init(rng), "params_axes": params_axes(self.model)}

    def score_batch(
        self, params: Any, batch: Batch, return_intermediates: bool = False
    ) -> Any:
        """Summed log-probability of each row's targets, ``[B]``, padding excluded.

        With ``return_intermediates`` also, under T5X's names, targets, weights and the
        log-probability of each token.
        """
        logp_BLV = jax.nn.log_softmax(self._compute_logits(params, batch))
        target_BL = batch[_TARGET]
        weight_BL = batch.get(_WEIGHTS, target_BL != 0)
        logp_BL = jnp.take_along_axis(logp_BLV, target_BL[..., None], axis=-1)[..., 0]
        # Not a product: an impossible token behind the end would make it NaN.
        score_BL = jnp.where(weight_BL != 0, logp_BL * weight_BL, 0.0)
        if not return_intermediates:
            return score_BL.sum(axis=-1)
        kept = {
            "target_tokens": (target_BL,),
            "loss_weights": (weight_BL,),
            "token_scores": (score_BL,),
        }
        return score_BL.sum(axis=-1), {"decoder": kept}

    def predict_batch_with_aux(
        self,
        params: Any,
        batch: Batch,
        rng: jax.Array | None = None,
        decoder_params: Mapping[str, Any] | None = None,
        return_all_decodes: bool | None = None,
        num_decodes: int | None = None,
        prompt_with_targets: bool = False,
    ) -> tuple[Int[Array, ...], Aux]:
        """What the decoder finds, in T5X's order: the best beam last.

        Args:
          params: Of the model.
          batch: As the feature converter makes it.
          rng: For samples; becomes the decoder's ``decode_rng``.
          decoder_params: Further arguments of the decoder.
          return_all_decodes: All beams instead of the best.
          num_decodes: Beams.
          prompt_with_targets: Not offered: targets have no forced beginnings here.

        Returns:
          With ``return_all_decodes``, tokens ``[B, M, L]`` and ``{"scores": [B, M]}``.
          Else tokens ``[B, L]`` and ``scores`` ``[B]`` of the best beam, and all beams
          as ``decodes`` and ``decode_scores``, as metrics of recall need them. A
          beam that found nothing has zeros and T5X's lowest score, -1e7.

        Raises:
          UsageError: If there is no decoder, or it cannot do what is asked.
        """
        if packings.of_t5x(batch) is not None:
            raise errors.UsageError(
                "t5x: predict_batch: batch: packed: bind DatasetConfig.pack = False"
            )
        if self._decode_fn is None or prompt_with_targets:
            lack = "prompt" if prompt_with_targets else "decode_fn"
            raise errors.UsageError(
                f"t5x: predict_batch: no {lack}: bind decode_fn to "
                "@t5x_decoding.constrained() and prompt_with_targets to False"
            )
        defaults = self._default_decoder_params
        if return_all_decodes is None:
            return_all_decodes = bool(getattr(defaults, "return_all_decodes", False))
        beams = num_decodes or getattr(defaults, "num_decodes", None)
        beams = beams or getattr(self._decode_fn, "beams", 1)
        options = dict(decoder_params or {})
        if rng is not None:
            if options.get("decode_rng") is not None:
                raise errors.UsageError("t5x: decode_rng: given twice: give rng alone")
            options["decode_rng"] = rng
        options.setdefault("eos_id", getattr(self.output_vocabulary, "eos_id", 1) or 1)
        token_BML, score_BM = t5x_decoding.run(
            self._decode_fn,
            self.model,
            params,
            batch[_SOURCE].astype(jnp.int32),
            length=batch[_TARGET].shape[1],
            num_decodes=beams,
            options=options,
        )
        if return_all_decodes:
            return token_BML, {"scores": score_BM}
        every = {"decodes": token_BML, "decode_scores": score_BM}
        return token_BML[:, -1], {"scores": score_BM[:, -1], **every}

    def _compute_logits(
        self, params: Any, batch: Batch, dropout_rng: jax.Array | None = None
    ) -> Float[Array, "B L V"]:
        """Teacher-forced logits; T5X's base class makes loss and metrics of them."""
        # T5X's batches are int32; its dummy batch of compilation need not be.
        whole = {name: rows.astype(jnp.int32) for name, rows in batch.items()}
        return self.model.logits(
            params,
            whole[_SOURCE],
            whole[_TARGET],
            dropout_key=dropout_rng,
            packing=packings.of_t5x(whole),
        )


def logical_factor_rules() -> Any:
    """T5X's rules of what its Adafactor factors, with our levels of codes a batch."""
    known = importlib.import_module("t5x.adafactor").standard_logical_factor_rules()
    return core.freeze({**known, "code_levels": "batch"})


def parameters_only(
    state_dict: Mapping[str, Any],
    target_state_dict: Mapping[str, Any],
    *,
    is_resuming: bool = False,
) -> Mapping[str, Any]:
    """A checkpoint's parameters and step, without its optimizer's state.

    For T5X's ``state_transformation_fns``, with ``fallback_to_scratch``: our trainer's
    optimizers are optax's and T5X's has other states. A run that goes on keeps all.
    """
    del target_state_dict
    if is_resuming:
        return state_dict
    step = {"step": state_dict["state"]["step"]} if "state" in state_dict else {}
    return {"target": state_dict["target"], "state": step}


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
