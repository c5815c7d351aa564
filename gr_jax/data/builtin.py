"""Collections that need no download, by name."""

from __future__ import annotations

from collections.abc import Callable

from gr_jax.core import errors
from gr_jax.data import corpus, pydocs, synthetic

PREFIX = "builtin:"
_MAKERS: dict[str, Callable[..., corpus.Collection]] = {
    f"{PREFIX}{pydocs.NAME}": pydocs.make,
    f"{PREFIX}{synthetic.NAME}": synthetic.make,
}
NAMES = tuple(_MAKERS)


def make(
    name: str, *, seed: int = 0, documents: int | None = None
) -> corpus.Collection:
    """A built-in collection with the splits train, dev and test.

    Args:
      name: ``builtin:pydocs`` or ``builtin:synthetic``.
      seed: Chooses what is sampled or made up.
      documents: How many (``pydocs``: at most); a default of its own if None.

    Raises:
      UsageError: If there is no such collection.
    """
    if name not in _MAKERS:
        known = " or ".join(NAMES)
        raise errors.UsageError(f"collection: {name!r}: one of {known}")
    return _MAKERS[name](seed=seed, documents=documents)
