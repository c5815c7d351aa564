"""Identifiers as sorted, distinct columns with the lengths of common prefixes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Int

from gr_jax.core import errors

_BLOCK_ROWS = 1 << 15
_SPARSE = 16
_MAX_ROWS = 2**31 - 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SortedRows:
    """Distinct rows in lexicographic order.

    Attributes:
      column_LN: ``column_LN[l, r] - shift`` is token ``l`` of row ``r``; 0 behind the
        end of a ragged row, and beyond ``count``.
      common_N: Tokens that row ``r`` shares with row ``r - 1``; 0 for the first.
      length_R: Length of each row, or of all (one entry).
      order_R: Source row at each sorted place; empty: unchanged.
      unique_start_T: Sorted places of each distinct row; empty: all were distinct.
      count: Distinct rows.
      shift: 1 where rows are ragged, else 0.
    """

    column_LN: np.ndarray
    common_N: np.ndarray
    length_R: np.ndarray
    order_R: Int[np.ndarray, " R"]
    unique_start_T: Int[np.ndarray, " T"]
    count: int
    shift: int

    @property
    def max_length(self) -> int:
        """Tokens of the longest row."""
        return self.column_LN.shape[0]

    @property
    def is_ragged(self) -> bool:
        """Whether rows differ in length."""
        return len(self.length_R) > 1

    @functools.cached_property
    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = [], []
        for depth in range(self.max_length):
            column = self.column_LN[depth, : self.count]
            if self.shift:
                column = column[column > 0]
            low.append(int(column.min()))
            high.append(int(column.max()))
        return np.array(low), np.array(high)

    @functools.cached_property
    def token_type(self) -> np.dtype:
        """The smallest type that holds every token less the base of its depth."""
        low, high = self._range
        span = int((high - low).max())
        names = (np.uint8, np.uint16, np.uint32)
        return np.dtype(next(t for t in names if span <= np.iinfo(t).max))

    @property
    def token_bytes(self) -> int:
        """Bytes of one stored token."""
        return self.token_type.itemsize

    @property
    def _offset(self) -> np.ndarray:
        """What stored tokens leave out; nothing where that saves no byte."""
        if self.token_type == self.column_LN.dtype:
            return np.full(self.max_length, self.shift)
        return self._range[0]

    @property
    def base(self) -> Int[np.ndarray, " L"]:
        """Token that a stored 0 stands for, at each depth."""
        return (self._offset - self.shift).astype(np.int32)

    def stored_tokens(self, depth: int, row_E: np.ndarray) -> np.ndarray:
        """Tokens of some rows at one depth, less the base."""
        taken = self.column_LN[depth][row_E] - self._offset[depth]
        return taken.astype(self.token_type)

    def columns(self, first: int, size: int) -> np.ndarray:
        """The stored tokens from depth ``first`` on, padded to ``size`` rows."""
        result = np.zeros((max(1, self.max_length - first), size), self.token_type)
        for place, depth in enumerate(range(first, self.max_length)):
            column = self.column_LN[depth, : self.count]
            offset = column.dtype.type(self._offset[depth])
            out = result[place, : self.count]
            # Ended rows wrap round below their base; nothing reads them.
            np.subtract(column, offset, out=out, casting="unsafe")
        return result

    def goes_on(self, low: np.ndarray, depth: int) -> np.ndarray:
        """Whether the row that begins each interval has a token at ``depth``."""
        if not self.is_ragged:
            return np.full(low.shape, depth < self.max_length)
        return self.length_R[low] > depth

    def prefixes(self, length: int) -> int:
        """Distinct beginnings of ``length`` tokens (of rows at least that long)."""
        return int(np.count_nonzero(self.common_N < length))

    def alone_depth(self, share: float) -> int:
        """Least depth at which a share of the rows has no prefix in common."""
        shared_N = self.common_N.copy()
        np.maximum(shared_N[:-1], self.common_N[1:], out=shared_N[:-1])
        for depth in range(1, self.max_length):
            if np.count_nonzero(shared_N < depth) >= share * self.count:
                return depth
        return self.max_length

    def children(
        self, depth: int, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """First row and parent of every child of some disjoint, rising intervals."""
        if len(low) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        size = high - low
        total = int(size.sum())
        if total * 4 > self.count:
            row_E = np.flatnonzero(self.common_N <= depth)
            first, last = np.searchsorted(row_E, low), np.searchsorted(row_E, high)
            counts = last - first
            parent_E = np.repeat(np.arange(len(low)), counts)
            if len(parent_E) == len(row_E):
                return row_E, parent_E
            shift = np.repeat(first - np.cumsum(counts) + counts, counts)
            return row_E[np.arange(len(parent_E)) + shift], parent_E
        parent_R = np.repeat(np.arange(len(low)), size)
        row_R = np.arange(total) + (low - np.cumsum(size) + size)[parent_R]
        begins = (self.common_N[row_R] <= depth) | (row_R == low[parent_R])
        return row_R[begins], parent_R[begins]


def from_matrix(rows_NL: Int[np.ndarray, "N L"], vocabulary_size: int) -> SortedRows:
    """Sorts rows of one length (unless they are sorted) and drops repeated ones.

    Raises:
      InputError: If there is no row or a token is outside the vocabulary.
    """
    if rows_NL.ndim != 2 or 0 in rows_NL.shape:
        raise errors.InputError(
            errors.fault("identifiers", "rows", rows_NL.shape, "give at least one row")
        )
    _require_tokens(rows_NL, vocabulary_size)
    work_type = np.uint16 if vocabulary_size <= 1 << 16 else np.uint32
    column_LN = np.empty(rows_NL.shape[::-1], work_type)
    for start in range(0, len(rows_NL), _BLOCK_ROWS):
        block = rows_NL[start : start + _BLOCK_ROWS]
        column_LN[:, start : start + len(block)] = block.T
    length_R = np.array([rows_NL.shape[1]], _length_type(rows_NL.shape[1]))
    return _sort(column_LN, length_R, vocabulary_size, shift=0)


def from_ragged(
    tokens_E: Int[np.ndarray, " E"],
    row_starts_T: Int[np.ndarray, " T"],
    vocabulary_size: int,
) -> SortedRows:
    """As `from_matrix`, for rows of varying length.

    Raises:
      InputError: Also if a row is empty or begins another one.
    """
    length_R = np.diff(row_starts_T)
    if len(length_R) == 0 or length_R.min() < 1:
        raise errors.InputError("identifiers: rows: an empty one: give it a token")
    longest = int(length_R.max())
    if longest == length_R.min():
        return from_matrix(tokens_E.reshape(-1, longest), vocabulary_size)
    _require_tokens(tokens_E, vocabulary_size)
    work_type = np.uint16 if vocabulary_size < 1 << 16 else np.uint32
    column_LN = np.zeros((longest, len(length_R)), work_type)
    for depth in range(longest):
        row_R = np.flatnonzero(length_R > depth)
        column_LN[depth, row_R] = tokens_E[row_starts_T[row_R] + depth] + 1
    lengths = length_R.astype(_length_type(longest))
    return _sort(column_LN, lengths, vocabulary_size + 1, shift=1)


def _length_type(longest: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if longest < 256 else np.uint16


def _require_tokens(tokens: np.ndarray, vocabulary_size: int) -> None:
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocabulary_size:
        bad = low if low < 0 else high
        remedy = f"tokens are 0 to {vocabulary_size - 1}"
        raise errors.InputError(errors.fault("identifiers", "token", bad, remedy))


def _sort(
    column_LN: np.ndarray, length_R: np.ndarray, digits: int, *, shift: int
) -> SortedRows:
    if column_LN.shape[1] > _MAX_ROWS:
        raise errors.InputError(
            f"identifiers: rows: {column_LN.shape[1]}: at most {_MAX_ROWS}: shard them"
        )
    order_R = np.zeros(0, np.int32)
    common_N = common_prefixes(column_LN)
    if common_N is None:
        order_R = sorted_order(column_LN, digits)
        column_LN = np.stack([column[order_R] for column in column_LN])
        length_R = length_R[order_R] if shift else length_R
        common_N = common_prefixes(column_LN)
        assert common_N is not None, "rows just sorted are in order"
    unique_start_T = np.zeros(0, np.int32)
    is_new = common_N < column_LN.shape[0]
    if not is_new.all():
        starts = np.flatnonzero(is_new)
        unique_start_T = np.append(starts, len(is_new)).astype(np.int32)
        column_LN, common_N = column_LN[:, starts], common_N[starts]
        length_R = length_R[starts] if shift else length_R
    if shift:
        _require_prefix_free(common_N, length_R)
    return SortedRows(
        column_LN=column_LN,
        common_N=common_N,
        length_R=length_R,
        order_R=order_R,
        unique_start_T=unique_start_T,
        count=column_LN.shape[1],
        shift=shift,
    )


def _require_prefix_free(common_N: np.ndarray, length_R: np.ndarray) -> None:
    clash = np.flatnonzero(common_N[1:] == length_R[:-1])
    if len(clash):
        raise errors.InputError(
            f"identifiers: rows: {len(clash)} of them begin another one (the first has "
            f"{int(length_R[clash[0]])} tokens): close rows with an end token"
        )


def common_prefixes(column_LN: np.ndarray) -> np.ndarray | None:
    """Tokens shared by neighbouring rows, or None if the rows are not in order."""
    length, count = column_LN.shape
    common = np.zeros(count, _length_type(length))
    equal = np.ones(count - 1, bool)
    depth = 0
    while depth < length:
        column = column_LN[depth]
        if np.any(equal & (column[1:] < column[:-1])):
            return None
        equal &= column[1:] == column[:-1]
        common[1:] += equal
        depth += 1
        if np.count_nonzero(equal) * _SPARSE < count:
            break
    row_E = np.flatnonzero(equal) + 1
    while depth < length and len(row_E):
        mine, before = column_LN[depth][row_E], column_LN[depth][row_E - 1]
        if np.any(mine < before):
            return None
        row_E = row_E[mine == before]
        common[row_E] += 1
        depth += 1
    return common


def sorted_order(column_LN: np.ndarray, digits: int) -> Int[np.ndarray, " R"]:
    """The permutation that sorts the rows, equal ones by place.

    As many leading tokens as fit are packed into one 64-bit key; only rows whose keys
    are equal are compared further.
    """
    length = column_LN.shape[0]
    per_key = max(1, 64 // max(1, (digits - 1).bit_length()))
    key = _key(column_LN[:per_key], digits)
    # Not stable, and three times as fast: what is equal is put in order below.
    order = np.argsort(key)
    place, group = _tied(key[order], np.arange(len(order)), None)
    tied = order[place]
    order[place] = tied = tied[np.lexsort((tied, group))]
    for depth in range(per_key, length, per_key):
        if not len(place):
            break
        key = _key(column_LN[depth : depth + per_key][:, tied], digits)
        permutation = np.lexsort((key, group))
        order[place] = tied[permutation]
        place, group = _tied(key[permutation], place, group)
        tied = order[place]
    return order.astype(np.int32)


def _key(column_LN: np.ndarray, digits: int) -> np.ndarray:
    bits = np.uint64(max(1, (digits - 1).bit_length()))
    key = column_LN[0].astype(np.uint64)
    for column in column_LN[1:]:
        key <<= bits
        key |= column
    return key


def _tied(
    key: np.ndarray, place: np.ndarray, group: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Places whose sorted key equals a neighbour's, and the number of their group."""
    begins = np.ones(len(key), bool)
    begins[1:] = key[1:] != key[:-1]
    if group is not None:
        begins[1:] |= group[1:] != group[:-1]
    member = ~begins
    member[:-1] |= ~begins[1:]
    return place[member], np.cumsum(begins)[member]
