from __future__ import annotations

from gr_jax.data import tensorflow_cpu


def test_no_accelerator_is_visible() -> None:
    kinds = {d.device_type for d in tensorflow_cpu.tf.config.get_visible_devices()}
    assert kinds == {"CPU"}
