"""Results of decoding on the host, one query at a time, best first."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from gr_jax.decode import search_state


@dataclasses.dataclass(frozen=True, eq=False)
class Keys:
    """All candidates that a search looked at, step after step, each step best first.

    Attributes:
      tokens_JL: Tokens; 0 behind the end.
      length_J: Tokens of each.
      logprob_J: Summed log-probability in nats.
      item_lo_J: First matching row.
      item_hi_J: Row behind the last.
    """

    tokens_JL: Int[np.ndarray, "J L"]
    length_J: Int[np.ndarray, " J"]
    logprob_J: Float[np.ndarray, " J"]
    item_lo_J: Int[np.ndarray, " J"]
    item_hi_J: Int[np.ndarray, " J"]


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """What was found for one query, best first; gaps, if any, at the end.

    Attributes:
      tokens_ML: Tokens; 0 behind the end.
      length_M: Tokens of each result.
      logprob_M: Summed log-probability in nats; -inf where there is no result.
      rank_M: What the order goes by (the log-probability, over a power of the length).
      item_lo_M: First matching row of the constraint's index.
      item_hi_M: Row behind the last.
      valid_M: Whether there is a result.
      history: All candidates of all steps, if they were asked for.
    """

    tokens_ML: Int[np.ndarray, "M L"]
    length_M: Int[np.ndarray, " M"]
    logprob_M: Float[np.ndarray, " M"]
    rank_M: Float[np.ndarray, " M"]
    item_lo_M: Int[np.ndarray, " M"]
    item_hi_M: Int[np.ndarray, " M"]
    valid_M: Bool[np.ndarray, " M"]
    history: Keys | None = None

    @property
    def found(self) -> int:
        """Number of results."""
        return int(self.valid_M.sum())

    def identifiers(self) -> list[list[int]]:
        """The tokens of each result."""
        return [
            self.tokens_ML[place, : self.length_M[place]].tolist()
            for place in range(self.found)
        ]


def of_batch(found: search_state.BeamState, rows: int) -> list[Decoded]:
    """The first ``rows`` queries of a batch that was copied to the host."""
    histories: list[Keys] | list[None] = [None] * rows
    if found.history is not None:
        histories = _keys(found, found.history, rows)
    return [
        Decoded(
            tokens_ML=np.asarray(found.token_BML[row]),
            length_M=np.asarray(found.length_BM[row]),
            logprob_M=np.asarray(found.logprob_BM[row]),
            rank_M=np.asarray(found.rank_BM[row]),
            item_lo_M=np.asarray(found.low_BM[row]),
            item_hi_M=np.asarray(found.high_BM[row]),
            valid_M=np.asarray(found.valid_BM[row]),
            history=histories[row],
        )
        for row in range(rows)
    ]


def _keys(
    found: search_state.BeamState, history: search_state.History, rows: int
) -> list[Keys]:
    """Candidates with their tokens: those of their parent and one more.

    Works on all queries at once; groups of beams, ``[T, B * G, ...]``, join here.
    """
    parent_TBC, token_TBC, nats_TBC, low_TBC, high_TBC = map(np.asarray, history)
    steps, batch, count = token_TBC.shape
    path_BML = np.zeros((batch, 1, steps), np.int32)
    tokens = np.zeros((steps, batch, count, steps), np.int32)
    for step in range(steps):
        tokens[step] = np.take_along_axis(path_BML, parent_TBC[step][..., None], axis=1)
        tokens[step, :, :, step] = token_TBC[step]
        came_from_BM1 = np.asarray(found.trail.parent[step])[..., None]
        path_BML = np.take_along_axis(path_BML, came_from_BM1, axis=1)
        path_BML[:, :, step] = found.trail.token[step]
    groups = batch // found.valid_BM.shape[0]
    length_TBC = np.broadcast_to(np.arange(1, steps + 1)[:, None, None], nats_TBC.shape)
    keys: list[Keys] = []
    for row in range(rows):
        mine = slice(row * groups, (row + 1) * groups)
        is_real = nats_TBC[:, mine] > -np.inf
        keys.append(
            Keys(
                tokens_JL=tokens[:, mine][is_real],
                length_J=length_TBC[:, mine][is_real],
                logprob_J=nats_TBC[:, mine][is_real],
                item_lo_J=low_TBC[:, mine][is_real],
                item_hi_J=high_TBC[:, mine][is_real],
            )
        )
    return keys
