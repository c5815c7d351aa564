"""Verb `doctor`: devices, memory, versions, distributed set-up, digests of a run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tools import cli

SUMMARY = "devices, memory, versions, distributed set-up, file digests of a run"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy")
_OPTIONAL = ("seqio", "tensorflow", "torch", "transformers", "apache-beam")
_CLUSTER = (
    "SLURM_JOB_ID",
    "SLURM_NTASKS",
    "SLURM_GPUS_PER_TASK",
    "SLURM_STEP_GPUS",
    "OMPI_COMM_WORLD_SIZE",
    "TPU_WORKER_ID",
    "TPU_WORKER_HOSTNAMES",
    "JAX_COORDINATOR_ADDRESS",
    "JAX_PLATFORMS",
    "XLA_FLAGS",
    "CUDA_VISIBLE_DEVICES",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="check every artefact below DIR"
    )
    parser.add_argument(
        "--no-devices", action="store_true", help="do not start JAX, only look around"
    )


def run(args: argparse.Namespace) -> int:
    """Looks around and says what it found; 4 if an artefact is damaged."""
    from gr_jax.core import errors

    if args.run is not None and not args.run.is_dir():
        raise errors.ArtifactError(f"{args.run}: no such folder")
    found: dict[str, Any] = {
        "versions": _versions(),
        "memory": _memory(args.run or Path.cwd()),
        "distributed": _distributed(),
    }
    if not args.no_devices and not args.dry_run:
        found["devices"] = _devices()
    if args.run is not None:
        found["artefacts"] = _artefacts(args.run)
    damaged = [a for a in found.get("artefacts", []) if a["state"] != "ok"]
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    for one in damaged:
        print(f"gr-jax doctor: {one['state']}", file=sys.stderr)
    return errors.ArtifactError.exit_code if damaged else 0


def _versions() -> dict[str, str]:
    from importlib import metadata

    from gr_jax.core import artifacts

    found = {"commit": artifacts.commit(), "python": sys.version.split()[0]}
    for name in (*_PACKAGES, *_OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _memory(folder: Path) -> dict[str, int]:
    pages = os.sysconf("SC_PAGE_SIZE")
    return {
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "memory_bytes": pages * os.sysconf("SC_PHYS_PAGES"),
        "disk_free_bytes": shutil.disk_usage(folder).free,
    }


def _distributed() -> dict[str, Any]:
    """Cluster variables, and the settings known to hang or break a start."""
    variables = {name: os.environ[name] for name in _CLUSTER if name in os.environ}
    warnings: list[str] = []
    if "SLURM_GPUS_PER_TASK" in variables:
        warnings.append(
            "SLURM_GPUS_PER_TASK: hides other tasks' GPUs from NCCL: use "
            "--gpus-per-node"
        )
    address = variables.get("JAX_COORDINATOR_ADDRESS", "")
    if address.startswith(("127.", "localhost")) and "SLURM_NTASKS" in variables:
        warnings.append(
            f"JAX_COORDINATOR_ADDRESS={address}: a loopback address: other hosts "
            "would wait for ever"
        )
    return {"variables": variables, "warnings": warnings}


def _devices() -> list[dict[str, Any]]:
    import jax

    found: list[dict[str, Any]] = []
    for device in jax.devices():
        memory = device.memory_stats() or {}
        found.append(
            {
                "id": device.id,
                "kind": device.device_kind,
                "platform": device.platform,
                "process": device.process_index,
                "memory_bytes": memory.get("bytes_limit"),
                "in_use_bytes": memory.get("bytes_in_use"),
            }
        )
    return found


def _artefacts(folder: Path) -> list[dict[str, str]]:
    from gr_jax.core import artifacts, errors

    found: list[dict[str, str]] = []
    for path in sorted(folder.rglob(artifacts.MANIFEST)):
        row = {"folder": str(path.parent), "state": "ok"}
        try:
            manifest = artifacts.read_manifest(path.parent, verify="full")
            row |= {
                "kind": manifest.kind,
                "commit": manifest.commit,
                "digest": artifacts.digest_of(path.parent),
            }
        except errors.ArtifactError as error:
            row["state"] = str(error)
        found.append(row)
    return found


def _show(found: dict[str, Any]) -> None:
    for title, value in found.items():
        print(f"{title}:")
        rows = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in rows:
            shown = (
                "  ".join(f"{k} {v}" for k, v in one.items())
                if isinstance(one, dict)
                else one
            )
            print(f"  {name}: {shown}")


if __name__ == "__main__":
    raise SystemExit(cli.main(["doctor", *sys.argv[1:]]))
