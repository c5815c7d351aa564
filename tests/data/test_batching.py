from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.data import arrays, batching, padded_rows

LENGTHS = {"source_length": 16, "target_length": 6}
LAYOUTS = {
    "plain": batching.Layout(),
    "packed": batching.Layout(pack=True),
    "buckets": batching.Layout(buckets=(4, 8, 16)),
}


def numbered(count: int) -> arrays.Examples:
    rng = np.random.default_rng(count)
    sources = [[*[e + 10] * int(rng.integers(1, 15)), 1] for e in range(count)]
    targets = [[e + 10] * int(rng.integers(1, 6)) for e in range(count)]
    return arrays.from_rows(
        sources, targets, [f"q{e}" for e in range(count)], [0] * count
    )


def stream(
    examples: arrays.Examples, layout: str, **changes: Any
) -> list[dict[str, np.ndarray]]:
    asked: dict[str, Any] = {"batch": 6, "seed": 0, "steps": 12, **LENGTHS, **changes}
    return list(batching.batches(examples, LAYOUTS[layout], **asked))


def targets_in(batches: list[dict[str, np.ndarray]]) -> list[tuple[int, ...]]:
    """Whole targets, from rows of one pair or of several."""
    found = []
    for batch in batches:
        for row, tokens in enumerate(batch["target_BL"]):
            segments = batch.get("target_segment_BL", batch["target_BL"] > 0)[row]
            for number in range(1, int(segments.max()) + 1):
                found.append(tuple(tokens[segments == number].tolist()))
    return found


@settings(max_examples=40, deadline=None)
@given(
    layout=st.sampled_from([*LAYOUTS]),
    count=st.integers(1, 40),
    start=st.integers(0, 9),
    hosts=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 3),
)
def test_any_step_on_any_host_without_replay(
    layout: str, count: int, start: int, hosts: int, seed: int
) -> None:
    examples = numbered(count)
    whole = stream(examples, layout, seed=seed)
    shares = [
        stream(examples, layout, seed=seed, start_step=start, shard=(host, hosts))
        for host in range(hosts)
    ]
    assert len(whole) == 12
    for step, expected in enumerate(whole[start:]):
        for field, rows in expected.items():
            joined = np.concatenate([share[step][field] for share in shares])
            np.testing.assert_array_equal(joined, rows)


@pytest.mark.parametrize("layout", ["packed", "buckets"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_an_epoch_holds_every_example_once(layout: str, fraction: float) -> None:
    examples = numbered(61)
    chosen = arrays.select(examples, fraction)
    wanted = sorted(tuple(chosen.target(row)) for row in range(len(chosen)))
    # One row a step: the epoch's end is then a step's end in every layout.
    batches = stream(examples, layout, batch=1, steps=200, fraction=fraction)
    seen: list[tuple[int, ...]] = []
    steps = 0
    while len(seen) < len(wanted):
        seen += targets_in([batches[steps]])
        steps += 1
    assert sorted(seen) == wanted
    assert sorted(targets_in(batches[steps : 2 * steps])) == wanted
    assert (steps < len(wanted)) == (layout == "packed")


def test_without_a_layout_batches_are_those_of_the_arrays() -> None:
    examples = numbered(20)
    plain = padded_rows.batches(examples, batch=6, steps=12, seed=0, **LENGTHS)
    for one, other in zip(stream(examples, "plain"), plain, strict=True):
        for field in one:
            np.testing.assert_array_equal(one[field], other[field])


def test_buckets_pad_less_and_have_few_shapes() -> None:
    shapes = [b["source_BS"].shape for b in stream(numbered(60), "buckets")]
    assert {rows for rows, _ in shapes} == {6}
    assert {width for _, width in shapes} == {4, 8, 16}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pack": True, "buckets": (4, 16)}, "choose one"),
        ({"buckets": (8, 4, 16)}, "ascending"),
        ({"buckets": (0, 16)}, "ascending"),
        ({"buckets": (4, 8)}, "length of inputs, 16"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.UsageError, match=message) as caught:
        batching.Layout(**settings).checked(16)
    assert "\n" not in str(caught.value)
