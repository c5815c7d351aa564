"""Faults from outside: kills at random points, a full disk, two processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gr_jax.train import checkpoint, journal

_RUN = """
import json, os, pathlib, resource, sys
import numpy as np
import jax
options = json.loads(sys.argv[1])
if "processes" in options:
    from gr_jax.sharding import hosts
    hosts.connect(options["address"], options["processes"], options["index"])
from gr_jax.core import errors
from gr_jax.model import families, ladder
from gr_jax.sharding import mesh
from gr_jax.train import loop, settings

def batches(start):
    while True:
        generator = np.random.default_rng(start)
        source = generator.integers(1, 32, (8, 6), dtype=np.int32)
        yield {"source_BS": source, "target_BL": source[:, :3]}
        start += 1

if "layout" in options:
    from gr_jax.data import arrays, batching

    generator = np.random.default_rng(0)
    sources = [generator.integers(1, 32, 1 + i % 6).tolist() for i in range(97)]
    examples = arrays.from_rows(
        sources, [[*s[:2], 1] for s in sources], [str(i) for i in range(97)], [0] * 97
    )

    def batches(start):
        return batching.batches(
            examples, batching.Layout(**options["layout"]), batch=8, source_length=6,
            target_length=6, seed=0, steps=options["steps"], start_step=start,
        )

if "limit" in options:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (options["limit"], hard))
model = families.build(
    ladder.build("llama", "25k", vocab_size=32, dropout_rate=0.1)
)
asked = settings.TrainSettings(
    steps=options["steps"], save_every=5, keep=2, log_every=3, accumulation=2
)
on = mesh.make_mesh(*options["mesh"]) if "mesh" in options else None
try:
    done = loop.train(
        model, batches, settings=asked, folder=pathlib.Path(options["folder"]), mesh=on
    )
except errors.GrJaxError as error:
    print(error)
    # Not exit: Orbax's threads of a failed save would be waited for.
    sys.stdout.flush()
    os._exit(error.exit_code)
print(json.dumps({"resumed": done.resumed_from, "loss": done.final_loss}))
"""


def _start(options: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, json.dumps(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **environment},
    )


def _outcome(folder: Path) -> tuple[Any, Any]:
    step, _, progress = checkpoint.newest(folder) or pytest.fail("no checkpoint")
    curve = [(x["step"], x["loss"], x["data_tokens"]) for x in journal.read(folder)]
    params = checkpoint.read_params(folder, step=step)
    return (step, progress.data_tokens, curve), params


def _same(one: Path, other: Path) -> bool:
    import jax
    import numpy as np

    (counts, params), (counts_2, params_2) = _outcome(one), _outcome(other)
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(params_2), strict=True)
    return counts == counts_2 and all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "options",
    [{}, {"layout": {"pack": True}}, {"layout": {"buckets": [3, 6]}}],
    ids=["given", "packed", "buckets"],
)
def test_killed_anywhere_it_ends_as_the_unbroken_run(tmp_path, options):
    steps, chooser = 60, random.Random(0)
    options = {**options, "steps": steps}
    whole = _start({**options, "folder": str(tmp_path / "whole")})
    assert whole.wait(300) == 0
    folder = tmp_path / "killed"
    redone = []
    for _ in range(6):
        run = _start({**options, "folder": str(folder)})
        after = chooser.randrange(1, steps)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and run.poll() is None:
            lines = journal.read(folder)
            if lines and lines[-1]["step"] >= after:
                break
            time.sleep(chooser.random() / 100)
        run.send_signal(signal.SIGKILL)
        run.wait()
        reached = (journal.read(folder) or [{"step": 0}])[-1]["step"]
        saved = checkpoint.newest(folder)
        redone.append(reached - (saved[0] if saved else 0))
    assert _start({**options, "folder": str(folder)}).wait(300) == 0
    assert max(redone) <= 5
    assert _same(folder, tmp_path / "whole")


@pytest.mark.slow
def test_terminated_it_saves_and_exits_75(tmp_path):
    run = _start({"steps": 100_000, "folder": str(tmp_path)})
    while not journal.read(tmp_path):
        time.sleep(0.05)
    start = time.monotonic()
    run.terminate()
    time.sleep(0.05)
    run.terminate()
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 75
    assert time.monotonic() - start < 10
    assert "SIGTERM at step" in output
    step, _, _ = checkpoint.newest(tmp_path) or pytest.fail("nothing saved")
    assert f"at step {step} " in output


@pytest.mark.slow
def test_full_disk_exits_5_and_keeps_what_was_saved(tmp_path):
    good = _start({"steps": 100_000, "folder": str(tmp_path)})
    while not journal.read(tmp_path):
        time.sleep(0.05)
    good.terminate()
    assert good.wait(60) == 75
    before, params = _outcome(tmp_path)
    run = _start({"steps": 100_000, "folder": str(tmp_path), "limit": 20_000})
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 5, output
    assert checkpoint.newest(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and not p.stat().st_size]
    after, params_after = _outcome(tmp_path)
    assert after[0] >= before[0]
    del params, params_after


def _start_two(folder: Path, steps: int, mesh: list[int]) -> list[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        _start(
            {
                "steps": steps,
                "folder": str(folder),
                "mesh": mesh,
                "address": f"127.0.0.1:{port}",
                "processes": 2,
                "index": index,
            },
            JAX_NUM_CPU_DEVICES="2",
        )
        for index in range(2)
    ]


def _two_processes(folder: Path, steps: int, mesh: list[int]) -> list[str]:
    runs = _start_two(folder, steps, mesh)
    ended = [run.communicate(timeout=280) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ended
    return [output for output, _ in ended]


@pytest.mark.slow
def test_one_process_terminated_stops_both_after_a_save(tmp_path):
    runs = _start_two(tmp_path, 100_000, [4, 1, 1])
    while not journal.read(tmp_path):
        assert runs[0].poll() is None, runs[0].communicate()
        time.sleep(0.05)
    runs[1].terminate()
    outputs = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [75, 75], outputs
    step, _, _ = checkpoint.newest(tmp_path) or pytest.fail("nothing saved")
    assert all(f"SIGTERM at step {step} " in output for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [[4, 1, 1], [1, 2, 2]])
def test_two_processes_lose_as_one_and_one_goes_on_from_them(tmp_path, mesh):
    outputs = _two_processes(tmp_path / "two", 10, mesh)
    alone = _start({"steps": 10, "folder": str(tmp_path / "one")})
    output, _ = alone.communicate(timeout=280)
    losses = [json.loads(o.splitlines()[-1])["loss"] for o in (*outputs, output)]
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=1e-5)
    (counts, _), (counts_alone, _) = (
        _outcome(tmp_path / "two"),
        _outcome(tmp_path / "one"),
    )
    assert counts[1] == counts_alone[1]
