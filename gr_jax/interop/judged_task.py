"""A SeqIO task of a collection's judged queries, with retrieval metrics.

For `t5x.eval` and `t5x.infer`: inputs are the queries of each split, the target is an
identifier of the best judged document, and the metrics look for identifiers of *any*
relevant document among all beams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from gr_jax.data import corpus, tensorflow_cpu, vocabulary
from gr_jax.identifiers import codec
from gr_jax.interop import t5x_decoding

tf = tensorflow_cpu.tf
Identifier = tuple[int, ...]
_NGRAM_TOKENS = 8


def build(
    name: str,
    collection: corpus.Collection,
    table: codec.IdentifierTable,
    words: vocabulary.Vocabulary,
) -> seqio.Task:
    """The task, not registered; its splits are those that are judged.

    The metrics are ``hit@1`` and ``mrr@M`` of M beams, both over queries: whether, and
    how early, an identifier of a relevant document was decoded (of n-grams, one that
    occurs in it); and ``nats``, the mean over queries of minus the target's
    log-probability.

    Args:
      name: SeqIO's.
      collection: With the queries, and judgements by split.
      table: Identifiers of the documents.
      words: Vocabulary of the queries.

    Raises:
      ArtifactError: If the table was not made with the vocabulary.
    """
    table.require_vocabulary(words.fingerprint)
    rows = {split: _rows(collection, table, split) for split in collection.qrels}
    rows = {split: found for split, found in rows.items() if found}
    right = {
        query: [tuple(r.tolist()) for r in rows_of]
        for found in rows.values()
        for query, _, rows_of in found
    }

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> Any:
        del shuffle_files, seed
        found = rows[split]
        targets = [_target(table, rows_of[0]).tolist() for _, _, rows_of in found]
        columns: Any = {
            "query_id": [query for query, _, _ in found],
            "inputs": [text for _, text, _ in found],
            "targets": tf.ragged.constant(targets, dtype=tf.int32),
        }
        return tf.data.Dataset.from_tensor_slices(columns)

    def relevant(decoded: Any, example: Mapping[str, Any], is_target: bool) -> Any:
        if not is_target:
            return decoded
        return right[example["query_id"].decode()]

    return seqio.Task(
        name,
        source=seqio.FunctionDataSource(
            dataset,
            splits=list(rows),
            num_input_examples={split: len(found) for split, found in rows.items()},
        ),
        preprocessors=[
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features=_features(words, table),
        postprocess_fn=relevant,
        metric_fns=[_retrieved_of(table.is_substring), nats],
    )


def _rows(
    collection: corpus.Collection, table: codec.IdentifierTable, split: str
) -> list[tuple[str, str, list[np.ndarray]]]:
    """Id, text, right identifiers (the best judged document's first) by query."""
    found: list[tuple[str, str, list[np.ndarray]]] = []
    for query, judged in collection.qrels[split].items():
        documents = [d for d in judged if judged[d] > 0 and d in table.document_index]
        documents.sort(key=lambda document: -judged[document])
        rows = [
            table.row(row)
            for document in documents
            for row in table.rows_of_document[table.document_index[document]]
        ]
        if rows:
            text = " ".join(collection.queries[query].text.split())
            found.append((query, text, rows))
    return found


def _target(table: codec.IdentifierTable, row: np.ndarray) -> np.ndarray:
    """What is scored: the identifier, or the first n-gram of the document."""
    return row[:_NGRAM_TOKENS] if table.is_substring else row


def _features(
    words: vocabulary.Vocabulary, table: codec.IdentifierTable
) -> dict[str, Any]:
    # The same vocabularies as those of the training tasks (`data.task_builder`).
    sources = seqio.SentencePieceVocabulary(str(words.path))
    identifiers = seqio.PassThroughVocabulary(
        table.vocabulary_size, eos_id=vocabulary.EOS
    )
    return {
        "inputs": seqio.Feature(sources, add_eos=True, dtype=tf.int32),
        "targets": seqio.Feature(identifiers, add_eos=False, dtype=tf.int32),
    }


def nats(targets: Sequence[Any], scores: Sequence[float]) -> dict[str, float]:
    """Mean over queries of minus the log-probability of the target.

    Example:
      >>> nats([None, None], [-1.0, -3.0])
      {'nats': 2.0}
    """
    del targets
    return {"nats": -float(np.mean(np.asarray(scores, np.float64)))}


def _retrieved_of(is_substring: bool) -> Any:
    def retrieved(targets: Any, predictions: Any, aux_values: Any) -> dict[str, float]:
        del predictions
        return reciprocal_ranks(targets, aux_values, is_substring=is_substring)

    return retrieved


def reciprocal_ranks(
    right: Sequence[Sequence[Identifier]],
    found: Mapping[str, Sequence[Any]],
    *,
    is_substring: bool,
) -> dict[str, float]:
    """``hit@1`` and ``mrr@M``: how early a right identifier stands among M beams.

    Args:
      right: Identifiers (of n-grams: whole documents) that are right, by query.
      found: ``decodes`` and ``decode_scores`` of each query, the best last.
      is_substring: Whether any part of a right one is right.
    """
    values: list[float] = []
    for query, wanted in enumerate(right):
        tokens_ML, score_M = found["decodes"][query], found["decode_scores"][query]
        ranked = [
            tuple(int(t) for t in np.trim_zeros(np.asarray(row), "b"))
            for row, score in zip(tokens_ML, score_M, strict=True)
            if score > t5x_decoding.NOTHING
        ][::-1]
        places = [
            place
            for place, tokens in enumerate(ranked, start=1)
            if _is_right(tokens, wanted, is_substring)
        ]
        values.append(1 / places[0] if places else 0.0)
    beams = len(found["decodes"][0]) if values else 0
    return {
        "hit@1": float(np.mean([value == 1 for value in values])),
        f"mrr@{beams}": float(np.mean(values)),
    }


def _is_right(
    tokens: Identifier, wanted: Sequence[Identifier], is_substring: bool
) -> bool:
    if not is_substring:
        return tokens in wanted
    size = len(tokens)
    return any(
        row[start : start + size] == tokens
        for row in wanted
        for start in range(len(row) - size + 1)
    )
