"""Every law by name. A new law is one file and one line here."""

from __future__ import annotations

from gr_jax.core import errors
from gr_jax.fit.laws import chinchilla, law, single_power

_LAWS: tuple[law.Law, ...] = (
    single_power.SinglePower(),
    chinchilla.Chinchilla(),
)


def names() -> list[str]:
    """Names of all laws."""
    return [family.name for family in _LAWS]


def get(name: str) -> law.Law:
    """The law of a name.

    Raises:
      UsageError: If there is none; the message lists those there are.
    """
    for family in _LAWS:
        if family.name == name:
            return family
    raise errors.UsageError(f"law: {name!r}: unknown: use one of {', '.join(names())}")
