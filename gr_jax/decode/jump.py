"""Tails of beams that have nothing left to choose, several tokens a pass.

Once every beam of a batch has one identifier left, none can be pruned any more, so the
order in which their tokens are scored does not matter. What L - d steps would do one
token at a time is done in one teacher-forced pass, or in a few.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool

from gr_jax.decode import constraints, search_state, trail


def is_possible(run: search_state.Run, carry: search_state.Carry) -> Bool[Array, ""]:
    """Whether every beam that exists has one way to go, and passes of tokens pay."""
    assert isinstance(run.constraint, constraints.JumpForward), "jumps need `forced`"
    is_forced_BM = run.constraint.is_forced(carry.state)
    left = run.settings.max_length - carry.step
    # A pass that is mostly behind the end costs more than the steps up to a fuller one.
    wasted = -left % run.settings.jump
    is_filled = (left <= run.settings.jump) | (2 * wasted < run.settings.jump)
    return is_filled & (is_forced_BM | ~search_state.is_live(carry)).all()


def is_unfinished(carry: search_state.Carry) -> Bool[Array, ""]:
    """Whether a beam has not come to its end."""
    return search_state.is_live(carry).any()


def step(run: search_state.Run, carry: search_state.Carry) -> search_state.Carry:
    """Several tokens more for beams that have one way to go; finished ones end."""
    constraint = run.constraint
    assert isinstance(constraint, constraints.JumpForward), "jumps need `forced`"
    steps = run.settings.jump
    is_live_GM = search_state.is_live(carry)
    token_GMT, is_real_GMT, state = constraint.forced(carry.state, steps)
    fed_GMT = jnp.concatenate([carry.token[:, :, None], token_GMT[:, :, :-1]], axis=2)
    nats_BMT, cache = run.model.nats(
        run.params,
        run.prompt,
        carry.cache,
        search_state.ungrouped(run, fed_GMT),
        search_state.ungrouped(run, token_GMT),
        carry.step,
    )
    nats_GMT = search_state.grouped(run, nats_BMT)
    score_GM = carry.score + jnp.where(is_real_GMT, nats_GMT, 0.0).sum(axis=2)
    is_whole_GM = constraint.is_complete(state) & is_live_GM
    low_GM, high_GM = constraint.interval(state)
    length_GM = carry.step + is_real_GMT.sum(axis=2, dtype=jnp.int32)
    fits_GM = is_whole_GM & (length_GM <= run.settings.max_length)
    rank_GM = search_state.normalised(run, score_GM, length_GM)
    endings = trail.Ending(
        rank=jnp.where(fits_GM, rank_GM, -jnp.inf),
        logprob=jnp.where(fits_GM, score_GM, -jnp.inf),
        length=length_GM,
        beam=jnp.broadcast_to(jnp.arange(score_GM.shape[1])[None, :], score_GM.shape),
        last=jnp.full_like(length_GM, -1),
        low=low_GM,
        high=high_GM,
    )
    step = carry.step + steps
    is_over_GM = is_whole_GM | (step >= run.settings.max_length)
    return carry._replace(
        step=step,
        passes=carry.passes + 1,
        cache=cache,
        state=state,
        score=jnp.where(is_over_GM, -jnp.inf, score_GM),
        token=token_GMT[:, :, -1],
        trail=carry.trail.write_tokens(carry.step, token_GMT),
        ended=trail.merged(carry.ended, endings),
        bad=carry.bad | jnp.isnan(nats_BMT).any(axis=(1, 2)),
    )
