from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from gr_jax.data import docstrings


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


PACKAGE = {
    "__init__.py": '''
        """The package."""
        from pkg._inner import work as work, Tool
        from pkg._inner import _hidden
        from pkg._star import *
        from other import imported
        ''',
    "_inner.py": '''
        """Private module."""
        raise RuntimeError("sources are parsed, never run")
        def work():
            """Works."""
        def _hidden():
            """Hidden."""
        def not_exported():
            """Not exported."""
        class Tool:
            """A tool."""
            def use(self):
                """Uses it."""
            def _break(self):
                """Breaks it."""
        ''',
    "_star.py": '''
        __all__ = ["starred"]
        def starred():
            """Starred."""
        def left_out():
            """Left out."""
        ''',
    "deep/__init__.py": "",
    "deep/public.py": '''
        """Public module."""
        from pkg._inner import work as labour
        if True:
            def conditional():
                """Under a condition."""
        try:
            pass
        except ImportError:
            def fallback():
                """Fallback."""
        def undocumented():
            pass
        ''',
    "tests/test_it.py": '"""A test."""',
    "broken.py": "def (",
}

OTHER = '''
    def imported():
        """Belongs to another package."""
    '''


def test_public_names_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "pkg", PACKAGE)
    write(tmp_path / "other", {"__init__.py": OTHER})
    roots = [(tmp_path / name, f"{name}.") for name in ("other", "pkg")]
    monkeypatch.setattr(docstrings, "_roots", lambda: iter(roots))
    monkeypatch.setattr(docstrings, "_compiled", lambda: iter([]))
    found = {d.name: d.doc for d in docstrings.installed()}
    assert found == {
        "other.imported": "Belongs to another package.",
        "pkg": "The package.",
        "pkg.Tool": "A tool.",
        "pkg.Tool.use": "Uses it.",
        "pkg.deep.public": "Public module.",
        "pkg.deep.public.conditional": "Under a condition.",
        "pkg.deep.public.fallback": "Fallback.",
        "pkg.starred": "Starred.",
        "pkg.work": "Works.",  # Not pkg.deep.public.labour too: it is longer.
    }


def test_what_is_written_in_c_is_found() -> None:
    found = {d.name: d.doc for d in docstrings._compiled()}
    assert found["numpy.sin"].splitlines()[2] == "Trigonometric sine, element-wise."
    assert found["builtins.str.split"].startswith("Return a list of the substrings")
    assert "math.gcd" in found
    assert np.sin.__doc__ is not None


def test_nothing_is_imported_for_it() -> None:
    script = (
        "import sys\n"
        "from gr_jax.data import docstrings\n"
        "every = list(docstrings._roots())\n"
        "few = [root for root in every if root[1] in ('optax.', 'flax.')]\n"
        "assert len(few) == 2 and len(every) == 5\n"
        "docstrings._roots = lambda: iter(few)\n"
        "before = set(sys.modules)\n"
        "assert len(docstrings.installed()) > 500\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert not new & {'jax', 'flax', 'optax'}, new\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
