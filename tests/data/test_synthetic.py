from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from pathlib import Path

import pytest

from gr_jax.core import artifacts, errors
from gr_jax.data import corpus, synthetic

# Made by: synthetic.write(folder, synthetic.World(1000)); the manifest's `files`.
DIGESTS = {
    "corpus.jsonl": (
        "b696d7836f02a612603cf4c36cbb0f47d58c091a76a0b78e42c564a48eb8528c"
    ),
    "qrels/dev.tsv": (
        "2afeded299a1a054246abf434560eeda87f9ffe74375be74850e10782664a21e"
    ),
    "qrels/test.tsv": (
        "bff07262c0b416ac180a3a0e42a38cde77262c9525a60a940f3a9bfce27157b9"
    ),
    "qrels/train.tsv": (
        "67907a2478f08a6ab3fa555343e8963e6a63c4e9d31759ce7a027704ae2b7440"
    ),
    "qrels/unseen.tsv": (
        "f6fda866810686a5e28428a2c834716df9ef542c48a49009837fedeef4c675e4"
    ),
    "queries.jsonl": (
        "78dc027d550d5d7d81ba0d869ed90480b94e2ff206b9added67c5de93de33fd0"
    ),
}
LARGE = "1c211a65ec51fbae"


@pytest.fixture(scope="module")
def collection() -> corpus.Collection:
    return synthetic.make(seed=0, documents=1000)


def test_the_bytes_are_the_same_on_every_machine(tmp_path: Path) -> None:
    written = synthetic.write(tmp_path / "s", synthetic.World(1000))
    assert written.files == DIGESTS


def test_any_part_of_a_large_world_is_at_hand() -> None:
    world = synthetic.World(10_000_000, seed=4)
    digest = hashlib.sha256()
    for entity in itertools.chain(range(50), range(9_999_950, 10_000_000)):
        digest.update(corpus.document_line(world.document(entity)).encode())
        for split, query in world.queries(entity):
            digest.update(f"{split} {corpus.query_line(query)}".encode())
    assert digest.hexdigest()[:16] == LARGE


def test_streamed_and_built_collections_are_one(
    collection: corpus.Collection, tmp_path: Path
) -> None:
    built = corpus.write_collection(tmp_path / "built", collection)
    assert built.files == DIGESTS
    assert corpus.read_collection(tmp_path / "built").qrels == collection.qrels


@pytest.mark.parametrize("documents", [100, 101, 777, 2500])
@pytest.mark.parametrize("seed", [0, 1])
def test_names_and_place_product_pairs_are_unique(documents: int, seed: int) -> None:
    world = synthetic.World(documents, seed)
    entities = range(documents)
    assert len({world.name(entity) for entity in entities}) == documents
    features = [world.features(entity) for entity in entities]
    assert len({(f["place"], f["product"]) for f in features}) == documents
    # The parts are shared: one alone does not give a document away.
    assert len({f["place"] for f in features}) <= documents**0.5 + 2


def test_every_fact_a_query_names_is_in_its_document(
    collection: corpus.Collection,
) -> None:
    world = synthetic.World(1000)
    for entity in range(200):
        document = world.document(entity)
        facts = world.features(entity)
        assert all(value in document.text for value in facts.values())
        assert document.title in document.text
        for _, query in world.queries(entity):
            named = document.title in query.text
            placed = facts["place"] in query.text and facts["product"] in query.text
            assert named or placed


def test_queries_are_all_different(collection: corpus.Collection) -> None:
    texts = [query.text for query in collection.queries.values()]
    assert len(set(texts)) == len(texts)
    world = synthetic.World(1000)
    wordings = {world.wording(7, number) for number in range(synthetic.WORDINGS)}
    assert len(wordings) == synthetic.WORDINGS


def test_splits_keep_seen_and_unseen_documents_apart(
    collection: corpus.Collection,
) -> None:
    documents = {
        split: {document for row in rows.values() for document in row}
        for split, rows in collection.qrels.items()
    }
    assert set(documents) == {"train", "dev", "test", "unseen"}
    assert documents["dev"] | documents["test"] <= documents["train"]
    assert not documents["unseen"] & documents["train"]
    assert all(len(collection.qrels[split]) > 50 for split in documents)
    of_splits = [set(rows) for rows in collection.qrels.values()]
    assert sum(map(len, of_splits)) == len(set().union(*of_splits))


def test_popularity_follows_zipf(collection: corpus.Collection) -> None:
    rows = collection.qrels["train"].values()
    counts = sorted(Counter(d for row in rows for d in row).values(), reverse=True)
    # Rank r has weight 1 / (r + 10), of which the head's sum is known.
    total = sum(1 / (rank + 10) for rank in range(1000))
    for rank in (20, 60, 200):
        expected = 4000 / total / (rank / 0.9 + 10)
        assert abs(counts[rank] - expected) < 0.15 * expected + 1.5
    assert 3500 < sum(counts) <= 4000


def test_seeds_make_different_worlds() -> None:
    first, other = (
        synthetic.make(seed=0, documents=100),
        synthetic.make(seed=1, documents=100),
    )
    assert not {d.title for d in first.documents} & {d.title for d in other.documents}


@pytest.mark.parametrize("documents", [0, 99, 10_000_001])
def test_sizes_out_of_range_are_refused(documents: int) -> None:
    with pytest.raises(errors.UsageError, match="from 100 to 10000000"):
        synthetic.World(documents)


def test_the_hash_scatters_single_bits() -> None:
    base = synthetic.mixed(1, 2, 3)
    for bit in range(64):
        flipped = synthetic.mixed(1, 2, 3 ^ (1 << bit))
        assert 12 <= (base ^ flipped).bit_count() <= 52
    assert synthetic.mixed(1, 2) != synthetic.mixed(2, 1)


def test_the_manifest_counts(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "s", synthetic.World(100, seed=2))
    facts = artifacts.read_manifest(tmp_path / "s", kind="collection").facts
    read = corpus.read_collection(tmp_path / "s")
    assert facts["documents"] == len(read.documents) == 100
    assert facts["queries"] == len(read.queries)
