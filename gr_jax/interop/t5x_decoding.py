"""Decoding under T5X: our constrained search as a ``decode_fn``, T5X's for our models.

T5X hands a ``decode_fn`` a cache and a function from tokens to logits. `Constrained`
takes these, so T5X's own models (public T5, mT5, FLAN) can be bound to a catalogue by
``decode_fn = @t5x_decoding.constrained()``; of our models it takes parameters and
source, which keeps the prompt once for all beams. T5X's order holds: best beam last.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gr_jax.core import artifacts, errors
from gr_jax.decode import beam, constraints, prefix_tree, selection, substring
from gr_jax.identifiers import constraint_index, substring_index
from gr_jax.interop import t5x_slices
from gr_jax.model import protocol

NOTHING = -1.0e7  # T5X's score of a beam that does not exist.
_OPTIONS = ("eos_id", "decode_rng", "length_penalty")

Decodes = tuple[Int[Array, "B M L"], Float[Array, "B M"]]


def constrained(
    index: str,
    *,
    beams: int = 16,
    max_length: int | None = None,
    length_penalty: float = 0.0,
    temperature: float = 0.0,
    jump: int = 0,
) -> Constrained:
    """A ``decode_fn`` that can only write what an index holds.

    Args:
      index: Folder that `gr-jax index` wrote, of a prefix tree or of n-grams.
      beams: Beams where T5X does not say ``num_decodes``.
      max_length: Most tokens of an n-gram; None for the task's target length.
      length_penalty: As in `gr_jax.decode.session.Options`.
      temperature: If not 0, legal sequences are drawn with T5X's ``decode_rng``.
      jump: Tokens of a tail scored in one pass; our models under a prefix tree only.

    Raises:
      ArtifactError: If there is no such index, or it is damaged.
    """
    folder = Path(index)
    facts = artifacts.read_manifest(folder, verify="none").facts
    if facts.get("structure") == substring_index.STRUCTURE:
        constraint: Any = substring.from_index(substring_index.load(folder))
    else:
        tree = constraint_index.load(folder)
        constraint = prefix_tree.PrefixTreeConstraint.of(tree)
    return Constrained(
        constraint=constraint,
        beams=beams,
        max_length=max_length,
        length_penalty=length_penalty,
        temperature=temperature,
        jump=jump,
    )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Constrained:
    """Constrained beam search with T5X's signature; `constrained` makes one."""

    constraint: constraints.Constraint = dataclasses.field(repr=False)
    beams: int
    max_length: int | None = None
    length_penalty: float = 0.0
    temperature: float = 0.0
    jump: int = 0

    def __call__(
        self,
        *,
        inputs: Int[Array, "B L"],
        cache: Mapping[str, Any],
        tokens_to_logits: Callable[[Any], tuple[Array, Any]],
        num_decodes: int,
        cache_offset: int = 0,
        **options: Any,
    ) -> Decodes:
        """What T5X's own models call: tokens ``[B, M, L]``, scores ``[B, M]``."""
        batch, length = inputs.shape
        model = t5x_slices.SlicedModel(
            tokens_to_logits,
            cache,
            beams=num_decodes,
            batch=batch,
            offset=cache_offset,
        )
        # Not the jitted one: its cache would keep what the model closes over alive.
        return self._found(
            inspect.unwrap(beam.search),
            (model, None, None),
            (batch, num_decodes, length),
            options,
            jump=0,
        )

    def search(
        self,
        model: protocol.GenerativeModel,
        params: Any,
        source_BS: Int[Array, "B S"],
        *,
        length: int,
        num_decodes: int,
        options: Mapping[str, Any],
    ) -> Decodes:
        """What our models call: the same, the source encoded once a query."""
        wanted = self.constraint.vocabulary_size
        if wanted > model.vocab_size:
            remedy = f"its index has {wanted} tokens: use the index it was trained for"
            raise errors.UsageError(
                errors.fault("t5x", "vocabulary", model.vocab_size, remedy)
            )
        return self._found(
            beam.search,
            (model, params, model.prefill(params, source_BS)),
            (source_BS.shape[0], num_decodes, length),
            options,
            jump=self.jump,
        )

    def _found(
        self,
        search: Callable[..., Any],
        asked: tuple[Any, Any, Any],
        shape: tuple[int, int, int],
        options: Mapping[str, Any],
        *,
        jump: int,
    ) -> Decodes:
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown:
            remedy = f"known: {', '.join(_OPTIONS)}"
            raise errors.UsageError(
                errors.fault("t5x", "decoder_params", unknown, remedy)
            )
        batch, beams, length = shape
        own = self._own_length(length)
        found = search(
            *asked,
            self.constraint,
            settings=selection.Settings(
                beams=beams, max_length=own, jump=jump, temperature=self.temperature
            ),
            batch=batch,
            length_penalty=options.get("length_penalty", self.length_penalty),
            key=options.get("decode_rng"),
        )
        token_BML = jnp.pad(found.token_BML, ((0, 0), (0, 0), (0, length - own)))
        score_BM = jnp.where(found.valid_BM, found.rank_BM, NOTHING)
        return jnp.flip(token_BML, axis=1), jnp.flip(score_BM, axis=1)

    def _own_length(self, length: int) -> int:
        """Tokens of the longest result, at most the task's target length."""
        longest = getattr(self.constraint, "max_length", None)
        if longest is None:
            return min(self.max_length or length, length)
        if longest > length:
            remedy = f"an identifier has {longest} tokens: raise it"
            raise errors.UsageError(
                errors.fault("t5x", "TASK_FEATURE_LENGTHS['targets']", length, remedy)
            )
        return longest


def run(
    decode_fn: Callable[..., Any],
    model: protocol.GenerativeModel,
    params: Any,
    source_BS: Int[Array, "B S"],
    *,
    length: int,
    num_decodes: int,
    options: Mapping[str, Any],
) -> Decodes:
    """What a decoder finds for sources with one of our models.

    Args:
      decode_fn: A `Constrained`, or anything with T5X's signature.
      model: Ours.
      params: Of the model.
      source_BS: Padded sources.
      length: Tokens of a result, at most.
      num_decodes: Beams.
      options: Further arguments of the decoder.

    Returns:
      Tokens ``[B, M, L]`` and scores ``[B, M]``, the best beam last.
    """
    if isinstance(decode_fn, Constrained):
        return decode_fn.search(
            model,
            params,
            source_BS,
            length=length,
            num_decodes=num_decodes,
            options=options,
        )
    batch = source_BS.shape[0]
    cache, to_logits, offset = t5x_slices.as_t5x(
        model, params, source_BS, beams=num_decodes, length=length
    )
    return decode_fn(
        inputs=jnp.zeros((batch, length), jnp.int32),
        cache=cache,
        tokens_to_logits=to_logits,
        num_decodes=num_decodes,
        cache_offset=offset,
        **options,
    )
