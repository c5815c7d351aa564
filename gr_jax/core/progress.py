"""How the silent library tells a caller how far it is.

Library functions take a ``Progress`` and say nothing themselves; the command line
passes one that draws bars on stderr.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a long piece of work reports to."""

    def start(self, label: str, total: int | None) -> None:
        """Begins a piece of work of ``total`` units (None: unknown)."""
        ...

    def advance(self, units: int = 1, **measures: float | str) -> None:
        """Counts finished units; ``measures`` are shown beside the bar."""
        ...

    def finish(self) -> None:
        """Ends the piece of work begun last. Starts and ends nest."""
        ...


class Silent:
    """A progress that shows nothing."""

    def start(self, label: str, total: int | None) -> None:
        """Does nothing."""

    def advance(self, units: int = 1, **measures: float | str) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Does nothing."""


SILENT: Progress = Silent()
