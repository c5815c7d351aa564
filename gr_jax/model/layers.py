"""Blocks that both families are made of: thin Linen modules over pure functions.

Kernels have two axes as in T5X (``embed x joined_kv``); heads appear by reshaping.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import spmd
from jaxtyping import Array, Float

from gr_jax.model import attention, cache, products
from gr_jax.model import config as model_config
from gr_jax.model import packing as packings

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
    "linear": lambda x: x,
}


def rms_normalised(
    x: Float[Array, "*rows D"], scale_D: Float[Array, " D"], *, epsilon: float
) -> Float[Array, "*rows D"]:
    """Rows divided by their root mean square (in float32), times a learned scale."""
    return cast(Array, _normalised(x, scale_D, epsilon))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _normalised(x: Array, scale_D: Array, epsilon: float) -> Array:
    return _normalised_forward(x, scale_D, epsilon)[0]


def _normalised_forward(x: Array, scale_D: Array, epsilon: float) -> tuple[Array, Any]:
    wide = x.astype(jnp.float32)
    rate = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    scale = scale_D.reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype)
    return (wide * rate).astype(x.dtype) * scale, (x, scale_D, rate)


def _normalised_backward(
    epsilon: float, kept: Any, gradient: Array
) -> tuple[Array, Array]:
    del epsilon
    x, scale_D, rate = kept
    wide, to_out = x.astype(jnp.float32), gradient.astype(jnp.float32)
    scale = scale_D.reshape((1,) * (x.ndim - 1) + (-1,)).astype(jnp.float32)
    rows = tuple(range(x.ndim - 1))
    to_scale_D = jnp.sum(to_out * (wide * rate), axis=rows)
    to_normalised = to_out * scale
    pull = products.inner(to_normalised, wide) * rate**3 / x.shape[-1]
    to_x = to_normalised * rate - wide * pull
    return to_x.astype(x.dtype), to_scale_D.astype(scale_D.dtype)


_normalised.defvjp(_normalised_forward, _normalised_backward)


def constrain(x: Array) -> Array:
    """Asks for the sharding of activations; a no-op without a mesh and rules.

    Beams and generated tokens stay whole on a device; only batch and width are split.
    """
    axes = ("batch", *(None,) * (x.ndim - 2), "activation_embed")
    return spmd.with_logical_constraint(x, axes)


def fan_in_normal(scale: float = 1.0) -> nn.initializers.Initializer:
    """Truncated normal of variance ``scale / fan_in``."""
    return nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")


def declared(
    module: nn.Module,
    leaf: str,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    make: nn.initializers.Initializer,
) -> Array:
    """A float32 parameter of a module, its axes named for sharding."""
    boxed = nn.with_logical_partitioning(make, axes)
    value: Any = module.param(leaf, boxed, shape, jnp.float32)
    return value


class Table(nn.Module):
    """One parameter under its T5X leaf name, in the compute dtype."""

    leaf: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    make: nn.initializers.Initializer
    dtype: str

    @nn.compact
    def __call__(self) -> Array:
        """The parameter."""
        return declared(self, self.leaf, self.shape, self.axes, self.make).astype(
            self.dtype
        )


def kernel(
    rows: tuple[str, int],
    columns: tuple[str, int],
    *,
    dtype: str,
    make: nn.initializers.Initializer | None = None,
) -> Table:
    """A two-axis kernel: each axis by its logical name and its size."""
    shape, axes = (rows[1], columns[1]), (rows[0], columns[0])
    return Table("kernel", shape, axes, make or fan_in_normal(), dtype)


class Norm(nn.Module):
    """T5's and LLaMA's layer norm: no mean, no offset."""

    config: model_config.ModelConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalised activations."""
        ones = nn.initializers.ones_init()
        scale_D = declared(self, "scale", (self.config.embed_dim,), ("embed",), ones)
        return rms_normalised(x, scale_D, epsilon=self.config.norm_epsilon)


class Attention(nn.Module):
    """The four kernels of multi-head attention and the shapes between them."""

    config: model_config.ModelConfig
    query_scale: float = 1.0

    def setup(self) -> None:
        """Declares the kernels."""
        c = self.config
        embed = ("embed", c.embed_dim)
        joined = ("joined_kv", c.heads * c.head_dim)
        joined_kv = ("joined_kv", c.kv_heads * c.head_dim)
        narrow = fan_in_normal(self.query_scale)
        self.query = kernel(embed, joined, dtype=c.dtype, make=narrow)
        self.key = kernel(embed, joined_kv, dtype=c.dtype)
        self.value = kernel(embed, joined_kv, dtype=c.dtype)
        self.out = kernel(joined, embed, dtype=c.dtype)

    def project(self, x: Array, names: Sequence[str]) -> list[Array]:
        """Queries, keys or values of ``x``, heads apart."""
        kernels = [getattr(self, name)() for name in names]
        if x.shape[-2] == 1 and len(kernels) > 1:
            # One token at a time, a product costs its start: there is one for all.
            widths = [k.shape[1] for k in kernels]
            joined = products.product(x, jnp.concatenate(kernels, 1))
            ends = [sum(widths[: i + 1]) for i in range(len(widths) - 1)]
            pieces = jnp.split(joined, ends, axis=-1)
        else:
            pieces = [products.product(x, k) for k in kernels]
        return [p.reshape(*p.shape[:-1], -1, self.config.head_dim) for p in pieces]

    def merge(self, values: Array) -> Array:
        """The heads' values back in the residual stream."""
        return products.product(values.reshape(*values.shape[:-2], -1), self.out())


def attention_dropout(module: nn.Module, rate: float) -> attention.Dropout | None:
    """Dropout of attention weights, where the module was given a key for it."""
    if rate == 0.0 or not module.has_rng("dropout"):
        return None
    return attention.Dropout(rate, module.make_rng("dropout"))


def dropped(module: nn.Module, x: Array, rate: float) -> Array:
    """``x`` with elements dropped, where the module was given a key for it."""
    if rate == 0.0 or not module.has_rng("dropout"):
        return x
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), jnp.zeros((), x.dtype))


class Mlp(nn.Module):
    """A feed-forward layer: the product of its activations, then back."""

    config: model_config.ModelConfig

    def setup(self) -> None:
        """Declares ``wi`` (or ``wi_0``, ``wi_1``) and ``wo``."""
        c = self.config
        embed, mlp = ("embed", c.embed_dim), ("mlp", c.mlp_dim)
        if len(c.mlp_activations) == 1:
            self.wi = kernel(embed, mlp, dtype=c.dtype)
        else:
            for i in range(len(c.mlp_activations)):
                setattr(self, f"wi_{i}", kernel(embed, mlp, dtype=c.dtype))
        self.wo = kernel(mlp, embed, dtype=c.dtype)

    def __call__(self, x: Array) -> Array:
        """The layer's addition to the residual stream."""
        names = self.config.mlp_activations
        leaves = ["wi"] if len(names) == 1 else [f"wi_{i}" for i in range(len(names))]
        kernels = [getattr(self, leaf)() for leaf in leaves]
        if x.shape[-2] == 1 and len(kernels) > 1:
            # As in `Attention.project`.
            joined = products.product(x, jnp.concatenate(kernels, 1))
            parts = jnp.split(joined, len(names), axis=-1)
        else:
            parts = [products.product(x, k) for k in kernels]
        hidden = ACTIVATIONS[names[0]](parts[0])
        for name, part in zip(names[1:], parts[1:], strict=True):
            hidden = hidden * ACTIVATIONS[name](part)
        hidden = dropped(self, hidden, self.config.dropout_rate)
        return products.product(hidden, self.wo())


def stack(layer: type[nn.Module], config: Any, count: int, methods: list[str]) -> Any:
    """``count`` layers: a list of modules, or one scanned over stacked parameters.

    Every method takes ``(x, per_layer, shared)`` and returns ``(x, output)``.
    """
    if config.remat != "none":
        policies = jax.checkpoint_policies
        keep = policies.save_only_these_names(products.NAME)
        policy = keep if config.remat == "dots" else policies.nothing_saveable
        layer = nn.remat(
            layer, policy=policy, prevent_cse=not config.scan_layers, methods=methods
        )
    if not config.scan_layers:
        return [layer(config) for _ in range(count)]
    scanned = nn.scan(
        layer,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=cast(Any, (0, nn.broadcast)),
        length=count,
        metadata_params={nn.PARTITION_NAME: "layers"},
        methods=methods,
    )
    return scanned(config)


def run_stack(
    layers: Any, method: str, x: Array, per_layer: tuple[Any, ...], shared: Any
) -> tuple[Array, Any]:
    """One method of every layer in turn; outputs as a tuple, or stacked by a scan.

    Args:
      layers: What `stack` made.
      method: Name of the layers' method.
      x: The residual stream.
      per_layer: Trees with an entry a layer (stacked under a scan), or None.
      shared: What all layers are given.
    """
    if not isinstance(layers, Sequence):
        return getattr(layers, method)(x, per_layer, shared)
    outputs = []
    for i, layer in enumerate(layers):
        own = tuple(None if tree is None else tree[i] for tree in per_layer)
        x, output = getattr(layer, method)(x, own, shared)
        outputs.append(output)
    return x, tuple(outputs)


class Own(NamedTuple):
    """Where generated tokens stand and what they see of the generated part.

    Attributes:
      mask: Keys of the generated part that a token may attend to, ``[B or 1, T, S]``.
      position: Index of the first token fed, or None where nothing is cached.
    """

    mask: Any
    position: Any


def own_part(
    tokens: int,
    length: int | None,
    position: Any,
    packing: packings.Packing | None = None,
) -> Own:
    """Causality inside the generated part: a token sees itself and those before it.

    Args:
      tokens: How many are fed.
      length: Room in the cache, or None where nothing is cached.
      position: Scalar index of the first of them.
      packing: Where several targets share a row; nothing is cached then.
    """
    key_S = jnp.arange(tokens if length is None else length)
    query_T = jnp.arange(tokens) + (0 if length is None else position)
    mask = (key_S[None, :] <= query_T[:, None])[None]
    if packing is not None:
        segment_BL = packing.target_segment_BL
        mask = mask & packings.own_segment(segment_BL, segment_BL)
    return Own(mask, None if length is None else position)


def seen_source(prompt: cache.Prompt, packing: packings.Packing | None) -> Array:
    """Which source tokens a generated one may attend to, ``[B, T or 1, S]``."""
    if packing is None:
        return prompt.is_source_BS[:, None, :]
    return packings.own_segment(packing.target_segment_BL, packing.source_segment_BS)


def own_keys(
    new: cache.KeyValue, old: cache.KeyValue | None, own: Own
) -> cache.KeyValue:
    """The generated part's keys and values with the new ones in their place."""
    return new if old is None else cache.write(old, new, own.position)
