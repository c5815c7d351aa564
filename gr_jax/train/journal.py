"""Where a run writes what it sees: ``log.jsonl`` and TensorBoard events."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts, errors

LOG = "log.jsonl"
_EVENTS = "tensorboard"


class Journal:
    """Appends one line every few steps; resumed, it first forgets what came later.

    Args:
      folder: The run's folder.
      step: Steps done; later lines are dropped, for they will be written again.
      tensorboard: Whether to write events too.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool) -> None:
        self._path = folder / LOG
        self._events: Any = None
        kept = [line for line in read(folder) if line["step"] <= step]
        try:
            artifacts.write_jsonl(self._path, kept)
            self._file = self._path.open("a", encoding="utf-8")
            if tensorboard:
                # Imported here: it pulls in protobuf, which a run without it spares.
                import tensorboardX

                self._events = tensorboardX.SummaryWriter(
                    str(folder / _EVENTS), purge_step=step + 1, flush_secs=30
                )
        except OSError as error:
            raise _disk(self._path, error) from None

    def write(self, line: dict[str, float | int | str]) -> None:
        """Writes one line, flushed, and its numbers as events."""
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise _disk(self._path, error) from None
        if self._events is not None:
            step = int(line["step"])
            for name, value in line.items():
                if name != "step" and not isinstance(value, str):
                    self._events.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        """Flushes to disk and closes."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _disk(self._path, error) from None
        finally:
            if self._events is not None:
                self._events.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, none if there is no log.

    A last line cut short by a kill is left out.
    """
    path = folder / LOG
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    return [json.loads(line) for line in lines]


def _disk(path: Path, error: OSError) -> errors.ResourceError:
    return errors.ResourceError(
        f"{path}: cannot be written ({error.strerror}): free space or mend the folder"
    )
