"""Errors a user can act on, each with the exit code its kind has.

A message is one line: where, what was found, and the remedy. The command line prints
it without a traceback; only ``-v`` shows one.
"""

from __future__ import annotations

_SHOWN_CHARACTERS = 80


class GrJaxError(Exception):
    """Base of every error that is the user's to mend."""

    exit_code = 1


class UsageError(GrJaxError):
    """Wrong flags or configuration, or a run directory in use."""

    exit_code = 2


class InputError(GrJaxError):
    """Bad input data."""

    exit_code = 3


class ArtifactError(GrJaxError):
    """A missing, stale or corrupt artefact."""

    exit_code = 4


class ResourceError(GrJaxError):
    """Out of memory or disk."""

    exit_code = 5


class NumericError(GrJaxError):
    """A NaN or an infinity where a number is needed."""

    exit_code = 6


class StalledError(GrJaxError):
    """Work that stopped making progress."""

    exit_code = 7


class PreemptedError(GrJaxError):
    """Asked to stop, and stopped after a clean save (EX_TEMPFAIL)."""

    exit_code = 75


def shown(value: object) -> str:
    """A value as an error message shows it: its repr, cut at 80 characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def fault(where: object, field: str, value: object, remedy: str) -> str:
    """One line naming a fault in input.

    Example:
      >>> fault("corpus.jsonl:3", "_id", "", "give every document an id")
      "corpus.jsonl:3: _id: '': give every document an id"
    """
    return f"{where}: {field}: {shown(value)}: {remedy}"
