"""Products of activations and kernels whose gradients need no transposed copy.

Differentiating ``x @ kernel`` gives the kernel's gradient as a transposed product, for
which XLA's CPU backend first copies the incoming gradient into another layout: of the
logits' 4,192 columns that copy took a third of the product's time. Written out, both
gradients are plain products. They are computed in the operands' type: in bfloat16 the
float32 gradient of the logits is rounded once instead of widening both products.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import ad_checkpoint, lax
from jaxtyping import Array, Float

# By this name a policy of rematerialisation keeps products: inside they are not seen.
NAME = "product"


def product(
    x: Float[Array, "*rows D"], kernel_DF: Float[Array, "D F"], out: str | None = None
) -> Float[Array, "*rows F"]:
    """``x @ kernel``, accumulated and returned in ``out`` (the operands' type if None).

    Example:
      >>> product(jnp.ones((2, 3, 4)), jnp.ones((4, 5))).shape
      (2, 3, 5)
    """
    return ad_checkpoint.checkpoint_name(cast(Array, _product(x, kernel_DF, out)), NAME)


def inner(
    left: Float[Array, "*rows D"], right: Float[Array, "*rows D"]
) -> Float[Array, "*rows 1"]:
    """Sums of ``left * right`` over the last axis, kept as one, of float32 operands.

    XLA's CPU backend computes it ten times faster as a product than as a sum of
    products; its GPU backend turns the one into the other.

    Example:
      >>> inner(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])).tolist()
      [[11.0]]
    """
    last = left.ndim - 1
    rows = tuple(range(last))
    sums = lax.dot_general(
        left, right, (((last,), (last,)), (rows, rows)), precision="highest"
    )
    return sums[..., None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: Array, kernel_DF: Array, out: str | None) -> Array:
    return jnp.matmul(x, kernel_DF, preferred_element_type=out)


def _forward(x: Array, kernel_DF: Array, out: str | None) -> tuple[Array, Any]:
    return product(x, kernel_DF, out), (x, kernel_DF)


def _backward(out: str | None, kept: Any, gradient: Array) -> tuple[Array, Array]:
    del out
    x, kernel_DF = kept
    gradient = gradient.astype(x.dtype)
    rows = tuple(range(x.ndim - 1))
    to_x = lax.dot_general(gradient, kernel_DF, (((x.ndim - 1,), (1,)), ((), ())))
    to_kernel = lax.dot_general(x, gradient, ((rows, rows), ((), ())))
    return to_x, to_kernel.astype(kernel_DF.dtype)


_product.defvjp(_forward, _backward)
