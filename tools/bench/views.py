"""What views of documents change where no model is trained.

``python -m tools.bench.views --collection DIR`` ranks documents by the query's own
n-grams, each as likely as any other, once for each choice of rows: texts, their titles,
the training queries of each document. With ``unigrams`` the query's tokens count as
keys of one token, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHOICES = (
    "body",
    "body+unigrams",
    "body+title",
    "body+pseudo_query",
    "body+title+pseudo_query",
    "body+title+pseudo_query+unigrams",
)
PIECES, LENGTH, PROBABILITY = 4096, 8, 0.5
SHOWN = ("recall@1", "recall@10", "mrr@10")


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/views.json``."""
    parser = argparse.ArgumentParser(prog="bench-views", description=__doc__)
    parser.add_argument("--collection", type=Path, required=True, metavar="DIR")
    parser.add_argument("--splits", nargs="+", default=["test", "unseen"])
    parser.add_argument("--out", type=Path, default=Path("build/bench/views.json"))
    args = parser.parse_args(argv)
    rows = measure(args.collection, args.splits)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        values = "  ".join(f"{name} {row[name]:.3f}" for name in SHOWN)
        print(f"{row['split']:8s} {row['views']:34s} {values}")
    return 0


def measure(folder: Path, splits: Sequence[str]) -> list[dict[str, Any]]:
    """One row a split and choice of views."""
    from gr_jax.data import corpus
    from gr_jax.data import vocabulary as vocabularies
    from gr_jax.evaluate import metrics
    from gr_jax.identifiers import kinds, substring_index, textual, views
    from gr_jax.score import evidence, keys, rows
    from gr_jax.study import prepare

    collection = corpus.read_collection(folder)
    asked = prepare.queries_of_documents(collection)
    texts = [textual.indexed_text(document) for document in collection.documents]
    texts += [text for document in sorted(asked) for text in asked[document]]
    made: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        words = vocabularies.train(texts, Path(place) / "v", pieces=PIECES, seed=0)
        for choice in CHOICES:
            table = kinds.build(
                collection.documents,
                words,
                kind="ngram",
                queries_of=asked,
                options={"views": views.union([choice])},
            )
            index = substring_index.build(
                table.tokens_E,
                table.row_starts_T,
                vocabulary_size=table.vocabulary_size,
                max_length=LENGTH,
            )
            found = rows.corpus_of(table)
            settings = keys.Settings(constant_probability=PROBABILITY)
            for split in splits:
                judged = {q: d for q, d in collection.qrels[split].items() if d}
                queries = sorted(judged)
                gathered = [
                    _keys(collection.queries[q].text, words, "unigrams" in choice)
                    for q in queries
                ]
                rankings = evidence.aggregate(gathered, found, index, settings=settings)
                run = {
                    query: ranking.hits(table.document_ids)
                    for query, ranking in zip(queries, rankings, strict=True)
                }
                table_of, _ = metrics.evaluate_run(run, judged, seed=0, resamples=100)
                values = {name: table_of[name].value for name in SHOWN}
                made.append({"split": split, "views": choice, **values})
    return made


def _keys(text: str, words: Any, has_unigrams: bool) -> Any:
    import numpy as np

    from gr_jax.identifiers import textual
    from gr_jax.score import keys

    own = textual.query_ngrams(text, words, max_length=LENGTH)
    given = keys.merged(keys.Keys(tokens=own, logprob_K=np.zeros(len(own))))
    if not has_unigrams:
        return given
    logprob_V = np.full(words.size, -np.inf)
    logprob_V[sorted({token for tokens in own for token in tokens})] = 0.0
    return keys.with_unigrams(given, logprob_V, top=int((logprob_V == 0).sum()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
