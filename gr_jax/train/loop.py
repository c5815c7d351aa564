"""The loop: step, log, save, resume. No maths."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gr_jax.core import artifacts, errors, randomness
from gr_jax.core import progress as progresses
from gr_jax.model import protocol
from gr_jax.sharding import mesh as meshes
from gr_jax.sharding import rules as sharding_rules
from gr_jax.train import checkpoint, journal, preemption
from gr_jax.train import feed as feeds
from gr_jax.train import optimizer as optimizers
from gr_jax.train import settings as train_settings
from gr_jax.train import state as states
from gr_jax.train import step as steps

_AHEAD = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run leaves in memory.

    Attributes:
      params: Trained parameters on the device; adapters alone under LoRA.
      steps: Updates done.
      data_tokens: Target tokens seen, padding excluded.
      examples_seen: Rows seen, repeats counted.
      final_loss: Nats a target token over the last lines of the log (``log_every``
        steps, fewer at the end).
      wall_s: Time spent, earlier parts of a resumed run included.
      resumed_from: Step it started from; 0 for a new run.
      skipped: Steps whose update was thrown away (NaN or spike).
    """

    params: Any
    steps: int
    data_tokens: int
    examples_seen: int
    final_loss: float
    wall_s: float
    resumed_from: int
    skipped: tuple[int, ...]


def train(
    model: protocol.GenerativeModel,
    batches: feeds.Batches,
    *,
    settings: train_settings.TrainSettings,
    folder: Path,
    mesh: Mesh | None = None,
    rules: sharding_rules.Rules = sharding_rules.DEFAULT,
    progress: progresses.Progress = progresses.SILENT,
    init_params: Any = None,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> TrainResult:
    """Trains a model, or goes on where an earlier call with this folder stopped.

    Args:
      model: Hashable, so that runs of one shape share their compiled step.
      batches: From a step to the batches from that step on, the same ones every time;
        a batch has ``source_BS`` and ``target_BL`` (int32, 0 is padding). Every
        process yields the same global batch and uses its own rows.
      settings: All else about the run.
      folder: Gets ``checkpoint_<step>``, ``log.jsonl``, ``tensorboard``; held by one
        run at a time.
      mesh: Devices; the first local one unless given.
      rules: Logical to mesh axes.
      progress: Told of every step.
      init_params: Start from these instead of new ones; not changed.
      config: Recorded in checkpoints (the operative gin configuration, say).
      inputs: Digests of data and vocabulary; a resumed run must have the same.

    Raises:
      PreemptedError: On SIGTERM or Ctrl-C, after the step and a save.
      NumericError: On a NaN or infinity; the batch is kept in ``bad_batch_<step>.npz``.
      UsageError: If the folder is in use, or holds a run of other settings.
      ArtifactError: If it holds checkpoints and none is valid.
      ResourceError: If the disk is full.
    """
    mesh = meshes.single_device() if mesh is None else mesh
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            stack.enter_context(_held(folder))
        stop = stack.enter_context(preemption.watched())
        stack.enter_context(jax.set_mesh(mesh))
        run = _Run(
            model=model,
            batches=batches,
            settings=settings,
            folder=folder,
            programs=steps.programs(model, settings.for_step(), mesh, rules),
            config=dict(config or {}),
            inputs=dict(inputs or {}),
        )
        run.begin(init_params)
        progress.start("train", settings.steps)
        progress.advance(run.step)
        run.go(stop, progress)
        progress.finish()
        return run.result()


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        stack = contextlib.ExitStack()
        stack.enter_context(artifacts.locked(folder))
    except OSError as error:
        raise errors.UsageError(
            f"{folder}: cannot be written ({error.strerror}): choose another folder"
        ) from None
    with stack:
        checkpoint.clear_leftovers(folder)
        yield


class _Run:
    """The host's side of one run."""

    def __init__(
        self,
        *,
        model: protocol.GenerativeModel,
        batches: feeds.Batches,
        settings: train_settings.TrainSettings,
        folder: Path,
        programs: steps.Programs,
        config: dict[str, Any],
        inputs: dict[str, str],
    ) -> None:
        self.batches = batches
        self.settings = settings
        self.folder = folder
        self.programs = programs
        self.config = {
            "train": settings.to_json(),
            "model": repr(model),
            "run": config,
        }
        self.inputs = inputs
        self.step = 0
        self.saved_at = -1
        self.done = checkpoint.Progress(step=0)
        self.window = _Window()
        self.pending: list[tuple[int, int, dict[str, jax.Array]]] = []
        self.started = time.monotonic()
        self.line_time = self.started
        self.state: states.TrainState

    def begin(self, init_params: Any) -> None:
        """Makes or restores the state, and opens the journal."""
        found = checkpoint.newest(self.folder)
        if found is None:
            self.state = self._new_state(init_params)
        else:
            step, manifest, self.done = found
            self._refuse_other_run(step, manifest)
            like = states.to_tree(self.programs.abstract)
            placed = states.to_tree(self.programs.shardings)
            tree = checkpoint.restore(self.folder, step, like, placed)
            self.state = states.from_tree(tree, self.programs.abstract)
            self.step = self.saved_at = step
            self.window = _Window.of(self.done.window)
        self.resumed_from = self.step
        self.journal: journal.Journal | None = None
        if jax.process_index() == 0:
            self.journal = journal.Journal(
                self.folder, step=self.step, tensorboard=self.settings.tensorboard
            )

    def _new_state(self, init_params: Any) -> states.TrainState:
        programs = self.programs
        seed = np.uint32(randomness.seed_of(self.settings.seed, "train", "params"))
        if init_params is None:
            params = programs.new_params(seed)
        else:
            params = feeds.place(
                init_params, programs.abstract.params, programs.shardings.params
            )
        seed = np.uint32(randomness.seed_of(self.settings.seed, "train", "dropout"))
        return programs.new_state(params, seed)

    def _refuse_other_run(self, step: int, manifest: artifacts.Manifest) -> None:
        saved = manifest.config["train"]
        changed = train_settings.incompatibilities(saved, self.settings)
        if manifest.config["model"] != self.config["model"]:
            changed["model"] = (manifest.config["model"], self.config["model"])
        for name in sorted(set(manifest.inputs) | set(self.inputs)):
            pair = (manifest.inputs.get(name), self.inputs.get(name))
            if pair[0] != pair[1]:
                changed[name] = pair
        if changed:
            diff = "; ".join(f"{k}: {a!r} -> {b!r}" for k, (a, b) in changed.items())
            raise errors.UsageError(
                f"{checkpoint.path_of(self.folder, step)}: of a run with other "
                f"settings ({diff}): use them, or another folder"
            )
        if step > self.settings.steps:
            remedy = "the run is longer already: use another folder"
            raise errors.UsageError(
                errors.fault(self.folder, "steps", self.settings.steps, remedy)
            )

    def go(self, stop: preemption.Stop, progress: progresses.Progress) -> None:
        """Runs to the last step, or to a stop."""
        settings = self.settings
        try:
            if self.step < settings.steps:
                self._steps(stop, progress)
            self._settle(settings.steps)
            if self.saved_at != self.step:
                self._save()
        finally:
            if self.journal is not None:
                self.journal.close()
        if self.step < settings.steps:
            raise errors.PreemptedError(
                f"{self.folder}: {stop.signal_name} at step {self.step} of "
                f"{settings.steps}: saved; run the same command to go on"
            )

    def _steps(self, stop: preemption.Stop, progress: progresses.Progress) -> None:
        settings = self.settings
        numbers = jax.device_put(
            {
                k: np.float32(v)
                for k, v in optimizers.schedule_numbers(settings).items()
            },
            self.programs.shardings.step,
        )
        feed = feeds.feed(
            self.batches,
            self.step,
            self.programs.batch,
            accumulation=settings.accumulation,
        )
        batch, rows = next(feed)
        while self.step < settings.steps and not _agreed(stop, self.step):
            self.state, metrics = self.programs.step(self.state, batch, numbers)
            self.step += 1
            self.pending.append((self.step, rows, metrics))
            # The device works on this step while the host makes the next batch.
            if self.step < settings.steps:
                batch, rows = next(feed)
            if len(self.pending) > _AHEAD:
                jax.block_until_ready(self.pending[-1 - _AHEAD][2]["nats"])
            shown: dict[str, float] = {}
            if self.step % settings.log_every == 0:
                self._settle(settings.steps)
                shown = {"loss": self.window.last_loss}
            progress.advance(1, **shown)
            every = settings.save_every
            if every and self.step % every == 0 and self.step < settings.steps:
                self._settle(settings.steps)
                self._save()

    def _settle(self, last: int) -> None:
        """Fetches the metrics of the steps since the last time; logs where due."""
        fetched = jax.device_get(self.pending)
        self.pending = []
        for number, rows, metrics in fetched:
            self._count(number, rows, metrics)
            if number % self.settings.log_every == 0 or number == last:
                self._log(number, metrics)

    def _count(self, number: int, rows: int, metrics: Mapping[str, np.ndarray]) -> None:
        tokens = int(metrics["tokens"])
        self.done = dataclasses.replace(
            self.done,
            data_tokens=self.done.data_tokens + tokens,
            examples_seen=self.done.examples_seen + rows,
        )
        if metrics["is_finite"]:
            self.window.add(float(metrics["nats"]), tokens)
        if not metrics["is_finite"] or metrics["is_spike"]:
            self.done.skipped.append(number)
        if not metrics["is_finite"]:
            self.window.bad += 1
            self._refuse_bad(number)

    def _refuse_bad(self, number: int) -> None:
        if self.window.bad <= self.settings.bad_steps:
            return
        batch = next(iter(self.batches(number - 1)))
        path = self.folder / f"bad_batch_{number}.npz"
        if jax.process_index() == 0:
            np.savez(path, source_BS=batch["source_BS"], target_BL=batch["target_BL"])
        raise errors.NumericError(
            f"{self.folder}: step {number}: NaN or infinity in loss or gradient: lower "
            f"the learning rate, or look at {path.name}"
        )

    def _log(self, number: int, metrics: Mapping[str, np.ndarray]) -> None:
        now = time.monotonic()
        loss = self.window.close()
        if self.journal is not None:
            self.journal.write(
                {
                    "step": number,
                    "loss": loss,
                    "data_tokens": self.done.data_tokens,
                    "learning_rate": float(metrics["learning_rate"]),
                    "gradient_norm": float(metrics["gradient_norm"]),
                    "wall_s": round(self.done.wall_s + now - self.started, 4),
                }
            )

    def _save(self) -> None:
        now = time.monotonic()
        noted = dataclasses.replace(
            self.done,
            step=self.step,
            wall_s=self.done.wall_s + now - self.started,
            window=self.window.to_json(),
        )
        checkpoint.save(
            self.folder,
            states.to_tree(self.state),
            noted,
            config=self.config,
            seeds={"train": self.settings.seed},
            inputs=self.inputs,
            keep=self.settings.keep,
        )
        self.saved_at = self.step

    def result(self) -> TrainResult:
        """What the caller gets."""
        spent = time.monotonic() - self.started
        return TrainResult(
            params=self.state.params,
            steps=self.step,
            data_tokens=self.done.data_tokens,
            examples_seen=self.done.examples_seen,
            final_loss=self.window.last_loss,
            wall_s=self.done.wall_s + spent,
            resumed_from=self.resumed_from,
            skipped=tuple(self.done.skipped),
        )


@dataclasses.dataclass
class _Window:
    """Sums since the last line of the log, and the mean of that line."""

    nats: float = 0.0
    tokens: int = 0
    last_loss: float = math.nan
    bad: int = 0

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> _Window:
        return cls(
            nats=value["nats"],
            tokens=int(value["tokens"]),
            # JSON has no NaN: no line was written yet.
            last_loss=math.nan if value["last_loss"] is None else value["last_loss"],
            bad=int(value["bad"]),
        )

    def to_json(self) -> dict[str, Any]:
        last = None if math.isnan(self.last_loss) else self.last_loss
        return {**dataclasses.asdict(self), "last_loss": last}

    def add(self, nats: float, tokens: int) -> None:
        self.nats += nats
        self.tokens += tokens

    def close(self) -> float:
        if self.tokens:
            self.last_loss = self.nats / self.tokens
        self.nats, self.tokens = 0.0, 0
        return self.last_loss


def _agreed(stop: preemption.Stop, step: int) -> bool:
    """Whether to stop here; all processes answer alike."""
    if jax.process_count() == 1:
        return bool(stop)
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)
