"""Several processes as one machine, by `jax.distributed`."""

from __future__ import annotations

import jax

from gr_jax.core import errors


def connect(
    address: str | None = None,
    processes: int | None = None,
    index: int | None = None,
    *,
    timeout_s: int = 300,
) -> None:
    """Joins this process to the others; call it before any device is used.

    Without arguments the cluster is asked (Cloud TPU, SLURM, Open MPI, Kubernetes
    through their environment). All processes then see all devices, run the same steps
    on the same global batches, and each sends the rows of its own devices.

    Args:
      address: ``host:port`` of process 0.
      processes: How many there are.
      index: Which this is.
      timeout_s: How long to wait for the others.

    Raises:
      UsageError: If some of the three are given and some are not.
      StalledError: If the others do not come in time, or cannot be reached.
    """
    given = (address, processes, index)
    if any(g is not None for g in given) and None in given:
        remedy = "give address, processes and index together, or none of them"
        raise errors.UsageError(errors.fault("hosts", "connect", given, remedy))
    try:
        jax.distributed.initialize(
            coordinator_address=address,
            num_processes=processes,
            process_id=index,
            initialization_timeout=timeout_s,
        )
    except ValueError as error:
        raise errors.UsageError(
            f"hosts: no cluster found ({error}): give address, processes and index"
        ) from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise errors.StalledError(
            f"hosts: process {index} of {processes}: {address}: {reason}: start all "
            "processes within the time-out, with one address"
        ) from None


def describe() -> dict[str, int]:
    """Processes and devices as this process sees them."""
    return {
        "process": jax.process_index(),
        "processes": jax.process_count(),
        "local_devices": jax.local_device_count(),
        "devices": jax.device_count(),
    }
