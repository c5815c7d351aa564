"""The n-gram constraint against a search by hand, in both modes and under sharding."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gr_jax.core import errors
from gr_jax.decode import constraints, session, substring
from gr_jax.identifiers import substring_index
from gr_jax.testing import hash_model, substring_oracle

Documents = substring_oracle.Documents
VOCABULARY, BATCH, BEAMS, COUNT = 37, 2, 3, 8
MODES = pytest.mark.parametrize("is_compact", [False, True], ids=["suffix", "wavelet"])


def corpus(seed: int, *, tokens: int = 500) -> Documents:
    return substring_oracle.random_documents(
        seed, vocabulary_size=VOCABULARY, tokens=tokens
    )


def build(documents: Documents, **options: object) -> substring_index.SubstringIndex:
    tokens_E, starts_T = substring_oracle.flat(documents)
    return substring_index.build(
        tokens_E,
        starts_T,
        vocabulary_size=VOCABULARY,
        **{"window": 12, "max_length": 4, **options},  # type: ignore[arg-type]
    )


class Candidate(NamedTuple):
    parent: int
    token: int
    score: float
    count: int


def expected_of(
    tables: list[dict[int, int]], logits_MV: np.ndarray, score_M: np.ndarray
) -> list[Candidate]:
    """All legal continuations of one query's beams, best first."""
    logp_MV = special.log_softmax(logits_MV.astype(np.float64), axis=1)
    found = [
        Candidate(beam, token, float(score_M[beam] + logp_MV[beam, token]), count)
        for beam, table in enumerate(tables)
        for token, count in table.items()
        if token >= 0 and score_M[beam] > -np.inf
    ]
    return sorted(found, key=lambda c: (-c.score, c.parent, c.token))[:COUNT]


class Step(NamedTuple):
    """Proposals and what the constraint says of the longer beams."""

    proposals: constraints.Proposals
    is_ended_BC: jax.Array
    count_BC: jax.Array


@functools.partial(jax.jit, static_argnames="count")
def step(
    constraint: substring.SubstringConstraint,
    state: substring.SubstringState,
    logits_BMV: jax.Array,
    score_BM: jax.Array,
    count: int = COUNT,
) -> Step:
    proposals = constraint.propose(state, logits_BMV, score_BM, count)
    low_BC, high_BC = constraint.interval(proposals.state)
    ends_BC = constraint.is_complete(proposals.state)
    return Step(proposals, ends_BC, high_BC - low_BC)


def found_of(taken: Step) -> list[list[Candidate]]:
    parent_BC, token_BC, score_BC, _ = taken.proposals
    parts = (parent_BC, token_BC, score_BC, taken.count_BC)
    rows = zip(*(part.tolist() for part in parts), strict=True)
    return [
        [Candidate(*one) for one in zip(*row, strict=True) if one[2] > -np.inf]
        for row in rows
    ]


def kept(taken: Step) -> substring.SubstringState:
    """The states of the first beams."""
    return jax.tree.map(lambda leaf: leaf[:, :BEAMS], taken.proposals.state)


def same(found: list[Candidate], expected: list[Candidate]) -> None:
    assert [c[:2] for c in found] == [c[:2] for c in expected]
    assert [c.count for c in found] == [c.count for c in expected]
    np.testing.assert_allclose(
        [c.score for c in found], [c.score for c in expected], rtol=0, atol=2e-5
    )


def walk(
    constraint: substring.SubstringConstraint,
    documents: Documents,
    seed: int,
    *,
    steps: int = 6,
    beginning: tuple[int, ...] = (),
    at_document_start: bool = False,
) -> list[constraints.Proposals]:
    """A random beam search, every step of it compared with the search by hand."""
    rng = np.random.default_rng(seed)
    state = constraint.initial(BATCH, BEAMS)
    score_BM = np.full((BATCH, BEAMS), -np.inf, np.float32)
    score_BM[:, 0] = 0
    grams = [[list(beginning)] * BEAMS for _ in range(BATCH)]
    trace: list[constraints.Proposals] = []
    for _ in range(steps):
        logits_BMV = rng.normal(size=(BATCH, BEAMS, VOCABULARY)).astype(np.float32) * 3
        taken = jax.device_get(step(constraint, state, logits_BMV, score_BM))
        trace.append(taken.proposals)
        next_grams: list[list[list[int]]] = []
        for query, found in enumerate(found_of(taken)):
            tables = [
                substring_oracle.followers(
                    documents, gram, at_document_start=at_document_start
                )
                for gram in grams[query]
            ]
            same(found, expected_of(tables, logits_BMV[query], score_BM[query]))
            longer = [[*grams[query][c.parent], c.token] for c in found]
            for place, gram in enumerate(longer):
                table = substring_oracle.followers(
                    documents, gram, at_document_start=at_document_start
                )
                assert taken.is_ended_BC[query, place] == (set(table) == {-1})
            next_grams.append([*longer, *[[]] * BEAMS][:BEAMS])
        grams = next_grams
        state = kept(taken)
        score_BM = np.array(taken.proposals.score_BC[:, :BEAMS])
    return trace


@MODES
@pytest.mark.parametrize("seed", [0, 1])
def test_proposals_and_counts_equal_a_search_by_hand(
    is_compact: bool, seed: int
) -> None:
    documents = corpus(seed)
    constraint = substring.from_index(build(documents, is_compact=is_compact), chunk=16)
    walk(constraint, documents, seed)


@MODES
def test_window_and_chunk_change_nothing(is_compact: bool) -> None:
    documents = corpus(2)
    traces = []
    for window, chunk in [(4, 16), (10**6, 16), (12, 128)]:
        index = build(documents, is_compact=is_compact, window=window)
        constraint = substring.from_index(index, chunk=chunk)
        traces.append(walk(constraint, documents, 5, steps=3))
    same_choices(traces[0], traces[1])
    same_choices(traces[0], traces[2])


def same_choices(
    first: list[constraints.Proposals], second: list[constraints.Proposals]
) -> None:
    """Parents, tokens and scores to the bit; rows may be numbered otherwise."""
    for one, other in zip(first, second, strict=True):
        chex.assert_trees_all_equal(one[:3], other[:3])


def test_wavelet_and_suffix_modes_give_the_same_bits() -> None:
    documents = corpus(3)
    traces = [
        walk(
            substring.from_index(build(documents, is_compact=c), chunk=16), documents, 1
        )
        for c in (False, True)
    ]
    same_choices(*traces)


def test_shards_on_one_device_and_on_eight() -> None:
    documents = corpus(4)
    one = substring.from_index(build(documents), chunk=16)
    expected = walk(one, documents, 3, steps=4)
    index = build(documents, shards=8)
    assert len(index.shards) == 8
    together = substring.from_index(index, chunk=16)
    same_choices(expected, walk(together, documents, 3, steps=4))
    spread = substring.from_index(
        index, chunk=16, mesh=jax.make_mesh((8,), ("shards",))
    )
    assert len(spread.shards.bits_CxV.sharding.device_set) == 8
    same_choices(expected, walk(spread, documents, 3, steps=4))


def test_wavelet_shards_on_eight_devices() -> None:
    documents = corpus(4)
    index = build(documents, shards=16, is_compact=True)
    mesh = jax.make_mesh((8,), ("shards",))
    walk(substring.from_index(index, chunk=16, mesh=mesh), documents, 3, steps=4)


def test_equal_scores_keep_one_order_under_sharding() -> None:
    documents = corpus(4)
    choices = []
    for shards, window in [(1, 12), (1, 4), (8, 12)]:
        constraint = substring.from_index(
            build(documents, shards=shards, window=window), chunk=16
        )
        state = constraint.initial(BATCH, BEAMS)
        flat_BMV = jnp.zeros((BATCH, BEAMS, VOCABULARY))
        taken = step(constraint, state, flat_BMV, jnp.zeros((BATCH, BEAMS)))
        choices.append([jax.device_get(taken.proposals)])
    same_choices(choices[0], choices[1])
    same_choices(choices[0], choices[2])


def test_shards_that_cannot_be_dealt_out_are_refused() -> None:
    mesh = jax.make_mesh((8,), ("shards",))
    with pytest.raises(errors.UsageError, match="shards=8"):
        substring.from_index(build(corpus(0), shards=3), mesh=mesh)


def titled(seed: int, end: int) -> tuple[Documents, Documents]:
    """Titles, and documents that begin with them and then the end token."""
    rng = np.random.default_rng(seed)
    titles = [rng.integers(0, 6, n).tolist() for n in rng.integers(1, 4, 24)]
    texts = corpus(seed, tokens=420)
    documents = [
        [*title, end, *[token % end for token in text]]
        for title, text in zip(titles, texts, strict=True)
    ]
    return titles, documents


@MODES
def test_titles_begin_documents(is_compact: bool) -> None:
    _, documents = titled(7, VOCABULARY - 1)
    index = build(documents, is_compact=is_compact)
    constraint = substring.from_index(index, chunk=16)
    begun = substring.begun(constraint, index, [], at_document_start=True)
    walk(begun, documents, 0, steps=3, at_document_start=True)


def test_forced_forms_end_with_their_token() -> None:
    end = VOCABULARY - 1
    titles, documents = titled(7, end)
    index = build(documents)
    plain = substring.from_index(index, chunk=16)
    constraint = substring.begun(
        plain, index, [], at_document_start=True, end_token=end
    )
    assert plain.stops_anywhere
    assert not constraint.stops_anywhere
    state = constraint.initial(BATCH, BEAMS)
    only_first_BM = jnp.where(jnp.arange(BEAMS) == 0, 0.0, -jnp.inf)[None].repeat(2, 0)
    logits_BMV = jnp.zeros((BATCH, BEAMS, VOCABULARY)).at[:, :, end].set(50.0)
    gram: list[int] = []
    while True:
        taken = step(constraint, state, logits_BMV, only_first_BM)
        token = int(taken.proposals.token_BC[0, 0])
        assert bool(taken.is_ended_BC[0, 0]) == (token == end)
        state = kept(taken)
        if token == end:
            break
        gram.append(token)
    assert gram in titles
    after = step(constraint, state, logits_BMV, only_first_BM)
    assert bool(jnp.all(after.proposals.score_BC == -jnp.inf))


@MODES
def test_a_beginning_in_the_middle_of_documents(is_compact: bool) -> None:
    documents = corpus(8)
    index = build(documents, is_compact=is_compact)
    constraint = substring.from_index(index, chunk=16)
    begun = substring.begun(constraint, index, [1])
    walk(begun, documents, 2, steps=4, beginning=(1,))
    with pytest.raises(errors.InputError, match="in no document"):
        substring.begun(constraint, index, [1, 2, 3, 4, 5, 6, 7, 8, 9])


@MODES
def test_another_corpus_of_the_same_buckets_compiles_nothing(is_compact: bool) -> None:
    traces = 0

    @jax.jit
    def counted(constraint: substring.SubstringConstraint) -> jax.Array:
        nonlocal traces
        traces += 1
        state = constraint.initial(1, 2)
        logits_BMV = jnp.zeros((1, 2, VOCABULARY))
        return constraint.propose(state, logits_BMV, jnp.zeros((1, 2)), 2).score_BC

    for seed, tokens in enumerate([480, 482, 481]):
        index = build(corpus(seed, tokens=tokens), is_compact=is_compact)
        jax.block_until_ready(counted(substring.from_index(index)))
    assert traces == 1


def test_more_candidates_asked_than_exist() -> None:
    documents = [[1, 2], [1, 3]]
    constraint = substring.from_index(build(documents))
    state = constraint.initial(1, 1)
    logits_BMV = jnp.zeros((1, 1, VOCABULARY))
    proposals, _, count_BC = step(constraint, state, logits_BMV, jnp.zeros((1, 1)), 8)
    assert proposals.token_BC.tolist() == [[1, 2, 3, 0, 0, 0, 0, 0]]
    assert int(jnp.sum(proposals.score_BC > -jnp.inf)) == 3
    assert count_BC.tolist() == [[2, 1, 1, 0, 0, 0, 0, 0]]


def test_logits_narrower_than_the_vocabulary_are_refused() -> None:
    constraint = substring.from_index(build(corpus(0)))
    state = constraint.initial(1, 1)
    with pytest.raises(ValueError, match="37 entries"):
        constraint.propose(state, jnp.zeros((1, 1, 36)), jnp.zeros((1, 1)), 4)


Scored = list[tuple[tuple[int, ...], float]]


def search_by_hand(
    documents: Documents, nats: Callable[[Sequence[int]], np.ndarray], length: int
) -> tuple[Scored, Scored]:
    """Results of a beam search over n-grams, and every candidate it looked at."""
    live: Scored = [((), 0.0)]
    done: Scored = []
    seen: Scored = []
    for _ in range(length):
        candidates = [
            ((*gram, token), score + float(nats(gram)[token]))
            for gram, score in live
            for token in substring_oracle.followers(documents, list(gram))
            if token >= 0
        ]
        candidates.sort(key=lambda pair: -pair[1])
        best = candidates[: 2 * BEAMS]
        seen += best
        ended = [
            p
            for p in best
            if set(substring_oracle.followers(documents, list(p[0]))) == {-1}
        ]
        done += ended
        live = [pair for pair in best if pair not in ended][:BEAMS]
    return sorted(done + live, key=lambda pair: -pair[1])[:BEAMS], seen


@pytest.mark.parametrize("devices", [1, 8])
def test_whole_decoding_with_history(devices: int) -> None:
    documents = corpus(9)
    model = hash_model.HashModel(vocab_size=VOCABULARY)
    index = build(documents, shards=devices, is_compact=devices > 1)
    mesh = jax.make_mesh((devices,), ("shards",)) if devices > 1 else None
    constraint = substring.from_index(index, chunk=16, mesh=mesh)
    decoder = session.DecodeSession(
        model, {}, constraint, beams=BEAMS, max_length=5, batch=2, keep_history=True
    )
    sources = [[3, 4], [5, 6, 7], [8]]
    for source, found in zip(sources, decoder.decode(sources), strict=True):
        results, seen = search_by_hand(
            documents, functools.partial(model.next_nats, source), 5
        )
        assert [tuple(gram) for gram in found.identifiers()] == [g for g, _ in results]
        np.testing.assert_allclose(found.logprob_M, [s for _, s in results], atol=1e-5)
        keys = found.history
        assert keys is not None
        lengths = keys.length_J.tolist()
        grams = [
            tuple(t[:n]) for t, n in zip(keys.tokens_JL.tolist(), lengths, strict=True)
        ]
        assert grams == [gram for gram, _ in seen]
        np.testing.assert_allclose(keys.logprob_J, [s for _, s in seen], atol=1e-5)
        count_J = keys.item_hi_J - keys.item_lo_J
        expected = [
            sum(substring_oracle.followers(documents, list(gram)).values())
            for gram in grams
        ]
        assert count_J.tolist() == expected == index.count(grams).tolist()
