"""BM25 against its formula written out, and against the stored figures."""

from __future__ import annotations

import math

import pytest

from gr_jax.baselines import bm25
from gr_jax.core import errors
from gr_jax.data import corpus
from gr_jax.evaluate import metrics

TEXTS = {
    "d1": "apple banana apple",
    "d2": "banana cherry",
    "d3": "cherry durian elder fig grape",
    "d0": "banana cherry",
}


def make(texts=TEXTS, queries=None, train=None):
    queries = queries or {"q1": "apple", "q2": "banana cherry", "q3": "zebra"}
    qrels = {"test": {q: {"d1": 1} for q in queries}}
    asked = {q: corpus.Query(q, t) for q, t in queries.items()}
    if train:
        asked |= {f"t{i}": corpus.Query(f"t{i}", t) for i, (_, t) in enumerate(train)}
        qrels["train"] = {f"t{i}": {d: 1} for i, (d, _) in enumerate(train)}
    documents = [corpus.Document(i, "", text) for i, text in texts.items()]
    return corpus.Collection(
        name="toy", documents=documents, queries=asked, qrels=qrels
    )


def formula(query, texts, *, k1=0.9, b=0.4):
    """Lucene's BM25 with Python floats; these words are their own stems."""
    stems = {"apple": "appl", "cherry": "cherri", "grape": "grape"}
    words = {d: [stems.get(w, w) for w in t.split()] for d, t in texts.items()}
    mean = sum(map(len, words.values())) / len(words)
    scores = {}
    for document, held in words.items():
        total = 0.0
        for word in [stems.get(w, w) for w in query.split()]:
            df = sum(word in other for other in words.values())
            tf = held.count(word)
            idf = math.log(1 + (len(words) - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + k1 * (1 - b + b * len(held) / mean))
        if total > 0:
            scores[document] = total
    return sorted(scores.items(), key=lambda hit: (-round(hit[1], 5), hit[0]))


def test_equals_the_formula_with_ties_by_id():
    found = bm25.run(make(), "test")
    for query, text in (("q1", "apple"), ("q2", "banana cherry")):
        expected = formula(text, TEXTS)
        assert [d for d, _ in found[query]] == [d for d, _ in expected]
        scores = [s for _, s in found[query]]
        assert scores == pytest.approx([s for _, s in expected], rel=1e-5)
    assert [d for d, _ in found["q2"]][:2] == ["d0", "d2"]


def test_documents_without_a_common_word_never_come():
    found = bm25.run(make(), "test")
    assert found["q3"] == []
    assert [d for d, _ in found["q1"]] == ["d1"]


def test_k_cuts_after_ties_are_settled():
    found = bm25.run(make(queries={"q": "cherry"}), "test", 1)
    assert [d for d, _ in found["q"]] == ["d0"]


def test_train_queries_join_their_document():
    collection = make(train=[("d3", "what is a zebra")])
    assert bm25.run(collection, "test")["q3"] == []
    found = bm25.run(collection, "test", variant="train-queries")
    assert [d for d, _ in found["q3"]] == ["d3"]


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(errors.InputError, match="split"):
        bm25.run(make(), "dev")
    with pytest.raises(errors.InputError, match="train"):
        bm25.run(make(), "test", variant="train-queries")
    with pytest.raises(errors.InputError, match="no document holds a word"):
        bm25.run(make(texts={"d1": "a ."}), "test")


# Recall@1, Recall@10, Recall@100, MRR@10, nDCG@10, as the collection's page has them.
FIGURES = [
    ("test", "plain", 0.9, 0.4, (0.7292, 0.9386, 0.9909, 0.8022, 0.8354)),
    ("test", "plain", 1.2, 0.75, (0.7327, 0.9374, 0.9909, 0.8066, 0.8386)),
    ("test", "train-queries", 0.9, 0.4, (0.7838, 0.9545, 0.9932, 0.8479, 0.8742)),
    ("unseen", "plain", 0.9, 0.4, (0.7583, 0.9468, 0.9911, 0.8273, 0.8566)),
    ("unseen", "train-queries", 0.9, 0.4, (0.6652, 0.9313, 0.9889, 0.7608, 0.8026)),
    ("dev", "plain", 0.9, 0.4, (0.7390, 0.9265, 0.9890, 0.8025, 0.8327)),
    ("dev", "train-queries", 0.9, 0.4, (0.7426, 0.9375, 0.9926, 0.8151, 0.8453)),
    ("unseen-dev", "plain", 0.9, 0.4, (0.7714, 0.9857, 1.0000, 0.8458, 0.8794)),
]


@pytest.mark.data
@pytest.mark.parametrize(("split", "variant", "k1", "b", "figures"), FIGURES)
def test_stored_figures_of_squad_1k(shared_data, split, variant, k1, b, figures):
    collection = corpus.read_collection(shared_data / "squad-1k")
    run = bm25.run(collection, split, 100, variant=variant, k1=k1, b=b)
    measures, _ = metrics.evaluate_run(
        run, collection.qrels[split], seed=0, resamples=10
    )
    names = ("recall@1", "recall@10", "recall@100", "mrr@10", "ndcg@10")
    assert tuple(round(measures[n].value, 4) for n in names) == figures
