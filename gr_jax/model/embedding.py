"""Tokens in and logits out: the vocabulary's tables, and codes' tables of their own."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from gr_jax.model import config as model_config
from gr_jax.model import layers, products

# Finite, so that the loss of a padded position times its zero weight stays zero.
IMPOSSIBLE = float(jnp.finfo(jnp.float32).min) / 2
_EOS = 1


class Head(NamedTuple):
    """What logits are made of.

    Attributes:
      hidden_BMTD: The decoder's output, scaled as the kernels ask for.
      text: Kernel ``[D, V]`` of the text part, or None.
      codes: Kernels of the code levels ``[level, D, code]``, or None.
      is_tied: Whether ``text`` is the embedding instead, ``[V, D]``.
    """

    hidden_BMTD: Any
    text: Any
    codes: Any = None
    is_tied: bool = False

    def columns(self, first: Int[Array, ""], count: int) -> Float[Array, "D v"]:
        """Some columns of the text part's kernel."""
        axis = 0 if self.is_tied else 1
        # Sliced as it lies: a slice of the transpose would transpose the whole table.
        part = jax.lax.dynamic_slice_in_dim(self.text, first, count, axis=axis)
        return part.T if self.is_tied else part


def token_table(config: model_config.ModelConfig) -> layers.Table:
    """The embedding of text tokens (and of codes that have no tables of their own)."""
    shape = (model_config.text_vocab_size(config), config.embed_dim)
    make = nn.initializers.normal(config.embedding_std)
    return layers.Table("embedding", shape, ("vocab", "embed"), make, config.dtype)


def text_head(config: model_config.ModelConfig) -> layers.Table | None:
    """The kernel of text logits; None where it is tied or there are none."""
    if config.tied_head or not has_text_logits(config):
        return None
    columns = ("vocab", model_config.text_vocab_size(config))
    return layers.kernel(("embed", config.embed_dim), columns, dtype=config.dtype)


def has_text_logits(config: model_config.ModelConfig) -> bool:
    """Whether text tokens are scored at all (RIPOR's head scores codes alone)."""
    return config.codes is None or config.codes.head == "joint"


def code_embedding(config: model_config.ModelConfig) -> layers.Table | None:
    """Input table of codes, ``[level, code, D]``, or None."""
    if config.codes is None:
        return None
    shape = (config.codes.levels, config.codes.size, config.embed_dim)
    make = nn.initializers.normal(config.embedding_std)
    axes = ("code_levels", "vocab", "embed")
    return layers.Table("embedding", shape, axes, make, config.dtype)


def code_head(config: model_config.ModelConfig) -> layers.Table | None:
    """Output table of codes, ``[level, D, code]``, or None."""
    if config.codes is None:
        return None
    shape = (config.codes.levels, config.embed_dim, config.codes.size)
    make = nn.initializers.normal(config.embed_dim**-0.5)
    axes = ("code_levels", "embed", "vocab")
    return layers.Table("kernel", shape, axes, make, config.dtype)


def embedded(
    token: Int[Array, ...],
    text_VD: Float[Array, "V D"],
    codes: Float[Array, "levels codes D"] | None,
) -> Float[Array, ...]:
    """The vectors of tokens, text and codes mixed."""
    text = jnp.take(text_VD, token, axis=0, mode="clip")
    if codes is None:
        return text
    code_VD = codes.reshape(-1, codes.shape[-1])
    first = text_VD.shape[0]
    code = jnp.take(code_VD, token - first, axis=0, mode="clip")
    return jnp.where((token >= first)[..., None], code, text)


def logits(
    head: Head,
    *,
    config: model_config.ModelConfig,
    position: Any,
) -> Float[Array, "B M T V"]:
    """Float32 scores of the whole vocabulary.

    Args:
      head: The decoder's output and the kernels.
      config: Says how codes are scored.
      position: Index in the generated part of the first token fed, or where several
        targets share a row, the place of every token in its own, ``[B, T]``.
    """
    hidden_BMTD, text, codes, is_tied = head
    if text is not None:
        text_DV = text.T if is_tied else text
        text = products.product(hidden_BMTD, text_DV, "float32")
    if config.codes is None:
        assert text is not None
        return text
    assert codes is not None
    if text is not None:
        columns = codes.transpose(1, 0, 2).reshape(codes.shape[1], -1)
        code = products.product(hidden_BMTD, columns, "float32")
        return jnp.concatenate([text, code], axis=-1)
    return _level_logits(hidden_BMTD, codes, config=config, position=position)


def _level_logits(
    hidden_BMTD: Float[Array, "B M T D"],
    codes: Float[Array, "levels D codes"],
    *,
    config: model_config.ModelConfig,
    position: Any,
) -> Float[Array, "B M T V"]:
    levels = codes.shape[0]
    if jnp.ndim(position) == 2:
        # Rows differ in what stands where: every level is scored, one is kept.
        level_BT = position
        scores = jnp.einsum(
            "bmtd,ldc->bmtlc", hidden_BMTD, codes, preferred_element_type=jnp.float32
        )
    else:
        level_BT = (position + jnp.arange(hidden_BMTD.shape[2]))[None]
        own_TDC = jnp.take(codes, level_BT[0], axis=0, mode="clip")
        scores = jnp.einsum(
            "bmtd,tdc->bmtc", hidden_BMTD, own_TDC, preferred_element_type=jnp.float32
        )[..., None, :]
    is_own_BTN = level_BT[..., None] == jnp.arange(levels)[None, None]
    code = jnp.where(is_own_BTN[:, None, :, :, None], scores, IMPOSSIBLE)
    code = code.reshape(*hidden_BMTD.shape[:-1], -1)
    # After the last level the end is certain, so an end token costs nothing.
    is_end_BTV = (level_BT[..., None] >= levels) & (
        jnp.arange(model_config.text_vocab_size(config))[None, None, :] == _EOS
    )
    text = jnp.where(is_end_BTV, 0.0, IMPOSSIBLE)[:, None]
    text = jnp.broadcast_to(text, (*hidden_BMTD.shape[:-1], text.shape[-1]))
    return jnp.concatenate([text, code], axis=-1)
