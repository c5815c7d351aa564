"""The prefix tree as a constraint: legal children, scored and selected on device.

One program serves every level and every tree of the same shapes. What runs in a step
depends on the widest beam alive: a few rows are read as one small window a beam,
anything larger in blocks of children, so that the work follows the children that exist
and not the largest node that might.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gr_jax.decode import constraints, top_k, tree_arrays, tree_blocks, tree_windows
from gr_jax.identifiers import constraint_index
from gr_jax.model import log_sum

_WINDOWS = (1, 2, 8, 64)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["arrays"],
    meta_fields=["vocabulary_size"],
)
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PrefixTreeConstraint:
    """Only sequences of one prefix tree; see `constraints.Constraint`.

    Attributes:
      arrays: The tree.
      vocabulary_size: Width of the logits. Static.
    """

    arrays: tree_arrays.TreeArrays
    vocabulary_size: int

    @classmethod
    def of(cls, tree: constraint_index.PrefixTree) -> PrefixTreeConstraint:
        """The constraint of a tree, its arrays on the default device."""
        return cls(
            arrays=tree_arrays.TreeArrays.of(tree),
            vocabulary_size=tree.vocabulary_size,
        )

    @property
    def stops_anywhere(self) -> bool:
        """False: only a whole identifier is a result."""
        return False

    @property
    def max_length(self) -> int:
        """Tokens of the longest identifier. Static."""
        return self.arrays.base_L.shape[0]

    @property
    def alone_depth(self) -> int:
        """Depth from which on nearly all identifiers are alone; read on the host."""
        return int(self.arrays.alone_depth)

    @property
    def closes_together(self) -> bool:
        """Whether all identifiers have one length."""
        return self.arrays.has_one_length

    def initial(self, batch: int, beams: int) -> tree_arrays.TreeState:
        """Every beam at the root: all rows."""
        zero_BM = jnp.zeros((batch, beams), jnp.int32)
        return tree_arrays.TreeState(
            low=zero_BM, high=zero_BM + self.arrays.rows, wide=zero_BM, depth=zero_BM
        )

    def is_complete(self, state: tree_arrays.TreeState) -> Bool[Array, "B M"]:
        """Whether the beam has all tokens of its identifier."""
        # Rows are prefix-free: if the first of an interval ends here, it is alone.
        return (state.high > state.low) & (state.depth >= self.arrays.length(state.low))

    def interval(
        self, state: tree_arrays.TreeState
    ) -> tuple[Int[Array, "B M"], Int[Array, "B M"]]:
        """Distinct sorted rows that begin with the beam's tokens."""
        return state.low, state.high

    def propose(
        self,
        state: tree_arrays.TreeState,
        logits_BMV: Float[Array, "B M V"],
        score_BM: Float[Array, "B M"],
        count: int,
    ) -> constraints.Proposals:
        """The exact best legal continuations; see `constraints.Constraint`."""
        goes_on_BM = (state.high > state.low) & ~self.is_complete(state)
        gain_BM = score_BM - log_sum.log_sum_exp(logits_BMV)
        gain_BM = jnp.where(goes_on_BM, gain_BM, -jnp.inf)
        windows = [
            functools.partial(tree_windows.children, width=width, count=count)
            for width in _WINDOWS
        ]
        found = jax.lax.switch(
            _branch(state, gain_BM),
            [*windows, functools.partial(tree_blocks.children, count=count)],
            self.arrays,
            state,
            logits_BMV,
            gain_BM,
        )
        is_real_BC = found.score > -jnp.inf
        depth_BC = top_k.take(state.depth, found.parent) + 1
        after = tree_arrays.TreeState(
            low=jnp.where(is_real_BC, found.low, 0),
            high=jnp.where(is_real_BC, found.high, 0),
            wide=jnp.where(is_real_BC, found.wide, tree_arrays.NARROW),
            depth=jnp.where(is_real_BC, depth_BC, 0),
        )
        return constraints.Proposals(
            jnp.where(is_real_BC, found.parent, 0),
            jnp.where(is_real_BC, found.token, 0),
            found.score,
            after,
        )

    def is_forced(self, state: tree_arrays.TreeState) -> Bool[Array, "B M"]:
        """Whether one identifier is left, and its tail can be read off."""
        is_stored_BM = state.depth >= self.arrays.first_column
        is_whole_BM = state.depth >= self.arrays.length(state.low)
        return (state.high - state.low == 1) & (is_stored_BM | is_whole_BM)

    def forced(
        self, state: tree_arrays.TreeState, steps: int
    ) -> tuple[Int[Array, "B M T"], Bool[Array, "B M T"], tree_arrays.TreeState]:
        """The next tokens of forced beams; see `constraints.JumpForward`."""
        depth_BMT = state.depth[:, :, None] + jnp.arange(steps)[None, None, :]
        length_BM = self.arrays.length(state.low)
        is_real_BMT = depth_BMT < length_BM[:, :, None]
        row_BM1 = state.low[:, :, None]
        token_BMT = jnp.where(is_real_BMT, self.arrays.token(depth_BMT, row_BM1), 0)
        depth_BM = jnp.minimum(state.depth + steps, length_BM)
        return token_BMT, is_real_BMT, state._replace(depth=depth_BM)


def _branch(
    state: tree_arrays.TreeState, gain_BM: Float[Array, "B M"]
) -> Int[Array, ""]:
    """Which reader fits the widest beam: the number of a window, or blocks."""
    is_live_BM = gain_BM > -jnp.inf
    any_wide = (is_live_BM & (state.wide >= 0)).any()
    largest = jnp.where(is_live_BM, state.high - state.low, 0).max()
    branch = sum(
        ((largest > width).astype(jnp.int32) for width in _WINDOWS),
        start=jnp.zeros((), jnp.int32),
    )
    return jnp.where(any_wide, len(_WINDOWS), branch)
