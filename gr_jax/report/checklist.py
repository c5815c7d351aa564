"""The survey's questions about a scaling study, answered from what is stored.

Source: Li et al. 2025, "(Mis)Fitting: A survey of scaling laws", its checklist. A
question that nothing stored answers says so: the form is for people to complete.
"""

from __future__ import annotations

from collections.abc import Callable

from gr_jax.fit import fits as stored_fits
from gr_jax.report import contents, notation

NOT_STORED = "not stored"


def _forms(fits: list[stored_fits.Fit], *names: str) -> str:
    """Distinct answers that the fits give to a question."""
    answers = [fit.form[name] for fit in fits for name in names if fit.form.get(name)]
    return "; ".join(dict.fromkeys(answers)) or NOT_STORED


def _distinct(values: list[str], most: int = 4) -> str:
    found = list(dict.fromkeys(v for v in values if v))
    more = f" (and {len(found) - most} more)" if len(found) > most else ""
    return ("; ".join(found[:most]) + more) or NOT_STORED


def _hypothesis(study: contents.Study) -> str:
    return _distinct([f"{f.law}: {f.formula}" for f in study.fits], most=6)


def _runs(study: contents.Study) -> str:
    if not study.rows:
        return _forms(study.fits, "runs", "range")
    records = [row.record for row in study.rows]
    sizes = [r.params_non_embedding for r in records]
    data = [r.data_examples for r in records]
    beams = sorted({r.beam for r in records})
    seeds = sorted({r.seed for r in records})
    return (
        f"{len(records)} records of {len({r.cell for r in records})} trained cells; "
        f"N {notation.count(min(sizes))} to {notation.count(max(sizes))}; training "
        f"examples {notation.count(min(data))} to {notation.count(max(data))}; beams "
        f"{', '.join(map(str, beams))}; seeds {', '.join(map(str, seeds))}"
    )


def _policy(study: contents.Study) -> str:
    if not study.rows:
        return _forms(study.fits, "policy")
    records = [row.record for row in study.rows]
    batches = sorted({r.batch for r in records})
    steps = sorted({r.steps for r in records})
    shown = ", ".join(map(str, steps[:6])) + (" ..." if len(steps) > 6 else "")
    return (
        f"batch {', '.join(map(str, batches))} throughout; optimiser steps {shown}; "
        f"further settings in the configuration below"
    )


def _objective(study: contents.Study) -> str:
    return _distinct([str(f.objective.get("words", "")) for f in study.fits])


def _optimiser(study: contents.Study) -> str:
    answers: list[str] = []
    for fit in study.fits:
        seen = fit.certificate
        if seen.get("starts") is not None:
            answers.append(
                f"{seen.get('starts')} starts screened, {seen.get('polished')} "
                f"polished, {seen.get('agreeing')} agree within {seen.get('tolerance')}"
            )
    return _distinct(answers)


def _validation(study: contents.Study) -> str:
    tested = [f for f in study.fits if f.backtest]
    refused = [f for f in study.fits if not f.is_fitted]
    rivals = len(study.baselines)
    judged = f"; {rivals} rival(s) on the same queries" if rivals else ""
    return (
        f"{len(tested)} of {len(study.fits)} fits back-tested on their largest "
        f"configurations; {len(refused)} refused{judged}"
    )


_QUESTIONS: list[tuple[str, Callable[[contents.Study], str]]] = [
    ("Hypothesis and form of the law", _hypothesis),
    ("Units and definitions of N, D, C", lambda s: _forms(s.fits, "units")),
    ("Number and range of runs", _runs),
    ("Hyper-parameter policy", _policy),
    ("Final losses or checkpoints", lambda s: _forms(s.fits, "losses")),
    ("Smoothing and exclusions", lambda s: _forms(s.fits, "exclusions", "smoothing")),
    ("Objective and its scale", _objective),
    ("Weights", lambda s: _forms(s.fits, "weights")),
    ("Optimiser, starts, tolerance", _optimiser),
    (
        "How the irreducible part was bounded",
        lambda s: _forms(s.fits, "floor", "bound"),
    ),
    ("Uncertainty", lambda s: _distinct([f.method for f in s.fits])),
    ("Validation", _validation),
]


def answers(study: contents.Study) -> list[tuple[str, str]]:
    """Question and answer, in the survey's order."""
    return [(question, answer(study)) for question, answer in _QUESTIONS]


def to_markdown(study: contents.Study) -> str:
    """The form as a page, to be completed where nothing stored answers."""
    lines = ["# The survey's questions about this fit", ""]
    for question, answer in answers(study):
        lines += [f"**{question}**", "", answer, ""]
    return "\n".join(lines)
