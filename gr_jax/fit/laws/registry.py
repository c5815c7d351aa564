"""Every law by name. A new law is one file and one line here."""

from __future__ import annotations

from gr_jax.core import errors
from gr_jax.fit.laws import (
    broken_power,
    chinchilla,
    inference,
    kaplan_joint,
    law,
    log_linear,
    performance,
    retrieval,
    saturating,
    shifted_power,
    single_power,
    upcycling,
)

_LAWS: tuple[law.Law, ...] = (
    single_power.SinglePower(),
    inference.InferencePower(),
    log_linear.LogLinear(),
    shifted_power.ShiftedPower(),
    saturating.Saturating(),
    broken_power.BrokenPower(),
    chinchilla.Chinchilla(),
    kaplan_joint.KaplanJoint(is_ratio_on_size=True),
    kaplan_joint.KaplanJoint(is_ratio_on_size=False),
    retrieval.RetrievalJoint(),
    upcycling.ProductLaw(kind="upcycling", is_crossed=True),
    upcycling.ProductLaw(kind="upcycling", is_crossed=False),
    upcycling.ProductLaw(kind="sparsity", is_crossed=True),
    upcycling.ProductLaw(kind="sparsity", is_crossed=False),
    performance.PerformanceLaw(),
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
