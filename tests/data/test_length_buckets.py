from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.data import length_buckets

BUCKETS = (4, 8, 16)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 9),
    seed=st.integers(0, 4),
    epoch=st.integers(0, 3),
)
def test_an_epoch_has_every_example_once_in_a_width_that_holds_it(
    count: int, batch: int, seed: int, epoch: int
) -> None:
    lengths = np.random.default_rng(seed).integers(1, 20, count)
    plan = length_buckets.Plan(lengths, BUCKETS, batch=batch, seed=seed)
    assert plan.steps == -(-count // batch)
    seen, padded = [], 0
    for step in range(epoch * plan.steps, (epoch + 1) * plan.steps):
        rows, width = plan.step(step)
        real = rows[rows >= 0]
        assert len(rows) == batch
        assert width == min(
            w for w in (*BUCKETS, 16) if w >= min(lengths[real].max(), 16)
        )
        seen += real.tolist()
        padded += len(real) < batch
    assert sorted(seen) == list(range(count))
    assert padded == (count % batch > 0)
    # At most one batch a boundary mixes buckets, so little is padded too far.
    places = np.searchsorted(BUCKETS, np.minimum(lengths, 16))
    mixed = 0
    for step in range(epoch * plan.steps, (epoch + 1) * plan.steps):
        rows, _ = plan.step(step)
        mixed += len(set(places[rows[rows >= 0]].tolist())) - 1
    assert mixed <= len(BUCKETS) - 1


def test_steps_come_alone_and_epochs_differ() -> None:
    lengths = np.random.default_rng(0).integers(1, 17, 50)

    def steps(order: list[int]) -> dict[int, tuple]:
        plan = length_buckets.Plan(lengths, BUCKETS, batch=8, seed=1)
        return {s: (*plan.step(s)[0].tolist(), plan.step(s)[1]) for s in order}

    forward, backward = steps(list(range(21))), steps(list(reversed(range(21))))
    assert forward == backward
    epochs = [[forward[s] for s in range(e * 7, e * 7 + 7)] for e in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    # Lengths are mixed along an epoch, not sorted.
    widths = [step[-1] for step in epochs[0]]
    assert widths != sorted(widths)
