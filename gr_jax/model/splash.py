"""Attention of whole causal rows by the TPU kernel that comes with JAX.

The kernel never holds the scores of a whole row. It takes no mask of ours: what a query
sees is given by numbers, those of the pairs that queries and keys belong to, and by
order. Its blocks are 128 by 128, so shorter rows are padded to them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.linen import spmd
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from gr_jax.model import packing as packings

BLOCK = 128


class Rows(NamedTuple):
    """Which keys a query sees: those of its own number, as far as its own place.

    The last query stands at the last key. The keys before the first query are a source
    of which every query of that number sees all.

    Attributes:
      query_BT: Numbers of the queries' pairs; 0 is padding.
      key_BS: Numbers of the keys' pairs; 0 is padding.
    """

    query_BT: Any
    key_BS: Any


def whole_rows(
    is_source_BS: Bool[Array, "B S"], tokens: int, packing: packings.Packing | None
) -> Rows:
    """Of ``tokens`` generated ones behind a source, whose keys come first."""
    if packing is None:
        source_BS = is_source_BS.astype(jnp.int32)
        target_BT = jnp.ones((len(source_BS), tokens), jnp.int32)
    else:
        source_BS, target_BT = packing.source_segment_BS, packing.target_segment_BL
    return Rows(target_BT, jnp.concatenate([source_BS, target_BT], axis=1))


def averaged(
    query_BTHd: Float[Array, "B T H d"],
    key_BSKd: Float[Array, "B S K d"],
    value_BSKd: Float[Array, "B S K d"],
    number_BT: Int[Array, "B T"],
    number_BS: Int[Array, "B S"],
) -> Float[Array, "B T H d"]:
    """The values averaged by a softmax over the keys that each query sees.

    Args:
      query_BTHd: Queries, scaled; heads in the order of their key-value heads.
      key_BSKd: Keys; ``S >= T``.
      value_BSKd: Values.
      number_BT: As `Rows.query_BT`. What padding yields is finite and means nothing.
      number_BS: As `Rows.key_BS`.
    """
    if jax.sharding.get_abstract_mesh().size <= 1:
        return _averaged(query_BTHd, key_BSKd, value_BSKd, number_BT, number_BS)
    # The compiler cannot split a kernel: every device runs it on its own part.
    heads, numbers = _specs(key_BSKd.shape[2])
    run = jax.shard_map(
        _averaged,
        in_specs=(heads, heads, heads, numbers, numbers),
        out_specs=heads,
        check_vma=False,
    )
    return run(query_BTHd, key_BSKd, value_BSKd, number_BT, number_BS)


def _specs(kv_heads: int) -> tuple[PartitionSpec, PartitionSpec]:
    """How rows and heads lie on the mesh; heads that do not divide stay whole."""
    sizes = jax.sharding.get_abstract_mesh().shape
    found = spmd.logical_to_mesh_axes(("batch", "kv_heads"))
    rows, heads = found if found is not None else (None, None)
    axes = (heads,) if isinstance(heads, str) else heads or ()
    if kv_heads % math.prod(sizes[axis] for axis in axes):
        heads = None
    return PartitionSpec(rows, None, heads), PartitionSpec(rows)


def _averaged(
    query_BTHd: Array,
    key_BSKd: Array,
    value_BSKd: Array,
    number_BT: Any,
    number_BS: Any,
) -> Array:
    # Imported here: every other start would pay for it.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    tokens, heads = query_BTHd.shape[1:3]
    keys = key_BSKd.shape[1]
    shape = (_whole_blocks(tokens), _whole_blocks(keys))
    causal = splash_attention_mask.CausalMask(shape, offset=keys - tokens)
    # Made at every trace: it holds arrays of that trace.
    kernel = splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([causal] * heads),
        head_shards=1,
        q_seq_shards=1,
    )
    numbers = splash_attention_kernel.SegmentIds(_padded(number_BT), _padded(number_BS))
    out_BHTd: Any = jax.vmap(kernel)(
        _by_head(query_BTHd), _by_head(key_BSKd), _by_head(value_BSKd), numbers
    )
    return out_BHTd.swapaxes(1, 2)[:, :tokens]


def _whole_blocks(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _padded(x: Array) -> Array:
    more = _whole_blocks(x.shape[1]) - x.shape[1]
    return jnp.pad(x, ((0, 0), (0, more), *((0, 0),) * (x.ndim - 2)))


def _by_head(x_BTHd: Array) -> Array:
    return _padded(x_BTHd).swapaxes(1, 2)
