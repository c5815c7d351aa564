from __future__ import annotations

import dataclasses
import json

import pytest

from gr_jax.core import errors
from gr_jax.study import grid
from gr_jax.train import settings


def study(**changes: object) -> grid.Study:
    given = {
        "collection": "builtin:synthetic",
        "identifiers": ("rq", "ngram"),
        "sizes": {"t5": ("30k", "65k", "130k"), "llama": ("25k",)},
        "base_sizes": {"t5": "65k", "llama": "25k"},
        "fractions": (0.25, 0.5, 1.0),
        "beams": (1, 4, 16),
        "base_beam": 4,
        "training": settings.TrainSettings(steps=10),
        "batch": 8,
    }
    return grid.Study(**{**given, **changes})


def test_a_cross_varies_one_axis_at_a_time():
    cells = grid.expand(study(identifiers=("rq",)), {"rq": 100})
    t5 = [(c.size, c.fraction) for c in cells if c.family == "t5"]
    assert t5 == [
        ("30k", 1.0),
        ("65k", 1.0),
        ("130k", 1.0),
        ("65k", 0.25),
        ("65k", 0.5),
    ]
    beams = {(c.size, c.fraction): [d.beam for d in c.decodings] for c in cells}
    assert beams["65k", 1.0] == [1, 4, 16]
    assert beams["130k", 1.0] == beams["65k", 0.25] == [4]


def test_a_grid_trains_every_pair_of_size_and_data():
    cells = grid.expand(
        study(layout="grid", beams_everywhere=True), {"rq": 100, "ngram": 100}
    )
    assert len(cells) == 2 * (3 * 3 + 1 * 3)
    assert len({(c.identifier_kind, c.family, c.size, c.fraction) for c in cells}) == 24
    assert all([d.beam for d in c.decodings] == [1, 4, 16] for c in cells)


def test_steps_are_equal_unless_epochs_are_asked_for():
    equal = grid.expand(study(identifiers=("rq",)), {"rq": 100})
    assert {c.steps for c in equal} == {10}
    following = grid.expand(study(identifiers=("rq",), epochs=2.0), {"rq": 100})
    steps = {c.fraction: c.steps for c in following}
    assert steps == {0.25: round(2 * 25 / 8), 0.5: round(2 * 50 / 8), 1.0: 25}


def test_query_keys_belong_to_ngrams_alone():
    cells = grid.expand(study(query_keys=(True, False)), {"rq": 1, "ngram": 1})
    asked = {c.identifier_kind: {d.query_keys for d in c.decodings} for c in cells}
    assert asked == {"rq": {False}, "ngram": {False, True}}


def test_views_belong_to_ngrams_and_are_named_in_records():
    asked = study(views=("body", "body+title*2"), query_keys=(False, True))
    assert grid.Study.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    cells = grid.expand(asked, {"rq": 1, "ngram": 1})
    names = {
        c.identifier_kind: [d.rescoring for d in c.decodings if d.beam == 4]
        for c in cells
        if c.size == "25k" and c.fraction == 1.0
    }
    assert names == {
        "rq": ["none"],
        "ngram": ["none", "body+title*2", "query-keys", "query-keys, body+title*2"],
    }
    for views in (("boddy",), ("unigrams",), ()):
        with pytest.raises(errors.UsageError, match="views"):
            study(views=views)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_beam": 3}, "base_beam"),
        ({"beams": (0, 4)}, "beams"),
        ({"fractions": (0.5, 1.5)}, "fractions"),
        ({"sizes": {"gpt": ("1m",)}}, "sizes"),
        ({"base_sizes": {"t5": "1m", "llama": "25k"}}, "base_sizes"),
        ({"identifiers": ()}, "identifiers"),
        ({"layout": "star"}, "layout"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_by_name(changes, named):
    with pytest.raises(errors.UsageError, match=named):
        study(**changes)


def test_json_and_back():
    one = study(training=settings.TrainSettings(steps=3, learning_rate=0.5))
    assert grid.Study.from_json(json.loads(json.dumps(one.to_json()))) == one
    cell = grid.expand(one, {"rq": 1, "ngram": 1})[0]
    text = json.dumps(dataclasses.asdict(cell))
    assert grid.Cell.from_json(json.loads(text)) == cell
