"""What a study costs, from its configuration alone: nothing is read or made."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from gr_jax.core import errors
from gr_jax.identifiers import codec, views
from gr_jax.model import accounting, families, ladder
from gr_jax.model import config as model_config
from gr_jax.sharding import mesh, rules
from gr_jax.study import grid
from gr_jax.train import dry_run, step

# Seconds to compile a program of the ladder (docs/performance.md): one to train and one
# to score for each model, one for each model and way of decoding.
_COMPILE_MODEL_S = 8.0
_COMPILE_DECODING_S = 7.0
# Bytes: a checkpoint's beside its arrays, a line of a run, of metrics and of a kept
# example, a scored row.
_CHECKPOINT_EXTRA, _RUN_LINE, _QUERY_LINE, _EXAMPLE = 150_000, 45, 200, 1500
_SCORED_ROW = 16
_RANKS = 100
_ROUNDED = 64  # as `prepare` rounds the width of the logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a study would run.

    Attributes:
      name: For people.
      flops_per_s: What it sustains on this work, not its peak.
      hour_price: Money for an hour of it.
      exaflop_price: Money for 1e18 FLOPs, for those who pay by work and not by time.
    """

    name: str
    flops_per_s: float
    hour_price: float = 0.0
    exaflop_price: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Price:
    """What a cell takes.

    Attributes:
      cell: Its label.
      params_non_embedding: Of its model.
      steps: Of its training.
      train_flops: Of its training.
      score_flops: Of its losses.
      decode_flops: Of all evaluation queries in all its ways of decoding.
      query_flops: Of one query at its widest beam.
      compile_s: Of the programs that no cell before it has compiled.
      disk_bytes: Of what it leaves in the study's folder.
    """

    cell: str
    params_non_embedding: int
    steps: int
    train_flops: float
    score_flops: float
    decode_flops: float
    query_flops: float
    compile_s: float
    disk_bytes: int

    @property
    def flops(self) -> float:
        """All of them."""
        return self.train_flops + self.score_flops + self.decode_flops

    def hours(self, machine: Machine) -> float:
        """On some machine, its programs compiled first."""
        return (self.flops / machine.flops_per_s + self.compile_s) / 3600

    def money(self, machine: Machine) -> float:
        """For its hours and for its FLOPs."""
        work = self.flops / 1e18 * machine.exaflop_price
        return self.hours(machine) * machine.hour_price + work

    def to_json(self, machine: Machine) -> dict[str, Any]:
        """For the terminal and for files."""
        return {
            **dataclasses.asdict(self),
            "hours": self.hours(machine),
            "money": self.money(machine),
        }


def accelerator(name: str, *, hour_price: float, exaflop_price: float) -> Machine:
    """A known accelerator at the share of its peak that `dry_run` supposes.

    Raises:
      UsageError: If it is not known.
    """
    if name not in dry_run.DEVICES:
        remedy = f"known: {', '.join(dry_run.DEVICES)}; or give --rate"
        raise errors.UsageError(errors.fault("study", "device", name, remedy))
    sustained = dry_run.DEVICES[name].peak_flops * dry_run.UTILISATION
    return Machine(
        name=f"{name} at {dry_run.UTILISATION:.0%} of its peak",
        flops_per_s=sustained,
        hour_price=hour_price,
        exaflop_price=exaflop_price,
    )


def measured_rate(size: int = 768, rounds: int = 3) -> float:
    """FLOP/s that matrix products reach here, the best of a few."""
    generator = np.random.Generator(np.random.PCG64(0))
    matrix = generator.standard_normal((size, size)).astype(np.float32)
    seconds: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        np.matmul(matrix, matrix)
        seconds.append(time.perf_counter() - begun)
    return 2.0 * size**3 / min(seconds)


def price(study: grid.Study, *, queries: int = 1000) -> list[Price]:
    """What each cell takes.

    The vocabulary is taken at its configured size; codes have the suffix level that
    documents of equal codes make necessary.

    Args:
      study: What is asked.
      queries: Evaluation queries, where the configuration takes the whole split.

    Raises:
      UsageError: If steps follow the data (``epochs``), whose amount is not known yet.
    """
    if study.epochs is not None:
        raise errors.UsageError(
            "study: epochs: steps follow the data: price it after its preparation"
        )
    known = _Known(study)
    return [
        _price(known, cell, study.queries or queries)
        for cell in grid.expand(study, dict.fromkeys(study.identifiers, 0))
    ]


def _price(known: _Known, cell: grid.Cell, queries: int) -> Price:
    study = known.study
    is_ngram = cell.identifier_kind == codec.NGRAM
    length = study.max_length if is_ngram else study.code_levels + 1
    target, pieces = length, study.vocabulary_pieces
    if not is_ngram:
        pieces += study.code_levels * study.codes
    elif views.union(study.views) != views.BODY:
        target = max(length, study.view_tokens + 1)
        pieces += len(views.FURTHER)
    config = ladder.build(
        cell.family,  # type: ignore[arg-type]
        cell.size,
        vocab_size=-(-pieces // _ROUNDED) * _ROUNDED,
    )
    source = study.source_length
    each = [
        sum(
            sum(
                accounting.inference_flops(
                    config, source=source, beams=beams, steps=steps
                ).values()
            )
            for beams, steps in _searches(study, decoding, length)
        )
        for decoding in cell.decodings
    ]
    scored = min(study.scored_queries or queries, queries)
    rows = (study.negatives + 1) * (study.scored_spans if is_ngram else 1)
    forward = accounting.forward_flops(config, source=source, target=length)
    disk = known.checkpoint_bytes(config) * study.training.keep
    disk += scored * rows * _SCORED_ROW
    # A beam of codes ends in as many documents; n-grams bring as many as are asked for.
    ranks = [_RANKS if is_ngram else min(d.beam, _RANKS) for d in cell.decodings]
    disk += queries * sum(_QUERY_LINE + _RUN_LINE * rank for rank in ranks)
    disk += study.examples_shown * _EXAMPLE * len(ranks)
    return Price(
        cell=cell.label,
        params_non_embedding=accounting.parameters(config).non_embedding,
        steps=cell.steps,
        train_flops=accounting.train_flops(
            config, source=source, target=target, examples=cell.steps * study.batch
        ),
        score_flops=scored * (forward.source + rows * (forward.target + forward.head)),
        decode_flops=queries * sum(each),
        query_flops=max(each),
        compile_s=known.compile_s(cell),
        disk_bytes=int(disk),
    )


def _searches(
    study: grid.Study, decoding: grid.Decoding, length: int
) -> list[tuple[int, int]]:
    """Beams and steps of each search of a query; titles are taken at their longest."""
    chosen = views.parse(decoding.views)
    steps = {views.BODY: length} | dict.fromkeys(views.FURTHER, study.view_tokens + 1)
    found = [(decoding.beam, steps[view]) for view in chosen if view in steps]
    return found + ([(1, 1)] if views.UNIGRAMS in chosen else [])


class _Known:
    """What cells of one study share."""

    def __init__(self, study: grid.Study) -> None:
        self.study = study
        self._compiled: set[tuple[Any, ...]] = set()
        self._bytes: dict[model_config.ModelConfig, int] = {}

    def compile_s(self, cell: grid.Cell) -> float:
        """Cells of one shape share their programs: the first one pays."""
        model = (cell.identifier_kind, cell.family, cell.size)
        wanted = {model: _COMPILE_MODEL_S}
        wanted |= {(*model, d.beam): _COMPILE_DECODING_S for d in cell.decodings}
        new = {k: s for k, s in wanted.items() if k not in self._compiled}
        self._compiled.update(new)
        return sum(new.values())

    def checkpoint_bytes(self, config: model_config.ModelConfig) -> int:
        """Parameters and the optimizer's state, by their shapes."""
        if config not in self._bytes:
            training = self.study.training
            programs = step.programs(
                families.build(config),
                training.for_step(),
                mesh.single_device(),
                rules.DEFAULT,
                training.lora,
            )
            leaves = jax.tree.leaves(programs.abstract)
            arrays = sum(x.size * x.dtype.itemsize for x in leaves)
            self._bytes[config] = arrays + _CHECKPOINT_EXTRA
        return self._bytes[config]
