"""Which continuations a step takes: the best, the best of diverse groups, or samples.

All three ask the constraint for the best of *some* logits, so legality and exactness
stay where they are. Groups are queries of their own to everything but the model, which
sees them one behind the other, ``[B, M]``; they are searched as ``[B * G, M / G]``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gr_jax.decode import constraints, trail
from gr_jax.model import log_sum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is fixed when a search is compiled.

    Attributes:
      beams: Results wanted, ``M``.
      max_length: Most tokens of a result.
      keep_history: Keep all candidates of all steps as n-gram keys.
      jump: Tokens of a tail that are scored in one pass; 0 turns jump-forward off.
      groups: Groups of diverse beam search; must divide ``beams``.
      diversity: Nats that a token loses for each earlier group that took it in the
        same step.
      temperature: Draw each beam by itself from the legal tokens' distribution at this
        temperature instead of searching; 0 searches.
    """

    beams: int
    max_length: int
    keep_history: bool = False
    jump: int = 0
    groups: int = 1
    diversity: float = 0.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if min(self.beams, self.max_length, self.groups) < 1 or self.jump < 0:
            raise ValueError(f"beams, max_length and groups are at least 1: {self}")
        if self.beams % self.groups:
            raise ValueError(f"groups must divide beams: {self}")
        if self.temperature and (self.groups > 1 or self.keep_history):
            raise ValueError(f"samples have neither groups nor a history: {self}")
        if self.diversity < 0 or self.temperature < 0:
            raise ValueError(f"diversity and temperature are not negative: {self}")

    def candidates(self, constraint: constraints.Constraint) -> int:
        """Continuations of a group that a step looks at.

        Twice the beams, so that the complete ones (one a beam at most where an end
        token closes rows) leave enough to go on with; once where all close together.
        """
        beams = self.beams // self.groups
        if self.temperature:
            return beams
        is_plain = constraint.closes_together and not self.keep_history
        return beams if is_plain else 2 * beams


def propose(
    settings: Settings,
    constraint: constraints.Constraint,
    state: constraints.State,
    logits_BMV: Float[Array, "B M V"],
    score_GM: Float[Array, "BxG M"],
    key: jax.Array,
) -> constraints.Proposals:
    """The candidates of a step, those of each group by itself.

    In the first step one beam stands for all of a group.

    Args:
      settings: How to choose.
      constraint: What is legal.
      state: State of the beams of each group, leaves ``[B * G, M / G, ...]``.
      logits_BMV: Logits of all beams of a query, the groups one behind the other.
      score_GM: Scores of the beams of each group.
      key: Randomness of this step; only sampling uses it.
    """
    count = settings.candidates(constraint)
    if settings.temperature:
        return _sampled(settings, constraint, state, logits_BMV, score_GM, key)
    if settings.groups == 1:
        return constraint.propose(state, logits_BMV, score_GM, count)
    return _diverse(settings, constraint, state, logits_BMV, score_GM)


def _diverse(
    settings: Settings,
    constraint: constraints.Constraint,
    state: constraints.State,
    logits_BMV: Float[Array, "B M V"],
    score_GM: Float[Array, "BxG M"],
) -> constraints.Proposals:
    """Groups in turn, each shunning the tokens that earlier ones go on with.

    Source: Vijayakumar et al. 2018 (arXiv:1610.02424), Hamming diversity.
    """
    batch, _, vocabulary = logits_BMV.shape
    groups, beams = settings.groups, score_GM.shape[1]
    logits_GMV = logits_BMV.reshape(batch * groups, beams, vocabulary)

    def of_group(leaf: Any, group: int) -> Any:
        return leaf.reshape(batch, groups, *leaf.shape[1:])[:, group]

    taken_BV = jnp.zeros((batch, vocabulary), logits_BMV.dtype)
    found: list[constraints.Proposals] = []
    for group in range(groups):
        plain_BMV = of_group(logits_GMV, group)
        shunned_BMV = plain_BMV - settings.diversity * taken_BV[:, None, :]
        # The constraint divides by the sum over the logits it is given: put back ours.
        shift_BM = log_sum.log_sum_exp(shunned_BMV) - log_sum.log_sum_exp(plain_BMV)
        mine = jax.tree.map(lambda leaf, g=group: of_group(leaf, g), state)
        chosen = constraint.propose(
            mine,
            shunned_BMV,
            of_group(score_GM, group) + shift_BM,
            settings.candidates(constraint),
        )
        is_real_BC = chosen.score_BC > -jnp.inf
        goes_on_BC = is_real_BC & ~constraint.is_complete(chosen.state)
        is_first_BC = jnp.cumsum(goes_on_BC, axis=1) <= settings.beams // groups
        mark_BC = (goes_on_BC & is_first_BC).astype(taken_BV.dtype)
        fine_BC = settings.diversity * trail.take(taken_BV, chosen.token_BC)
        taken_BV = taken_BV.at[jnp.arange(batch)[:, None], chosen.token_BC].add(mark_BC)
        # The order is that of the diverse scores; the score reported is the model's.
        true_BC = jnp.where(is_real_BC, chosen.score_BC + fine_BC, -jnp.inf)
        found.append(chosen._replace(score_BC=true_BC))
    return jax.tree.map(
        lambda *leaves: jnp.stack(leaves, 1).reshape(
            batch * groups, *leaves[0].shape[1:]
        ),
        *found,
    )


def _sampled(
    settings: Settings,
    constraint: constraints.Constraint,
    state: constraints.State,
    logits_BMV: Float[Array, "B M V"],
    score_BM: Float[Array, "B M"],
    key: jax.Array,
) -> constraints.Proposals:
    """One legal token for each beam, drawn by the Gumbel-max trick."""
    batch, have, _ = logits_BMV.shape
    beams = settings.beams
    parent_BM = jnp.broadcast_to(jnp.arange(beams) % have, (batch, beams))
    state = jax.tree.map(lambda leaf: trail.take(leaf, parent_BM), state)
    logits_BMV = trail.take(logits_BMV, parent_BM)
    score_BM = trail.take(score_BM, parent_BM)
    noise_BMV = jax.random.gumbel(key, logits_BMV.shape, logits_BMV.dtype)
    noisy_BMV = logits_BMV / settings.temperature + noise_BMV

    def alone(leaf: Any) -> Any:
        return leaf.reshape(batch * beams, 1, *leaf.shape[2:])

    drawn = constraint.propose(
        jax.tree.map(alone, state), alone(noisy_BMV), alone(score_BM), 1
    )
    token_BM = drawn.token_BC.reshape(batch, beams)
    logit_BM = jnp.take_along_axis(
        logits_BMV, token_BM[:, :, None], axis=2, mode="promise_in_bounds"
    )[:, :, 0]
    is_real_BM = drawn.score_BC.reshape(batch, beams) > -jnp.inf
    true_BM = score_BM + logit_BM - log_sum.log_sum_exp(logits_BMV)
    state = jax.tree.map(
        lambda leaf: leaf.reshape(batch, beams, *leaf.shape[2:]), drawn.state
    )
    return constraints.Proposals(
        parent_BM, token_BM, jnp.where(is_real_BM, true_BM, -jnp.inf), state
    )


def keep(
    settings: Settings,
    goes_on_BC: Float[Array, "B C"],
) -> tuple[Float[Array, "B M"], Int[Array, "B M"]]:
    """Scores and places of the candidates that go on, in the order proposed.

    Args:
      settings: How many go on.
      goes_on_BC: Scores of the candidates in the order of choice, -inf for those that
        do not go on. (With diverse groups that is not the order of the scores.)
    """
    beams = settings.beams // settings.groups
    size = goes_on_BC.shape[1]
    order_BC = jnp.where(goes_on_BC > -jnp.inf, -jnp.arange(size)[None, :], -size)
    _, place_BM = jax.lax.top_k(order_BC, beams)
    return trail.take(goes_on_BC, place_BM), place_BM
