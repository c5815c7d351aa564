"""Legal sets, scores and intervals of single steps against brute force."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gr_jax.decode import prefix_tree, top_k
from gr_jax.identifiers import constraint_index

BEAMS, COUNT = 5, 12
propose = jax.jit(
    lambda constraint, state, logits, score, count=COUNT: constraint.propose(
        state, logits, score, count
    ),
    static_argnums=4,
)


def catalogue(name: str) -> tuple[np.ndarray, int]:
    rng = np.random.default_rng(4)
    if name == "one byte a level":
        codes = np.minimum(rng.geometric(0.05, (4000, 4)), 200)
        return codes + 300 + 256 * np.arange(4), 300 + 4 * 256
    if name == "V=128k":
        codes = np.minimum(rng.geometric(0.01, (4000, 3)) - 1, 999)
        return codes * 128, 128_256
    codes = np.minimum(rng.geometric(0.002, (6000, 3)) - 1, 1999)
    return codes, 2000


@pytest.mark.parametrize("name", ["one byte a level", "wide nodes", "V=128k"])
def test_every_step_proposes_the_best_legal_children(name: str) -> None:
    codes, vocabulary = catalogue(name)
    rows = np.unique(codes, axis=0)
    tree = constraint_index.build_matrix(codes, vocabulary)
    constraint = prefix_tree.PrefixTreeConstraint.of(tree)
    rng = np.random.default_rng(1)
    state = constraint.initial(1, BEAMS)
    score = np.full((1, BEAMS), -np.inf, np.float32)
    score[0, 0] = 0.0
    prefixes: list[tuple[int, ...]] = [()] * BEAMS
    for step in range(rows.shape[1]):
        logits = rng.normal(size=(1, BEAMS, vocabulary)).astype(np.float32) * 2
        found = propose(constraint, state, jnp.asarray(logits), jnp.asarray(score))
        exact = logits[0].astype(np.float64)
        nats = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
        candidates = []
        for beam, prefix in enumerate(prefixes):
            if score[0, beam] == -np.inf:
                continue
            mine = rows[(rows[:, :step] == prefix).all(axis=1)]
            candidates += [
                (float(score[0, beam] + nats[beam, token]), beam, int(token))
                for token in np.unique(mine[:, step])
            ]
        candidates = sorted(candidates, reverse=True)[:COUNT]
        parent, token = found.parent_BC[0].tolist(), found.token_BC[0].tolist()
        want = [(beam, token) for _, beam, token in candidates]
        assert list(zip(parent, token, strict=True))[: len(want)] == want
        np.testing.assert_allclose(
            found.score_BC[0, : len(want)], [s for s, _, _ in candidates], rtol=1e-5
        )
        assert np.all(found.score_BC[0, len(want) :] == -np.inf)
        prefixes = [(*prefixes[beam], token) for beam, token in want]
        low, high = constraint.interval(found.state)
        for place, prefix in enumerate(prefixes):
            match = np.flatnonzero((rows[:, : step + 1] == prefix).all(axis=1))
            assert (low[0, place], high[0, place]) == (match[0], match[-1] + 1)
        whole = step + 1 == rows.shape[1]
        is_complete = constraint.is_complete(found.state)[0, : len(want)]
        assert bool(is_complete.all() if whole else ~is_complete.any())
        state = jax.tree.map(lambda leaf: leaf[:, :BEAMS], found.state)
        score = np.asarray(found.score_BC)[:, :BEAMS].copy()
        # The most frequent codes stay wide for longer: keep the search among them.
        prefixes = prefixes[:BEAMS]


def test_arrays_of_more_than_two_billion_entries_are_read_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index of such arrays does not fit one int32: two go into the gather."""
    codes, vocabulary = catalogue("wide nodes")
    tree = constraint_index.build_matrix(codes, vocabulary)
    constraint = prefix_tree.PrefixTreeConstraint.of(tree)
    rng = np.random.default_rng(2)

    def steps() -> list[np.ndarray]:
        run = jax.jit(lambda s, x, y: constraint.propose(s, x, y, BEAMS))
        state = constraint.initial(2, BEAMS)
        score = jnp.full((2, BEAMS), -jnp.inf).at[:, 0].set(0.0)
        taken = []
        for _ in range(3):
            shape = (2, BEAMS, vocabulary)
            found = run(state, jnp.asarray(rng.normal(size=shape)), score)
            state, score = found.state, found.score_BC
            taken += [np.asarray(leaf) for leaf in jax.tree.leaves(found)]
        return taken

    want = steps()
    rng = np.random.default_rng(2)
    monkeypatch.setattr(top_k, "INT32", 100)
    got = steps()
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_wide_levels_are_read_to_the_end_of_what_matters() -> None:
    """Scores rise along the children, so the best ones are read last."""
    vocabulary = 40_000
    rows = np.stack(
        [np.repeat(np.arange(3), 30_000), np.tile(np.arange(30_000), 3)], axis=1
    )
    tree = constraint_index.build_matrix(rows, vocabulary)
    constraint = prefix_tree.PrefixTreeConstraint.of(tree)
    logits = jnp.linspace(-8.0, 8.0, vocabulary)[None, None, :]
    first = propose(constraint, constraint.initial(1, 1), logits, jnp.zeros((1, 1)), 3)
    assert first.token_BC.tolist() == [[2, 1, 0]]
    logits = jnp.broadcast_to(logits, (1, 3, vocabulary))
    # Closer to each other than neighbouring tokens are.
    score = jnp.array([[0.0, -1e-4, -2e-4]])
    second = propose(constraint, first.state, logits, score, 4)
    assert second.parent_BC.tolist() == [[0, 1, 2, 0]]
    assert second.token_BC.tolist() == [[29_999, 29_999, 29_999, 29_998]]


def test_forced_tokens_are_those_of_the_row() -> None:
    rows = np.array([[0, 5, 6, 7], [1, 2, 3, 4], [1, 3, 3, 3]])
    constraint = prefix_tree.PrefixTreeConstraint.of(
        constraint_index.build_matrix(rows, 8)
    )
    logits = jnp.zeros((1, 1, 8)).at[0, 0, 0].set(1.0)
    found = propose(constraint, constraint.initial(1, 1), logits, jnp.zeros((1, 1)), 2)
    assert constraint.is_forced(found.state).tolist() == [[True, False]]
    tokens, is_real, after = constraint.forced(found.state, 5)
    assert tokens[0, 0].tolist() == [5, 6, 7, 0, 0]
    assert is_real[0, 0].tolist() == [True, True, True, False, False]
    assert bool(constraint.is_complete(after)[0, 0])
