"""The dense rival: pooling, loss and search against NumPy; learning on a toy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import special

from gr_jax.baselines import dual_encoder
from gr_jax.core import errors
from gr_jax.evaluate import contrastive
from gr_jax.model import config as model_config

CONFIG = model_config.T5Config(
    vocab_size=64,
    embed_dim=16,
    mlp_dim=24,
    heads=2,
    head_dim=8,
    encoder_layers=1,
    decoder_layers=1,
)
SETTINGS = dual_encoder.Settings(
    steps=60,
    batch=16,
    negatives=8,
    dims=12,
    query_length=4,
    document_length=8,
    learning_rate=1e-2,
    warmup_steps=5,
)
# Twelve documents of words of their own; a query repeats two of them.
DOCUMENTS = [[4 + 4 * d + i for i in range(4)] + [2, 3] for d in range(12)]
QUERIES = [
    [4 + 4 * d + i, 4 + 4 * d + (i + 1) % 4] for d in range(12) for i in range(3)
]
PAIRS = np.array([[q, q // 3] for q in range(len(QUERIES))])


@pytest.fixture(scope="module")
def trained():
    return dual_encoder.train(
        CONFIG, queries=QUERIES, documents=DOCUMENTS, pairs_E2=PAIRS, settings=SETTINGS
    )


def vectors(trained, rows, length):
    return dual_encoder.encode(
        CONFIG, trained, rows, dims=SETTINGS.dims, length=length, batch=16
    )


def test_it_learns_to_find_its_documents(trained):
    null = np.log1p(SETTINGS.negatives)
    assert trained.losses_nats[0] == pytest.approx(null, rel=0.3)
    assert trained.losses_nats[-1] < 0.25 * null
    query_QD = vectors(trained, QUERIES, 4)
    document_ND = vectors(trained, DOCUMENTS, 8)
    ids = [f"d{i:02d}" for i in range(12)]
    runs = dual_encoder.search(query_QD, document_ND, ids, k=3)
    first = [run[0][0] == ids[q // 3] for q, run in enumerate(runs)]
    assert np.mean(first) > 0.9


def test_padding_and_batching_change_nothing(trained):
    short = vectors(trained, DOCUMENTS[:3], 6)
    long = vectors(trained, DOCUMENTS[:3], 8)
    np.testing.assert_allclose(short, long, atol=1e-5)
    alone = vectors(trained, DOCUMENTS[2:3], 8)
    np.testing.assert_allclose(alone[0], long[2], atol=1e-5)
    cut = vectors(trained, [DOCUMENTS[0] + [9] * 20], 6)
    np.testing.assert_allclose(cut, short[:1], atol=1e-5)


def test_the_loss_is_the_contrastive_entropy_it_is_judged_by():
    rng = np.random.default_rng(0)
    query, positive = rng.normal(size=(2, 5, 3)).astype(np.float32)
    negative = rng.normal(size=(7, 3)).astype(np.float32)
    is_relevant = rng.random((5, 7)) < 0.2
    found = float(dual_encoder.contrast_nats(query, positive, negative, is_relevant))
    terms = []
    for b in range(5):
        kept = [query[b] @ negative[j] for j in range(7) if not is_relevant[b, j]]
        own = query[b] @ positive[b]
        terms.append(special.logsumexp([own, *kept]) - own)
    assert found == pytest.approx(np.mean(terms), rel=1e-5)
    candidates = contrastive.candidates_of(
        [f"q{b}" for b in range(5)],
        np.repeat(np.arange(5), 8),
        np.tile([True] + [False] * 7, 5),
        np.concatenate(
            [[query[b] @ positive[b], *(negative @ query[b])] for b in range(5)]
        ),
    )
    judged = contrastive.contrastive_entropy_nats(candidates).mean()
    none = np.zeros((5, 7), bool)
    own = float(dual_encoder.contrast_nats(query, positive, negative, none))
    assert own == pytest.approx(judged, rel=1e-5)


def test_search_is_exact_and_breaks_ties_by_id():
    query_QD = np.array([[1.0, 0.0]])
    document_ND = np.array([[0.5, 1.0], [2.0, 0.0], [0.5, -1.0], [-1.0, 0.0]])
    (run,) = dual_encoder.search(query_QD, document_ND, ["z", "b", "a", "c"], k=3)
    assert run == [("b", 2.0), ("a", 0.5), ("z", 0.5)]
    scores = dual_encoder.pair_scores(
        query_QD, document_ND, np.array([0, 0]), np.array([1, 3])
    )
    assert scores.tolist() == [2.0, -1.0]


def test_relevant_documents_are_no_negatives():
    known = np.unique(PAIRS[:, 0] * 12 + PAIRS[:, 1])
    seen = 0
    for step in range(20):
        query_B, document_B, is_relevant_BJ = dual_encoder._draw(
            PAIRS, known, 12, SETTINGS, step
        )
        assert (document_B[:16] == query_B // 3).all()
        expected = document_B[16:][None] == (query_B // 3)[:, None]
        assert (is_relevant_BJ == expected).all()
        seen += int(expected.sum())
    assert seen > 0


def test_flops_and_parameters_by_hand(trained):
    # Attention: four 16x16 kernels; feed-forward: three 16x24.
    kernels = 4 * 16 * 16 + 3 * 16 * 24
    # Scores and values: 2 products x (2 heads x 8) x length, a token.
    attention = 2 * 16 * 8
    expected = 2 * (8 * (kernels + attention) + 16 * 12)
    assert dual_encoder.encoder_flops(CONFIG, 12, 8) == expected
    norms, bias, projection = 3 * 16, 2 * 32, 16 * 12
    assert trained.params_non_embedding == kernels + norms + bias + projection
    assert trained.params_total == trained.params_non_embedding + 64 * 16
    query = dual_encoder.encoder_flops(CONFIG, 12, 4)
    update = 16 * query + (16 + 8) * expected
    assert trained.train_flops == 3 * 60 * update
    assert trained.query_flops == query + 2 * 12 * 12


def test_same_seed_same_vectors_and_no_pair_is_refused(trained):
    short = dataclasses.replace(SETTINGS, steps=21)
    again = dual_encoder.train(
        CONFIG, queries=QUERIES, documents=DOCUMENTS, pairs_E2=PAIRS, settings=short
    )
    assert again.losses_nats == trained.losses_nats[:2]
    with pytest.raises(errors.InputError, match="no \\(query"):
        dual_encoder.train(
            CONFIG,
            queries=QUERIES,
            documents=DOCUMENTS,
            pairs_E2=PAIRS[:0],
            settings=SETTINGS,
        )
