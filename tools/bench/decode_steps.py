"""Single steps on random frontiers: ours and STATIC's on the same beams and logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from gr_jax.core import randomness
from gr_jax.decode import tree_arrays
from gr_jax.identifiers import constraint_index


@dataclasses.dataclass(frozen=True)
class Step:
    """Beams at one depth: their prefixes, scores and the model's next logits."""

    vocabulary: int
    depth: int
    prefix_BMT: Any
    logits_BMV: Any
    score_BM: Any


def draw(
    codes_NL: np.ndarray, vocabulary: int, depth: int, batch: int, beams: int
) -> Step:
    """Random different prefixes of rows, each as likely as it has rows."""
    import jax.numpy as jnp

    rng = randomness.stream(0, "bench step", depth, batch, beams)
    prefixes = []
    for _ in range(batch):
        picked = rng.permutation(len(codes_NL))[: 50 * beams]
        rows = codes_NL[picked, :depth]
        _, first = np.unique(rows, axis=0, return_index=True)
        prefixes.append(rows[np.sort(first)[:beams]])
    logits = rng.standard_normal((batch, beams, vocabulary), np.float32)
    score = -np.sort(rng.exponential(2.0, (batch, beams)).astype(np.float32), axis=1)
    return Step(
        vocabulary,
        depth,
        np.stack(prefixes).astype(np.int64),
        jnp.asarray(logits),
        jnp.asarray(score),
    )


def tree_state(tree: constraint_index.PrefixTree, step: Step) -> tree_arrays.TreeState:
    """Where the prefixes stand in the tree, by walking it on the host."""
    import jax.numpy as jnp

    def walk(prefix: np.ndarray) -> tuple[int, int, int]:
        low, high, wide = 0, tree.rows, 0
        for depth, token in enumerate(prefix.tolist()):
            stored = token - int(tree.base_L[depth])
            if wide < 0:
                column = tree.column_LN[depth - tree.first_column, low:high]
                low, high = (
                    low + int(np.searchsorted(column, stored, side))
                    for side in ("left", "right")
                )
                continue
            first, last = tree.edge_start_W[wide : wide + 2].tolist()
            edge = first + int(np.searchsorted(tree.edge_token_E[first:last], stored))
            low = int(tree.edge_row_E[edge])
            high = int(tree.edge_row_E[edge + 1]) if edge + 1 < last else high
            word, bit = int(tree.wide_bits_E[edge >> 5]), edge & 31
            rank = int(tree.wide_rank_E[edge >> 5])
            rank += (word & ((1 << bit) - 1)).bit_count()
            wide = rank + 1 if word >> bit & 1 else tree_arrays.NARROW
        return low, high, wide

    batch, beams, depth = step.prefix_BMT.shape
    places = [walk(prefix) for prefix in step.prefix_BMT.reshape(-1, depth)]
    table = np.array(places, np.int32).reshape(batch, beams, 3)
    low_BM, high_BM, wide_BM = (jnp.asarray(table[:, :, column]) for column in range(3))
    return tree_arrays.TreeState(
        low_BM, high_BM, wide_BM, jnp.full((batch, beams), depth, jnp.int32)
    )


def static_step(
    static: Any, codes_NL: np.ndarray, step: Step, dense: int
) -> Callable[[], Any]:
    """A step of STATIC's loop around its kernel, the dense one made exact.

    Its dense step keeps ``tokens_per_beam`` children a beam; only with as many as there
    are beams is the result that of a beam search.
    """
    import jax
    import jax.numpy as jnp

    build, kernel = static
    csr, indptr, factors, _, mask, states = build(
        codes_NL.astype(np.int64), step.vocabulary, dense
    )
    batch, beams, _ = step.prefix_BMT.shape
    state_BM = _static_states(csr, indptr, states, step, dense)
    csr, indptr, mask, states = map(jnp.asarray, (csr, indptr, mask, states))
    is_dense = step.depth < dense
    limit = beams if is_dense else int(factors[step.depth])

    def run(logits_BMV: Any, score_BM: Any, state_BM: Any, *arrays: Any) -> Any:
        csr, indptr, mask, states = arrays
        logprob = jax.nn.log_softmax(logits_BMV.reshape(batch * beams, -1))
        flat_state = state_BM.reshape(-1)
        if is_dense:
            parent = flat_state - 1
            masked = jnp.where(mask[parent], logprob, -jnp.inf)
            best, token = jax.lax.top_k(masked, limit)
            after = states[parent[:, None], token]
        else:
            best, token, after = kernel(
                logprob, flat_state, csr, indptr, limit, step.vocabulary
            )
        total = score_BM[:, :, None] + best.reshape(batch, beams, limit)
        score, place = jax.lax.top_k(total.reshape(batch, -1), beams)
        token = jnp.take_along_axis(token.reshape(batch, -1), place, axis=1)
        after = jnp.take_along_axis(after.reshape(batch, -1), place, axis=1)
        return score, token, after, place // limit

    jitted = jax.jit(run)
    arrays = (csr, indptr, mask, states)
    return lambda: jitted(step.logits_BMV, step.score_BM, state_BM, *arrays)


def _static_states(csr: Any, indptr: Any, states: Any, step: Step, dense: int) -> Any:
    """STATIC's state of every prefix: its dense table first, then edge by edge."""
    import jax.numpy as jnp

    def walk(prefix: list[int]) -> int:
        state, begun = prefix[0] + 1, 1
        if dense == 2 and len(prefix) > 1:
            state, begun = int(states[prefix[0], prefix[1]]), 2
        for token in prefix[begun:]:
            first, last = int(indptr[state]), int(indptr[state + 1])
            edge = first + int(np.searchsorted(csr[first:last, 0], token))
            state = int(csr[edge, 1])
        return state

    batch, beams, depth = step.prefix_BMT.shape
    flat = step.prefix_BMT.reshape(-1, depth).tolist()
    found = np.array([walk(prefix) for prefix in flat], np.int32)
    return jnp.asarray(found.reshape(batch, beams))


def require_equal(ours_BM: Any, static_BM: Any) -> None:
    """Refuses to compare times of different answers."""
    ours, static = np.asarray(ours_BM), np.asarray(static_BM)
    real = np.isfinite(static)
    if not (real == np.isfinite(ours)).all() or not np.allclose(
        ours[real], static[real], atol=1e-4
    ):
        raise SystemExit("the two steps do not propose the same scores")
