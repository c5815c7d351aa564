"""Pairs packed into rows have the logits and the loss of rows of their own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.data import arrays, packed_rows
from gr_jax.model import config as model_config
from gr_jax.model import families, packing
from gr_jax.train import loss as losses
from tests.model import small

VOCAB, SOURCE, TARGET = small.VOCAB, 16, 10
T5, LLAMA = small.T5, small.LLAMA
LEVELS = model_config.CodeTables(levels=3, size=7, head="level")
CONFIGS = {
    "t5 codes": dataclasses.replace(T5, codes=LEVELS),
    "llama fused codes": dataclasses.replace(
        LLAMA, attention="fused", scan_layers=True, codes=LEVELS
    ),
}
# Which pairs each row holds: one alone, several, and an empty row.
ROWS = ([0, 1, 2], [3], [4, 5], [])


def _pairs(*, levels: bool) -> list[tuple[list[int], list[int]]]:
    rng = np.random.default_rng(3)
    found = []
    for source, target in ((3, 2), (7, 3), (5, 4), (16, 9), (1, 1), (9, 5)):
        tokens = rng.integers(1, VOCAB, target).tolist()
        if levels:
            first = VOCAB - LEVELS.levels * LEVELS.size
            codes = rng.integers(0, LEVELS.size, LEVELS.levels)
            places = first + np.arange(LEVELS.levels) * LEVELS.size
            tokens = (places + codes).tolist()
            tokens = [*tokens[:target], 1] if target > 2 else tokens[:target]
        found.append((rng.integers(1, VOCAB, source).tolist(), tokens))
    return found


def _packed(pairs: list[tuple[list[int], list[int]]]) -> dict[str, jax.Array]:
    """Row by row in plain Python."""
    widths = {"source": SOURCE, "target": TARGET}
    batch: dict[str, list[list[int]]] = {}
    for side, (name, width) in enumerate(widths.items()):
        letter = "BS" if side == 0 else "BL"
        for row in ROWS:
            tokens, segments, places = [], [], []
            for number, pair in enumerate(row, start=1):
                tokens += pairs[pair][side]
                segments += [number] * len(pairs[pair][side])
                places += range(len(pairs[pair][side]))
            for field, values in (
                (f"{name}_{letter}", tokens),
                (f"{name}_segment_{letter}", segments),
                (f"{name}_position_{letter}", places),
            ):
                padded = [*values, *[0] * (width - len(values))]
                batch.setdefault(field, []).append(padded)
    return {field: jnp.asarray(rows, jnp.int32) for field, rows in batch.items()}


def _alone(pairs: list[tuple[list[int], list[int]]]) -> dict[str, jax.Array]:
    rows = [
        [[*tokens, *[0] * (width - len(tokens))] for tokens in side]
        for side, width in zip(zip(*pairs, strict=True), (SOURCE, TARGET), strict=True)
    ]
    source, target = (jnp.asarray(row, jnp.int32) for row in rows)
    return {"source_BS": source, "target_BL": target}


def _sums(model: Any, params: Any, batch: dict[str, jax.Array]) -> Any:
    logits = model.logits(
        params,
        batch["source_BS"],
        batch["target_BL"],
        packing=packing.of_batch(batch),
    )
    loss = losses.cross_entropy(logits, batch["target_BL"])
    return loss.nats, (loss.tokens, logits)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_logits_and_loss_are_those_of_single_pairs(name: str) -> None:
    model = families.build(CONFIGS[name])
    params = small.random_params(model)
    pairs = _pairs(levels="codes" in name)
    packed = _packed(pairs)
    run = jax.jit(lambda params, batch: _sums(model, params, batch))
    nats, (tokens, logits) = run(params, packed)
    wanted_nats, (wanted_tokens, wanted) = run(params, _alone(pairs))
    assert tokens == wanted_tokens == sum(len(t) for _, t in pairs)
    np.testing.assert_allclose(nats, wanted_nats, rtol=1e-5)
    for row, members in enumerate(ROWS):
        start = 0
        for pair in members:
            length = len(pairs[pair][1])
            np.testing.assert_allclose(
                logits[row, start : start + length],
                wanted[pair, :length],
                atol=1e-4,
                rtol=1e-5,
            )
            start += length


def test_packed_gradients_are_those_of_single_pairs() -> None:
    model = families.build(dataclasses.replace(LLAMA, layers=1))
    params = small.random_params(model)
    pairs = _pairs(levels=False)
    lengths = {"source_length": SOURCE, "target_length": TARGET}
    names = [str(place) for place in range(len(pairs))]
    sides = [list(side) for side in zip(*pairs, strict=True)]
    examples = arrays.from_rows(*sides, names, [0] * len(pairs))
    rows = packed_rows.of_examples(examples, seed=0, **lengths)
    assert len(rows) < len(pairs)
    packed = packed_rows.batch(examples, rows, np.arange(len(rows)), **lengths)
    run = jax.jit(jax.grad(lambda *a: _sums(model, *a), has_aux=True))
    found, wanted = (run(params, batch)[0] for batch in (packed, _alone(pairs)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(other).max() + 1e-6
        np.testing.assert_allclose(one / scale, other / scale, atol=2e-5)
    # Without their segments the rows are another computation.
    plain = {name: packed[name] for name in ("source_BS", "target_BL")}
    assert not np.allclose(
        run(params, plain)[0]["token_embedder"]["embedding"],
        wanted["token_embedder"]["embedding"],
        atol=0.1,
    )


def test_inputs_of_packed_targets_begin_anew() -> None:
    packed = packing.Packing(
        None, None, jnp.array([[1, 1, 2, 2, 0]]), jnp.array([[0, 1, 0, 1, 0]])
    )
    found = packing.decoder_inputs(jnp.array([[5, 1, 6, 1, 0]]), 3, packed)
    assert found.tolist() == [[3, 5, 3, 6, 3]]
