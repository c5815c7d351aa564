"""The tree keeps its shape: tests mirror modules, top level names, light imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import cli, make_docs

ROOT = Path(__file__).parent.parent
TOP = {
    "pyproject.toml",
    "README.md",
    "gr_jax",
    "gin_configs",
    "tasks",
    "tests",
    "tools",
    "Makefile",
    "LICENSE",
    "CHANGELOG.md",
    "docs",
    "requirements.lock",
    "requirements-floors.lock",
    "requirements-newest.lock",
    "requirements-parity.lock",
}


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.split("\n")[:-1]


def test_top_level_names():
    names = {path.split("/")[0] for path in tracked()}
    assert {n for n in names if not n.startswith(".")} <= TOP


def test_every_test_module_mirrors_a_module():
    for path in tracked():
        parts = Path(path).parts
        if parts[0] != "tests" or len(parts) != 3 or not parts[2].startswith("test_"):
            continue
        package = {"tasks": ROOT / "tasks", "tools": ROOT / "tools"}.get(
            parts[1], ROOT / "gr_jax" / parts[1]
        )
        assert package.is_dir(), f"{path}: no package {parts[1]}"


def test_no_tests_share_a_path_of_one_machine():
    for path in tracked():
        if path.endswith((".py", ".md", ".gin", ".toml", ".sh", "Makefile")):
            text = (ROOT / path).read_text(encoding="utf-8")
            assert "/" + "work/" not in text, path


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_is_light(verb):
    code = (
        "import sys\nfrom tools import cli\n"
        f"try:\n    cli.main([{verb!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'jax', 'tensorflow', 'seqio', 'scipy', 'flax'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage: gr-jax" in done.stdout


def test_generated_pages_are_fresh():
    assert make_docs.main(["--check"]) == 0
