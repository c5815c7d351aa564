"""What a study costs, from its configuration alone: nothing is read or made."""

from __future__ import annotations

from typing import Any

from gr_jax.core import errors
from gr_jax.identifiers import codec
from gr_jax.model import accounting, ladder
from gr_jax.study import grid


def price(study: grid.Study) -> list[dict[str, Any]]:
    """One row a cell: parameters, training FLOPs, FLOPs of a query at its widest beam.

    The vocabulary is taken at its configured size, codes without a suffix level.

    Raises:
      UsageError: If steps follow the data (``epochs``), whose amount is not known yet.
    """
    if study.epochs is not None:
        raise errors.UsageError(
            "study: epochs: steps follow the data: price it after its preparation"
        )
    rows: list[dict[str, Any]] = []
    for cell in grid.expand(study, dict.fromkeys(study.identifiers, 0)):
        is_ngram = cell.identifier_kind == codec.NGRAM
        length = study.max_length if is_ngram else study.code_levels
        codes = 0 if is_ngram else study.code_levels * study.codes
        config = ladder.build(
            cell.family,  # type: ignore[arg-type]
            cell.size,
            vocab_size=study.vocabulary_pieces + codes,
        )
        widest = max(d.beam for d in cell.decodings)
        query = accounting.inference_flops(
            config, source=study.source_length, beams=widest, steps=length
        )
        rows.append(
            {
                "cell": cell.label,
                "params_non_embedding": accounting.parameters(config).non_embedding,
                "steps": cell.steps,
                "train_flops": accounting.train_flops(
                    config,
                    source=study.source_length,
                    target=length,
                    examples=cell.steps * study.batch,
                ),
                "query_flops": sum(query.values()),
            }
        )
    return rows
