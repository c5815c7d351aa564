from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gr_jax.core import artifacts, errors
from gr_jax.study import runner
from tools import repro

GIN = Path(__file__).parent.parent / "tiny_study.gin"
ROOT = Path(__file__).parent.parent.parent


def command(folder: Path) -> list[str]:
    base = [sys.executable, "-m", "tools.study", "--study", str(folder), "--no-report"]
    return [*base, "--gin_file", str(GIN)]


def test_a_shard_is_read_from_text():
    assert runner.Shard.parse("2/3") == runner.Shard(2, 3)
    for text in ("3/3", "1", "a/2", "-1/2"):
        with pytest.raises(errors.UsageError, match="--shard"):
            runner.Shard.parse(text)


def test_a_finished_study_is_not_run_again(tiny_study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_study, folder)
    before = (folder / "records.jsonl").read_bytes()
    stamps = {p: p.stat().st_mtime_ns for p in (folder / "cells").rglob("*")}
    subprocess.run(command(folder), check=True, cwd=ROOT)
    assert (folder / "records.jsonl").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in (folder / "cells").rglob("*")} == stamps


def test_another_study_is_refused_on_the_same_folder(tiny_study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_study, folder)
    done = subprocess.run(
        [*command(folder), "--gin.grid.Study.negatives=16"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == errors.UsageError.exit_code
    assert "negatives" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_second_process_is_refused(tiny_study, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_study, folder)
    with artifacts.locked(folder / "locks" / "0-of-1"):
        done = subprocess.run(
            command(folder), cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == errors.UsageError.exit_code
    assert f"in use by process {os.getpid()}" in done.stderr


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_with_the_same_records(tiny_study, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(tiny_study, folder)
    (folder / "records.jsonl").unlink()
    for cell in (folder / "cells").iterdir():
        shutil.rmtree(cell)
    for wait_s in (12.0, 20.0):
        process = subprocess.Popen(command(folder), cwd=ROOT)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(folder), check=True, cwd=ROOT)
    wanted = artifacts.read_jsonl(tiny_study / "records.jsonl")
    found = artifacts.read_jsonl(folder / "records.jsonl")
    assert repro.comparable(found) == repro.comparable(wanted)
