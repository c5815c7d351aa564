"""What the host counts of a run: tokens, rows, losses, steps thrown away."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gr_jax.core import errors
from gr_jax.train import checkpoint, feed, journal
from gr_jax.train import settings as train_settings


class Ledger:
    """Takes each step's metrics off the device in bunches, counts and logs them.

    Attributes:
      done: Counts up to the last step settled.
      last_loss: Mean of the last line of the log; NaN before the first.
      journal: Where lines go; None on processes that write none.
    """

    def __init__(
        self,
        folder: Path,
        settings: train_settings.TrainSettings,
        batches: feed.Batches,
        done: checkpoint.Progress,
    ) -> None:
        self.done = done
        self.journal: journal.Journal | None = None
        self._folder = folder
        self._settings = settings
        self._batches = batches
        self._started = time.monotonic()
        self._pending: list[tuple[int, int, dict[str, jax.Array]]] = []
        window = done.window
        self._nats = float(window.get("nats", 0.0))
        self._tokens = int(window.get("tokens", 0))
        self._bad = int(window.get("bad", 0))
        last = window.get("last_loss")
        self.last_loss = math.nan if last is None else float(last)

    @property
    def wall_s(self) -> float:
        """Time spent, earlier parts of a resumed run included."""
        return self.done.wall_s + time.monotonic() - self._started

    def note(self, step: int, rows: int, metrics: dict[str, jax.Array]) -> None:
        """Keeps a step's metrics, still on the device, for the next `settle`."""
        self._pending.append((step, rows, metrics))

    def wait(self, ahead: int) -> None:
        """Blocks until all but the last ``ahead`` steps noted are computed."""
        if len(self._pending) > ahead:
            jax.block_until_ready(self._pending[-1 - ahead][2]["nats"])

    def settle(self) -> None:
        """Fetches and counts what was noted, and writes the lines that are due.

        Raises:
          NumericError: On a step with a NaN or infinity beyond those allowed.
        """
        fetched = jax.device_get(self._pending)
        self._pending = []
        for step, rows, metrics in fetched:
            self._count(step, rows, metrics)
            if step % self._settings.log_every == 0 or step == self._settings.steps:
                self._write(step, metrics)

    def progress(self, step: int) -> checkpoint.Progress:
        """The counts as a checkpoint keeps them."""
        last = None if math.isnan(self.last_loss) else self.last_loss
        window = {
            "nats": self._nats,
            "tokens": self._tokens,
            "bad": self._bad,
            "last_loss": last,
        }
        return dataclasses.replace(
            self.done, step=step, wall_s=self.wall_s, window=window
        )

    def _count(self, step: int, rows: int, metrics: Mapping[str, np.ndarray]) -> None:
        tokens = int(metrics["tokens"])
        self.done = dataclasses.replace(
            self.done,
            data_tokens=self.done.data_tokens + tokens,
            examples_seen=self.done.examples_seen + rows,
        )
        if metrics["is_finite"]:
            self._nats += float(metrics["nats"])
            self._tokens += tokens
        if not metrics["is_finite"] or metrics["is_spike"]:
            self.done.skipped.append(step)
        if not metrics["is_finite"]:
            self._bad += 1
            self._refuse_bad(step)

    def _refuse_bad(self, step: int) -> None:
        if self._bad <= self._settings.bad_steps:
            return
        batch = next(iter(self._batches(step - 1)))
        path = self._folder / f"bad_batch_{step}.npz"
        if jax.process_index() == 0:
            fields: dict[str, Any] = dict(batch)
            np.savez(path, **fields)
        raise errors.NumericError(
            f"{self._folder}: step {step}: NaN or infinity in loss or gradient: lower "
            f"the learning rate, or look at {path.name}"
        )

    def _write(self, step: int, metrics: Mapping[str, np.ndarray]) -> None:
        if self._tokens:
            self.last_loss = self._nats / self._tokens
        self._nats, self._tokens = 0.0, 0
        if self.journal is None or math.isnan(self.last_loss):
            return
        self.journal.write(
            {
                "step": step,
                "loss": self.last_loss,
                "data_tokens": self.done.data_tokens,
                "learning_rate": float(metrics["learning_rate"]),
                "gradient_norm": float(np.nan_to_num(metrics["gradient_norm"])),
                "wall_s": round(self.wall_s, 4),
            }
        )
