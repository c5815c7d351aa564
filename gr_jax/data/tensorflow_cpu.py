"""TensorFlow, kept away from accelerators: JAX needs their memory.

Every module that uses TensorFlow imports this one first.
"""

from __future__ import annotations

import os

# Says which CPU instructions it was built for, on every start, unless told not to.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf


def hide_accelerators() -> None:
    """Makes TensorFlow see the CPU only.

    Raises:
      RuntimeError: If it has taken a device already.
    """
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)


hide_accelerators()
