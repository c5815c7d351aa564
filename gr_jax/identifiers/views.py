"""Views of a document: its text, its title, the queries written for it.

MINDER (HongruCai/SLGR:MINDER_T5) finds a document by n-grams of its body, by its title
and by pseudo-queries. Titles and pseudo-queries are further rows of an n-gram table,
``[begin] tokens </s>``. ``begin`` is an id behind the text pieces, one a view: a search
of the view is forced to begin with it, so no model ever writes it. Each row is an
identifier as a whole, and nothing but the whole row, ends included, is its key.

A choice of views is written as one line, ``body+title*2+pseudo_query^14+unigrams``:
names joined by ``+``, each with a factor for the weight of its keys and a lift of their
log-probabilities if need be. ``unigrams`` is no view of a document but stands beside
them: the likeliest first tokens of the body.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec

BODY, TITLE, PSEUDO_QUERY = "body", "title", "pseudo_query"
UNIGRAMS = "unigrams"
FURTHER = (TITLE, PSEUDO_QUERY)
_KNOWN = (BODY, *FURTHER, UNIGRAMS)
_ASKED = {TITLE: "title:", PSEUDO_QUERY: "query:"}


class Voice(NamedTuple):
    """How much the keys of a view have to say.

    Attributes:
      factor: Multiplies the weight of each.
      lift: Nats added to the log-probability of each, as far as -1. A long row is less
        likely as a whole than the collection would have it, and its key worth nothing;
        MINDER lifts pseudo-queries by 14.
    """

    factor: float = 1.0
    lift: float = 0.0


def parse(text: str) -> dict[str, Voice]:
    """The names of a choice of views, each with what its keys have to say.

    Raises:
      UsageError: If a name is unknown or comes twice, a number is none or out of range,
        or nothing is left to search for.

    Example:
      >>> parse("title*2^14+unigrams")["title"]
      Voice(factor=2.0, lift=14.0)
    """
    found: dict[str, Voice] = {}
    for part in text.split("+"):
        weighed, raised, lift = part.strip().partition("^")
        name, times, factor = weighed.partition("*")
        if name not in _KNOWN or name in found:
            raise _wrong(text, f"each of {', '.join(_KNOWN)} once, joined by +")
        try:
            voice = Voice(float(factor) if times else 1.0, float(lift) if raised else 0)
        except ValueError:
            raise _wrong(text, "numbers are wanted, as in title*2^14") from None
        if not (0 < voice.factor < math.inf and 0 <= voice.lift < math.inf):
            raise _wrong(text, "factors are above 0, lifts at least 0")
        if name == UNIGRAMS and raised:
            raise _wrong(text, "unigrams have no lift")
        found[name] = voice
    if not found.keys() - {UNIGRAMS}:
        raise _wrong(text, "name body, title or pseudo_query")
    return found


def _wrong(text: str, remedy: str) -> errors.UsageError:
    return errors.UsageError(f"views: {text!r}: {remedy}")


def union(choices: Sequence[str]) -> str:
    """The views that an index needs to serve some choices; the body is always there.

    Example:
      >>> union(["body+unigrams", "title*2"])
      'body+title'
    """
    names = {name for text in choices for name in parse(text)}
    return "+".join([BODY, *(view for view in FURTHER if view in names)])


def source(view: str, text: str) -> str:
    """What a model is given to write an identifier of a view: the body has no mark.

    In front, where a text that is too long is not cut.
    # Differs from facebookresearch/SEAL:seal/retrieval.py: `|| title` stands behind.

    Example:
      >>> source("body", "who won"), source("pseudo_query", "who won")
      ('who won', 'query: who won')
    """
    return f"{_ASKED[view]} {text}" if view in _ASKED else text


def rows(
    view: str,
    documents: Sequence[corpus.Document],
    vocabulary: vocabularies.Vocabulary,
    *,
    queries_of: Mapping[str, Sequence[str]] | None,
    most: int,
) -> list[tuple[int, list[int]]]:
    """The rows of a further view, with the place of the document of each.

    Args:
      view: One of `FURTHER`.
      documents: In the collection's order; one without a title or a query has no row.
      vocabulary: Text vocabulary.
      queries_of: Queries written for each document.
      most: Tokens of a title or query; the rest is cut.

    Raises:
      InputError: If no document has any row.
    """
    begin = vocabulary.size + FURTHER.index(view)
    asked = {} if queries_of is None else queries_of
    given = [
        (place, " ".join(text.split()))
        for place, document in enumerate(documents)
        for text in ([document.title] if view == TITLE else asked.get(document.id, ()))
    ]
    given = [(place, text) for place, text in dict.fromkeys(given) if text]
    if not given:
        have = "title" if view == TITLE else "query: name a split of queries"
        raise errors.InputError(
            f"identifiers (ngram): views: {view!r}: no document has a {have}"
        )
    spelt = vocabulary.encode_batch([text for _, text in given])
    rows = [
        (place, (begin, *tokens[:most], vocabularies.EOS))
        for (place, _), tokens in zip(given, spelt, strict=True)
    ]
    # Cut, two queries of a document may be one.
    return [(place, list(row)) for place, row in dict.fromkeys(rows)]


def begin_of(table: codec.IdentifierTable, view: str) -> int:
    """The token that the rows of a further view begin with."""
    return table.text_pieces + FURTHER.index(view)


def view_of(table: codec.IdentifierTable, token: int) -> str:
    """The view of a row, or of a key, that begins with a token."""
    place = token - table.text_pieces
    return FURTHER[place] if 0 <= place < len(FURTHER) else BODY


def of_table(table: codec.IdentifierTable) -> dict[str, int]:
    """The further views of a table, each with the tokens of its longest row.

    The token that begins a row is not counted, the end token is.
    """
    if not table.is_substring or table.text_pieces >= table.vocabulary_size:
        return {}
    first_R = table.tokens_E[table.row_starts_T[:-1]]
    length_R = np.diff(table.row_starts_T) - 1
    longest = {
        view: int(length_R[first_R == begin_of(table, view)].max(initial=0))
        for view in FURTHER
    }
    return {view: length for view, length in longest.items() if length}


def require(table: codec.IdentifierTable, text: str) -> dict[str, Voice]:
    """`parse`, for a table that must have the views.

    Raises:
      UsageError: If it lacks one.
    """
    chosen = parse(text)
    if not table.is_substring and text != BODY:
        raise errors.UsageError(
            f"views: {text!r}: {table.kind} identifiers have none: use ngram"
        )
    lacks = chosen.keys() & set(FURTHER) - of_table(table).keys()
    if lacks:
        raise errors.UsageError(
            f"views: {text!r}: the identifiers have no {sorted(lacks)[0]} rows: build "
            f"them with views={union([text])}"
        )
    return chosen
