"""The n-gram constraint over many candidates: `make test-slow`."""

from __future__ import annotations

import collections
import functools

import jax
import numpy as np
import pytest

from gr_jax.decode import constraints, substring
from gr_jax.identifiers import substring_index


@functools.partial(jax.jit, static_argnames="count")
def step(
    constraint: substring.SubstringConstraint,
    state: substring.SubstringState,
    logits_BMV: jax.Array,
    score_BM: jax.Array,
    count: int,
) -> tuple[constraints.Proposals, jax.Array]:
    proposals = constraint.propose(state, logits_BMV, score_BM, count)
    low_BC, high_BC = constraint.interval(proposals.state)
    return proposals, high_BC - low_BC


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("vocabulary", [8, 300, 32_000])
@pytest.mark.parametrize("is_compact", [False, True], ids=["suffix", "wavelet"])
def test_no_illegal_token_in_many(vocabulary: int, is_compact: bool) -> None:
    """Over a million candidates in all: all legal, none twice, counts right."""
    rng = np.random.default_rng(vocabulary)
    lengths = rng.integers(0, 60, 400)
    text = (vocabulary * rng.random(lengths.sum()) ** 4).astype(int)
    documents = [part.tolist() for part in np.split(text, np.cumsum(lengths)[:-1])]
    starts_T = np.append(0, np.cumsum(lengths))
    counts = collections.Counter(
        tuple(document[i : i + n])
        for document in documents
        for n in range(1, 9)
        for i in range(len(document) - n + 1)
    )
    index = substring_index.build(
        text, starts_T, vocabulary_size=vocabulary, window=50, is_compact=is_compact
    )
    constraint = substring.from_index(index)
    batch, beams, candidates = 8, 64, 0
    longest = 8
    noise_BMV = rng.normal(size=(batch, beams, vocabulary)).astype(np.float32)
    while candidates < 200_000:
        state = constraint.initial(batch, beams)
        score_BM = np.full((batch, beams), -np.inf, np.float32)
        score_BM[:, 0] = 0
        grams: list[list[tuple[int, ...]]] = [[()] * beams for _ in range(batch)]
        for _ in range(longest):
            logits_BMV = np.roll(noise_BMV, rng.integers(vocabulary), axis=2)
            taken = jax.device_get(
                step(constraint, state, logits_BMV, score_BM, 4 * beams)
            )
            for query in range(batch):
                real = np.flatnonzero(taken[0].score_BC[query] > -np.inf)
                parents = taken[0].parent_BC[query, real].tolist()
                tokens = taken[0].token_BC[query, real].tolist()
                longer = [
                    (*grams[query][parent], token)
                    for parent, token in zip(parents, tokens, strict=True)
                ]
                found = [counts[gram] for gram in longer]
                assert found == taken[1][query, real].tolist()
                assert len(set(longer)) == len(longer)
                candidates += len(longer)
                grams[query] = [*longer, *[()] * beams][:beams]
            state = jax.tree.map(lambda leaf: leaf[:, :beams], taken[0].state)
            score_BM = np.array(taken[0].score_BC[:, :beams])
