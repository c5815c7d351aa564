"""Beam search under a constraint, as one compiled program.

The prompt's keys and values are shared by the beams of a query; only the small cache of
generated tokens moves. Tokens are found at the end by walking back-pointers. The loop
ends as soon as no beam can change the result. Once every beam has one way to go, the
tails are scored in passes of several tokens, which changes nothing but the time.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gr_jax.decode import constraints, jump, search_state, selection, trail
from gr_jax.model import protocol


@functools.partial(jax.jit, static_argnames=("model", "settings", "batch"))
def search(
    model: protocol.GenerativeModel,
    params: protocol.Params,
    prompt: protocol.Prompt,
    constraint: constraints.Constraint,
    *,
    settings: selection.Settings,
    batch: int,
    length_penalty: float | Float[Array, ""] = 0.0,
    key: jax.Array | None = None,
) -> search_state.BeamState:
    """The best sequences of each query that the constraint allows.

    Per step the best ``2 M`` continuations are looked at; those that are complete
    compete for the ``M`` results, the best ``M`` others go on. The result is exact with
    respect to that definition, whatever the order of reading, jumping or stopping.

    Args:
      model: Static.
      params: Of the model.
      prompt: As from ``model.prefill``.
      constraint: What is legal; arrays, so another one of the same shapes is free.
      settings: Beams, lengths and options. Static.
      batch: Queries in the prompt. Static.
      length_penalty: Exponent of the length that the log-probability is divided by;
        not negative.
      key: Randomness; needed for samples only.
    """
    run = search_state.Run(
        model=model,
        params=params,
        prompt=prompt,
        constraint=constraint,
        settings=settings,
        batch=batch,
        length_penalty=jnp.asarray(length_penalty, jnp.float32),
        key=jax.random.key(0) if key is None else key,
    )
    carry = _first_step(run)
    carry = jax.lax.while_loop(
        functools.partial(_is_unfinished, run),
        functools.partial(_next_step, run),
        carry,
    )
    if settings.jump:
        carry = jax.lax.while_loop(
            jump.is_unfinished, functools.partial(jump.step, run), carry
        )
    if constraint.stops_anywhere:
        carry = carry._replace(
            ended=trail.merged(carry.ended, _as_they_are(run, carry))
        )
    return _result(run, carry)


def _first_step(run: search_state.Run) -> search_state.Carry:
    """The step in which one beam stands for all: they do not differ yet."""
    settings, batch, groups = run.settings, run.batch, run.settings.groups
    room = settings.max_length + settings.jump
    start_B11 = jnp.full((batch, 1, 1), run.model.start_token, jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    logits_B1TV, cache = run.model.extend(
        run.params, run.prompt, run.model.empty_cache(batch, 1, room), start_B11, zero
    )
    state = run.constraint.initial(batch * groups, 1)
    beams = settings.beams // groups
    rows = run.constraint.interval(state)
    carry = search_state.Carry(
        step=zero,
        passes=zero,
        cache=cache,
        state=state,
        score=jnp.zeros((batch * groups, 1)),
        token=None,
        trail=trail.Trail.empty(room, batch * groups, beams),
        ended=trail.nothing(rows, beams),
        history=_no_history(run, rows) if settings.keep_history else None,
        bad=jnp.zeros(batch, bool),
    )
    logits_BGV = jnp.repeat(logits_B1TV[:, :, 0], groups, axis=1)
    return _advance(run, carry, logits_BGV, is_first=True)


def _no_history(run: search_state.Run, rows: tuple[Any, Any]) -> search_state.History:
    """Room for all candidates of all steps."""
    count = run.settings.candidates(run.constraint)
    ended = trail.nothing(rows, count)

    def room(leaf: Any) -> Any:
        return jnp.broadcast_to(leaf[None], (run.settings.max_length, *leaf.shape))

    return search_state.History(
        parent=room(ended.beam),
        token=room(ended.beam),
        logprob=room(ended.logprob),
        low=room(ended.low),
        high=room(ended.high),
    )


def _next_step(run: search_state.Run, carry: search_state.Carry) -> search_state.Carry:
    token_BM1 = search_state.ungrouped(run, carry.token)[:, :, None]
    logits_BMTV, cache = run.model.extend(
        run.params, run.prompt, carry.cache, token_BM1, carry.step
    )
    # Behind a barrier: else the token's axis goes into the readers' branches, and there
    # XLA copies the whole table for it.
    logits_BMV = jax.lax.optimization_barrier(logits_BMTV[:, :, 0])
    return _advance(run, carry._replace(cache=cache), logits_BMV)


def _candidates_as_endings(
    run: search_state.Run, found: constraints.Proposals, step: Int[Array, ""]
) -> trail.Ending:
    """Those candidates that are complete, as results."""
    low_BC, high_BC = run.constraint.interval(found.state)
    is_whole_BC = run.constraint.is_complete(found.state)
    is_whole_BC &= found.score_BC > -jnp.inf
    rank_BC = search_state.normalised(run, found.score_BC, step + 1)
    return trail.Ending(
        rank=jnp.where(is_whole_BC, rank_BC, -jnp.inf),
        logprob=jnp.where(is_whole_BC, found.score_BC, -jnp.inf),
        length=jnp.broadcast_to(step + 1, found.token_BC.shape),
        beam=found.parent_BC,
        last=found.token_BC,
        low=low_BC,
        high=high_BC,
    )


def _advance(
    run: search_state.Run,
    carry: search_state.Carry,
    logits_BMV: Float[Array, "B M V"],
    *,
    is_first: bool = False,
) -> search_state.Carry:
    """One token more for every beam."""
    settings, step = run.settings, carry.step
    key = jax.random.fold_in(run.key, step) if settings.temperature else run.key
    found = selection.propose(
        settings, run.constraint, carry.state, logits_BMV, carry.score, key
    )
    endings = _candidates_as_endings(run, found, step)
    history = carry.history
    if history is not None:
        history = _recorded(history, step, found, endings)
    is_whole_BC = trail.is_result(endings)
    score_BM, place_BM = selection.keep(
        settings, jnp.where(is_whole_BC, -jnp.inf, found.score_BC)
    )
    parent_BM = trail.take(found.parent_BC, place_BM)
    token_BM = trail.take(found.token_BC, place_BM)
    ended = trail.merged(carry.ended, endings)
    # Beams that can no longer change the result need not go on (nor hinder a jump).
    if history is None and not run.constraint.stops_anywhere:
        score_BM = _abandoned(run, ended, score_BM)
    return search_state.Carry(
        step=step + 1,
        passes=carry.passes + 1,
        cache=_moved(run, carry.cache, parent_BM, is_first=is_first),
        state=jax.tree.map(lambda leaf: trail.take(leaf, place_BM), found.state),
        score=score_BM,
        token=token_BM,
        trail=carry.trail.write(step, parent_BM, token_BM),
        ended=ended,
        history=history,
        bad=carry.bad | _has_bad_logits(run, logits_BMV, carry.score),
    )


def _has_bad_logits(
    run: search_state.Run,
    logits_BMV: Float[Array, "B M V"],
    score_GM: Float[Array, "BxG M"],
) -> Bool[Array, " B"]:
    """Whether a beam that exists has no distribution over the next token."""
    # Asked of the logits: XLA's fast exponential on CPU turns NaN into a number. One in
    # a sum makes the sum one, and a sum is read faster than a test of each.
    is_bad_BM = jnp.isnan(logits_BMV.sum(axis=2))
    score_BM = search_state.ungrouped(run, score_GM)
    return (is_bad_BM & (score_BM > -jnp.inf)).any(axis=1)


def _recorded(
    history: search_state.History,
    step: Int[Array, ""],
    found: constraints.Proposals,
    endings: trail.Ending,
) -> search_state.History:
    new = search_state.History(
        found.parent_BC, found.token_BC, found.score_BC, endings.low, endings.high
    )
    return search_state.History(
        *(
            jax.lax.dynamic_update_index_in_dim(old, leaf, step, 0)
            for old, leaf in zip(history, new, strict=True)
        )
    )


def _abandoned(
    run: search_state.Run, ended: trail.Ending, score_BM: Float[Array, "B M"]
) -> Float[Array, "B M"]:
    """Scores, -inf where no continuation can rank among the results any more.

    A log-probability only falls, so a beam can end at best where it stands now, divided
    by the greatest length's power.
    """
    if run.settings.temperature:
        return score_BM
    most = jnp.asarray(run.settings.max_length)
    bound_BM = search_state.normalised(run, score_BM, most)
    return jnp.where(bound_BM > ended.rank[:, -1:], score_BM, -jnp.inf)


def _moved(
    run: search_state.Run, cache: Any, parent_GM: Int[Array, "BxG M"], *, is_first: bool
) -> Any:
    """The cache after every beam became a child; after the first step, M beams wide."""
    groups, beams = run.settings.groups, run.settings.beams // run.settings.groups
    parent_BGM = parent_GM.reshape(run.batch, groups, beams)
    if not is_first:
        parent_BGM += beams * jnp.arange(groups)[None, :, None]
    return run.model.reorder(cache, parent_BGM.reshape(run.batch, -1))


def _is_unfinished(run: search_state.Run, carry: search_state.Carry) -> Bool[Array, ""]:
    is_live_BM = search_state.is_live(carry)
    goes_on = is_live_BM.any() & (carry.step < run.settings.max_length)
    return goes_on & ~jump.is_possible(run, carry) if run.settings.jump else goes_on


def _as_they_are(run: search_state.Run, carry: search_state.Carry) -> trail.Ending:
    """Beams that are results where they stand, as n-grams are."""
    low_GM, high_GM = run.constraint.interval(carry.state)
    length = jnp.broadcast_to(carry.step, carry.score.shape)
    return trail.Ending(
        rank=search_state.normalised(run, carry.score, carry.step),
        logprob=carry.score,
        length=length,
        beam=jnp.broadcast_to(
            jnp.arange(carry.score.shape[1])[None, :], carry.score.shape
        ),
        last=jnp.full_like(length, -1),
        low=low_GM,
        high=high_GM,
    )


def _result(run: search_state.Run, carry: search_state.Carry) -> search_state.BeamState:
    settings = run.settings
    token_GML = trail.tokens_of(carry.trail, carry.ended)[:, :, : settings.max_length]
    token_BML = search_state.ungrouped(run, token_GML)
    ended = jax.tree.map(functools.partial(search_state.ungrouped, run), carry.ended)
    if settings.groups > 1:
        _, order_BM = jax.lax.top_k(ended.rank, settings.beams)
        ended = jax.tree.map(lambda leaf: trail.take(leaf, order_BM), ended)
        token_BML = trail.take(token_BML, order_BM)
    is_valid_BM = trail.is_result(ended)

    def blank(leaf: Any) -> Any:
        index = is_valid_BM.reshape(is_valid_BM.shape + (1,) * (leaf.ndim - 2))
        return jnp.where(index, leaf, 0)

    return search_state.BeamState(
        token_BML=blank(token_BML),
        length_BM=blank(ended.length),
        logprob_BM=ended.logprob,
        rank_BM=ended.rank,
        low_BM=blank(ended.low),
        high_BM=blank(ended.high),
        valid_BM=is_valid_BM,
        bad_B=carry.bad,
        steps=carry.passes,
        trail=carry.trail,
        history=carry.history,
    )
