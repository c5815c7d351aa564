"""The TPU's kernel against plain attention, interpreted on a CPU."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel
from jax.sharding import AxisType

from gr_jax.core import errors
from gr_jax.model import attention, families, packing, splash
from tests.model import small

HEADS, KV_HEADS, WIDTH, BATCH = 4, 2, 8, 2


@pytest.fixture(autouse=True)
def _as_on_a_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreted = functools.partial(
        splash_attention_kernel.make_splash_mha, interpret=True
    )
    monkeypatch.setattr(splash_attention_kernel, "make_splash_mha", interpreted)
    monkeypatch.setattr(attention, "_platform", lambda: "tpu")


def _numbers(rng: Any, length: int, pairs: int) -> np.ndarray:
    """Runs of 1, 2, .. and zeros behind them; some of them empty."""
    cuts = np.sort(rng.integers(0, length + 1, (BATCH, pairs)), axis=1)
    place = np.arange(length)
    number_BT = 1 + (place[None, :, None] >= cuts[:, None]).sum(axis=2)
    return np.where(number_BT > pairs, 0, number_BT)


def _case(tokens: int, source: int, pairs: int) -> tuple[Any, Any, splash.Rows]:
    """Queries, two segments with their masks, and the same as numbers."""
    rng = np.random.default_rng(tokens)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    own_BT, source_BS = _numbers(rng, tokens, pairs), _numbers(rng, source, pairs)
    causal = np.tril(np.ones((tokens, tokens), bool))
    is_own = (own_BT[:, :, None] == own_BT[:, None]) & causal
    is_source = own_BT[:, :, None] == source_BS[:, None]
    segments = tuple(
        attention.Segment(
            normal(BATCH, mask.shape[2], KV_HEADS, WIDTH),
            normal(BATCH, mask.shape[2], KV_HEADS, WIDTH),
            jnp.asarray(mask),
        )
        for mask in (is_source, is_own)
    )
    key_BS = np.concatenate([source_BS, own_BT], axis=1)
    rows = splash.Rows(jnp.asarray(own_BT), jnp.asarray(key_BS))
    return normal(BATCH, 1, tokens, HEADS, WIDTH), segments, rows


# Blocks exactly, less than one, a few and a little; a row without a source.
SHAPES = [(128, 128, 3), (5, 11, 2), (131, 300, 4), (130, 0, 2)]


@pytest.mark.parametrize(("tokens", "source", "pairs"), SHAPES)
def test_values_and_gradients_are_plain_attentions(
    tokens: int, source: int, pairs: int
) -> None:
    query, segments, rows = _case(tokens, source, pairs)

    def total(query: Any, segments: Any, kernel: Any) -> Any:
        out = attention.attend(query, segments, scale=0.5, kernel=kernel, rows=rows)
        return jnp.sin(out).sum(), out

    grad = jax.jit(
        jax.value_and_grad(total, argnums=(0, 1), has_aux=True, allow_int=True),
        static_argnums=2,
    )
    (_, plain), by_plain = grad(query, segments, "plain")
    (_, found), by_found = grad(query, segments, "flash")
    np.testing.assert_allclose(found, plain, atol=1e-5)
    for one, other in zip(
        jax.tree.leaves(by_found), jax.tree.leaves(by_plain), strict=True
    ):
        if one.dtype == jnp.float32:
            np.testing.assert_allclose(one, other, atol=1e-5)


def _batch() -> tuple[Any, Any, packing.Packing]:
    rng = np.random.default_rng(1)
    source_BS = rng.integers(1, 29, (BATCH, 9))
    source_BS[1, 6:] = 0
    target_BL = rng.integers(1, 29, (BATCH, 6))
    target_BL[0, 4:] = 0
    number_BS = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 2], [1, 1, 2, 2, 2, 3, 0, 0, 0]])
    place_BS = np.array([[0, 1, 2, 3, 0, 1, 2, 3, 4], [0, 1, 0, 1, 2, 0, 0, 0, 0]])
    number_BL = np.array([[1, 2, 2, 2, 0, 0], [1, 1, 2, 3, 3, 3]])
    place_BL = np.array([[0, 0, 1, 2, 0, 0], [0, 1, 0, 0, 1, 2]])
    parts = (number_BS, place_BS, number_BL, place_BL)
    packed = packing.Packing(*(jnp.asarray(part) for part in parts))
    return jnp.asarray(source_BS), jnp.asarray(target_BL), packed


def _loss(kernel: Any) -> Any:
    model = families.build(dataclasses.replace(small.LLAMA, attention=kernel))

    def loss(params: Any, source_BS: Any, target_BL: Any, packed: Any) -> Any:
        logits = model.logits(params, source_BS, target_BL, packing=packed)
        logp_BL = jax.nn.log_softmax(logits)[..., 5]
        return -jnp.where(target_BL != 0, logp_BL, 0.0).sum()

    return model, jax.jit(jax.value_and_grad(loss))


def _same(found: Any, wanted: Any) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one / scale, other / scale, atol=1e-5)


def test_packed_rows_have_the_plain_paths_loss_and_gradient() -> None:
    batch = _batch()
    model, plain = _loss("plain")
    params = small.random_params(model)
    _same(_loss("flash")[1](params, *batch), plain(params, *batch))


def test_devices_share_rows_and_heads() -> None:
    batch = (*_batch()[:2], None)
    model, plain = _loss("plain")
    params = small.random_params(model)
    wanted = plain(params, *batch)
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    rules = [("batch", "data"), ("kv_heads", "tensor"), ("activation_embed", None)]
    with jax.set_mesh(mesh), linen.logical_axis_rules(rules):
        _same(_loss("flash")[1](params, *batch), wanted)


def test_a_beam_alone_takes_the_plain_path_while_decoding() -> None:
    source_BS, target_BL, _ = _batch()
    model, _ = _loss("flash")
    params = small.random_params(model)

    @jax.jit
    def first(params: Any) -> Any:
        prompt = model.prefill(params, source_BS)
        cache = model.empty_cache(BATCH, 1, 4)
        start = jnp.full((BATCH, 1, 1), model.start_token)
        return model.extend(params, prompt, cache, start, 0)[0]

    plain, _ = _loss("plain")
    forced = jax.jit(plain.logits)(params, source_BS, target_BL)
    np.testing.assert_allclose(first(params)[:, 0, 0], forced[:, 0], atol=1e-5)


def test_t5s_position_bias_is_refused() -> None:
    model = families.build(dataclasses.replace(small.T5, attention="flash"))
    params = jax.eval_shape(model.init, jax.random.key(0))
    source_BS, target_BL, _ = _batch()
    with pytest.raises(errors.UsageError, match="bias has no TPU kernel: use fused"):
        jax.eval_shape(model.logits, params, source_BS, target_BL)
