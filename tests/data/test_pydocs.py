from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from gr_jax.core import errors
from gr_jax.data import builtin, corpus, docstrings, pydocs

DOC = textwrap.dedent(
    """\
    lookup(x, /) -> value

    Find the value that belongs to a key, e.g. in a table. Keys are compared exactly.

    The table is :class:`~package.Table` and is **never** changed by this function.

    >>> lookup(3)
    'three'

    Parameters
    ----------
    key : int
        The number under which the value was stored. More words.
    default : object, optional
        What is returned where the key is missing.
    """
)


@pytest.fixture(scope="module")
def collection() -> corpus.Collection:
    return builtin.make("builtin:pydocs", seed=0)


def test_a_docstring_taken_apart() -> None:
    entry = pydocs.entry_of(docstrings.Documented("package.lookup_value", DOC), 0)
    assert entry is not None
    assert entry.summary == "Find the value that belongs to a key, e.g. in a table."
    assert entry.text.startswith(
        "Keys are compared exactly. The table is package.Table"
    )
    assert ">>>" not in entry.text
    assert "----" not in entry.text
    assert "Keys are compared exactly." in entry.queries
    assert (
        "lookup value key: The number under which the value was stored."
        in entry.queries
    )
    assert any("lookup value" in query for query in entry.queries[-2:])


def test_a_query_never_gives_the_summary_away() -> None:
    doc = "Sort a list in place.\n\nNote: sort a list in place, always, and in order.\n"
    entry = pydocs.entry_of(docstrings.Documented("m.sort_list", doc), 0)
    assert entry is not None
    assert entry.summary == ""  # The text holds it.
    doc = "Sort list in place.\n\nWords that are many enough to keep this one around."
    named = docstrings.Documented("m.sort_list_in_place", doc)
    entry = pydocs.entry_of(named, 0)
    assert entry is not None
    assert entry.summary == ""  # The name holds it.


def test_docstrings_of_a_summary_alone_make_no_document() -> None:
    assert pydocs.entry_of(docstrings.Documented("m.f", "Do it. Quickly."), 0) is None


def trained_texts(collection: corpus.Collection) -> dict[str, list[str]]:
    """What is trained on, by document: its text, its title, its train queries."""
    texts = {d.id: [f"{d.title} {d.text}"] for d in collection.documents}
    for query, row in collection.qrels["train"].items():
        for document in row:
            texts[document].append(collection.queries[query].text)
    return texts


def test_it_is_large_enough_and_well_formed(collection: corpus.Collection) -> None:
    assert len(collection.documents) >= 3000
    assert len(collection.qrels["test"]) == 300
    assert len(collection.qrels["dev"]) == 150
    assert len(collection.qrels["train"]) > 10_000
    ids = [document.id for document in collection.documents]
    assert len(set(ids)) == len(ids)
    texts = [pydocs.normal(document.text) for document in collection.documents]
    assert len(set(texts)) == len(texts)
    assert all(text for text in texts)
    assert set(collection.facts["versions"]) == {
        "python",
        "numpy",
        "jax",
        "optax",
        "flax",
    }
    packages = {id.split(".")[0] for id in ids}
    assert {"numpy", "jax", "optax", "flax", "json", "builtins", "math"} <= packages
    assert sum("._" in id for id in ids) < len(ids) // 100


@pytest.mark.parametrize("split", ["dev", "test"])
def test_evaluation_queries_do_not_occur_in_training(
    collection: corpus.Collection, split: str
) -> None:
    texts = trained_texts(collection)
    train = {
        pydocs.normal(collection.queries[q].text) for q in collection.qrels["train"]
    }
    for query, row in collection.qrels[split].items():
        wanted = pydocs.normal(collection.queries[query].text)
        assert wanted not in train
        for document in row:
            assert not any(wanted in pydocs.normal(text) for text in texts[document])


def test_a_query_of_several_documents_has_them_all(
    collection: corpus.Collection,
) -> None:
    for split, rows in collection.qrels.items():
        texts = [pydocs.normal(collection.queries[query].text) for query in rows]
        assert len(set(texts)) == len(texts), split
    assert max(len(row) for row in collection.qrels["test"].values()) > 1


def test_seeds_choose_documents_and_queries(
    monkeypatch: pytest.MonkeyPatch, collection: corpus.Collection
) -> None:
    known = [docstrings.Documented(d.id, _docstring(d)) for d in collection.documents]
    monkeypatch.setattr(docstrings, "installed", lambda: known[:600])
    first = pydocs.make(seed=1, documents=200)
    again = pydocs.make(seed=1, documents=200)
    other = pydocs.make(seed=2, documents=200)
    larger = pydocs.make(seed=1, documents=300)
    assert dataclasses.asdict(first) == dataclasses.asdict(again)
    assert len(first.documents) == 200
    ids = [{d.id for d in c.documents} for c in (first, other, larger)]
    assert ids[0] != ids[1]
    assert ids[0] < ids[2]
    few = pydocs.make(seed=1, documents=200, test_queries=5, dev_queries=2)
    assert (len(few.qrels["test"]), len(few.qrels["dev"])) == (5, 2)
    with pytest.raises(errors.UsageError, match="2 or more"):
        pydocs.make(documents=1)


def test_another_documents_summary_is_no_train_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docs = {
        "m.one": "Open the gate slowly.\n\nThe hinge is old. Mind it well and wait.",
        "m.two": "Walk on.\n\nOpen the gate slowly. Then close it and lock it.",
        "m.three": "Open the gate slowly.\n\nA quite different gate, in the far north.",
    }
    known = [docstrings.Documented(*item) for item in docs.items()]
    monkeypatch.setattr(docstrings, "installed", lambda: known)
    made = pydocs.make(test_queries=5, dev_queries=0)
    texts = {made.queries[query].text for query in made.qrels["train"]}
    assert "Then close it and lock it." in texts
    assert "Open the gate slowly." not in texts
    (relevant,) = made.qrels["test"].values()
    assert set(relevant) == {"m.one", "m.three"}


def _docstring(document: corpus.Document) -> str:
    words: Sequence[str] = document.text.split()
    return f"Summary of the thing {document.id}.\n\n{' '.join(words)}"


def test_a_written_collection_reads_back(
    collection: corpus.Collection, tmp_path: Path
) -> None:
    corpus.write_collection(tmp_path / "c", collection)
    read = corpus.read_collection(tmp_path / "c")
    assert read.documents == collection.documents
    assert read.qrels == collection.qrels
    assert read.facts == {"reader": {}}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="builtin:pydocs or builtin:synthetic"):
        builtin.make("builtin:nothing")
