"""The loop learns, counts, resumes bit-equally, stops cleanly and refuses faults."""

from __future__ import annotations

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
from gr_jax.train import checkpoint, journal, loop, settings
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


def test_log_is_json_without_nan(tiny_model, endless, tmp_path):
    loop.train(tiny_model(), endless, settings=_settings(), folder=tmp_path)
    for line in (tmp_path / journal.LOG).read_text().splitlines():
        assert json.loads(line, parse_constant=pytest.fail)["step"] % 4 == 0
