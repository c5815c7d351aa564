"""Keys of all views of a collection, and its documents, against plain Python."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.data import vocabulary as vocabularies
from gr_jax.identifiers import codec, kinds, substring_index, views
from gr_jax.score import evidence, gathering, keys, rows
from gr_jax.study import prepare
from gr_jax.testing import evidence_oracle, hash_model, toy

BEAMS, LENGTH, ROOT = 24, 3, 16
QUERIES = ["hot milk with beans", "what is baked from flour"]


class Toy:
    """The toy collection with all its views, and a model that was never trained."""

    def __init__(self, folder: Path) -> None:
        collection = toy.collection()
        self.words = toy.small_vocabulary(folder)
        self.table: codec.IdentifierTable = kinds.build(
            collection.documents,
            self.words,
            kind="ngram",
            queries_of=prepare.queries_of_documents(collection),
            options={"views": "body+title+pseudo_query"},
        )
        size = self.table.vocabulary_size
        self.index = substring_index.build(
            self.table.tokens_E, self.table.row_starts_T, vocabulary_size=size
        )
        self.model = hash_model.HashModel(vocab_size=size)
        self.gatherer = gathering.Gatherer(
            self.model,
            {},
            self.table,
            self.index,
            encode=self.words.encode_sources,
            batch=2,
        )

    def nats(self, source: str, tokens: list[int]) -> float:
        """The log-probability of a whole identifier, one prefix at a time."""
        (given,) = self.words.encode_sources([source])
        steps = [
            self.model.next_nats(given, tokens[:i])[t] for i, t in enumerate(tokens)
        ]
        return float(sum(steps))

    def oracle(self) -> evidence_oracle.Aggregator:
        texts = [row.tolist() for row in self.table.rows()]
        starts = list(itertools.accumulate(map(len, texts), initial=0))

        def positions(key: tuple[int, ...], at_start: bool) -> list[int]:
            assert not at_start
            return [
                start + i
                for start, row in zip(starts, texts, strict=False)
                for i in range(len(row) - len(key) + 1)
                if tuple(row[i : i + len(key)]) == key
            ]

        return evidence_oracle.Aggregator(
            texts,
            self.table.row_document_R.tolist(),
            self.table.document_ids,
            lambda key, at_start: len(positions(key, at_start)),
            positions,
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("gathering") / "v")


def _gathered(made: Toy, choice: str) -> tuple[dict[str, views.Voice], list[keys.Keys]]:
    chosen = views.require(made.table, choice)
    found = made.gatherer.search(chosen, QUERIES, beams=BEAMS, max_length=LENGTH)
    return chosen, made.gatherer.keys(found, chosen)


@pytest.mark.parametrize(
    ("view", "mark", "sign"), [("title", 0, "title: "), ("pseudo_query", 1, "query: ")]
)
def test_a_view_brings_its_whole_rows_at_their_probability(
    made: Toy, view: str, mark: int, sign: str
) -> None:
    begin = made.words.size + mark
    whole = {tuple(row.tolist()) for row in made.table.rows() if row[0] == begin}
    # More beams than rows: the search finds all of them.
    assert 3 < len(whole) <= BEAMS
    _, gathered = _gathered(made, view)
    _, lifted = _gathered(made, f"{view}^45")
    for query, found, higher in zip(QUERIES, gathered, lifted, strict=True):
        assert {tuple(tokens) for tokens in found.tokens} == whole
        want = [made.nats(sign + query, list(tokens[1:])) for tokens in found.tokens]
        np.testing.assert_allclose(found.logprob_K, want, rtol=1e-5)
        assert min(want) < -46 < max(want)
        want = [min(nats + 45, -1) for nats in want]
        np.testing.assert_allclose(higher.logprob_K, want, rtol=1e-4)


@pytest.mark.parametrize(
    "choice", ["title", "body+title*2.5", "body*0.5+title+pseudo_query*3+unigrams*0.7"]
)
def test_documents_of_all_views_equal_plain_python(made: Toy, choice: str) -> None:
    chosen, gathered = _gathered(made, choice)
    # An untrained model knows less of any row than the collection does: no key would
    # have a weight. A root of its probabilities is as good to compare.
    gathered = [
        dataclasses.replace(each, logprob_K=each.logprob_K / ROOT) for each in gathered
    ]
    settings: dict[str, Any] = {"max_hits": 4, "max_documents": 6, "hits": 5}
    asked: list[keys.Keys] = gathered
    if views.UNIGRAMS in chosen:
        asked = made.gatherer.with_unigrams(
            gathered, QUERIES, chosen[views.UNIGRAMS].factor
        )
    rankings = evidence.aggregate(
        asked,
        rows.corpus_of(made.table),
        made.index,
        settings=keys.Settings(**settings),
    )
    plain = made.oracle()
    factor_of = {
        place: chosen.get(view, views.Voice()).factor
        for place, view in ((0, "title"), (1, "pseudo_query"), (None, "body"))
    }
    for query, before, ranking in zip(QUERIES, gathered, rankings, strict=True):
        tokens = [tuple(key) for key in before.tokens]
        logprobs = before.logprob_K.tolist()
        factors = [
            factor_of.get(k[0] - made.words.size, factor_of[None]) for k in tokens
        ]
        count = len(tokens)
        if views.UNIGRAMS in chosen:
            (source,) = made.words.encode_sources([query])
            first_V = made.model.next_nats(source, [])
            # Float32 on one side, so an order by probability is taken as it came.
            order = np.argsort(-first_V.astype(np.float32), kind="stable").tolist()
            more = [(t,) for t in order if t >= 4 and (t,) not in tokens]
            tokens += more
            logprobs += [float(first_V[t]) for (t,) in more]
            factors += [chosen["unigrams"].factor] * len(more)
        expected = plain.rank(
            tokens,
            logprobs,
            unigrams=[place >= count for place in range(len(tokens))],
            late=[place >= 2 * count for place in range(len(tokens))],
            factors=factors,
            **settings,
        )
        names = [name for name, _ in ranking.hits(made.table.document_ids)]
        assert len(names) == settings["hits"]
        assert names == [name for name, _, _ in expected]
        np.testing.assert_allclose(
            ranking.score_H, [score for _, score, _ in expected], rtol=1e-5
        )


def test_an_index_of_other_rows_is_refused(made: Toy) -> None:
    plain = kinds.build(toy.collection().documents, made.words, kind="ngram")
    index = substring_index.build(
        plain.tokens_E,
        plain.row_starts_T,
        vocabulary_size=made.table.vocabulary_size,
    )
    gatherer = gathering.Gatherer(
        made.model, {}, made.table, index, encode=made.words.encode_sources, batch=2
    )
    with pytest.raises(errors.InputError, match="in no document"):
        gatherer.search({"title": views.Voice()}, QUERIES, beams=2, max_length=LENGTH)


def test_the_end_piece_is_the_vocabularys(made: Toy) -> None:
    for row in made.table.rows()[8:]:
        assert row[-1] == vocabularies.EOS
