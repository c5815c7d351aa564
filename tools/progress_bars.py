"""Progress bars on stderr: what runs, how long is left, the last measures."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from gr_jax.core import progress


class Bars:
    """A `Progress` drawn by rich; nested pieces of work are nested bars."""

    def __init__(self) -> None:
        from rich import console
        from rich import progress as rich_progress

        self._display = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=30),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TimeRemainingColumn(),
            rich_progress.TextColumn("{task.fields[measures]}"),
            console=console.Console(stderr=True),
            transient=False,
        )
        self._tasks: list[Any] = []

    def start(self, label: str, total: int | None) -> None:
        """Opens a bar below the open ones."""
        if not self._tasks:
            self._display.start()
        indent = "  " * len(self._tasks)
        task = self._display.add_task(f"{indent}{label}", total=total, measures="")
        self._tasks.append(task)

    def advance(self, units: int = 1, **measures: float | str) -> None:
        """Moves the innermost bar and shows its measures."""
        shown = "  ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in measures.items()
        )
        task = self._tasks[-1]
        self._display.update(task, advance=units)
        if shown:
            self._display.update(task, measures=shown)

    def finish(self) -> None:
        """Closes the innermost bar; nested ones disappear, the outermost stays."""
        task = self._tasks.pop()
        if self._tasks:
            self._display.remove_task(task)
        else:
            self._display.stop()


def bars(args: argparse.Namespace) -> progress.Progress:
    """Bars on a terminal; silence with -q, NO_COLOR-style pipes, or no terminal."""
    if args.quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return progress.SILENT
    return Bars()
