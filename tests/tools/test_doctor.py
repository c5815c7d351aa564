"""The verb doctor: what it tells, and that it finds a damaged artefact."""

from __future__ import annotations

import json

from gr_jax.core import artifacts
from tools import cli


def test_tells_versions_and_devices(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["devices"]) == 8
    assert found["memory"]["disk_free_bytes"] > 0
    assert found["versions"]["jax"] != "not installed"


def test_finds_the_damaged_file(tmp_path, capsys):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.txt").write_text("as written")
        artifacts.write_manifest(tmp_path / name, kind="test", schema_version=1)
    command = ["doctor", "--no-devices", "--json", "--run", str(tmp_path)]
    assert cli.main(command) == 0
    capsys.readouterr()
    (tmp_path / "bad" / "data.txt").write_text("as wrItten")
    assert cli.main(command) == 4
    out = capsys.readouterr()
    states = {
        a["folder"].rsplit("/")[-1]: a["state"]
        for a in json.loads(out.out)["artefacts"]
    }
    assert states["good"] == "ok"
    assert "bad/data.txt" in states["bad"]
    assert "bad/data.txt" in out.err


def test_warns_of_settings_that_hang(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1234")
    assert cli.main(["doctor", "--no-devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["distributed"]
    assert "loopback" in found["warnings"][0]
