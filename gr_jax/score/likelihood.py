"""How many nats a model spends on an identifier: sums and token counts, no padding.

Every query is encoded once. Its identifiers are fed as beams of one prompt, all their
tokens in one pass, and only ``logsumexp`` and the target's own logit are taken from the
logits. Means are left to whoever reads the sums.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gr_jax.core import errors
from gr_jax.core import progress as progresses
from gr_jax.model import log_sum, protocol

Tokens = Sequence[int]
_LOGIT_BYTES = 4


class Nats(NamedTuple):
    """Per query, one entry an identifier, in the order given.

    Attributes:
      nll_sum: float64 sums of ``-ln p(token)`` over the identifier's tokens.
      tokens: int64 counts of those tokens.
    """

    nll_sum: list[np.ndarray]
    tokens: list[np.ndarray]


def bucket(size: int) -> int:
    """The next size of the form ``2^k`` or ``3 * 2^k``: few shapes, little padding.

    Example:
      >>> [bucket(size) for size in (1, 5, 10, 12, 13, 100)]
      [1, 6, 12, 12, 16, 128]
    """
    power = 1 << max(size - 1, 0).bit_length()
    return power * 3 // 4 if power >= 4 and size <= power * 3 // 4 else power


@functools.partial(jax.jit, static_argnames="model")
def _prompt(
    model: protocol.GenerativeModel, params: Any, source_BS: Int[Array, "B S"]
) -> Any:
    return model.prefill(params, source_BS)


@functools.partial(jax.jit, static_argnames="model")
def _nats(
    model: protocol.GenerativeModel,
    params: Any,
    prompt: Any,
    target_BML: Int[Array, "B M L"],
    length_BM: Int[Array, "B M"],
) -> Float[Array, "B M"]:
    batch, beams, length = target_BML.shape
    input_BML = jnp.pad(
        target_BML[..., :-1],
        ((0, 0), (0, 0), (1, 0)),
        constant_values=model.start_token,
    )
    cache = model.empty_cache(batch, beams, length)
    logits_BMLV, _ = model.extend(
        params, prompt, cache, input_BML, jnp.zeros((), jnp.int32)
    )
    own_BML1 = jnp.take_along_axis(logits_BMLV, target_BML[..., None], axis=-1)
    nats_BML = log_sum.log_sum_exp(logits_BMLV) - own_BML1[..., 0]
    is_token_BML = jnp.arange(length)[None, None, :] < length_BM[..., None]
    return jnp.where(is_token_BML, nats_BML, 0.0).sum(axis=-1)


@functools.partial(jax.jit, static_argnames="model")
def _first(
    model: protocol.GenerativeModel, params: Any, source_BS: Int[Array, "B S"]
) -> Float[Array, "B V"]:
    prompt = model.prefill(params, source_BS)
    batch = source_BS.shape[0]
    start_B11 = jnp.full((batch, 1, 1), model.start_token, jnp.int32)
    cache = model.empty_cache(batch, 1, 1)
    logits_B11V, _ = model.extend(
        params, prompt, cache, start_B11, jnp.zeros((), jnp.int32)
    )
    return jax.nn.log_softmax(logits_B11V[:, 0, 0], axis=-1)


def first_token_logprobs(
    model: protocol.GenerativeModel,
    params: Any,
    sources: Sequence[Tokens],
    *,
    batch: int = 32,
) -> Iterator[Float[np.ndarray, " V"]]:
    """The distribution of the first token of each query, one query after the other.

    Args:
      model: Any model of the protocol; static under ``jit``.
      params: Its parameters.
      sources: Source tokens of each query, end token included, without padding.
      batch: Queries at a time.

    Yields:
      Natural logarithms of probabilities, float64.
    """
    batch = min(batch, bucket(len(sources)))
    length = bucket(max(map(len, sources), default=1))
    for begin in range(0, len(sources), batch):
        chosen = sources[begin : begin + batch]
        source_BS = jnp.asarray(_padded(chosen, batch, length))
        logprob_BV = np.asarray(_first(model, params, source_BS), np.float64)
        yield from logprob_BV[: len(chosen)]


class _Shapes(NamedTuple):
    batch: int
    beams: int
    source: int
    length: int


def _shapes(
    sources: Sequence[Tokens],
    counts: Sequence[int],
    length: int,
    vocab_size: int,
    logit_bytes: int,
) -> _Shapes:
    length = bucket(length)
    rows = max(1, logit_bytes // (length * vocab_size * _LOGIT_BYTES))
    most = max(counts)
    passes = -(-most // rows)
    beams = -(-most // passes)
    # A beam of padding costs as much as a real one, so only wide ones are rounded.
    beams = min(rows, -(-beams // 8) * 8) if beams > 8 else beams
    batch = min(bucket(len(sources)), max(1, rows // beams))
    source = bucket(max(map(len, sources)))
    return _Shapes(batch, beams, source, length)


def identifier_nats(
    model: protocol.GenerativeModel,
    params: Any,
    sources: Sequence[Tokens],
    identifiers: Sequence[Sequence[Tokens]],
    *,
    logit_bytes: int = 1 << 28,
    progress: progresses.Progress = progresses.SILENT,
) -> Nats:
    """Teacher-forced nats of identifiers given their queries.

    Args:
      model: Any model of the protocol; static under ``jit``.
      params: Its parameters.
      sources: Source tokens of each query, end token included, without padding.
      identifiers: Identifiers of each query, end token included where the kind has one.
      logit_bytes: Most memory for the logits of one pass; a pass holds as many
        identifiers as fit, at least one.
      progress: Is told of each finished query.

    Returns:
      Sums and counts, per query in the order given.

    Raises:
      InputError: If a source or an identifier is empty.
      ArtifactError: If a token is outside the model's vocabulary.
      NumericError: If a sum is not finite; the query's place is named.

    One compilation serves all passes of a call, and later calls of the same buckets.
    """
    if len(sources) != len(identifiers):
        raise errors.InputError(
            f"score: {len(sources)} sources, {len(identifiers)} lists of identifiers"
        )
    counts = [len(rows) for rows in identifiers]
    nll_sum = [np.zeros(count) for count in counts]
    tokens = [np.array([len(i) for i in rows], np.int64) for rows in identifiers]
    if not sum(counts):
        return Nats(nll_sum, tokens)
    _check(sources, identifiers, model.vocab_size)
    length = max(int(lengths.max(initial=0)) for lengths in tokens)
    shapes = _shapes(sources, counts, length, model.vocab_size, logit_bytes)
    # Queries with like numbers of identifiers share a batch, which leaves less padding.
    order = sorted(range(len(sources)), key=lambda place: -counts[place])
    order = [place for place in order if counts[place]]
    progress.start("score", len(order))
    for first in range(0, len(order), shapes.batch):
        places = order[first : first + shapes.batch]
        source_BS = _padded([sources[p] for p in places], shapes.batch, shapes.source)
        prompt = _prompt(model, params, jnp.asarray(source_BS))
        for begin in range(0, counts[places[0]], shapes.beams):
            chosen = [identifiers[p][begin : begin + shapes.beams] for p in places]
            target_BML, length_BM = _targets(chosen, shapes)
            nats = _nats(model, params, prompt, target_BML, length_BM)
            nats_BM = np.asarray(nats, np.float64)
            for row, place in enumerate(places):
                found = len(chosen[row])
                nll_sum[place][begin : begin + found] = nats_BM[row, :found]
        progress.advance(len(places))
    progress.finish()
    _check_finite(nll_sum)
    return Nats(nll_sum, tokens)


def _padded(rows: Sequence[Tokens], count: int, length: int) -> Int[np.ndarray, "B L"]:
    padded_BL = np.zeros((count, length), np.int32)
    for place, row in enumerate(rows):
        padded_BL[place, : len(row)] = row
    # A source of padding alone would leave attention without a key.
    padded_BL[len(rows) :, 0] = 1
    return padded_BL


def _targets(
    chosen: Sequence[Sequence[Tokens]], shapes: _Shapes
) -> tuple[jax.Array, jax.Array]:
    target_BML = np.zeros((shapes.batch, shapes.beams, shapes.length), np.int32)
    length_BM = np.zeros((shapes.batch, shapes.beams), np.int32)
    for row, identifiers in enumerate(chosen):
        lengths = np.array([len(i) for i in identifiers], np.int32)
        length_BM[row, : len(lengths)] = lengths
        is_token_ML = np.arange(shapes.length)[None, :] < lengths[:, None]
        flat = [token for identifier in identifiers for token in identifier]
        target_BML[row, : len(lengths)][is_token_ML] = flat
    return jnp.asarray(target_BML), jnp.asarray(length_BM)


def _check(
    sources: Sequence[Tokens],
    identifiers: Sequence[Sequence[Tokens]],
    vocab_size: int,
) -> None:
    for place, (source, rows) in enumerate(zip(sources, identifiers, strict=True)):
        if not len(source):
            raise errors.InputError(f"score: query {place}: empty: give it a text")
        for row in rows:
            if not len(row):
                raise errors.InputError(
                    f"score: query {place}: an identifier has no token: build them anew"
                )
        highest = max((max(row) for row in rows), default=0)
        if max(highest, max(source)) >= vocab_size:
            raise errors.ArtifactError(
                f"score: query {place}: token {max(highest, max(source))}: the model "
                f"knows {vocab_size}: use the vocabulary that it was trained with"
            )


def _check_finite(nll_sum: Sequence[np.ndarray]) -> None:
    for place, sums in enumerate(nll_sum):
        if not np.isfinite(sums).all():
            raise errors.NumericError(
                f"score: query {place}: the model's loss is not finite: "
                "look at its training log"
            )
