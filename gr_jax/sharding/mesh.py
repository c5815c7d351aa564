"""The device mesh: three named axes, the same code for one device and for a pod."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from gr_jax.core import errors

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshShape:
    """Devices along each axis; ``data=0`` takes all devices the others leave.

    ``data`` and ``fsdp`` split the batch, ``fsdp`` also splits parameters and optimizer
    state, ``tensor`` splits heads, feed-forward and vocabulary.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        if self.data < 0 or self.fsdp < 1 or self.tensor < 1:
            raise errors.UsageError(
                errors.fault("mesh", "shape", self.sizes, "give positive sizes")
            )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Sizes in the order of `AXES`."""
        return (self.data, self.fsdp, self.tensor)

    def filled(self, devices: int) -> MeshShape:
        """The shape with ``data=0`` replaced by what ``devices`` leave.

        Raises:
          UsageError: If the other axes do not divide the devices.
        """
        if self.data:
            return self
        inner = self.fsdp * self.tensor
        if devices % inner:
            remedy = f"fsdp x tensor must divide the {devices} devices"
            raise errors.UsageError(errors.fault("mesh", "shape", self.sizes, remedy))
        return dataclasses.replace(self, data=devices // inner)


def make_mesh(
    data: int = 1,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """A mesh of axes ``data``, ``fsdp``, ``tensor`` in GSPMD (Auto) mode.

    Args:
      data: Devices that split the batch alone; 0 takes all the others leave.
      fsdp: Devices that split the batch, the parameters and the optimizer state.
      tensor: Devices that split heads, feed-forward and vocabulary.
      devices: Devices to use, all of them unless given. One process may use fewer than
        there are; several processes must use all.

    Raises:
      UsageError: If there are too few devices.
    """
    available = list(jax.devices() if devices is None else devices)
    shape = MeshShape(data=data, fsdp=fsdp, tensor=tensor).filled(len(available))
    needed = shape.data * shape.fsdp * shape.tensor
    few = needed > len(available)
    if few or (jax.process_count() > 1 and needed != len(available)):
        remedy = f"needs {needed} devices, {len(available)} are here"
        raise errors.UsageError(errors.fault("mesh", "shape", shape.sizes, remedy))
    # make_mesh defaults to Explicit axes, under which logical constraints are ignored.
    return jax.make_mesh(
        shape.sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=available[:needed]
    )


def single_device() -> Mesh:
    """The mesh of the first local device, where a run on one device lives."""
    return make_mesh(devices=jax.local_devices()[:1])


def describe(mesh: Mesh) -> dict[str, int]:
    """Axis name to size, as manifests record it."""
    return {str(name): int(size) for name, size in mesh.shape.items()}
