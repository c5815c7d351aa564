"""Reproducibility check: the smallest study twice, and against stored values.

`python -m tools.repro` runs `sweep/repro.gin` in two fresh processes. Their records
must be equal bit for bit, wall times aside. Against `tests/golden/repro.json` they must
agree within 1e-6 where package versions and processor features are those that made it,
and within the tolerance stored there elsewhere. `--update` makes the file anew and
shows what moved; `--measure` runs under other instruction sets and prints how far the
numbers move, which is where the stored tolerance comes from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gr_jax.core import artifacts

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "repro.json"
SAME_MACHINE_TOLERANCE = 1e-6
# What may differ between two runs of one configuration.
_VOLATILE = ("wall_s", "device", "commit", "hashes", "cell")
_INSTRUCTION_SETS = ("AVX2", "AVX", "SSE4_2")


def run_study(folder: Path, *, xla_flags: str = "") -> list[dict[str, Any]]:
    """The records of one fresh run in a process of its own."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu")
    environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    command = [sys.executable, "-m", "tools.study", "--study", str(folder)]
    command += ["--gin_file", "sweep/repro.gin", "--no-report", "--quiet"]
    subprocess.run(command, check=True, env=environment)
    return artifacts.read_jsonl(folder / "records.jsonl")


def comparable(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without what may differ."""
    return [{k: v for k, v in r.items() if k not in _VOLATILE} for r in records]


def numbers(value: Any, name: str = "") -> dict[str, float]:
    """Every number of a JSON value, by its path."""
    if isinstance(value, dict):
        parts = [numbers(v, f"{name}.{k}") for k, v in value.items()]
    elif isinstance(value, list):
        parts = [numbers(v, f"{name}[{i}]") for i, v in enumerate(value)]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return {name: float(value)}
    else:
        return {}
    return {k: v for part in parts for k, v in part.items()}


def largest_difference(one: Any, other: Any) -> tuple[float, str]:
    """The largest |a - b| / max(1, |a|, |b|) over all numbers, and where it is."""
    a, b = numbers(one), numbers(other)
    if a.keys() != b.keys():
        return float("inf"), sorted(a.keys() ^ b.keys())[0]
    gaps = ((abs(a[k] - b[k]) / max(1.0, abs(a[k]), abs(b[k])), k) for k in a)
    return max(gaps, default=(0.0, ""))


def machine() -> dict[str, str]:
    """What decides the last digits: versions and processor features."""
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "")
    features = sorted(flags.partition(":")[2].split())
    return {
        "processor": platform.machine(),
        "features": artifacts.content_hash(features),
        # Those that may be used: XLA cuts its work into as many parts.
        "cores": str(_cores()),
        **{k: v for k, v in artifacts.versions().items() if k != "gr-jax"},
    }


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _update(records: list[dict[str, Any]], tolerance: float) -> None:
    if GOLDEN.is_file():
        old = artifacts.read_json(GOLDEN)
        gap, where = largest_difference(old["records"], records)
        print(f"largest change against the stored values: {gap:.3g} at {where}")
    value = {"machine": machine(), "tolerance": tolerance, "records": records}
    artifacts.write_json(GOLDEN, value)
    print(f"wrote {GOLDEN.name}")


def _measure(folder: Path, records: list[dict[str, Any]]) -> None:
    for name in _INSTRUCTION_SETS:
        other = run_study(folder / name, xla_flags=f"--xla_cpu_max_isa={name}")
        gap, where = largest_difference(records, comparable(other))
        print(f"instruction set {name}: largest difference {gap:.3g} at {where}")


def _against_golden(records: list[dict[str, Any]]) -> int:
    golden = artifacts.read_json(GOLDEN)
    is_same = golden["machine"] == machine()
    tolerance = SAME_MACHINE_TOLERANCE if is_same else golden["tolerance"]
    gap, where = largest_difference(golden["records"], records)
    verdict = "within" if gap <= tolerance else "OUTSIDE"
    kind = "same versions and processor" if is_same else "another machine"
    print(
        f"against stored values ({kind}): largest difference {gap:.3g} at {where}, "
        f"{verdict} {tolerance:g}"
    )
    if gap > tolerance:
        print("if the change is meant: python -m tools.repro --update", file=sys.stderr)
    return 0 if gap <= tolerance else 1


def main(argv: list[str] | None = None) -> int:
    """Runs the check and returns 0 if everything agrees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="store this run's values")
    parser.add_argument("--measure", action="store_true", help="vary instruction sets")
    parser.add_argument("--tolerance", type=float, default=None, help="with --update")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="gr-jax-repro-") as name:
        folder = Path(name)
        first = comparable(run_study(folder / "first"))
        if args.measure:
            _measure(folder, first)
            return 0
        second = comparable(run_study(folder / "second"))
    if first != second:
        gap, where = largest_difference(first, second)
        print(f"two runs differ: {gap:.3g} at {where}", file=sys.stderr)
        return 1
    digest = artifacts.content_hash(json.loads(json.dumps(first)))
    print(f"two runs: {len(first)} records, equal bit for bit ({digest[:16]})")
    if args.update:
        old = artifacts.read_json(GOLDEN)["tolerance"] if GOLDEN.is_file() else 0.05
        _update(first, old if args.tolerance is None else args.tolerance)
        return 0
    return _against_golden(first)


if __name__ == "__main__":
    raise SystemExit(main())
