"""The registry of identifier kinds: a name, and the function that builds its table.

A new kind is one file with a builder ``(documents, vocabulary, **options) -> table``
and one gin line naming it, ``kinds.Choice.builder = @my_kind.build``; nothing here
changes. Kinds that everybody uses have a name below.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import code_tables, codec, text_tables

Builder = Callable[..., codec.IdentifierTable]

BUILDERS: Mapping[str, Builder] = {
    "ngram": text_tables.ngrams,
    "title": text_tables.titles,
    "naive": text_tables.naive_strings,
    "pseudo_query": text_tables.pseudo_queries,
    "rq": code_tables.residual,
    "kmeans": code_tables.hierarchical,
    "atomic": code_tables.atomic,
}


def build(
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    *,
    kind: str = "rq",
    seed: int = 0,
    queries_of: Mapping[str, Sequence[str]] | None = None,
    options: Mapping[str, Any] | None = None,
    builder: Builder | None = None,
) -> codec.IdentifierTable:
    """The identifier table of a collection.

    Args:
      documents: In the collection's order.
      vocabulary: Text vocabulary.
      kind: A name of `BUILDERS`; not read where a ``builder`` is given.
      seed: Passed to a builder that takes one.
      queries_of: Training queries of each document; passed to a builder that takes
        them.
      options: Further arguments of the builder.
      builder: A kind that has no name here.

    Raises:
      UsageError: If the kind is unknown or does not take an option.
    """
    chosen = builder or BUILDERS.get(kind)
    if chosen is None:
        known = ", ".join(sorted(BUILDERS))
        raise errors.UsageError(f"identifiers: kind: {kind!r}: one of {known}")
    taken = inspect.signature(chosen).parameters
    offered = {"seed": seed, "queries_of": queries_of}
    arguments = {name: value for name, value in offered.items() if name in taken}
    for name, value in (options or {}).items():
        if name not in taken:
            known = ", ".join(sorted(set(taken) - {"documents", "vocabulary"}))
            raise errors.UsageError(
                f"identifiers ({kind}): option {name!r}: one of {known or 'none'}"
            )
        arguments[name] = value
    if arguments.get("queries_of", {}) is None and kind == "pseudo_query":
        raise errors.UsageError(
            "identifiers (pseudo_query): no query: give the queries of each document"
        )
    return chosen(documents, vocabulary, **arguments)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Which identifiers to build, as gin binds it.

    Attributes:
      kind: A name of `BUILDERS`.
      seed: Passed to a builder that takes one.
      options: Further arguments of the builder.
      builder: A kind that has no name.
    """

    kind: str = "rq"
    seed: int = 0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    builder: Builder | None = None
