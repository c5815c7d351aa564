"""Decoding many queries: shapes in buckets, one program a bucket, memory in bounds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from gr_jax.core import errors, randomness
from gr_jax.core import progress as progress_module
from gr_jax.decode import beam, constraints, results, search_state, selection
from gr_jax.model import protocol


@dataclasses.dataclass(kw_only=True)
class Options:
    """How a session searches, beside the number of beams.

    Attributes:
      length_penalty: Results are ordered by log-probability over this power of the
        length; 0 orders by the log-probability alone.
      jump: Tokens of a tail scored in one pass; None chooses, 0 turns it off.
      groups: Groups of diverse beam search.
      diversity: Nats that a token loses for each earlier group that took it.
      temperature: If not 0, samples are drawn instead (with replacement).
      seed: Of the samples.
      mesh: Devices to spread each batch over, along the axis ``data``; every device
        holds all parameters and the whole index.
      shortest_source: Sources are padded at least to this length: with the longest
        one's there is a single program to compile.
    """

    length_penalty: float = 0.0
    jump: int | None = None
    groups: int = 1
    diversity: float = 0.0
    temperature: float = 0.0
    seed: int = 0
    mesh: Mesh | None = None
    shortest_source: int = 16


class DecodeSession:
    """A model and a constraint, ready for queries.

    Sources are sorted into buckets of length, so that the number of compilations is
    bounded by the number of buckets; batches are filled up with repeated queries. When
    the device runs out of memory the batch is halved, for good.

    Attributes:
      batch: Queries of a batch; falls when memory does not suffice.
      constraint: Replace it to decode against another index; one of the same shapes
        needs no compilation.
      settings: What the search is compiled for.
    """

    batch: int
    constraint: constraints.Constraint
    settings: selection.Settings

    def __init__(
        self,
        model: protocol.GenerativeModel,
        params: protocol.Params,
        constraint: constraints.Constraint,
        *,
        beams: int,
        max_length: int | None = None,
        batch: int = 16,
        keep_history: bool = False,
        options: Options | None = None,
    ) -> None:
        """Checks that model, constraint and options fit; compiles nothing yet.

        Args:
          model: Of the checkpoint.
          params: Of the model.
          constraint: What is legal.
          beams: Results of each query.
          max_length: Most tokens of a result; None for the constraint's own.
          batch: Most queries at a time.
          keep_history: Keep all candidates of all steps as keys.
          options: The rest.

        Raises:
          UsageError: Names what does not fit.
        """
        self._model, self._params = model, params
        self._options = options or Options()
        self._mesh = _automatic(self._options.mesh)
        self.constraint = constraint
        self.batch = batch
        longest = getattr(constraint, "max_length", None)
        length = max_length or longest
        if length is None:
            raise errors.UsageError("decode: max_length: None: n-grams need a number")
        if longest is not None and length < longest:
            raise errors.UsageError(
                f"decode: max_length: {length}: identifiers have up to {longest} tokens"
            )
        if constraint.vocabulary_size > model.vocab_size:
            raise errors.UsageError(
                f"decode: vocabulary: the model has {model.vocab_size} tokens, the "
                f"index {constraint.vocabulary_size}: use the index it was trained for"
            )
        try:
            self.settings = selection.Settings(
                beams=beams,
                max_length=length,
                keep_history=keep_history,
                jump=self._jump(length, keep_history),
                groups=self._options.groups,
                diversity=self._options.diversity,
                temperature=self._options.temperature,
            )
        except ValueError as error:
            raise errors.UsageError(f"decode: {error}") from None

    def _jump(self, length: int, keep_history: bool) -> int:
        """Tokens of a tail that one pass scores."""
        if keep_history or not isinstance(self.constraint, constraints.JumpForward):
            return 0
        if self._options.jump is not None:
            return min(self._options.jump, length - 1)
        steps = length - getattr(self.constraint, "alone_depth", 1)
        return steps if steps > 1 else 0

    def decode(
        self,
        sources: Sequence[Sequence[int]],
        progress: progress_module.Progress = progress_module.SILENT,
    ) -> list[results.Decoded]:
        """The results of each source, in the order of the sources.

        Raises:
          InputError: If a source is empty.
          NumericError: If the model's logits are not numbers.
          ResourceError: If one query alone does not fit in the device's memory.
        """
        for place, source in enumerate(sources):
            if not len(source):
                raise errors.InputError(f"decode: query {place}: it has no token")
        progress.start("decode", len(sources))
        found: dict[int, results.Decoded] = {}
        by_bucket: dict[int, list[int]] = {}
        for place, source in enumerate(sources):
            by_bucket.setdefault(
                bucket(len(source), self._options.shortest_source), []
            ).append(place)
        for length, places in sorted(by_bucket.items()):
            waiting = places
            while waiting:
                size = self._batch_size(len(sources))
                now, rest = waiting[:size], waiting[size:]
                done = self._try(now, [sources[p] for p in now], (size, length))
                if done is None:
                    continue
                found.update(zip(now, done, strict=True))
                waiting = rest
                progress.advance(len(now), batch=size)
        progress.finish()
        return [found[place] for place in range(len(sources))]

    def _batch_size(self, queries: int) -> int:
        """Queries of the next batch: a power of two, a multiple of the devices."""
        size = min(self.batch, 1 << (queries - 1).bit_length())
        mesh = self._mesh
        devices = mesh.shape["data"] if mesh is not None else 1
        return -(-size // devices) * devices

    def _try(
        self,
        places: list[int],
        sources: Sequence[Sequence[int]],
        shape: tuple[int, int],
    ) -> list[results.Decoded] | None:
        """The results of one batch, or None after the batch size was halved."""
        source_BS = np.zeros(shape, np.int32)
        for row in range(shape[0]):
            # Rows without a query repeat the first one: no special case for the model.
            source = sources[row] if row < len(sources) else sources[0]
            source_BS[row, : len(source)] = source
        seed = randomness.seed_of(self._options.seed, "decode", places[0])
        try:
            found = self._run(source_BS, jax.random.key(seed))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            self._halve(shape[0], error)
            return None
        for row, place in enumerate(places):
            if found.bad_B[row]:
                raise errors.NumericError(
                    f"decode: query {place}: logits are not numbers: check the weights"
                )
        return results.of_batch(found, len(places))

    def _halve(self, size: int, error: Exception) -> None:
        if self._batch_size(1 << 30) <= self._batch_size(1):
            wanted = str(error).splitlines()[0]
            raise errors.ResourceError(
                f"decode: one query with {self.settings.beams} beams does not fit in "
                f"the device's memory ({_free_memory()}; {wanted}): use fewer beams"
            ) from error
        self.batch = max(1, min(self.batch, size) // 2)

    def _run(
        self, source_BS: Int[np.ndarray, "B S"], key: jax.Array
    ) -> search_state.BeamState:
        mesh = self._mesh
        rows = None if mesh is None else NamedSharding(mesh, PartitionSpec("data"))
        found = _program(
            self._model,
            self._params,
            jax.device_put(source_BS, rows),
            self.constraint,
            jnp.asarray(self._options.length_penalty, jnp.float32),
            key,
            settings=self.settings,
            mesh=mesh,
        )
        return jax.device_get(found)


def _automatic(mesh: Mesh | None) -> Mesh | None:
    """The mesh, its axes left to the compiler: no caller spells out shardings."""
    if mesh is None:
        return None
    types = (AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=types)


def bucket(length: int, shortest: int = 16) -> int:
    """The padded length of a source: a power of two, or the shortest one allowed.

    Example:
      >>> [bucket(n) for n in (1, 16, 17, 100)]
      [16, 16, 32, 128]
    """
    return (
        max(shortest, 1 << (length - 1).bit_length()) if length > shortest else shortest
    )


def compilations() -> int:
    """Programs compiled so far in this process, over all sessions."""
    return _program._cache_size()  # pyright: ignore[reportAttributeAccessIssue]


@functools.partial(jax.jit, static_argnames=("model", "settings", "mesh"))
def _program(
    model: protocol.GenerativeModel,
    params: Any,
    source_BS: Int[Array, "B S"],
    constraint: constraints.Constraint,
    length_penalty: jax.Array,
    key: jax.Array,
    *,
    settings: selection.Settings,
    mesh: Mesh | None,
) -> search_state.BeamState:
    def one_device(
        params: Any, source_BS: Array, constraint: Any, penalty: Array, key: Array
    ) -> search_state.BeamState:
        return beam.search(
            model,
            params,
            model.prefill(params, source_BS),
            constraint,
            settings=settings,
            batch=source_BS.shape[0],
            length_penalty=penalty,
            key=key,
        )

    if mesh is None:
        return one_device(params, source_BS, constraint, length_penalty, key)
    return _on_mesh(
        one_device, mesh, params, source_BS, constraint, length_penalty, key
    )


def _on_mesh(one_device: Any, mesh: Mesh, *arguments: Any) -> search_state.BeamState:
    """Each device decodes its own queries, and stops when they are done."""

    def local(params: Any, source_BS: Array, constraint: Any, penalty: Array, key: Any):
        own = jax.random.fold_in(key, jax.lax.axis_index("data"))
        found = one_device(params, source_BS, constraint, penalty, own)
        return found._replace(steps=jax.lax.pmax(found.steps, "data"))

    everywhere, rows = PartitionSpec(), PartitionSpec("data")
    later = PartitionSpec(None, "data")
    shapes = jax.eval_shape(one_device, *arguments)
    specs = jax.tree.map(lambda _: rows, shapes)
    specs = specs._replace(
        steps=everywhere,
        trail=jax.tree.map(lambda _: later, shapes.trail),
        history=jax.tree.map(lambda _: later, shapes.history),
    )
    spread = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(everywhere, rows, everywhere, everywhere, everywhere),
        out_specs=specs,
        check_vma=False,
    )
    return spread(*arguments)


def _free_memory() -> str:
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return "free memory unknown"
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return f"{free} of {stats['bytes_limit']} bytes free"
