"""What the beam search asks of a constraint: which tokens may follow, at what score.

A constraint is a pytree of arrays. It goes into the compiled search as an argument,
never as a closure, so that another catalogue or corpus of the same shapes runs the
same program. It scores and selects by itself, because the cheapest exact top-k differs
with the structure: a prefix tree reads a few children, a suffix array a window.

Illegal output is impossible by construction. A beam that does not exist has the score
-inf; so has every candidate slot for which no legal continuation is left. Nothing is
filtered afterwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Bool, Float, Int

State = Any
"""A pytree whose leaves all begin with the axes ``[B, M]``."""


class Proposals(NamedTuple):
    """The best legal continuations of each query, best first.

    Attributes:
      parent_BC: Beam that is continued; 0 where the score is -inf.
      token_BC: Token that continues it; 0 where the score is -inf.
      score_BC: Score of the longer beam, falling along ``C``; -inf where fewer than
        ``C`` continuations exist.
      state: The constraint's state after the token, leaves ``[B, C, ...]``.
    """

    parent_BC: jax.Array
    token_BC: jax.Array
    score_BC: jax.Array
    state: State


class Constraint(Protocol):
    """A set of allowed token sequences, as a registered pytree."""

    @property
    def vocabulary_size(self) -> int:
        """Width ``V`` of the logits it reads. Static."""
        ...

    @property
    def stops_anywhere(self) -> bool:
        """Whether a beam may end after any token (n-grams). Static.

        If not, a beam is a result only where `is_complete` says so.
        """
        ...

    @property
    def closes_together(self) -> bool:
        """Whether all sequences have one length (fixed-length codes). Static.

        The search then asks for M candidates a step and not for 2M: no complete beam
        can take the place of one that goes on.
        """
        ...

    def initial(self, batch: int, beams: int) -> State:
        """The state before the first token, leaves ``[batch, beams, ...]``."""
        ...

    def propose(
        self,
        state: State,
        logits_BMV: Float[Array, "B M V"],
        score_BM: Float[Array, "B M"],
        count: int,
    ) -> Proposals:
        """The exact best ``count`` legal continuations of each query.

        The score of (beam m, token v) is ``score[m] + logits[m, v] - logsumexp(
        logits[m])``: a log-probability over the full vocabulary, not renormalised over
        what is legal. Beams whose score is -inf do not exist and are never continued.

        Args:
          state: State of every beam, leaves ``[B, M, ...]``. ``M`` may differ from call
            to call (the first step has one beam).
          logits_BMV: Raw logits of the next token, float32.
          score_BM: Log-probability of every beam so far; -inf for none.
          count: ``C``, static; may be larger than the number of continuations.
        """
        ...

    def is_complete(self, state: State) -> Bool[Array, "B M"]:
        """Whether the sequence is whole, so that no token may follow it."""
        ...

    def interval(self, state: State) -> tuple[Int[Array, "B M"], Int[Array, "B M"]]:
        """Rows (of the sorted identifiers, or of the suffix array) that match.

        Half open; empty (equal ends) for a beam that does not exist.
        """
        ...


@runtime_checkable
class JumpForward(Protocol):
    """A constraint that knows when nothing is left to choose.

    Once every beam has one way to go, no beam can be pruned any more and the tails are
    scored in one teacher-forced pass, which changes no result.
    """

    def is_forced(self, state: State) -> Bool[Array, "B M"]:
        """Whether exactly one sequence continues the beam (or it is complete)."""
        ...

    def forced(
        self, state: State, steps: int
    ) -> tuple[Int[Array, "B M T"], Bool[Array, "B M T"], State]:
        """The next tokens of forced beams, which of them exist, the state after."""
        ...
