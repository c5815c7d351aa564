"""Contrastive metrics against a loop over the records and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gr_jax.core import errors, records
from gr_jax.evaluate import contrastive
from gr_jax.evaluate import losses as stored


def make_records(rng, *, queries=7, negatives=(5, 9), identifiers=3, shift=0.5):
    found = []
    for q in range(queries):
        documents = [(f"p{q}_{i}", True) for i in range(rng.integers(1, 4))]
        documents += [(f"n{i}", False) for i in range(rng.integers(*negatives))]
        for document, is_positive in documents:
            for n in range(rng.integers(1, identifiers + 1)):
                tokens = int(rng.integers(1, 12))
                nats = (
                    tokens * float(rng.gamma(4.0, 0.5)) * (shift if is_positive else 1)
                )
                found.append(
                    records.LossRecord(
                        query=f"q{q}",
                        document=document,
                        is_positive=is_positive,
                        identifier_kind="ngram",
                        n=n,
                        nll_sum_nats=nats,
                        target_tokens=tokens,
                    )
                )
    return [found[i] for i in rng.permutation(len(found))]


def documents_of(losses):
    """Query to (positives, negatives), each a list of identifiers' (nats, tokens)."""
    table = {}
    for r in losses:
        positives, negatives = table.setdefault(r.query, ({}, {}))
        side = positives if r.is_positive else negatives
        side.setdefault(r.document, []).append((r.nll_sum_nats, r.target_tokens))
    return table


SCORES = {
    "sum": lambda ids: -sum(n for n, _ in ids) / len(ids),
    "mean": lambda ids: -sum(n for n, _ in ids) / sum(t for _, t in ids),
    "best": lambda ids: max(-n for n, _ in ids),
    "lse": lambda ids: math.log(sum(math.exp(-n) for n, _ in ids)),
}


def oracle(losses, how):
    """CGL, rho, CE and accuracy with Python floats, from their definitions."""
    score = SCORES[how]
    cgl, rho, ce, accuracy = {}, {}, {}, {}
    for query, (positives, negatives) in documents_of(losses).items():
        mean = {
            d: sum(n for n, _ in ids) / sum(t for _, t in ids)
            for d, ids in (positives | negatives).items()
        }
        least = min(mean[d] for d in positives)
        total = sum(mean[d] for d in negatives)
        cgl[query] = -math.log(total / (total + least))
        rho[query] = least / (total / len(negatives))
        rivals = [score(ids) for ids in negatives.values()]
        ce[query], accuracy[query] = [], []
        for ids in positives.values():
            s = score(ids)
            bottom = math.exp(s) + sum(math.exp(r) for r in rivals)
            ce[query].append(-math.log(math.exp(s) / bottom))
            better = sum(1.0 if s > r else 0.5 if s == r else 0.0 for r in rivals)
            accuracy[query].append(better / len(rivals))
    return cgl, rho, ce, accuracy


@pytest.mark.parametrize("how", sorted(SCORES))
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_oracle(how, seed):
    losses = make_records(np.random.default_rng(seed))
    measures, per_query = contrastive.evaluate(
        losses, seed=0, resamples=20, document_score=how
    )
    cgl, rho, ce, accuracy = oracle(losses, how)
    pairs = [x for terms in ce.values() for x in terms]
    assert measures["cgl"].value == pytest.approx(
        np.mean(list(cgl.values())), rel=1e-12
    )
    assert measures["rho"].value == pytest.approx(
        np.mean(list(rho.values())), rel=1e-12
    )
    assert measures["ce"].value == pytest.approx(np.mean(pairs), rel=1e-10)
    shares = [x for terms in accuracy.values() for x in terms]
    assert measures["pairwise_accuracy"].value == pytest.approx(np.mean(shares))
    for query, row in per_query.items():
        assert row["cgl"] == pytest.approx(cgl[query], rel=1e-12)
        assert row["ce"] == pytest.approx(np.mean(ce[query]), rel=1e-10)
    counts = [len(neg) for _, neg in documents_of(losses).values()]
    assert measures["cgl_null"].value == pytest.approx(
        np.mean([math.log(1 + 1 / n) for n in counts])
    )
    assert measures["negatives"].value == pytest.approx(np.mean(counts))


def equal_losses(queries=4, negatives=256, nats=20.0):
    return [
        records.LossRecord(
            query=f"q{q}",
            document=f"d{j}",
            is_positive=j == 0,
            identifier_kind="rq",
            n=0,
            nll_sum_nats=nats,
            target_tokens=4,
        )
        for q in range(queries)
        for j in range(negatives + 1)
    ]


def test_null_values_when_positives_do_not_differ():
    measures, _ = contrastive.evaluate(equal_losses(), seed=0, resamples=10)
    assert measures["cgl"].value == pytest.approx(0.00389864, abs=5e-9)
    assert measures["ce"].value == pytest.approx(5.5491, abs=5e-5)
    assert measures["ce_calibrated"].value == pytest.approx(math.log(257))
    assert measures["rho"].value == pytest.approx(1.0)
    assert measures["pairwise_accuracy"].value == 0.5
    for name in ("cgl", "rho", "ce", "pairwise_accuracy"):
        null = measures[f"{name}_null"]
        assert measures[name].value == pytest.approx(null.value)
        assert null.low == null.value == null.high


def test_rho_and_cgl_are_two_faces_of_one_query():
    rng = np.random.default_rng(0)
    _, per_query = contrastive.evaluate(
        make_records(rng, negatives=(6, 7)), seed=0, resamples=5
    )
    for row in per_query.values():
        assert row["rho"] == pytest.approx(6 * math.expm1(row["cgl"]), rel=1e-9)


def test_cgl_ignores_a_common_scale_and_ce_does_not():
    losses = make_records(np.random.default_rng(4))
    columns = stored.from_records(losses)
    doubled = stored.Losses(
        queries=columns.queries,
        query_E=columns.query_E,
        document_E=columns.document_E,
        is_positive_E=columns.is_positive_E,
        nll_sum_nats_E=columns.nll_sum_nats_E * 2,
        target_tokens_E=columns.target_tokens_E,
    )
    one, _ = contrastive.evaluate(columns, seed=0, resamples=5)
    two, _ = contrastive.evaluate(doubled, seed=0, resamples=5)
    assert two["cgl"].value == pytest.approx(one["cgl"].value, rel=1e-12)
    assert two["ce"].value != pytest.approx(one["ce"].value, rel=1e-3)
    # Calibration takes the common scale out again.
    assert two["ce_calibrated"].value == pytest.approx(
        one["ce_calibrated"].value, rel=1e-6
    )
    assert two["temperature"].value == pytest.approx(2 * one["temperature"].value)


def test_calibrated_scale_is_the_least_on_a_grid():
    columns = stored.from_records(make_records(np.random.default_rng(5), queries=30))
    documents = stored.of_documents(columns, "sum")
    candidates = contrastive.candidates_of(
        columns.queries, documents.query_R, documents.is_positive_R, documents.score_R
    )
    scale = contrastive.calibrated_scale(candidates)
    best = contrastive.contrastive_entropy_nats(candidates, scale).mean()
    for factor in np.geomspace(0.1, 10, 41):
        other = contrastive.contrastive_entropy_nats(candidates, scale * factor).mean()
        assert best <= other + 1e-12


def test_calibration_never_sees_the_query_it_judges():
    losses = make_records(np.random.default_rng(6), queries=8)
    _, before = contrastive.evaluate(losses, seed=0, resamples=5)
    changed = [
        records.LossRecord(**{**vars(r), "nll_sum_nats": r.nll_sum_nats * 3})
        if r.query == "q0"
        else r
        for r in losses
    ]
    _, after = contrastive.evaluate(changed, seed=0, resamples=5)
    same = [
        q
        for q in before
        if q != "q0" and before[q]["ce_calibrated"] == after[q]["ce_calibrated"]
    ]
    # Those of q0's own half are judged by the other half, which has not changed.
    assert len(same) == 3


def test_extreme_losses_stay_finite():
    losses = [
        records.LossRecord(**{**vars(r), "nll_sum_nats": 1e5 * (1 + r.is_positive)})
        for r in equal_losses(queries=3, negatives=4)
    ]
    measures, _ = contrastive.evaluate(losses, seed=0, resamples=5)
    assert measures["ce"].value == pytest.approx(1e5 + math.log(4))
    assert measures["pairwise_accuracy"].value == 0.0
    assert measures["ce_calibrated"].value == pytest.approx(math.log(5), abs=0.2)


def test_slgr_mixes_padding_in_and_counts_256_negatives():
    def record(document, is_positive, n, nats, tokens):
        return records.LossRecord(
            query="q",
            document=document,
            is_positive=is_positive,
            identifier_kind="ngram",
            n=n,
            nll_sum_nats=nats,
            target_tokens=tokens,
        )

    losses = [
        record("p", True, 0, 4.0, 2),
        record("p", True, 1, 8.0, 6),
        record("a", False, 0, 30.0, 10),
        record("b", False, 0, 8.0, 4),
    ]
    honest, _ = contrastive.evaluate(losses, seed=0, resamples=5)
    assert honest["cgl"].value == pytest.approx(math.log1p((12 / 8) / (3.0 + 2.0)))
    slgr, _ = contrastive.evaluate(losses, seed=0, resamples=5, compat="slgr")
    # Two identifiers padded to six positions; the mean divides by twelve.
    rho = (12 / 12) / ((3.0 + 2.0) / 2)
    assert slgr["rho"].value == pytest.approx(rho)
    assert slgr["cgl"].value == pytest.approx(math.log1p(rho / 256))
    untrained, _ = contrastive.evaluate(
        losses, seed=0, resamples=5, compat="slgr", pad_nats=9.0
    )
    assert untrained["rho"].value == pytest.approx(((12 + 4 * 9) / 12) / 2.5)
    columns = stored.from_records(losses)
    told = stored.Losses(
        **{
            **vars(columns),
            "padding_nats_E": np.array([2.0, 0.0, 0.0, 0.0]),
            "padding_tokens_E": np.array([4, 0, 0, 0]),
        }
    )
    found, _ = contrastive.evaluate(told, seed=0, resamples=5, compat="slgr")
    assert found["rho"].value == pytest.approx(((12 + 2) / 12) / 2.5)


def test_bad_losses_are_refused():
    good = equal_losses(queries=2, negatives=3)
    with pytest.raises(errors.InputError, match="no loss record"):
        contrastive.evaluate([], seed=0)
    with pytest.raises(errors.InputError, match="positive document"):
        contrastive.evaluate([r for r in good if not r.is_positive], seed=0)
    with pytest.raises(errors.InputError, match="negative document"):
        contrastive.evaluate([r for r in good if r.is_positive], seed=0)
    nan = records.LossRecord(**{**vars(good[0]), "nll_sum_nats": math.nan})
    with pytest.raises(errors.NumericError, match="q0"):
        contrastive.evaluate([nan, *good[1:]], seed=0)
    other = records.LossRecord(**{**vars(good[0]), "identifier_kind": "title"})
    with pytest.raises(errors.InputError, match="identifier_kind"):
        contrastive.evaluate([other, *good[1:]], seed=0)
