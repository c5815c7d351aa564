"""Records that cross stages, and their JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

RUN_RECORD_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric with its 95% interval over ``n`` units (queries, unless said)."""

    value: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossRecord:
    """Teacher-forced loss of one identifier of one document for one query.

    ``nll_sum_nats`` sums over ``target_tokens`` tokens, padding excluded, the end token
    included where the identifier has one. Everything contrastive is recomputable from
    these.
    """

    query: str
    document: str
    is_positive: bool
    identifier_kind: str
    n: int
    nll_sum_nats: float
    target_tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One line of ``records.jsonl``: one trained model under one decoding setting.

    ``params_non_embedding`` leaves out the embedding and the output head and is the
    axis of every law; ``params_paper`` counts as the paper does (head kept for LLaMA).
    ``data_tokens`` are target tokens seen in training, padding excluded. FLOPs count
    two for a multiply-add. ``rescoring`` lists the keys beside those of the body's
    search, as in ``query-keys, body+title*2``.
    """

    cell: str
    collection: str
    split: str
    arch: str
    size_name: str
    params_total: int
    params_non_embedding: int
    params_paper: int
    params_trainable: int
    identifier_kind: str
    data_fraction: float
    data_examples: int
    data_queries: int
    data_tokens: int
    epochs: float
    steps: int
    batch: int
    train_flops: float
    seed: int
    beam: int
    max_length: int
    rescoring: str
    inference_flops_per_query: dict[str, float]
    negatives: int
    metrics: dict[str, Measure]
    controls: dict[str, dict[str, Measure]]
    wall_s: dict[str, float]
    device: str
    hashes: dict[str, str]
    commit: str
    version: int = RUN_RECORD_VERSION

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RunRecord:
        """The record of a JSON object.

        Raises:
          TypeError: If a field is missing or unknown.
        """
        metrics = {k: Measure(**m) for k, m in value["metrics"].items()}
        controls = {
            name: {k: Measure(**m) for k, m in table.items()}
            for name, table in value["controls"].items()
        }
        fields: dict[str, Any] = {**value, "metrics": metrics, "controls": controls}
        return cls(**fields)


def rescoring_of(decoding: Mapping[str, Any]) -> str:
    """``rescoring`` of a decoding's stored settings, older ones included.

    Example:
      >>> rescoring_of({"query_keys": True}), rescoring_of({"rescoring": "body+title"})
      ('query-keys', 'body+title')
    """
    older = "query-keys" if decoding.get("query_keys") else "none"
    return str(decoding.get("rescoring", older))
