"""Arrays that are written again and again while a batch of problems descends."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Scratch:
    """Working space by name.

    A fresh large array costs more than what is computed into it: its pages are made
    when they are first touched. One object serves one thread.

    Example:
      >>> space = Scratch()
      >>> first = space.take("residual", (2, 3))
      >>> first is space.take("residual", (2, 3)), first.shape
      (False, (2, 3))
      >>> np.shares_memory(first, space.take("residual", (1, 3)))
      True
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array with any content; the next one of this name takes its place."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size)
        return buffer[:size].reshape(shape)
