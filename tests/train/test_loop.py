"""The loop learns, counts, resumes bit-equally, stops cleanly and refuses faults."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gr_jax.core import errors
from gr_jax.data import arrays, batching, packed_rows
from gr_jax.model import packing as packings
from gr_jax.train import checkpoint, journal, ledger, loop, settings
from gr_jax.train import step as steps


def _settings(**changes: Any) -> settings.TrainSettings:
    values: dict[str, Any] = {
        "steps": 12,
        "learning_rate": 0.02,
        "log_every": 4,
        "tensorboard": False,
    }
    return settings.TrainSettings(**{**values, **changes})


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def _same(one: Any, other: Any) -> bool:
    pairs = zip(_leaves(one), _leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _curve(folder: Path) -> list[tuple[int, float, int]]:
    lines = journal.read(folder)
    return [(line["step"], line["loss"], line["data_tokens"]) for line in lines]


class _StopAt:
    """Asks the process to stop while a step is being done."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.left, self.times = step, times

    def start(self, label: str, total: int | None) -> None:
        pass

    def advance(self, units: int = 1, **measures: float | str) -> None:
        self.left -= units
        if self.left == 0:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGTERM)

    def finish(self) -> None:
        pass


def test_loss_falls_and_counts_are_exact(tiny_model, endless, tmp_path):
    done = loop.train(
        tiny_model(), endless, settings=_settings(steps=60), folder=tmp_path
    )
    curve = _curve(tmp_path)
    assert done.steps == 60
    assert done.examples_seen == 60 * 16
    # Rows have 4 target tokens, half of them 3.
    assert done.data_tokens == 60 * (8 * 4 + 8 * 3)
    assert curve[-1][0] == 60
    assert done.final_loss == curve[-1][1] < 0.8 * curve[0][1]


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_resumed_run_equals_unbroken_run(tiny_model, endless, tmp_path, optimizer):
    model = tiny_model(dropout_rate=0.2)
    asked = _settings(optimizer=optimizer, accumulation=2, keep=3)
    whole = loop.train(model, endless, settings=asked, folder=tmp_path / "whole")
    folder = tmp_path / "broken"
    # 5 is no multiple of log_every: a line of the log spans the stop.
    with pytest.raises(errors.PreemptedError, match="step 5 of 12"):
        loop.train(
            model, endless, settings=asked, folder=folder, progress=_StopAt(5, times=2)
        )
    again = loop.train(model, endless, settings=asked, folder=folder)
    assert again.resumed_from == 5
    assert _same(again.params, whole.params)
    assert _curve(folder) == _curve(tmp_path / "whole")
    assert again.data_tokens == whole.data_tokens
    states = []
    for run in (folder, tmp_path / "whole"):
        programs = steps.programs(
            model,
            asked.for_step(),
            loop.meshes.single_device(),
            loop.sharding_rules.DEFAULT,
            None,
        )
        like = loop.states.to_tree(programs.abstract)
        placed = loop.states.to_tree(programs.shardings)
        states.append(checkpoint.restore(run, 12, like, placed))
    assert _same(*states)


LAYOUTS = {
    "packed": batching.Layout(pack=True),
    "buckets": batching.Layout(buckets=(4, 8)),
}


def _packed_bag(bag: Any) -> Any:
    """The bag model, its bag each target's own source."""

    @dataclasses.dataclass(frozen=True)
    class PackedBag(type(bag)):
        def logits(
            self,
            params: Any,
            source_BS: jax.Array,
            target_BL: jax.Array,
            *,
            dropout_key: jax.Array | None = None,
            packing: packings.Packing | None = None,
        ) -> jax.Array:
            del dropout_key
            table = params["token_embedder"]["embedding"]
            seen = (source_BS != 0)[:, None, :]
            before = jax.numpy.pad(target_BL[:, :-1], ((0, 0), (1, 0)))
            if packing is not None:
                seen = packings.own_segment(
                    packing.target_segment_BL, packing.source_segment_BS
                )
                before = packings.decoder_inputs(target_BL, 0, packing)
            weight = jax.numpy.broadcast_to(
                seen, (*target_BL.shape, source_BS.shape[1])
            ).astype(np.float32)
            bag = jax.numpy.einsum("bls,bsd->bld", weight, table[source_BS])
            return (table[before] + bag) @ table.T

    return PackedBag()


def _ragged() -> arrays.Examples:
    generator = np.random.default_rng(0)
    sources = [
        generator.integers(1, 32, generator.integers(1, 9)).tolist() for _ in range(90)
    ]
    targets = [[*source[:2], 1] for source in sources]
    return arrays.from_rows(sources, targets, [f"q{i}" for i in range(90)], [0] * 90)


@pytest.mark.parametrize("name", LAYOUTS)
def test_resumed_in_any_layout_it_ends_as_the_unbroken_run(tiny_model, tmp_path, name):
    model, examples = _packed_bag(tiny_model()), _ragged()

    def batches(start: int) -> Any:
        return batching.batches(
            examples,
            LAYOUTS[name],
            batch=8,
            source_length=8,
            target_length=6,
            seed=0,
            steps=12,
            start_step=start,
        )

    asked = _settings(log_every=1)
    whole = loop.train(model, batches, settings=asked, folder=tmp_path / "whole")
    folder = tmp_path / "broken"
    with pytest.raises(errors.PreemptedError, match="step 5 of 12"):
        loop.train(model, batches, settings=asked, folder=folder, progress=_StopAt(5))
    again = loop.train(model, batches, settings=asked, folder=folder)
    assert again.resumed_from == 5
    assert _same(again.params, whole.params)
    assert _curve(folder) == _curve(tmp_path / "whole")
    assert again.examples_seen == whole.examples_seen
    program = steps.programs(
        model,
        asked.for_step(),
        loop.meshes.single_device(),
        loop.sharding_rules.DEFAULT,
        None,
    )
    compiled = program.step._cache_size()  # pyright: ignore
    # One program for packed rows, and one for each width of the buckets.
    assert compiled == {"packed": 1, "buckets": 2}[name]


def test_an_epoch_of_packed_rows_has_the_loss_of_its_pairs(tiny_model, tmp_path):
    """At a rate of zero an epoch's mean is the model's, whatever shares a row."""
    model, examples = _packed_bag(tiny_model()), _ragged()
    lengths = {"source_length": 8, "target_length": 6}
    rows = packed_rows.of_examples(examples, seed=0, **lengths)
    assert len(rows) < 60
    found = {}
    for name, layout, count in (
        ("packed", LAYOUTS["packed"], len(rows)),
        ("plain", batching.Layout(), len(examples)),
    ):
        done = loop.train(
            model,
            functools.partial(
                _batches_from, examples, layout, batch=1, steps=count, **lengths
            ),
            settings=_settings(steps=count, log_every=count, learning_rate=0.0),
            folder=tmp_path / name,
        )
        found[name] = (done.examples_seen, done.data_tokens), done.final_loss
    assert found["packed"][0] == found["plain"][0] == (90, len(examples.target_tokens))
    assert found["packed"][1] == pytest.approx(found["plain"][1], rel=1e-6)


def _batches_from(examples: Any, layout: Any, start: int, **asked: Any) -> Any:
    return batching.batches(examples, layout, start_step=start, seed=0, **asked)


def test_runs_of_one_shape_share_a_compilation(tiny_model, endless, tmp_path):
    model = tiny_model(width=8)
    first = _settings(steps=4)
    loop.train(model, endless, settings=first, folder=tmp_path / "a")
    program = steps.programs(
        model,
        first.for_step(),
        loop.meshes.single_device(),
        loop.sharding_rules.DEFAULT,
        None,
    )
    for name, changes in (
        ("b", {"steps": 6}),
        ("c", {"learning_rate": 0.1, "seed": 3}),
    ):
        asked = _settings(**{"steps": 4, **changes})
        loop.train(model, endless, settings=asked, folder=tmp_path / name)
    assert program.step._cache_size() == 1  # pyright: ignore


def test_finished_run_is_not_done_again(tiny_model, endless, tmp_path):
    first = loop.train(tiny_model(), endless, settings=_settings(), folder=tmp_path)

    def none(start: int) -> Any:
        raise AssertionError("data was asked for")

    again = loop.train(tiny_model(), none, settings=_settings(), folder=tmp_path)
    assert _same(first.params, again.params)
    assert again.final_loss == first.final_loss


def _poisoned(endless: Any, at: int) -> Any:
    def batches(start: int) -> Any:
        for step, batch in enumerate(endless(start), start=start + 1):
            if step == at:
                batch["source_BS"][0, 0] = 99
            yield batch

    return batches


def test_nan_fails_with_its_step_and_its_batch(tiny_model, endless, tmp_path):
    with pytest.raises(errors.NumericError, match="step 6:"):
        loop.train(
            tiny_model(poison=99),
            _poisoned(endless, 6),
            settings=_settings(save_every=2, keep=9),
            folder=tmp_path,
        )
    assert checkpoint.steps(tmp_path) == [2, 4]
    assert np.load(tmp_path / "bad_batch_6.npz")["source_BS"][0, 0] == 99


def test_allowed_bad_step_leaves_the_parameters_alone(tiny_model, endless, tmp_path):
    asked = _settings(steps=6, bad_steps=1, save_every=1, keep=9)
    done = loop.train(
        tiny_model(poison=99), _poisoned(endless, 6), settings=asked, folder=tmp_path
    )
    assert done.skipped == (6,)
    assert _same(checkpoint.read_params(tmp_path, step=5), done.params)
    assert not _same(checkpoint.read_params(tmp_path, step=4), done.params)


def test_other_settings_are_refused_on_resume(tiny_model, endless, tmp_path):
    loop.train(tiny_model(), endless, settings=_settings(), folder=tmp_path)
    with pytest.raises(errors.UsageError, match=r"learning_rate: 0\.02 -> 0\.5"):
        loop.train(
            tiny_model(),
            endless,
            settings=_settings(learning_rate=0.5),
            folder=tmp_path,
        )
    with pytest.raises(errors.UsageError, match="vocabulary"):
        loop.train(
            tiny_model(),
            endless,
            settings=_settings(),
            folder=tmp_path,
            inputs={"vocabulary": "abc"},
        )


def test_batches_that_end_early_are_named(tiny_model, endless, tmp_path):
    def few(start: int) -> Any:
        yield from (batch for _, batch in zip(range(3), endless(start), strict=False))

    with pytest.raises(errors.InputError, match="ends before step 4"):
        loop.train(tiny_model(), few, settings=_settings(), folder=tmp_path)


def test_tensorboard_events_hold_the_log(tiny_model, endless, tmp_path):
    asked = _settings(tensorboard=True)
    loop.train(tiny_model(), endless, settings=asked, folder=tmp_path)
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert content.count(b"train/loss") == len(journal.read(tmp_path)) == 3


def test_host_overhead_is_below_a_millisecond(tiny_model, endless, tmp_path):
    model, asked = tiny_model(), _settings(steps=200, log_every=50)
    loop.train(model, endless, settings=asked, folder=tmp_path / "warm")
    ready = [batch for _, batch in zip(range(200), endless(0), strict=False)]
    start = time.process_time()
    done = loop.train(
        model, lambda start: iter(ready), settings=asked, folder=tmp_path / "timed"
    )
    # CPU time of host and step of a model of 2k parameters together, save included.
    assert (time.process_time() - start) / done.steps < 4e-3


def test_the_next_batch_is_made_while_the_device_works(
    tiny_model, endless, tmp_path, monkeypatch
):
    events: list[tuple[str, int]] = []
    note, wait = ledger.Ledger.note, ledger.Ledger.wait

    def noted(self: Any, step: int, *rest: Any) -> None:
        events.append(("sent", step))
        note(self, step, *rest)

    def waited(self: Any, ahead: int) -> None:
        if len(self._pending) > ahead:
            events.append(("waited for", self._pending[-1 - ahead][0]))
        wait(self, ahead)

    def batches(start: int) -> Any:
        for number, batch in enumerate(endless(start), start=1):
            events.append(("asked for", number))
            yield batch

    monkeypatch.setattr(ledger.Ledger, "note", noted)
    monkeypatch.setattr(ledger.Ledger, "wait", waited)
    asked = _settings(steps=6, log_every=6)
    loop.train(tiny_model(), batches, settings=asked, folder=tmp_path)
    at = {event: place for place, event in enumerate(events)}
    for step in range(1, 6):
        assert at["sent", step] < at["asked for", step + 1] < at["sent", step + 1]
    # The device has two steps before it while the host waits, and never more.
    for step in range(1, 4):
        assert at["sent", step + 2] < at["waited for", step] < at["sent", step + 3]


def test_log_is_json_without_nan(tiny_model, endless, tmp_path):
    loop.train(tiny_model(), endless, settings=_settings(), folder=tmp_path)
    for line in (tmp_path / journal.LOG).read_text().splitlines():
        assert json.loads(line, parse_constant=pytest.fail)["step"] % 4 == 0
