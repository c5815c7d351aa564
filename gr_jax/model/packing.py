"""Several (source, target) pairs in one row, none of which sees another.

Sources stand end to end in the source's row and targets in the target's, numbered from
1; a pair's target attends to its own source alone. Since a segment is contiguous,
offsets inside it are those of the row: T5's relative bias needs no change. LLaMA's
angles count from the beginning of each pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

FIELDS = (
    "source_segment_BS",
    "source_position_BS",
    "target_segment_BL",
    "target_position_BL",
)


_T5X_FIELDS = (
    "encoder_segment_ids",
    "encoder_positions",
    "decoder_segment_ids",
    "decoder_positions",
)


class Packing(NamedTuple):
    """Which pair every token belongs to, and where in it the token stands.

    Attributes:
      source_segment_BS: From 1; 0 is padding.
      source_position_BS: From 0 in each source.
      target_segment_BL: The number of the target's source; 0 is padding.
      target_position_BL: From 0 in each target.
    """

    source_segment_BS: Any
    source_position_BS: Any
    target_segment_BL: Any
    target_position_BL: Any


def of_batch(batch: Mapping[str, Any]) -> Packing | None:
    """The packing of a batch, or None where each row holds one pair."""
    if FIELDS[0] not in batch:
        return None
    return Packing(*(batch[name] for name in FIELDS))


def of_t5x(batch: Mapping[str, Any]) -> Packing | None:
    """The packing of a batch under the names that SeqIO's converters and T5X use.

    SeqIO numbers segments and positions as `Packing` does, source and target of a pair
    alike.
    """
    if _T5X_FIELDS[0] not in batch:
        return None
    return Packing(*(batch[name] for name in _T5X_FIELDS))


def own_segment(
    query_BT: Int[Array, "B T"], key_BS: Int[Array, "B S"]
) -> Bool[Array, "B T S"]:
    """True where a key is of the query's pair; padding sees nothing."""
    is_same = query_BT[:, :, None] == key_BS[:, None, :]
    return is_same & (key_BS != 0)[:, None, :]


def source_lengths(packing: Packing) -> Int[Array, "B L"]:
    """For every target token, the length of its pair's source."""
    is_own_BLS = own_segment(packing.target_segment_BL, packing.source_segment_BS)
    return jnp.sum(is_own_BLS, axis=-1, dtype=jnp.int32)


def decoder_inputs(
    target_BL: Int[Array, "B L"], start_token: int, packing: Packing
) -> Int[Array, "B L"]:
    """The targets moved right by one, with the start token in front of each."""
    before_BL = jnp.pad(target_BL[:, :-1], ((0, 0), (1, 0)))
    is_first_BL = packing.target_position_BL == 0
    return jnp.where(is_first_BL, jnp.asarray(start_token, before_BL.dtype), before_BL)
