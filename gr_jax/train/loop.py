"""The loop: step, log, save, resume. No maths."""

from __future__ import annotations

import contextlib
import dataclasses
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
from gr_jax.train import checkpoint, journal, ledger, lora, preemption
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
      params: The model's parameters on the device, adapters merged in under LoRA.
      adapters: The adapters alone, None without LoRA.
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
    adapters: Any
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
      init_params: Start from these instead of new ones; not changed. LoRA needs them,
        when resumed too, for a checkpoint then holds the adapters alone.
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
        stop = stack.enter_context(preemption.watched(jax.process_count()))
        stack.enter_context(jax.set_mesh(mesh))
        run = _Run(
            model=model,
            batches=batches,
            settings=settings,
            folder=folder,
            programs=steps.programs(
                model, settings.for_step(), mesh, rules, settings.lora
            ),
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
        self.ledger: ledger.Ledger
        self.state: states.TrainState
        self.frozen: Any = None

    def begin(self, init_params: Any) -> None:
        """Makes or restores the state, and opens the journal."""
        found = checkpoint.newest(self.folder)
        if self.settings.lora is not None:
            self._freeze(init_params)
            init_params = None
        done = checkpoint.Progress(step=0)
        if found is None:
            self.state = self._new_state(init_params)
        else:
            step, manifest, done = found
            self._refuse_other_run(step, manifest)
            like = states.to_tree(self.programs.abstract)
            placed = states.to_tree(self.programs.shardings)
            tree = checkpoint.restore(self.folder, step, like, placed)
            self.state = states.from_tree(tree, self.programs.abstract)
            self.step = self.saved_at = step
        self.resumed_from = self.step
        self.ledger = ledger.Ledger(self.folder, self.settings, self.batches, done)
        if jax.process_index() == 0:
            self.ledger.journal = journal.Journal(
                self.folder, step=self.step, tensorboard=self.settings.tensorboard
            )

    def _freeze(self, init_params: Any) -> None:
        if init_params is None:
            raise errors.UsageError(
                f"{self.folder}: lora: adapters need a trained model: give initial "
                "parameters"
            )
        programs = self.programs
        self.frozen = feeds.place(init_params, programs.base, programs.base_shardings)
        checksum = int(lora.fingerprint(self.frozen))
        self.inputs["frozen parameters"] = f"{checksum:08x}"

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
            self.ledger.settle()
            if self.saved_at != self.step:
                self._save()
        finally:
            if self.ledger.journal is not None:
                self.ledger.journal.close()
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
        processes = jax.process_count()
        while self.step < settings.steps:
            if preemption.agreed(stop, self.step, processes):
                break
            self.state, metrics = self.programs.step(
                self.state, self.frozen, batch, numbers
            )
            self.step += 1
            self.ledger.note(self.step, rows, metrics)
            # The device works on this step while the host makes the next batch.
            if self.step < settings.steps:
                batch, rows = next(feed)
            self.ledger.wait(_AHEAD)
            shown: dict[str, float] = {}
            if self.step % settings.log_every == 0:
                self.ledger.settle()
                shown = {"loss": self.ledger.last_loss}
            progress.advance(1, **shown)
            every = settings.save_every
            if every and self.step % every == 0 and self.step < settings.steps:
                self.ledger.settle()
                self._save()

    def _save(self) -> None:
        checkpoint.save(
            self.folder,
            states.to_tree(self.state),
            self.ledger.progress(self.step),
            config=self.config,
            seeds={"train": self.settings.seed},
            inputs=self.inputs,
            keep=self.settings.keep,
        )
        self.saved_at = self.step

    def result(self) -> TrainResult:
        """What the caller gets."""
        settings, done = self.settings, self.ledger.done
        params = self.state.params
        if settings.lora is not None:
            params = lora.merge(self.frozen, params, settings.lora)
        return TrainResult(
            params=params,
            adapters=None if settings.lora is None else self.state.params,
            steps=self.step,
            data_tokens=done.data_tokens,
            examples_seen=done.examples_seen,
            final_loss=self.ledger.last_loss,
            wall_s=self.ledger.wall_s,
            resumed_from=self.resumed_from,
            skipped=tuple(done.skipped),
        )
