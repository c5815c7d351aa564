"""Eight simulated devices, strict broadcasting, and the shared collections."""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Most of the tests' time is compiling: it is done with less effort, and once for all
# workers and all processes that tests start. Another session compiles anew, unless both
# are given a folder.
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    # A third of the time to compile. XLA ends a process over a flag it does not know.
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ["XLA_FLAGS"] = (
            f"--xla_cpu_use_fusion_emitters=false {os.environ.get('XLA_FLAGS', '')}"
        )
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="gr-jax-tests-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import pytest

# A script that needs T5X, run by `interop/test_t5x.py` where there is one.
collect_ignore = ["interop/t5x_cases.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("GR_JAX_DATA"):
        return
    skip = pytest.mark.skip(reason="GR_JAX_DATA is not set: no shared collections")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(skip)


@pytest.fixture
def figure(record_property: Callable[[str, Any], None]) -> Callable[..., None]:
    """Notes a measured number; all of them stand in a table when the tests are over."""

    def note(table: str, row: str, column: str, value: float) -> None:
        record_property("figure", [table, row, column, float(value)])

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, noted in getattr(report, "user_properties", []):
            if name == "figure":
                table, row, column, value = noted
                tables.setdefault(table, {}).setdefault(row, {})[column] = value
    for table, rows in sorted(tables.items()):
        columns = list(dict.fromkeys(c for row in rows.values() for c in row))
        terminalreporter.write_line(f"\n| {table} | {' | '.join(columns)} |")
        terminalreporter.write_line("| --- |" + " ---: |" * len(columns))
        for row, cells in sorted(rows.items()):
            shown = (f"{cells[c]:.1e}" if c in cells else "" for c in columns)
            terminalreporter.write_line(f"| {row} | {' | '.join(shown)} |")


@pytest.fixture
def shared_data() -> Path:
    """The folder of shared collections (squad/, squad-1k/, cranfield/, scaling/)."""
    return Path(os.environ["GR_JAX_DATA"])


@pytest.fixture
def optimised() -> Iterator[None]:
    """Programs compiled as they are run, for tests that look at what XLA made."""
    import jax

    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, False)
    yield
    jax.config.update(name, before)


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, made once however many test workers there are."""
    import fcntl
    import subprocess
    import sys

    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent
    folder = root / "tiny-study"
    with (root / "tiny-study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "report.html").is_file():
            command = [sys.executable, "-m", "tools.study", "--study", str(folder)]
            command += ["--gin_file", str(Path(__file__).parent / "tiny_study.gin")]
            command += ["--workers", "2"]
            subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)
    return folder
