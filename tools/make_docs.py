"""Writes the generated parts of the documentation: `docs/reference.md`.

`python -m tools.make_docs --check` writes nothing and fails if the file is stale.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from gr_jax.core import errors
from tools import cli

_REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
_WIDTH = 88


def _help_of(verb: str, module_name: str) -> str:
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(
        prog=f"gr-jax {verb}",
        description=module.SUMMARY,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_WIDTH),
    )
    module.add_arguments(parser)
    return parser.format_help().strip()


def reference() -> str:
    """The page on verbs, flags and exit codes, made from the code."""
    lines = [
        "# Reference",
        "",
        "Made by `make docs` from the code; `make test` fails when it is stale.",
        "",
        "Every verb also takes `--gin_file FILE` (repeatable), `--gin.NAME=VALUE`,",
        "`--dry-run`, `--json`, `-q` (no bars) and `-v` (tracebacks). Results go to",
        "stdout, progress to stderr. `gr-jax VERB` and `python -m tools.VERB` are the",
        "same program.",
        "",
        "## Exit codes",
        "",
        "| code | meaning |",
        "| ---: | --- |",
        "| 0 | done |",
    ]
    kinds = [
        errors.UsageError,
        errors.InputError,
        errors.ArtifactError,
        errors.ResourceError,
        errors.NumericError,
        errors.StalledError,
        errors.PreemptedError,
    ]
    for kind in kinds:
        meaning = (kind.__doc__ or "").strip().rstrip(".")
        lines.append(f"| {kind.exit_code} | {meaning[0].lower()}{meaning[1:]} |")
    lines += ["| 130 | interrupted by Ctrl-C |", "", "## Verbs", ""]
    for verb, module_name in cli.VERBS.items():
        lines += [f"### {verb}", "", "```text", _help_of(verb, module_name), "```", ""]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Writes or checks the generated pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a page is stale")
    args = parser.parse_args(argv)
    text = reference()
    if args.check:
        if _REFERENCE.is_file() and _REFERENCE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{_REFERENCE.name}: stale: run make docs", file=sys.stderr)
        return 1
    _REFERENCE.parent.mkdir(exist_ok=True)
    _REFERENCE.write_text(text, encoding="utf-8")
    print(f"wrote docs/{_REFERENCE.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
