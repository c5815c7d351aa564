"""The command `gr-jax`: finds the verb, adds the flags all verbs share, runs it.

Nothing heavy is imported here: a verb's module imports what it needs inside its `run`,
so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from gr_jax.core import allocator, errors

# Verb -> module. The only list of verbs; `docs/reference.md` is made from it.
VERBS = {
    "demo": "tools.demo",
    "corpus": "tools.corpus",
    "vocab": "tools.vocab",
    "ids": "tools.ids",
    "index": "tools.index",
    "cache": "tools.cache",
    "import": "tools.import_weights",
    "train": "tools.train",
    "decode": "tools.decode",
    "score": "tools.score",
    "retrieve": "tools.retrieve",
    "evaluate": "tools.evaluate",
    "study": "tools.study",
    "fit": "tools.fit",
    "plan": "tools.plan",
    "report": "tools.report",
    "export": "tools.export",
    "doctor": "tools.doctor",
}
_INTERRUPTED = 130
# Verbs whose time goes into computing step after step.
_COMPUTES = frozenset({"train", "study", "demo", "decode", "score", "retrieve"})
_GIN_PREFIX = "--gin."


def _take_bindings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits `--gin.NAME=VALUE` words from the others, as T5X does."""
    bindings = [w[len(_GIN_PREFIX) :] for w in words if w.startswith(_GIN_PREFIX)]
    for binding in bindings:
        if "=" not in binding:
            raise errors.UsageError(
                f"{_GIN_PREFIX}{binding}: no value: write {_GIN_PREFIX}{binding}=VALUE"
            )
    return [w for w in words if not w.startswith(_GIN_PREFIX)], bindings


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    common = parser.add_argument_group("common to all verbs")
    common.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file; repeat for several, later ones win",
    )
    common.add_argument(
        "--gin.NAME", dest="_gin", metavar="VALUE", help="one gin binding; repeatable"
    )
    common.add_argument(
        "--dry-run", action="store_true", help="say what would be done, do nothing"
    )
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("-q", "--quiet", action="store_true", help="no progress bars")
    common.add_argument(
        "-v", "--verbose", action="store_true", help="show tracebacks of errors"
    )


def _usage() -> str:
    lines = ["usage: gr-jax VERB [flags]   (gr-jax VERB --help says more)", ""]
    for verb, module in VERBS.items():
        summary = importlib.import_module(module).SUMMARY
        lines.append(f"  {verb:9s} {summary}")
    return "\n".join(lines)


def _run_verb(verb: str, words: Sequence[str]) -> int:
    module = importlib.import_module(VERBS[verb])
    parser = argparse.ArgumentParser(
        prog=f"gr-jax {verb}", description=module.SUMMARY, allow_abbrev=False
    )
    module.add_arguments(parser)
    _add_common_arguments(parser)
    rest, bindings = _take_bindings(words)
    args = parser.parse_args(rest)
    args.gin_bindings = bindings
    args.verb = verb
    if verb in _COMPUTES and "jax" not in sys.modules:
        allocator.keep_freed_pages()
    return int(module.run(args))


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code of what happened."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        import difflib

        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "gr-jax --help lists them"
        print(f"gr-jax: {verb}: no such verb: {hint}", file=sys.stderr)
        return errors.UsageError.exit_code
    # A scheduler's SIGTERM ends like Ctrl-C; training replaces this by a clean save.
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _run_verb(verb, rest)
    except errors.GrJaxError as error:
        if {"-v", "--verbose"} & set(rest):
            traceback.print_exc()
        # Gin adds a line on where in its configuration the error arose.
        message = str(error).split("\n")[0]
        print(f"gr-jax {verb}: {message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"gr-jax {verb}: interrupted; start it again to go on", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left, as `head` does; nothing is wrong.
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
