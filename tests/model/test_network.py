"""What must hold of every model: causality, padding, caching, beams."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import config as model_config
from gr_jax.model import families, protocol

VOCAB, BATCH, SOURCE, TARGET, BEAMS = 23, 2, 7, 5, 3
TOLERANCE = 1e-5

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "embed_dim": 16,
    "mlp_dim": 24,
    "heads": 4,
    "head_dim": 4,
}
T5 = model_config.T5Config(
    **SHAPE,
    encoder_layers=2,
    decoder_layers=2,
    relative_buckets=8,
    relative_distance=6,
)
LLAMA = model_config.LlamaConfig(**SHAPE, layers=2, kv_heads=2, start_token=3)
CODES = model_config.CodeTables(levels=TARGET, size=3, head="level")
CONFIGS = {
    "t5": T5,
    "llama": LLAMA,
    "t5_scan": dataclasses.replace(T5, scan_layers=True, remat="dots"),
    "llama_scan": dataclasses.replace(LLAMA, scan_layers=True, remat="full"),
    "t5_codes": dataclasses.replace(T5, codes=CODES),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A model with parameters, a batch, and its compiled functions."""

    model: protocol.GenerativeModel
    params: protocol.Params
    source_BS: jax.Array
    target_BL: jax.Array
    logits: Any
    prefill: Any
    extend: Any


@pytest.fixture(scope="module", params=CONFIGS)
def case(request: pytest.FixtureRequest) -> Case:
    model = families.build(CONFIGS[request.param])
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    # Parameters of order one, so that every part of the network can be seen.
    params = jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.normal(size=leaf.shape) * (0.4 if len(leaf.shape) > 1 else 1.0),
            jnp.float32,
        ),
        shapes,
    )
    source = rng.integers(1, VOCAB, (BATCH, SOURCE))
    source[1, 4:] = 0
    target = rng.integers(1, VOCAB, (BATCH, TARGET))
    return Case(
        model=model,
        params=params,
        source_BS=jnp.asarray(source, jnp.int32),
        target_BL=jnp.asarray(target, jnp.int32),
        logits=jax.jit(model.logits),
        prefill=jax.jit(model.prefill),
        extend=jax.jit(model.extend),
    )


def _beam_inputs(case: Case, seed: int = 1) -> jax.Array:
    """Decoder inputs of several beams a query; the first is the batch's target."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(1, VOCAB, (BATCH, BEAMS, TARGET))
    targets[:, 0] = case.target_BL
    flat = jnp.asarray(targets.reshape(-1, TARGET), jnp.int32)
    inputs = protocol.decoder_inputs(flat, case.model.start_token)
    return inputs.reshape(BATCH, BEAMS, TARGET)


def _fresh(case: Case) -> tuple[Any, Any]:
    prompt = case.prefill(case.params, case.source_BS)
    return prompt, case.model.empty_cache(BATCH, BEAMS, TARGET)


def _equal(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=1e-5)


def test_one_pass_over_beams_equals_teacher_forcing(case: Case) -> None:
    prompt, cache = _fresh(case)
    tokens = _beam_inputs(case)
    found, _ = case.extend(case.params, prompt, cache, tokens, jnp.array(0))
    assert found.dtype == jnp.float32
    assert found.shape == (BATCH, BEAMS, TARGET, VOCAB)
    wanted = case.logits(case.params, case.source_BS, case.target_BL)
    _equal(found[:, 0], wanted)
    # The other beams hold other tokens, so they must differ from the first.
    assert np.abs(found[:, 1, 2:] - found[:, 0, 2:]).max() > 0.01


def test_step_by_step_equals_one_pass(case: Case) -> None:
    prompt, cache = _fresh(case)
    tokens = _beam_inputs(case)
    whole, _ = case.extend(case.params, prompt, cache, tokens, jnp.array(0))
    for t in range(TARGET):
        step = tokens[:, :, t : t + 1]
        found, cache = case.extend(case.params, prompt, cache, step, jnp.array(t))
        _equal(found[:, :, 0], whole[:, :, t])


def test_reordered_beams_continue_their_parents(case: Case) -> None:
    prompt, cache = _fresh(case)
    tokens = _beam_inputs(case)
    start = tokens[:, :, :2]
    _, cache = case.extend(case.params, prompt, cache, start, jnp.array(0))
    parent_BM = jnp.array([[2, 0, 0], [1, 1, 2]])
    moved = case.model.reorder(cache, parent_BM)
    next_BM1 = tokens[:, :, 2:3]
    found, _ = case.extend(case.params, prompt, moved, next_BM1, jnp.array(2))
    history = jnp.take_along_axis(start, parent_BM[:, :, None], axis=1)
    again, cache = _fresh(case)
    _, cache = case.extend(case.params, again, cache, history, jnp.array(0))
    wanted, _ = case.extend(case.params, again, cache, next_BM1, jnp.array(2))
    _equal(found, wanted)


def test_a_beam_does_not_see_another(case: Case) -> None:
    prompt, cache = _fresh(case)
    one, two = _beam_inputs(case, seed=1), _beam_inputs(case, seed=2)
    first, _ = case.extend(case.params, prompt, cache, one, jnp.array(0))
    second, _ = case.extend(case.params, prompt, cache, two, jnp.array(0))
    _equal(first[:, 0], second[:, 0])
    assert np.abs(first[:, 1] - second[:, 1]).max() > 0.01


def test_padding_changes_nothing(case: Case) -> None:
    wanted = case.logits(case.params, case.source_BS, case.target_BL)
    wider = jnp.pad(case.source_BS, ((0, 0), (0, 4)))
    _equal(case.logits(case.params, wider, case.target_BL), wanted)
    alone = case.logits(case.params, case.source_BS[1:, :4], case.target_BL[1:])
    _equal(alone[0], wanted[1])


def test_a_batch_row_without_any_source_stays_finite(case: Case) -> None:
    empty = case.source_BS.at[1].set(0)

    def loss(params: protocol.Params) -> jax.Array:
        logits = case.model.logits(params, empty, case.target_BL)
        return jnp.where(logits > -1e30, logits, 0.0).sum()

    grads = jax.jit(jax.grad(loss))(case.params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))


def test_selected_prompts_are_those_rows(case: Case) -> None:
    prompt, cache = _fresh(case)
    tokens = _beam_inputs(case)
    wanted, _ = case.extend(case.params, prompt, cache, tokens, jnp.array(0))
    swapped = case.model.select(prompt, jnp.array([1, 0]))
    found, _ = case.extend(case.params, swapped, cache, tokens[::-1], jnp.array(0))
    _equal(found[::-1], wanted)


def test_logits_depend_on_no_later_token(case: Case) -> None:
    """The gradient of early logits with respect to later inputs is zero."""
    table = case.params["token_embedder"]["embedding"]
    # Every position has a row of its own, so a row's gradient is a position's.
    target = jnp.arange(1, 1 + TARGET, dtype=jnp.int32)[None].repeat(BATCH, 0)
    source = jnp.full_like(case.source_BS, 10)

    def early(table: jax.Array, position: jax.Array) -> jax.Array:
        params = {**case.params, "token_embedder": {"embedding": table}}
        inputs_head = case.model.logits(params, source, target)[:, :, :8]
        chosen = jnp.take(inputs_head, position, axis=1)
        return jnp.where(chosen > -1e30, jnp.sin(chosen), 0.0).sum()

    if case.model.config.codes is not None:
        pytest.skip("codes have tables of their own; the text rows are not inputs")
    assert not case.model.config.tied_head
    gradient = jax.jit(jax.grad(early))
    for position in (0, 2, TARGET - 1):
        norms = np.abs(gradient(table, jnp.array(position))[1 : 1 + TARGET]).max(1)
        # Position t is predicted from targets 0 .. t-1.
        assert (norms[:position] > 0).all()
        assert (norms[position:] == 0).all()


def test_axes_name_every_parameter(case: Case) -> None:
    axes = case.model.param_axes()
    flat = jax.tree.leaves_with_path(axes)
    assert [p for p, _ in flat] == [
        p for p, _ in jax.tree.leaves_with_path(case.params)
    ]
    for (_, names), leaf in zip(flat, jax.tree.leaves(case.params), strict=True):
        assert len(names) == leaf.ndim
        assert all(isinstance(name, str) for name in names)


def test_dropout_acts_only_with_a_key() -> None:
    config = dataclasses.replace(T5, dropout_rate=0.5)
    model = families.build(config)
    params = model.init(jax.random.key(0))
    batch = (jnp.ones((1, 3), jnp.int32), jnp.ones((1, 2), jnp.int32))
    same = families.build(T5).logits(params, *batch)
    dropped = jax.jit(model.logits)
    _equal(dropped(params, *batch), same)
    keyed = dropped(params, *batch, dropout_key=jax.random.key(1))
    again = dropped(params, *batch, dropout_key=jax.random.key(1))
    other = dropped(params, *batch, dropout_key=jax.random.key(2))
    _equal(keyed, again)
    assert np.abs(keyed - same).max() > 0.01
    assert np.abs(keyed - other).max() > 0.01


def test_scanned_layers_equal_unrolled_ones() -> None:
    for config in (T5, LLAMA):
        plain = families.build(config)
        scanned = families.build(dataclasses.replace(config, scan_layers=True))
        params = plain.init(jax.random.key(0))
        stacked = _stacked(params)
        shapes = jax.eval_shape(scanned.init, jax.random.key(0))
        assert jax.tree.structure(shapes) == jax.tree.structure(stacked)
        source = jnp.arange(1, 7, dtype=jnp.int32).reshape(2, 3)
        wanted = jax.jit(plain.logits)(params, source, source)
        _equal(jax.jit(scanned.logits)(stacked, source, source), wanted)


def test_bfloat16_is_near_float32_and_gives_float32_logits() -> None:
    config = dataclasses.replace(LLAMA, dtype="bfloat16")
    params = families.build(LLAMA).init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    source = jnp.arange(1, 7, dtype=jnp.int32).reshape(2, 3)
    wanted = jax.jit(families.build(LLAMA).logits)(params, source, source)
    found = jax.jit(families.build(config).logits)(params, source, source)
    assert found.dtype == jnp.float32
    assert 0 < np.abs(found - wanted).max() < 0.15


def _stacked(params: protocol.Params) -> protocol.Params:
    out = {}
    for name, tree in params.items():
        if name not in ("encoder", "decoder"):
            out[name] = tree
            continue
        rows = sorted(key for key in tree if key.startswith("layers_"))
        rest = {key: tree[key] for key in tree if key not in rows}
        layers = [tree[key] for key in rows]
        out[name] = {
            **rest,
            "layers": jax.tree.map(lambda *leaf: jnp.stack(leaf), *layers),
        }
    return out
