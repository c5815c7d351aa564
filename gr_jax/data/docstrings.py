"""Docstrings of installed packages, by public name, read without importing them.

Source files are parsed, never run: quick, safe, and the same whatever has been imported
before. Only what is written in C is asked for its docstring at run time, in modules
that are loaded anyway.
"""

from __future__ import annotations

import ast
import builtins
import cmath
import dataclasses
import gc
import importlib.util
import inspect
import itertools
import math
import sys
import sysconfig
import time
import types
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PACKAGES = ("numpy", "jax", "optax", "flax")
# Tests, demos, graphical toys, and machinery that nobody looks up.
_SKIPPED = frozenset(
    {
        "test", "tests", "testing", "idlelib", "lib2to3", "turtledemo", "tkinter",
        "turtle.py", "site-packages", "dist-packages", "ensurepip", "encodings",
        "pydoc_data", "__pycache__", "distutils", "_vendor", "tools", "tutorials",
        "f2py", "mosaic", "mosaic_gpu",
    }
)  # fmt: skip
_COMPILED = (builtins, math, cmath, itertools, sys, time, zlib, np, np.random)
_COMPILED_KINDS = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    np.ufunc,
    type,
)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclasses.dataclass(frozen=True)
class Documented:
    """A public object and its docstring, indentation cleaned."""

    name: str
    doc: str


@dataclasses.dataclass
class _Module:
    name: str
    is_package: bool
    doc: str | None
    definitions: dict[str, list[Documented]]
    imported: dict[str, tuple[str, str]]
    starred: list[str]
    exported: set[str] | None


def _is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def _files(root: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Modules below a folder by dotted name, sorted, tests and demos left out."""
    for path in sorted(root.iterdir()):
        if path.name in _SKIPPED or path.name.endswith("_test.py"):
            continue
        if path.is_dir() and path.name.isidentifier():
            if (path / "__init__.py").is_file():
                yield from _files(path, f"{prefix}{path.name}.")
        elif path.suffix == ".py" and path.stem.isidentifier():
            is_package = path.stem == "__init__"
            name = prefix[:-1] if is_package else prefix + path.stem
            if name and name != "__main__":
                yield name, path


def _roots() -> Iterator[tuple[Path, str]]:
    yield Path(sysconfig.get_paths()["stdlib"]), ""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent, f"{package}."


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under ``if`` and ``try`` included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):
            yield from _statements(statement.body)
            yield from _statements(statement.orelse)
        elif isinstance(statement, ast.Try):
            yield from _statements(statement.body)
            for handler in statement.handlers:
                yield from _statements(handler.body)


def _literal_names(value: ast.expr) -> set[str] | None:
    try:
        return {str(name) for name in ast.literal_eval(value)}
    except (ValueError, TypeError):
        return None


def _absolute(module: _Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    keep = len(parts) - node.level + (1 if module.is_package else 0)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def _note_import(module: _Module, node: ast.ImportFrom) -> None:
    source = _absolute(module, node)
    for alias in node.names:
        if alias.name == "*":
            module.starred.append(source)
        else:
            name = alias.asname or alias.name
            module.imported.setdefault(name, (source, alias.name))


def _of_definition(node: _Definition, name: str) -> Iterator[Documented]:
    doc = ast.get_docstring(node)
    if doc:
        yield Documented(name, doc)
    if isinstance(node, ast.ClassDef):
        for inner in _statements(node.body):
            if isinstance(inner, _Definition) and not inner.name.startswith("_"):
                yield from _of_definition(inner, f"{name}.{inner.name}")


def _parsed(name: str, path: Path) -> _Module | None:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None
    is_package = path.stem == "__init__"
    module = _Module(name, is_package, ast.get_docstring(tree), {}, {}, [], None)
    for node in _statements(tree.body):
        if isinstance(node, _Definition):
            if node.name not in module.definitions:
                module.definitions[node.name] = list(_of_definition(node, ""))
        elif isinstance(node, ast.ImportFrom):
            _note_import(module, node)
        elif isinstance(node, ast.Assign):
            targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
            if "__all__" in targets:
                module.exported = _literal_names(node.value)
    return module


class _Modules:
    """Modules by name, each parsed when it is first asked for.

    Most private modules export nothing that a public one shows, and never are.
    """

    def __init__(self) -> None:
        self._paths = {n: p for root, pre in _roots() for n, p in _files(root, pre)}
        self._parsed: dict[str, _Module | None] = {}

    def public(self) -> Iterator[_Module]:
        for name in self._paths:
            if not _is_private(name) and (module := self.get(name)):
                yield module

    def get(self, name: str) -> _Module | None:
        if name not in self._parsed:
            path = self._paths.get(name)
            self._parsed[name] = _parsed(name, path) if path else None
        return self._parsed[name]

    def origin(
        self, module: str, name: str, depth: int = 0
    ) -> tuple[_Module, str] | None:
        """The module that defines what ``module`` calls ``name``, and its name there.

        None too if that leads into another package: who imports does not own.
        """
        found = self.get(module)
        if found is None or depth > 8:
            return None
        if name in found.definitions:
            return found, name
        if name in found.imported:
            source, original = found.imported[name]
            sources = [(source, original)] if _is_kin(module, source) else []
        else:
            sources = [(s, name) for s in found.starred if _is_kin(module, s)]
        for source, original in sources:
            origin = self.origin(source, original, depth + 1)
            if origin is not None:
                return origin
        return None

    def names(self, module: str, depth: int = 0) -> set[str]:
        """What ``from module import *`` gives."""
        found = self.get(module)
        if found is None or depth > 8:
            return set()
        if found.exported is not None:
            return found.exported
        names = {*found.definitions, *found.imported}
        for source in found.starred:
            if _is_kin(module, source):
                names |= self.names(source, depth + 1)
        return {name for name in names if not name.startswith("_")}


def _is_kin(module: str, source: str) -> bool:
    """Whether two modules are of one package; ``_heapq`` is kin of ``heapq``."""
    return module.split(".")[0].lstrip("_") == source.split(".")[0].lstrip("_")


def _public_names(modules: _Modules) -> dict[str, list[Documented]]:
    """Definitions under their shortest public names, first in the alphabet on a tie."""
    best: dict[int, tuple[tuple[int, int, str], list[Documented]]] = {}
    for module in modules.public():
        for name in modules.names(module.name):
            origin = modules.origin(module.name, name)
            if origin is None or name.startswith("_"):
                continue
            node = origin[0].definitions[origin[1]]
            full = f"{module.name}.{name}"
            key = (full.count("."), len(full), full)
            if id(node) not in best or key < best[id(node)][0]:
                best[id(node)] = key, node
    return {key[2]: node for key, node in best.values()}


def _compiled_members(owner: object, prefix: str) -> Iterator[Documented]:
    for name, value in sorted(vars(owner).items()):
        if name.startswith("_") or not isinstance(value, _COMPILED_KINDS):
            continue
        is_class = isinstance(value, type)
        if is_class and (value.__module__ or "").split(".")[0] not in prefix:
            continue
        doc = getattr(value, "__doc__", None)
        if isinstance(doc, str) and doc:
            yield Documented(f"{prefix}{name}", inspect.cleandoc(doc))
        if is_class and not isinstance(owner, type):
            yield from _compiled_members(value, f"{prefix}{name}.")


def _compiled() -> Iterator[Documented]:
    for module in _COMPILED:
        prefix = f"{module.__name__}."
        yield from _compiled_members(module, prefix)


def installed() -> list[Documented]:
    """Every documented public object of the standard library and `PACKAGES`.

    In the order of names; an object known under several names comes once, under the
    shortest. Packages that are not installed are left out.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # Syntax trees are many small objects without cycles: half the time.
    try:
        return _installed()
    finally:
        if was_enabled:
            gc.enable()


def _installed() -> list[Documented]:
    found: dict[str, Documented] = {}
    for documented in _compiled():
        found.setdefault(documented.name, documented)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Other people's invalid escapes.
        modules = _Modules()
        definitions = _public_names(modules)
        for module in modules.public():
            if module.doc:
                found.setdefault(module.name, Documented(module.name, module.doc))
    for public, node in definitions.items():
        for inner in node:
            name = public + inner.name
            found.setdefault(name, Documented(name, inner.doc))
    return [found[name] for name in sorted(found)]
