"""Eight documents that a reader can hold in mind, for tests and first steps."""

from __future__ import annotations

from pathlib import Path

from gr_jax.data import corpus, vocabulary

_DOCUMENTS = (
    ("d1", "Tea", "tea is a drink made from leaves and hot water"),
    ("d2", "Coffee", "coffee is a drink made from roasted beans and hot water"),
    ("d3", "Cocoa", "cocoa is a sweet drink made from beans and hot milk"),
    ("d4", "Bread", "bread is baked from flour water and salt in a hot oven"),
    ("d5", "Cheese", "cheese is made from milk and salt and kept in a cool cellar"),
    ("d6", "Salt", "salt is won from sea water and keeps food for months"),
    ("d7", "Oven", "an oven is a closed box that bakes bread by dry heat"),
    ("d8", "Cellar", "a cellar is a cool room under a house that keeps food"),
)

# (split, query id, text, relevant documents)
_QUERIES = (
    ("train", "q1", "what is made from leaves", ("d1",)),
    ("train", "q2", "which drink needs roasted beans", ("d2",)),
    ("train", "q3", "which drink is sweet", ("d3",)),
    ("train", "q4", "what is baked from flour", ("d4",)),
    ("train", "q5", "what is kept in a cellar", ("d5",)),
    ("train", "q6", "what comes from the sea", ("d6",)),
    ("train", "q7", "where is bread baked", ("d7", "d4")),
    ("dev", "q8", "leaves in hot water", ("d1",)),
    ("dev", "q9", "a drink of roasted beans", ("d2",)),
    ("test", "q10", "hot milk with beans", ("d3",)),
    ("test", "q11", "flour water and salt", ("d4",)),
    ("test", "q12", "things that keep food", ("d6", "d8")),
    ("unseen", "q13", "the cool room under a house", ("d8",)),
)


def collection() -> corpus.Collection:
    """The toy collection: 8 documents, 13 queries, four splits.

    Document ``d8`` has no train query; two queries have two relevant documents.
    """
    qrels: dict[str, corpus.Qrels] = {}
    for split, query, _, relevant in _QUERIES:
        qrels.setdefault(split, {})[query] = {document: 1 for document in relevant}
    return corpus.Collection(
        name="toy",
        documents=[corpus.Document(*row) for row in _DOCUMENTS],
        queries={id: corpus.Query(id, text) for _, id, text, _ in _QUERIES},
        qrels=qrels,
    )


def texts() -> list[str]:
    """Title and text of every document, then every query."""
    toy = collection()
    documents = [f"{document.title} {document.text}" for document in toy.documents]
    return documents + [query.text for query in toy.queries.values()]


def small_vocabulary(folder: Path, *, pieces: int = 320) -> vocabulary.Vocabulary:
    """A vocabulary of the toy texts: controls, bytes and a few dozen pieces."""
    return vocabulary.train(texts(), folder, pieces=pieces)
