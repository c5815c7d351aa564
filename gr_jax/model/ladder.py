"""Tiny models for studies on a CPU, in steps that keep the proportions of the families.

A size is named by its strict parameters (no embedding, no head). Width over depth stays
within a factor of two around 32 for T5 (layers of one stack) and 24 for LLaMA; a head
is 16 wide, so heads grow with width; the feed-forward width is 8/3 of the width, which
gives three kernels the parameters of the classic two.
"""

from __future__ import annotations

from typing import Any, Literal

from gr_jax.core import errors
from gr_jax.model import config as model_config

Family = Literal["t5", "llama"]

HEAD_DIM = 16
# (layers of each stack, width), by size name.
T5_SIZES = {
    "30k": (1, 32),
    "65k": (1, 48),
    "130k": (2, 48),
    "230k": (2, 64),
    "360k": (2, 80),
    "540k": (3, 80),
    "1m": (3, 112),
    "1.8m": (4, 128),
    "2.9m": (5, 144),
    "5.2m": (5, 192),
}
LLAMA_SIZES = {
    "25k": (2, 32),
    "55k": (2, 48),
    "150k": (3, 64),
    "230k": (3, 80),
    "440k": (4, 96),
    "1m": (5, 128),
    "1.8m": (6, 160),
    "2.6m": (7, 176),
    "4.8m": (8, 224),
}


def size_names(family: Family) -> list[str]:
    """The ladder's sizes, smallest first."""
    return list(T5_SIZES if family == "t5" else LLAMA_SIZES)


def build(
    family: Family, size: str, *, vocab_size: int, start_token: int = 3, **options: Any
) -> model_config.ModelConfig:
    """The config of one size.

    Args:
      family: ``t5`` (1.1) or ``llama`` (2).
      size: One of `size_names`.
      vocab_size: Text pieces and codes.
      start_token: What LLaMA's generated part begins with; T5's begins with 0.
      **options: Any other field of the family's config, such as ``dtype``.

    Raises:
      UsageError: If the family or the size is unknown.

    Example:
      >>> build("t5", "230k", vocab_size=4096).embed_dim
      64
    """
    if family not in ("t5", "llama"):
        raise errors.UsageError(
            errors.fault("ladder", "family", family, "use t5 or llama")
        )
    sizes = T5_SIZES if family == "t5" else LLAMA_SIZES
    if size not in sizes:
        remedy = f"use one of {', '.join(sizes)}"
        raise errors.UsageError(errors.fault("ladder", "size", size, remedy))
    layers, width = sizes[size]
    shape: dict[str, Any] = {
        "vocab_size": vocab_size,
        "embed_dim": width,
        "mlp_dim": 8 * round(width / 3),
        "heads": width // HEAD_DIM,
        "head_dim": HEAD_DIM,
        **options,
    }
    if family == "t5":
        return model_config.T5Config(
            encoder_layers=layers, decoder_layers=layers, **shape
        )
    return model_config.LlamaConfig(
        layers=layers, kv_heads=width // HEAD_DIM, start_token=start_token, **shape
    )
