"""Meshes of the asked shape, in Auto mode, and refusals."""

from __future__ import annotations

import jax
import pytest
from jax.sharding import AxisType

from gr_jax.core import errors
from gr_jax.sharding import mesh


def test_axes_are_auto_and_sized():
    made = mesh.make_mesh(2, 2, 2)
    assert mesh.describe(made) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert set(made.axis_types) == {AxisType.Auto}


def test_zero_takes_the_devices_left():
    assert mesh.make_mesh(0, 2, 1).shape["data"] == jax.device_count() // 2


def test_fewer_devices_than_asked_are_refused():
    with pytest.raises(errors.UsageError, match="needs 16 devices, 8 are here"):
        mesh.make_mesh(4, 2, 2)


def test_axes_that_do_not_divide_are_refused():
    with pytest.raises(errors.UsageError, match="must divide the 8 devices"):
        mesh.make_mesh(0, 3, 1)


@pytest.mark.parametrize("sizes", [(-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(errors.UsageError, match="positive"):
        mesh.make_mesh(*sizes)


def test_single_device_is_the_first():
    assert mesh.single_device().devices.item() == jax.devices()[0]
