"""Answer match: a hit is a passage that contains an answer string (DPR's rule).

Source: Karpukhin et al. 2020 (arXiv:2004.04906). Both sides are NFD-normalised,
lower-cased and cut into runs of letters, digits and marks, or single other visible
characters; an answer matches where its tokens occur side by side.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from gr_jax.core import errors
from gr_jax.evaluate import metrics

_ASCII = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")


def tokens(text: str) -> list[str]:
    """Lower-cased tokens of a text.

    Example:
      >>> tokens("Café de Flore, 1885!")
      ['cafe\u0301', 'de', 'flore', ',', '1885', '!']
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    found: list[str] = []
    word = ""
    for character in unicodedata.normalize("NFD", text):
        category = unicodedata.category(character)[0]
        if category in "LNM":
            word += character
            continue
        if word:
            found.append(word.lower())
            word = ""
        if category not in "ZC":
            found.append(character.lower())
    if word:
        found.append(word.lower())
    return found


def _contains(tokens_text: Sequence[str], tokens_answer: Sequence[str]) -> bool:
    width = len(tokens_answer)
    if width == 0:
        return False
    return any(
        tokens_text[start : start + width] == tokens_answer
        for start in range(len(tokens_text) - width + 1)
    )


def has_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether a text contains one of the answers.

    Example:
      >>> has_answer("The U.S. Senate, 1913", ["u.s."])
      True
      >>> has_answer("senates", ["senate"])
      False
    """
    cut = tokens(text)
    return any(_contains(cut, tokens(answer)) for answer in answers)


def per_query(
    run: metrics.Run,
    texts: Mapping[str, str],
    answers: Mapping[str, Sequence[str]],
    *,
    ks: Sequence[int] = (1, 5, 20, 100),
) -> metrics.PerQuery:
    """``answer@k`` of every query: whether its first k passages hold an answer.

    Args:
      run: Query to ``(document, score)``.
      texts: Document to title, a space, and text; nothing else (pseudo-queries kept
        with a text would inflate the hits).
      answers: Query to accepted answer strings. A query that the run lacks scores 0.
      ks: Depths.

    Raises:
      InputError: If a returned document has no text, or a score is not finite.
    """
    cut: dict[str, list[str]] = {}
    table: metrics.PerQuery = {}
    deepest = max(ks)
    ordered, _ = metrics.strictly_ordered({q: run[q] for q in answers if q in run})
    for query in sorted(answers):
        wanted = [tokens(answer) for answer in answers[query]]
        first = deepest
        for place, (document, _) in enumerate(ordered.get(query, [])[:deepest]):
            if document not in texts:
                raise errors.InputError(
                    errors.fault(
                        f"run: query {query}", "document", document, "has no text"
                    )
                )
            if document not in cut:
                cut[document] = tokens(texts[document])
            if any(_contains(cut[document], answer) for answer in wanted):
                first = place
                break
        table[query] = {f"answer@{k}": float(first < k) for k in ks}
    return table
