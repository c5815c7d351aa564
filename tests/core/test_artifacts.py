from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gr_jax.core import artifacts, errors


def sealed(folder, **files):
    with artifacts.staged(folder) as staged:
        for name, text in files.items():
            artifacts.write_text(staged / name, text)
        artifacts.write_manifest(staged, kind="thing", schema_version=1)
    return folder


def test_a_sealed_folder_reads_back(tmp_path):
    folder = sealed(tmp_path / "a", one="1", two="2")
    manifest = artifacts.read_manifest(folder, kind="thing", schema_version=1)
    assert set(manifest.files) == {"one", "two"}


@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    folder = sealed(tmp_path / "a", one="1", two="22")
    path = folder / "two"
    if damage == "remove":
        path.unlink()
    else:
        path.write_text("23" if damage == "change" else "2")
    with pytest.raises(errors.ArtifactError, match=str(path)):
        artifacts.read_manifest(folder)


def test_another_kind_or_version_is_refused(tmp_path):
    folder = sealed(tmp_path / "a", one="1")
    with pytest.raises(errors.ArtifactError, match="other is needed"):
        artifacts.read_manifest(folder, kind="other")
    with pytest.raises(errors.ArtifactError, match="schema_version"):
        artifacts.read_manifest(folder, schema_version=2)


def test_a_failed_block_leaves_the_old_folder(tmp_path):
    folder = sealed(tmp_path / "a", one="1")

    def broken():
        with artifacts.staged(folder) as staged:
            (staged / "one").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert (folder / "one").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_lock_names_its_holder_and_a_dead_one_is_taken_over(tmp_path):
    second = artifacts.locked(tmp_path)
    with (
        artifacts.locked(tmp_path),
        pytest.raises(errors.UsageError, match=str(os.getpid())),
    ):
        second.__enter__()
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    import socket

    artifacts.write_json(
        tmp_path / "lock.json", {"pid": int(gone.stdout), "host": socket.gethostname()}
    )
    with artifacts.locked(tmp_path):
        pass


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_equal_values_hash_equally(value):
    assert artifacts.content_hash({"a": value, "b": 1}) == artifacts.content_hash(
        {"b": 1, "a": value}
    )


def test_jsonl_names_the_bad_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\nnot json\n')
    with pytest.raises(errors.ArtifactError, match=f"{path}:2"):
        artifacts.read_jsonl(path)
