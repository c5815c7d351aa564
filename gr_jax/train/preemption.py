"""Being asked to stop: SIGTERM and Ctrl-C become a flag that the loop reads."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType

from jax.experimental import multihost_utils


class Stop:
    """Set once a stop was asked for; ``signal_name`` says how."""

    def __init__(self) -> None:
        self.signal_name = ""

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    def ask(self, signal_name: str) -> None:
        """Asks for a stop after the current step."""
        self.signal_name = self.signal_name or signal_name


@contextlib.contextmanager
def watched(processes: int = 1) -> Generator[Stop]:
    """Catches SIGTERM and SIGINT inside the block; outside the main thread, nothing.

    Further signals change nothing: the run is already on its way to a clean save. With
    several processes JAX itself catches SIGTERM and tells the others, which a handler
    of ours would prevent; ask `agreed` then.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        stop.ask(signal.Signals(number).name)

    alone = processes == 1
    if not alone or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agreed(stop: Stop, step: int, processes: int) -> bool:
    """Whether to stop before this step; all processes answer alike."""
    if processes == 1:
        return bool(stop)
    if multihost_utils.reached_preemption_sync_point(step):
        stop.ask("SIGTERM")
    return bool(stop)
