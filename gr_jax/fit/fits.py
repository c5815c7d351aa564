"""Fits as they are stored: ``fits.json``, versioned, readable without JAX."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from gr_jax.core import artifacts, errors
from gr_jax.fit.laws import law, registry

VERSION = 1
Array = law.Array
Status = Literal["fitted", "refused"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """One law fitted to one set of points, or the reason why it was not.

    Attributes:
      name: What was fitted, such as ``squad-1k/rq/t5: ce by params_non_embedding``.
      law: Name in the registry.
      formula: The law in words.
      x: Field of the axis; of a law of several axes, their fields joined by ``,``.
      y: Field of the metric.
      status: ``fitted`` or ``refused``.
      reason: Why it was refused, else empty; begins with the reason's name.
      warnings: Findings that a reader must see, each ``{"code", "message"}``.
      params: Coefficients with 95% intervals: ``{"value", "low", "high", "method"}``.
      points: What was fitted: ``{"x", "y", "low", "high", "record", "runs",
        "weight"}``.
      curve: The fitted curve ``x``, ``y`` over the range and beyond, with the 95%
        interval of the mean (``low``, ``high``), of a new run (``run_low``,
        ``run_high``) and of a new run widened by the back-test (``wide_low``,
        ``wide_high``). Of a law with more axes: ``families``, one such table for each
        of up to six places ``at`` of the other axes.
      residuals: Observed minus fitted, on the scale of the objective.
      objective: What was minimised, in words, and its value.
      method: How intervals were made, and why so.
      certificate: Starts, polished, agreeing, share, tolerance.
      quality: ``sigma``, ``dof``, ``r2``, ``aicc``, ``n``, ``runs``, ``parameters``
        and ``rivals``: other laws of the same points by squares (`rivals.Rival`); with
        values on queries, ``queries``: how many, and intervals by resampling them
        ``alone`` and ``with_runs``.
      backtest: ``cuts`` (fitted below, judged above), ``factor`` by which intervals of
        a new run were widened, ``largest``: the largest configuration left out.
      form: Answers to the survey checklist.
      solver: Coordinates, centre, draws, covariance and variance of a run, from which
        predictions are made again; ``low`` and ``high``: the range of each axis.
      group: What the runs share: collection, family, identifier kind and the rest.
    """

    name: str
    law: str
    formula: str
    x: str
    y: str
    status: Status
    reason: str = ""
    warnings: list[dict[str, str]] = dataclasses.field(default_factory=list)
    params: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    points: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    curve: dict[str, Any] = dataclasses.field(default_factory=dict)
    residuals: list[float] = dataclasses.field(default_factory=list)
    objective: dict[str, Any] = dataclasses.field(default_factory=dict)
    method: str = ""
    certificate: dict[str, Any] = dataclasses.field(default_factory=dict)
    quality: dict[str, Any] = dataclasses.field(default_factory=dict)
    backtest: dict[str, Any] = dataclasses.field(default_factory=dict)
    form: dict[str, str] = dataclasses.field(default_factory=dict)
    solver: dict[str, Any] = dataclasses.field(default_factory=dict)
    group: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_fitted(self) -> bool:
        """Whether there are coefficients."""
        return self.status == "fitted"

    def theta(self) -> Array:
        """Coordinates (P) of the optimum."""
        return np.asarray(self.solver["theta"], dtype=np.float64)

    def draws(self) -> Array:
        """Coordinates (B, P) of the stored resamples."""
        return np.asarray(self.solver["draws"], dtype=np.float64)

    def bound(self, x_RA: Array) -> tuple[law.Law, law.Setting]:
        """The law and its setting at some places, as the fit centred it."""
        family = registry.get(self.law)
        empty_P = np.zeros(len(family.coordinates))
        setting = law.Setting(
            log_x_RA=np.log(x_RA),
            centre_A=np.asarray(self.solver["centre"], dtype=np.float64),
            low_P=empty_P,
            high_P=empty_P,
            start_SP=empty_P[None],
        )
        return family, family.at(setting, x_RA)

    def predict(self, x_RA: Array, theta_BP: Array | None = None) -> Array:
        """The metric (B, R) at R places, at the optimum unless draws are given."""
        family, setting = self.bound(x_RA)
        theta_BP = self.theta()[None] if theta_BP is None else theta_BP
        value_BR = family.predict(setting, theta_BP)
        return np.exp(value_BR) if family.link == "log" else value_BR


def _plain(value: Any) -> Any:
    """JSON without NaN or infinity, which JSON does not have."""
    if isinstance(value, dict):
        table = cast(dict[Any, Any], value)
        return {str(k): _plain(v) for k, v in table.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast(list[Any], value)]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(fits: list[Fit], *, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """The content of ``fits.json``."""
    listed = [_plain(dataclasses.asdict(fit)) for fit in fits]
    return {"version": VERSION, "fits": listed, **_plain(extra or {})}


def write(path: Path, fits: list[Fit], *, extra: dict[str, Any] | None = None) -> None:
    """Writes ``fits.json``, whole or not at all."""
    artifacts.write_json(path, to_json(fits, extra=extra))


def read(path: Path) -> list[Fit]:
    """The fits of a file.

    Raises:
      ArtifactError: If it is missing, not JSON, or of another version.
    """
    try:
        value: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise errors.ArtifactError(f"{path}: missing: run the verb `fit`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise errors.ArtifactError(f"{path}: not JSON ({error}): fit anew") from None
    table = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    found = table.get("version")
    if found != VERSION:
        remedy = f"this version reads {VERSION}: fit anew"
        raise errors.ArtifactError(errors.fault(path, "version", found, remedy))
    try:
        return [Fit(**fit) for fit in table["fits"]]
    except (TypeError, KeyError) as error:
        raise errors.ArtifactError(f"{path}: fits: {error}: fit anew") from None
