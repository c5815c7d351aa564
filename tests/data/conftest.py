from __future__ import annotations

from pathlib import Path

import pytest

from gr_jax.data import pairs, vocabulary
from gr_jax.testing import toy


def toy_pairs(vocab: vocabulary.Vocabulary) -> list[pairs.Pair]:
    """Two spans of its document for each train judgement, one for each document."""
    collection = toy.collection()
    judged = pairs.judged(collection, "train")
    texts = [vocab.encode(document.text) for _, document in judged]
    spans = [[[*text[:3], 1], [*text[2:6], 1]] for text in texts]
    rows = list(pairs.query_pairs(judged, spans))
    whole = [[[*vocab.encode(d.text)[:4], 1]] for d in collection.documents]
    return rows + list(pairs.document_pairs(collection.documents, whole))


@pytest.fixture(scope="session")
def toy_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Toy pairs in three files a kind, and the toy vocabulary."""
    root = tmp_path_factory.mktemp("toy")
    vocab = toy.small_vocabulary(root / "vocabulary")
    pairs.save(
        root / "pairs",
        toy_pairs(vocab),
        collection="toy",
        identifiers="n-gram",
        target_vocabulary=vocab.size,
        shards=3,
    )
    return root / "pairs", root / "vocabulary"
