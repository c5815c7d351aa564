"""What training, decoding and scoring ask of a model.

Both families implement it as frozen dataclasses over a config, so a model can be a
static argument of ``jax.jit``. Parameters are plain nested dictionaries of float32
arrays with T5X's names and two-axis kernels.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Bool, Float, Int

from gr_jax.model import config as model_config
from gr_jax.model import packing as packings

Params = dict[str, Any]
Prompt = Any
Cache = Any


@runtime_checkable
class GenerativeModel(Protocol):
    """A conditional language model of identifiers given a source text."""

    @property
    def config(self) -> model_config.ModelConfig:
        """The frozen description that the model was made from."""
        ...

    @property
    def vocab_size(self) -> int:
        """Width of the logits, codes included."""
        ...

    @property
    def start_token(self) -> int:
        """First token of every generated part; predicts the identifier's first."""
        ...

    def init(self, key: jax.Array) -> Params:
        """New parameters (jitted; `jax.eval_shape` of it allocates nothing)."""
        ...

    def param_axes(self) -> Params:
        """The tree of parameters with `PartitionSpec` leaves of logical axis names."""
        ...

    def logits(
        self,
        params: Params,
        source_BS: Int[Array, "B S"],
        target_BL: Int[Array, "B L"],
        *,
        dropout_key: jax.Array | None = None,
        packing: packings.Packing | None = None,
    ) -> Float[Array, "B L V"]:
        """Float32 logits of every target token given those before it.

        Args:
          params: As from `init`.
          source_BS: Source tokens; zeros at the end of a row are padding and are not
            attended to.
          target_BL: Target tokens. Position ``t`` of the result predicts
            ``target_BL[:, t]``; the start token is put in front here.
          dropout_key: Turns on the config's dropout.
          packing: Where a row holds several pairs; logits of a pair are those it has
            in a row of its own.
        """
        ...

    def prefill(self, params: Params, source_BS: Int[Array, "B S"]) -> Prompt:
        """Keys and values of the source, computed once and shared by all beams.

        Leaves have a batch axis: the first, or the second under ``scan_layers``; take
        rows with `select`.
        """
        ...

    def select(self, prompt: Prompt, row_B: Int[Array, " B"]) -> Prompt:
        """The prompts of some rows, in the order asked for."""
        ...

    def empty_cache(self, batch: int, beams: int, length: int) -> Cache:
        """Room for ``length`` generated tokens of every beam.

        Leaves are ``[.., B, M, length, K, head_dim]``.
        """
        ...

    def reorder(self, cache: Cache, parent_BM: Int[Array, "B M"]) -> Cache:
        """The cache after beam ``m`` has become a child of beam ``parent_BM[:, m]``."""
        ...

    def extend(
        self,
        params: Params,
        prompt: Prompt,
        cache: Cache,
        token_BMT: Int[Array, "B M T"],
        position: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "B M T V"], Cache]:
        """Feeds T tokens a beam and returns float32 logits of what follows each.

        Args:
          params: As from `init`.
          prompt: As from `prefill`.
          cache: Holds the tokens before ``position``.
          token_BMT: The tokens; at position 0 stands the start token.
          position: Scalar index of the first of them in the generated part. The caller
            keeps ``position + T`` within the cache's length.
        """
        ...

    def nats(
        self,
        params: Params,
        prompt: Prompt,
        cache: Cache,
        token_BMT: Int[Array, "B M T"],
        next_BMT: Int[Array, "B M T"],
        position: Int[Array, ""] | int,
    ) -> tuple[Float[Array, "B M T"], Cache]:
        """Feeds T tokens a beam; the log-probability of ``next_BMT`` after each.

        As `extend` does it, but no table of logits is made. NaN where they are not
        numbers.
        """
        ...


def source_mask(source_BS: Int[Array, "B S"]) -> Bool[Array, "B S"]:
    """True up to the last token of each row that is not 0.

    Only trailing zeros are padding: LLaMA 3's vocabulary has a real token 0.
    """
    later_BS = jax.lax.cummax((source_BS != 0).astype("int32"), axis=1, reverse=True)
    return later_BS.astype(bool)


def decoder_inputs(target_BL: Int[Array, "B L"], start_token: int) -> Int[Array, "B L"]:
    """The targets moved right by one, with the start token in front."""
    return jax.numpy.pad(
        target_BL[:, :-1], ((0, 0), (1, 0)), constant_values=start_token
    )
