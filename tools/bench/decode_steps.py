"""Steps at chosen tiers: ours and STATIC's on the same beams and logits.

Both run as they do in a search: inside one compiled loop, one step after another. Each
step meets other beams than the one before, and the compiler is kept from computing
ahead what does not change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gr_jax.core import randomness
from gr_jax.decode import prefix_tree, tree_arrays
from gr_jax.identifiers import constraint_index

REPEATS = 48
_TURNS = 6


@dataclasses.dataclass(frozen=True)
class Steps:
    """Sets of beams at one depth, with scores and the model's next logits.

    Attributes:
      vocabulary: Width of the logits.
      depth: Tokens of each prefix.
      prefix_KBMT: The prefixes, one set of beams for each turn.
      logits_BMV: Logits of every set.
      score_BM: Scores of every set.
    """

    vocabulary: int
    depth: int
    prefix_KBMT: np.ndarray
    logits_BMV: Any
    score_BM: Any


class Side(NamedTuple):
    """A step as a function of arrays, the state of one set of beams and logits.

    Attributes:
      step: Returns scores of the chosen beams, best first, and whatever else a search
        goes on with, each ``[B, M]``.
      arrays: Its first argument.
      states: Its second one, for every set, leaves ``[K, ...]``.
    """

    step: Callable[..., tuple[Any, tuple[Any, ...]]]
    arrays: Any
    states: Any


def draw(
    codes_NL: np.ndarray, vocabulary: int, depth: int, batch: int, beams: int
) -> Steps:
    """Random different prefixes of rows, each as likely as it has rows."""
    import jax.numpy as jnp

    rng = randomness.stream(0, "bench step", depth, batch, beams)
    prefixes = []
    for _ in range(_TURNS * batch):
        rows = codes_NL[rng.integers(0, len(codes_NL), 50 * beams), :depth]
        _, first = np.unique(rows, axis=0, return_index=True)
        prefixes.append(rows[np.sort(first)[:beams]])
    logits = rng.standard_normal((batch, beams, vocabulary), np.float32)
    score = -np.sort(rng.exponential(2.0, (batch, beams)).astype(np.float32), axis=1)
    return Steps(
        vocabulary,
        depth,
        np.stack(prefixes).astype(np.int64).reshape(_TURNS, batch, beams, depth),
        jnp.asarray(logits),
        jnp.asarray(score),
    )


def our_side(
    tree: constraint_index.PrefixTree,
    constraint: prefix_tree.PrefixTreeConstraint,
    steps: Steps,
) -> Side:
    """The prefix tree's step."""
    count = steps.score_BM.shape[1]

    def step(constraint: Any, state: Any, logits_BMV: Any, score_BM: Any) -> Any:
        found = constraint.propose(state, logits_BMV, score_BM, count)
        return found.score_BC, (found.parent_BC, found.token_BC, *found.state)

    return Side(step, constraint, _tree_states(tree, steps))


def _tree_states(
    tree: constraint_index.PrefixTree, steps: Steps
) -> tree_arrays.TreeState:
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

    shape = steps.prefix_KBMT.shape[:3]
    places = [walk(prefix) for prefix in steps.prefix_KBMT.reshape(-1, steps.depth)]
    columns = np.array(places, np.int32).T.reshape(3, *shape)
    depth = jnp.full(shape, steps.depth, jnp.int32)
    low, high, wide = map(jnp.asarray, columns)
    return tree_arrays.TreeState(low, high, wide, depth)


def static_side(kernel: Any, index: Any, steps: Steps, dense: int) -> Side:
    """A step of STATIC's loop around its kernel, the dense one made exact.

    Its dense step keeps ``tokens_per_beam`` children a beam; only with as many as there
    are beams is the result that of a beam search.
    """
    import jax
    import jax.numpy as jnp

    csr, indptr, factors, _, mask, states = index
    batch, beams = steps.score_BM.shape
    is_dense = steps.depth < dense
    limit = beams if is_dense else int(factors[steps.depth])

    def step(arrays: Any, state_BM: Any, logits_BMV: Any, score_BM: Any) -> Any:
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
                logprob, flat_state, csr, indptr, limit, steps.vocabulary
            )
        total = score_BM[:, :, None] + best.reshape(batch, beams, limit)
        score, place = jax.lax.top_k(total.reshape(batch, -1), beams)
        token = jnp.take_along_axis(token.reshape(batch, -1), place, axis=1)
        after = jnp.take_along_axis(after.reshape(batch, -1), place, axis=1)
        return score, (token, after, place // limit)

    # Its loop has no use for the dense tables once it is past them.
    tables = (mask, states) if is_dense else (mask[:1], states[:1])
    arrays = tuple(map(jnp.asarray, (csr, indptr, *tables)))
    return Side(step, arrays, _static_states(index, steps, dense))


def _static_states(index: Any, steps: Steps, dense: int) -> Any:
    """STATIC's state of every prefix: its dense table first, then edge by edge."""
    import jax.numpy as jnp

    csr, indptr, _, _, _, states = index

    def walk(prefix: list[int]) -> int:
        state, begun = prefix[0] + 1, 1
        if dense == 2 and len(prefix) > 1:
            state, begun = int(states[prefix[0], prefix[1]]), 2
        for token in prefix[begun:]:
            first, last = int(indptr[state]), int(indptr[state + 1])
            edge = first + int(np.searchsorted(csr[first:last, 0], token))
            state = int(csr[edge, 1])
        return state

    flat = steps.prefix_KBMT.reshape(-1, steps.depth).tolist()
    found = np.array([walk(prefix) for prefix in flat], np.int32)
    return jnp.asarray(found.reshape(steps.prefix_KBMT.shape[:3]))


def many(steps: Steps, side: Side) -> Callable[[], Any]:
    """A call that makes `REPEATS` steps in one compiled loop.

    It returns the scores that the last step chose.
    """
    import jax
    import jax.numpy as jnp

    @jax.jit
    def run(arrays: Any, states: Any, logits_BMV: Any, score_BM: Any) -> Any:
        def body(turn: Any, carry: Any) -> Any:
            # Behind the barrier logits depend on the step before: no work is shared.
            logits, score, _ = jax.lax.optimization_barrier((logits_BMV, *carry))
            state = jax.tree.map(lambda leaf: leaf[turn % _TURNS], states)
            found_BM, others = side.step(arrays, state, logits, score)
            # All results are used, and change no score; the compiler cannot know that.
            used = jnp.where(found_BM > -jnp.inf, found_BM, 0.0)
            used += sum(other.astype(jnp.float32) for other in others)
            return score + 1e-18 * used, found_BM

        return jax.lax.fori_loop(0, REPEATS, body, (score_BM, score_BM))[1]

    return lambda: run(side.arrays, side.states, steps.logits_BMV, steps.score_BM)


def require_equal(ours_BM: Any, static_BM: Any) -> None:
    """Refuses to compare times of different answers."""
    ours, static = np.asarray(ours_BM), np.asarray(static_BM)
    real = np.isfinite(static)
    if not (real == np.isfinite(ours)).all() or not np.allclose(
        ours[real], static[real], atol=1e-4
    ):
        raise SystemExit("the two steps do not propose the same scores")
