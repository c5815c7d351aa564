"""How numbers, axes and metrics are written for people."""

from __future__ import annotations

import json
import math

from gr_jax.core import records

NONE = "\N{EN DASH}"
AXES = {
    "params_non_embedding": "parameters without embedding and head",
    "params_total": "parameters, all",
    "params_paper": "parameters as the paper counts",
    "params_trainable": "trained parameters",
    "data_examples": "training examples",
    "data_queries": "training queries",
    "data_tokens": "training target tokens",
    "data_fraction": "share of the training data",
    "train_flops": "training FLOPs",
    "inference_flops": "inference FLOPs a query",
    "inference_flops_per_query": "inference FLOPs a query",
    "beam": "beam width",
    "max_length": "generated tokens",
    "steps": "optimiser steps",
    "seed": "seed",
}
METRICS = {
    "cgl": "CGL (nats)",
    "rho": "\N{GREEK SMALL LETTER RHO} = L+ / mean L-",
    "ce": "contrastive entropy (nats)",
    "ce_calibrated": "contrastive entropy, calibrated τ (nats)",
    "pairwise_accuracy": "pairwise accuracy",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
}
LOWER_IS_BETTER = {"cgl", "rho", "ce", "ce_calibrated"}
_SHORT = {
    "params_non_embedding": "parameters",
    "data_tokens": "training tokens",
    "inference_flops_per_query": "FLOPs a query",
    "ce": "CE",
    "ce_calibrated": "CE, calibrated",
    "cgl": "CGL",
    "rho": "\N{GREEK SMALL LETTER RHO}",
}
_SUFFIXES = ("", "k", "M", "G", "T", "P", "E")


def bare(field: str) -> str:
    """A field without the path around it.

    Example:
      >>> bare("metrics.cgl.value"), bare("inference_flops_per_query.total")
      ('cgl', 'inference_flops_per_query')
    """
    field = field.removeprefix("metrics.")
    for end in (".value", ".total"):
        field = field.removesuffix(end)
    return field


def axis(field: str) -> str:
    """The name of an axis or a metric, or of several.

    Example:
      >>> axis("1-recall@10"), axis("params_non_embedding,beam")
      ('miss rate, 1 - Recall@10', 'parameters without embedding and head, beam width')
    """
    if "," in field:
        return ", ".join(axis(part) for part in field.split(","))
    if field.startswith("1-"):
        return f"miss rate, 1 - {axis(field[2:])}"
    name = bare(field)
    if name in AXES:
        return AXES[name]
    if name in METRICS:
        return METRICS[name]
    for start, shown in (("recall@", "Recall@"), ("hits@", "Hits@")):
        if name.startswith(start):
            return shown + name.removeprefix(start)
    return name.replace("_", " ")


def short(field: str) -> str:
    """The name of an axis or a metric where room is scarce.

    Example:
      >>> short("1-recall@10"), short("params_non_embedding,data_tokens")
      ('1 - Recall@10', 'parameters, training tokens')
    """
    if field.startswith("1-"):
        return f"1 - {short(field[2:])}"
    names = [bare(part) for part in field.split(",")]
    return ", ".join(_SHORT.get(name) or axis(name) for name in names)


def number(value: float | None) -> str:
    """A measured number with four significant digits.

    Example:
      >>> number(0.00373933), number(0.5), number(12345.6)
      ('0.003739', '0.5', '1.235e+04')
    """
    if value is None or math.isnan(value):
        return NONE
    return f"{value:.4g}"


def metric(name: str, value: float) -> str:
    """A metric's value: shares with three decimals, others with four digits.

    Example:
      >>> metric("recall@1", 0.45), metric("cgl", 0.003739333)
      ('0.450', '0.003739')
    """
    is_share = name.startswith(("recall@", "hits@", "mrr@", "ndcg@", "answer@"))
    if is_share or name == "pairwise_accuracy":
        return f"{value:.3f}"
    return number(value)


def count(value: float) -> str:
    """A count with three significant digits and a decimal suffix.

    Example:
      >>> count(256), count(51234), count(2.5e12), count(1e30)
      ('256', '51.2k', '2.5T', '1e+30')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1000:
        return f"{value:.3g}" if value != int(value) else str(int(value))
    power = int(math.log10(abs(value)) // 3)
    if power >= len(_SUFFIXES):
        return f"{value:.3g}"
    return f"{value / 1000**power:.3g}{_SUFFIXES[power]}"


def interval(name: str, measure: records.Measure) -> str:
    """The interval of a metric."""
    return f"[{metric(name, measure.low)}, {metric(name, measure.high)}]"


def seconds(value: float) -> str:
    """A duration.

    Example:
      >>> seconds(3.21), seconds(200), seconds(7300)
      ('3.2 s', '3 min 20 s', '2 h 1 min')
    """
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def told(value: object) -> str:
    """Any stored value in a few characters."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)[:160]
    return str(value)
