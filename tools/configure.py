"""Configuration by gin, behind an allow-list.

A gin file can import any module and call anything in it. So the imports of every file,
and of the files it includes, are read first and refused unless listed here.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gin
from gin import config as gin_config
from gin import config_parser

from gr_jax.core import errors

ALLOWED_IMPORTS = ("__gin__", "gr_jax", "tasks", "optax", "seqio")
_SHIPPED = Path(__file__).resolve().parent.parent / "gin_configs"

_GIN_FAULTS = (
    ValueError,
    TypeError,
    NameError,
    SyntaxError,
    AttributeError,
    ImportError,
)

T = TypeVar("T")


class _Blind(config_parser.ParserDelegate):
    """Reads gin without touching gin's registry."""

    def configurable_reference(
        self, scoped_configurable_name: str, evaluate: bool
    ) -> Any:
        del evaluate
        return scoped_configurable_name

    def macro(self, macro_name: str) -> Any:
        return macro_name


@dataclasses.dataclass
class _Scan:
    """What was found before anything is parsed for real."""

    imports: list[str]
    seen: set[Path]


def _resolve(name: str, beside: Path | None = None) -> Path:
    """A gin file as given, beside the including file, or among the shipped ones."""
    tried = [Path(name)]
    if beside is not None:
        tried.append(beside / name)
    tried += [_SHIPPED / name, _SHIPPED.parent / name]
    for path in tried:
        if path.is_file():
            return path.resolve()
    raise errors.UsageError(
        f"{name}: no such gin file: give a path, or one below {_SHIPPED.name}/"
    )


def _statements(text: str, where: object) -> Iterator[Any]:
    try:
        yield from config_parser.ConfigParser(text, _Blind())
    except SyntaxError as error:
        raise errors.UsageError(
            f"{where}:{error.lineno or 0}: {error.msg}: mend the gin syntax"
        ) from None


def _scan_file(path: Path, scan: _Scan) -> None:
    if path in scan.seen:
        return
    scan.seen.add(path)
    for statement in _statements(path.read_text(encoding="utf-8"), path):
        if isinstance(statement, config_parser.IncludeStatement):
            _scan_file(_resolve(statement.filename, path.parent), scan)
        elif isinstance(statement, config_parser.ImportStatement):
            _check_import(statement, path, scan)


def _check_import(
    statement: config_parser.ImportStatement, where: object, scan: _Scan
) -> None:
    check_module(statement.module, where=where)
    if statement.format() not in scan.imports:
        scan.imports.append(statement.format())


def check_module(module: str, *, where: object) -> None:
    """Refuses a module that a gin file may not have imported.

    Raises:
      UsageError: If it is not on the allow-list.
    """
    if module.split(".")[0] not in ALLOWED_IMPORTS:
        remedy = f"gin files may import only {', '.join(ALLOWED_IMPORTS[1:])}"
        raise errors.UsageError(errors.fault(where, "import", module, remedy))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.replace(" In file ", ": in file ", 1)


def load(files: Iterable[str], bindings: Iterable[str]) -> None:
    """Reads gin files and bindings, later ones winning, into gin's configuration.

    Bindings may name anything that a file imports, by its module path or shorter.

    Raises:
      UsageError: A file is missing, imports what it may not, or does not parse; a name
        or a parameter is unknown.
    """
    gin.clear_config()
    scan = _Scan(imports=[], seen=set())
    paths = [_resolve(name) for name in files]
    bound = list(bindings)
    for path in paths:
        _scan_file(path, scan)
    for binding in bound:
        for statement in _statements(binding, "--gin"):
            if not isinstance(statement, config_parser.BindingStatement):
                raise errors.UsageError(
                    errors.fault("--gin", "binding", binding, "write NAME=VALUE")
                )
    for folder in (
        str(_SHIPPED),
        str(_SHIPPED.parent),
        *(str(p.parent) for p in paths),
    ):
        gin_config.add_config_file_search_path(folder)
    # The parser applies an import only to the text it stands in.
    dynamic = "from __gin__ import dynamic_registration"
    header = [dynamic, *(line for line in scan.imports if line != dynamic)]
    # Gin logs an error for every place where it did not find an included file.
    logging.disable(logging.ERROR)
    try:
        for path in paths:
            gin.parse_config_file(str(path))
        gin.parse_config("\n".join(header + bound))
        gin_config.finalize()
    except _GIN_FAULTS as error:
        raise errors.UsageError(_one_line(error)) from error
    finally:
        logging.disable(logging.NOTSET)


def load_args(args: argparse.Namespace, *, default: str | None = None) -> None:
    """Loads what the common flags name; ``default`` where no file was given."""
    files = list(args.gin_file)
    if not files and default is not None:
        files = [default]
    load(files, args.gin_bindings)


def build(factory: type[T], **given: Any) -> T:
    """An instance of a class, with gin's bindings where none is given.

    Raises:
      UsageError: A required value has no binding, or a value is refused by the class.
    """
    try:
        configurable = gin.get_configurable(factory)
    except (KeyError, ValueError, LookupError):
        configurable = factory
    try:
        return configurable(**given)
    except (ValueError, TypeError) as error:
        raise errors.UsageError(f"{factory.__name__}: {_one_line(error)}") from error


def operative() -> str:
    """The configuration in use, as gin text that can be fed back."""
    return gin.operative_config_str()
