"""What a search carries from step to step, and what it gives back.

Groups of diverse beam search are rows of their own in all of it: ``[B * G, M / G]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gr_jax.decode import constraints, selection, trail
from gr_jax.model import protocol


class History(NamedTuple):
    """All candidates of all steps; -inf in ``logprob`` where there was none.

    Attributes:
      parent: Beam of the step before that was continued, ``[T, B, C]``.
      token: Token that continued it.
      logprob: Summed log-probability of the tokens so far, in nats.
      low: First matching row (``[T, B, C, ...]``).
      high: Row behind the last.
    """

    parent: jax.Array
    token: jax.Array
    logprob: jax.Array
    low: jax.Array
    high: jax.Array


class BeamState(NamedTuple):
    """Results of a search, best first.

    Attributes:
      token_BML: Tokens; 0 behind the end.
      length_BM: Tokens of each result.
      logprob_BM: Summed log-probability in nats; -inf where there is no result.
      rank_BM: What results are ordered by: ``logprob / length ** length_penalty``.
      low_BM: First row that matches (sorted identifiers, or suffixes).
      high_BM: Row behind the last.
      valid_BM: Whether there is a result. Fewer identifiers than beams leave gaps, all
        at the end.
      bad_B: Whether the model gave a query logits that are not numbers.
      steps: Calls of the model; a jump is one.
      trail: Back-pointers, for whoever reads ``history``.
      history: All candidates, or None.
    """

    token_BML: jax.Array
    length_BM: jax.Array
    logprob_BM: jax.Array
    rank_BM: jax.Array
    low_BM: jax.Array
    high_BM: jax.Array
    valid_BM: jax.Array
    bad_B: jax.Array
    steps: jax.Array
    trail: trail.Trail
    history: History | None


class Carry(NamedTuple):
    """The loop's state.

    Attributes:
      step: Tokens that each beam has.
      passes: Calls of the model so far.
      cache: The model's, of generated tokens.
      state: The constraint's.
      score: Log-probability of each beam; -inf for none.
      token: Last token of each beam, not yet fed to the model.
      trail: Back-pointers.
      ended: The results so far.
      history: All candidates so far, or None.
      bad: Whether a query met logits that are not numbers, ``[B]``.
    """

    step: Any
    passes: Any
    cache: Any
    state: Any
    score: Any
    token: Any
    trail: Any
    ended: Any
    history: Any
    bad: Any


class Run(NamedTuple):
    """What does not change in a search."""

    model: protocol.GenerativeModel
    params: Any
    prompt: Any
    constraint: constraints.Constraint
    settings: selection.Settings
    batch: int
    length_penalty: Any
    key: Any


def is_live(carry: Carry) -> Bool[Array, "B M"]:
    """Which beams exist."""
    return carry.score > -jnp.inf


def grouped(run: Run, leaf: Any) -> Any:
    """``[B, M, ...]`` to ``[B * G, M / G, ...]``."""
    groups = run.settings.groups
    return leaf.reshape(leaf.shape[0] * groups, -1, *leaf.shape[2:])


def ungrouped(run: Run, leaf: Any) -> Any:
    """``[B * G, M / G, ...]`` to ``[B, M, ...]``."""
    return leaf.reshape(run.batch, -1, *leaf.shape[2:])


def normalised(
    run: Run, score_BM: Float[Array, "B M"], length: Int[Array, "*place"]
) -> Float[Array, "B M"]:
    """What results of a length are ordered by."""
    return score_BM / length.astype(jnp.float32) ** run.length_penalty
