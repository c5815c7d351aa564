"""Keys of queries from the views of their documents: what searches wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gr_jax.core import progress as progresses
from gr_jax.data import vocabulary as vocabularies
from gr_jax.decode import results, session, substring
from gr_jax.identifiers import codec, substring_index, views
from gr_jax.model import protocol
from gr_jax.score import keys, likelihood

Encode = Callable[[Sequence[str]], list[list[int]]]
Found = Mapping[str, Sequence[results.Decoded]]


class Gatherer:
    """Searches the views of an n-gram table with one model.

    Attributes:
      batch: Queries at a time; falls when memory does not suffice.
    """

    batch: int

    def __init__(
        self,
        model: protocol.GenerativeModel,
        params: Any,
        table: codec.IdentifierTable,
        index: substring_index.SubstringIndex,
        *,
        encode: Encode,
        batch: int,
        options: session.Options | None = None,
    ) -> None:
        """Puts the index on the device.

        Args:
          model: Of the checkpoint.
          params: Of the model.
          table: An n-gram table.
          index: Of the table's rows.
          encode: Model inputs of texts.
          batch: Most queries at a time.
          options: Of every search.
        """
        self._model, self._params = model, params
        self._table, self._index = table, index
        self._encode, self._options = encode, options
        self._body = substring.from_index(index)
        self.batch = batch

    def search(
        self,
        chosen: Mapping[str, views.Voice],
        texts: Sequence[str],
        *,
        beams: int,
        max_length: int,
        keep_history: bool = True,
        progress: progresses.Progress = progresses.SILENT,
    ) -> dict[str, list[results.Decoded]]:
        """What one search a view writes for each query.

        Args:
          chosen: Views, as `views.require` gives them.
          texts: Queries.
          beams: Results of each.
          max_length: Tokens of an n-gram of the body; other rows are written whole.
          keep_history: Whether all that the body's search meets is kept.
          progress: Is told of finished queries of each view.

        Raises:
          InputError: If the index is not of the table's rows.
        """
        longest = {views.BODY: max_length} | views.of_table(self._table)
        found: dict[str, list[results.Decoded]] = {}
        for view in (views.BODY, *views.FURTHER):
            if view not in chosen:
                continue
            decoder = session.DecodeSession(
                self._model,
                self._params,
                self._constraint(view),
                beams=beams,
                max_length=longest[view],
                batch=self.batch,
                keep_history=keep_history and view == views.BODY,
                options=self._options,
            )
            sources = self._encode([views.source(view, text) for text in texts])
            found[view] = decoder.decode(sources, progress)
            self.batch = decoder.batch
        return found

    def keys(self, found: Found, chosen: Mapping[str, views.Voice]) -> list[keys.Keys]:
        """The keys of each query, of all views together.

        Of the body every candidate that the search met, where it kept its history; of
        another view whole rows, the token that begins them included.
        """
        by_view = [
            [self._written(view, each, chosen[view]) for each in decoded]
            for view, decoded in found.items()
        ]
        return [keys.joined(parts) for parts in zip(*by_view, strict=True)]

    def with_unigrams(
        self, gathered: Sequence[keys.Keys], texts: Sequence[str], factor: float
    ) -> list[keys.Keys]:
        """The keys, and the likeliest first tokens of the body as keys."""
        logprob_QV = likelihood.first_token_logprobs(
            self._model, self._params, self._encode(texts), batch=self.batch
        )
        return [
            keys.with_unigrams(own, logprob_V, factor=factor)
            for own, logprob_V in zip(gathered, logprob_QV, strict=True)
        ]

    def _constraint(self, view: str) -> substring.SubstringConstraint:
        if view == views.BODY:
            return self._body
        begin = views.begin_of(self._table, view)
        return substring.begun(
            self._body, self._index, [begin], end_token=vocabularies.EOS
        )

    def _written(
        self, view: str, found: results.Decoded, voice: views.Voice
    ) -> keys.Keys:
        met = found.history
        if met is not None:
            pairs = zip(met.tokens_JL.tolist(), met.length_J.tolist(), strict=True)
            tokens, logprob_K = [row[:length] for row, length in pairs], met.logprob_J
        else:
            begin = [] if view == views.BODY else [views.begin_of(self._table, view)]
            tokens = [begin + row for row in found.identifiers()]
            logprob_K = found.logprob_M[: found.found]
        # The body's search may run into the ends of other rows; those are no text.
        own = [
            place
            for place, key in enumerate(tokens)
            if views.view_of(self._table, key[0]) == view
            and (key[-1] == vocabularies.EOS) == (view != views.BODY)
        ]
        own_K = logprob_K[own].astype(np.float64)
        return keys.Keys(
            tokens=[tokens[place] for place in own],
            logprob_K=np.minimum(own_K + voice.lift, np.maximum(own_K, -1.0)),
            factor_K=np.full(len(own), voice.factor),
        )
