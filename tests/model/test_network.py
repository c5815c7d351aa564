"""What must hold of every model: causality, padding, caching, beams."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.model import families, network, protocol, token_nats
from tests.model import small

VOCAB, BATCH, SOURCE, TARGET, BEAMS = small.VOCAB, 2, 7, 5, 3
TOLERANCE = 1e-5
T5, LLAMA = small.T5, small.LLAMA
CONFIGS = {"t5": T5, "llama": LLAMA}


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
    gradient: Any


@pytest.fixture(scope="module", params=CONFIGS)
def case(request: pytest.FixtureRequest) -> Case:
    model = families.build(CONFIGS[request.param])
    params = small.random_params(model)
    rng = np.random.default_rng(0)
    source = rng.integers(1, VOCAB, (BATCH, SOURCE))
    source[1, 4:] = 0
    target = rng.integers(1, VOCAB, (BATCH, TARGET))

    def early(
        params: protocol.Params,
        source_BS: jax.Array,
        target_BL: jax.Array,
        position: jax.Array,
    ) -> jax.Array:
        logits = model.logits(params, source_BS, target_BL)
        return jnp.sin(jnp.take(logits, position, axis=1)).sum()

    return Case(
        model=model,
        params=params,
        source_BS=jnp.asarray(source, jnp.int32),
        target_BL=jnp.asarray(target, jnp.int32),
        logits=jax.jit(model.logits),
        prefill=jax.jit(model.prefill),
        extend=jax.jit(model.extend),
        gradient=jax.jit(jax.grad(early)),
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


def _fed(case: Case, prompt: Any, cache: Any, tokens: jax.Array) -> Any:
    """The cache after these tokens, one at a time."""
    for t in range(tokens.shape[2]):
        step = tokens[:, :, t : t + 1]
        _, cache = case.extend(case.params, prompt, cache, step, jnp.array(t))
    return cache


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


@pytest.mark.parametrize("room", [1 << 20, 100, 1])
def test_log_probabilities_of_given_tokens_are_those_of_the_logits(
    case: Case, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_nats, "_LOGITS_CPU", room)
    prompt, cache = _fresh(case)
    tokens = _beam_inputs(case)
    following = jnp.asarray(
        np.random.default_rng(3).integers(0, VOCAB, tokens.shape), jnp.int32
    )
    cache = _fed(case, prompt, cache, tokens[:, :, :1])
    given = (prompt, cache, tokens[:, :, 1:])
    logits, after = case.extend(case.params, *given, jnp.array(1))
    wanted = jnp.take_along_axis(
        jax.nn.log_softmax(logits), following[:, :, 1:, None], axis=-1
    )[..., 0]
    score = jax.jit(lambda *given: case.model.nats(*given))
    found, kept = score(case.params, *given, following[:, :, 1:], jnp.array(1))
    _equal(found, wanted)
    jax.tree.map(_equal, kept, after)
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), case.params)
    found, _ = score(broken, *given, following[:, :, 1:], jnp.array(1))
    assert np.isnan(found).all()


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
    cache = _fed(case, prompt, cache, tokens[:, :, :2])
    parent_BM = jnp.array([[2, 0, 0], [1, 1, 2]])
    moved = case.model.reorder(cache, parent_BM)
    next_BM1 = tokens[:, :, 2:3]
    found, _ = case.extend(case.params, prompt, moved, next_BM1, jnp.array(2))
    history = jnp.take_along_axis(tokens[:, :, :2], parent_BM[:, :, None], axis=1)
    prompt, cache = _fresh(case)
    cache = _fed(case, prompt, cache, history)
    wanted, _ = case.extend(case.params, prompt, cache, next_BM1, jnp.array(2))
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
    other = case.source_BS.at[1, 2].set(0).at[0, 6].set(0)
    # A zero inside is a token (LLaMA 3 has one of that number); at the end it is not.
    found = case.logits(case.params, other, case.target_BL)
    assert np.abs(found - wanted).max(axis=(1, 2)).min() > 0.001


def test_a_batch_row_without_any_source_stays_finite(case: Case) -> None:
    empty = case.source_BS.at[1].set(0)
    grads = case.gradient(case.params, empty, case.target_BL, jnp.array(1))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))


def test_selected_prompts_are_those_rows(case: Case) -> None:
    prompt, cache = _fresh(case)
    tokens = _beam_inputs(case)
    wanted, _ = case.extend(case.params, prompt, cache, tokens, jnp.array(0))
    swapped = case.model.select(prompt, jnp.array([1, 0]))
    found, _ = case.extend(case.params, swapped, cache, tokens[::-1], jnp.array(0))
    _equal(found[::-1], wanted)


@pytest.mark.parametrize("is_stacked", [False, True])
def test_prompts_made_in_parts_are_those_made_at_once(
    case: Case, is_stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(case.model.config, scan_layers=is_stacked)
    model = families.build(config)
    params = _stacked(case.params) if is_stacked else case.params
    source_BS = jnp.concatenate([case.source_BS, case.source_BS + 1])
    wanted = jax.jit(lambda *given: model.prefill(*given))(params, source_BS)
    monkeypatch.setattr(network, "_TOKENS_CPU", 2 * SOURCE)
    found = jax.jit(lambda *given: model.prefill(*given))(params, source_BS)
    jax.tree.map(_equal, found, wanted)


def test_logits_depend_on_no_later_token(case: Case) -> None:
    """The gradient of early logits with respect to later inputs is zero."""
    # Every position has a row of its own, so a row's gradient is a position's.
    first = 11
    target = jnp.arange(first, first + TARGET, dtype=jnp.int32)[None].repeat(BATCH, 0)
    source = jnp.full_like(case.source_BS, 10)
    assert not case.model.config.tied_head
    for position in (0, 2, TARGET - 1):
        grads = case.gradient(case.params, source, target, jnp.array(position))
        rows = grads["token_embedder"]["embedding"][first : first + TARGET]
        norms = np.abs(rows).max(axis=1)
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
    same = jax.jit(families.build(T5).logits)(params, *batch)
    dropped = jax.jit(model.logits)
    _equal(dropped(params, *batch), same)
    keyed = dropped(params, *batch, dropout_key=jax.random.key(1))
    again = dropped(params, *batch, dropout_key=jax.random.key(1))
    other = dropped(params, *batch, dropout_key=jax.random.key(2))
    _equal(keyed, again)
    assert np.abs(keyed - same).max() > 0.01
    assert np.abs(keyed - other).max() > 0.01


@pytest.mark.parametrize("family", CONFIGS)
def test_scanned_layers_equal_unrolled_ones(family: str) -> None:
    config = CONFIGS[family]
    plain = families.build(config)
    scanned = families.build(
        dataclasses.replace(config, scan_layers=True, remat="dots")
    )
    params = small.random_params(plain)
    stacked = _stacked(params)
    shapes = jax.eval_shape(scanned.init, jax.random.key(0))
    assert jax.tree.structure(shapes) == jax.tree.structure(stacked)
    assert jax.tree.structure(scanned.param_axes()) == jax.tree.structure(stacked)
    source = jnp.arange(1, 7, dtype=jnp.int32).reshape(2, 3)
    wanted = jax.jit(plain.logits)(params, source, source)

    @jax.jit
    def cached(params: protocol.Params) -> jax.Array:
        prompt = scanned.prefill(params, source[::-1])
        prompt = scanned.select(prompt, jnp.array([1, 0]))
        cache = scanned.empty_cache(2, 2, 4)
        inputs = protocol.decoder_inputs(source, scanned.start_token)
        inputs = jnp.stack([inputs[::-1], inputs], axis=1)
        _, cache = scanned.extend(params, prompt, cache, inputs[..., :2], 0)
        cache = scanned.reorder(cache, jnp.array([[1, 1], [1, 0]]))
        step = inputs[:, 1:, 2:].repeat(2, axis=1)
        return scanned.extend(params, prompt, cache, step, 2)[0]

    _equal(cached(stacked)[:, 0, 0], wanted[:, 2])


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
