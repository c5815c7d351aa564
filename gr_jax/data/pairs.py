"""What a model learns from: a text and one identifier of the document it belongs to.

Identifiers come in as token lists: this module knows no identifier kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from gr_jax.core import artifacts, errors
from gr_jax.data import corpus, ordering

KIND = "pairs"
SCHEMA_VERSION = 1
COLUMNS = ("kind", "rank", "query_id", "document_id", "target", "source")
Kind = Literal["query", "document"]
KINDS: tuple[Kind, ...] = ("document", "query")


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One training example, its source still text.

    Attributes:
      source: Words with single spaces between them.
      target: Identifier tokens, the end token included where its kind has one.
      kind: Whether the source is a query or a document's text.
      query_id: The query; None for a document.
      document_id: The document that the target identifies.
    """

    source: str
    target: list[int]
    kind: Kind
    query_id: str | None
    document_id: str

    @property
    def rank_name(self) -> str:
        """The id whose rank decides which data fractions hold the pair."""
        return self.document_id if self.query_id is None else self.query_id


def judged(
    collection: corpus.Collection, split: str, *, min_grade: int = 1
) -> list[tuple[corpus.Query, corpus.Document]]:
    """Every query of a split with each of its relevant documents, in file order.

    A relevant document that the corpus lacks has no identifier and is left out.
    """
    by_id = {document.id: document for document in collection.documents}
    return [
        (collection.queries[query], by_id[document])
        for query, row in collection.qrels[split].items()
        for document, grade in row.items()
        if grade >= min_grade and document in by_id
    ]


def _plain(text: str) -> str:
    return " ".join(text.split())


def query_pairs(
    judgements: Iterable[tuple[corpus.Query, corpus.Document]],
    targets: Iterable[Iterable[Sequence[int]]],
) -> Iterator[Pair]:
    """Pairs query → identifier.

    Args:
      judgements: As `judged` gives them.
      targets: For each of them, the identifiers to learn; a query may have several.

    Raises:
      ValueError: If there are not as many of the one as of the other.
    """
    for (query, document), identifiers in zip(judgements, targets, strict=True):
        source = _plain(query.text)
        for target in identifiers:
            yield Pair(source, list(target), "query", query.id, document.id)


def passages(document: corpus.Document, *, words: int = 64, most: int = 4) -> list[str]:
    """Texts that stand for a document as a source: its title, then stretches of it.

    Args:
      document: Whose text is cut.
      words: Words a stretch, the title included.
      most: Stretches at most; spread evenly where the text has more.
    """
    title = document.title.split()
    body = document.text.split()
    room = max(words - len(title), 1)
    count = min(most, max(1, -(-len(body) // room)))
    slack = max(len(body) - room, 0)
    starts = [slack * i // max(count - 1, 1) for i in range(count)]
    return [" ".join([*title, *body[start : start + room]]) for start in starts]


def document_pairs(
    documents: Iterable[corpus.Document],
    targets: Iterable[Iterable[Sequence[int]]],
    *,
    words: int = 64,
    most: int = 4,
) -> Iterator[Pair]:
    """Pairs document text → identifier.

    Identifiers and passages of a document are taken in turn, so that every identifier
    and every passage comes at least once.

    Args:
      documents: What to cut passages from.
      targets: For each document, the identifiers to learn.
      words: As in `passages`.
      most: As in `passages`.

    Raises:
      ValueError: If there are not as many of the one as of the other.
    """
    for document, identifiers in zip(documents, targets, strict=True):
        sources = [text for text in passages(document, words=words, most=most) if text]
        chosen = [list(target) for target in identifiers]
        for turn in range(max(len(sources), len(chosen)) if sources and chosen else 0):
            source = sources[turn % len(sources)]
            target = chosen[turn % len(chosen)]
            yield Pair(source, target, "document", None, document.id)


def _line(pair: Pair) -> str:
    target = " ".join(map(str, pair.target))
    source = _plain(pair.source)
    # Nine digits bring a float32 back bit for bit.
    rank = f"{ordering.rank_of(pair.rank_name):.9g}"
    cells = (pair.kind, rank, pair.query_id or "", pair.document_id, target, source)
    return "\t".join(cells) + "\n"


def save(
    folder: Path,
    rows: Iterable[Pair],
    *,
    collection: str,
    identifiers: str,
    target_vocabulary: int,
    shards: int = 1,
    config: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Writes pairs as tab-separated files that SeqIO reads line by line.

    Args:
      folder: Written whole or not at all.
      rows: Read once, in order.
      collection: Name for tasks.
      identifiers: Kind of identifier, for task names.
      target_vocabulary: Number of target token ids.
      shards: Files a kind; row i goes to file ``i mod shards``.
      config: What made the pairs.
      seeds: What made the pairs.
      inputs: Digests of collection, vocabulary and identifiers.

    Raises:
      UsageError: If a target is empty or has an id out of range.
    """
    with artifacts.staged(folder) as staged:
        counts = _write(staged, rows, target_vocabulary, shards)
        artifacts.write_manifest(
            staged,
            kind=KIND,
            schema_version=SCHEMA_VERSION,
            config=config,
            seeds=seeds,
            inputs=inputs,
            facts={
                "collection": collection,
                "identifiers": identifiers,
                "target vocabulary": target_vocabulary,
                "shards": shards,
                "pairs": counts,
            },
        )


def shard_name(kind: Kind, shard: int, shards: int) -> str:
    """Name of one file of pairs."""
    return f"{kind}-{shard:05d}-of-{shards:05d}.tsv"


def _write(
    folder: Path, rows: Iterable[Pair], target_vocabulary: int, shards: int
) -> dict[Kind, int]:
    counts: dict[Kind, int] = {"query": 0, "document": 0}
    names = [shard_name(k, s, shards) for k in counts for s in range(shards)]
    files = {
        name: (folder / name).open("w", encoding="utf-8", newline="\n")
        for name in names
    }
    try:
        for pair in rows:
            if not pair.target or not all(
                0 < token < target_vocabulary for token in pair.target
            ):
                where = f"pairs: {pair.document_id}"
                remedy = f"tokens from 1 to {target_vocabulary - 1} are needed"
                raise errors.UsageError(
                    errors.fault(where, "target", pair.target, remedy)
                )
            name = shard_name(pair.kind, counts[pair.kind] % shards, shards)
            files[name].write(_line(pair))
            counts[pair.kind] += 1
    finally:
        for file in files.values():
            file.close()
    return counts


def _parsed(path: Path, number: int, line: str) -> Pair:
    cells = line.rstrip("\n").split("\t")
    if len(cells) != len(COLUMNS) or cells[0] not in ("query", "document"):
        raise errors.ArtifactError(
            errors.fault(f"{path}:{number}", "line", line, "make the pairs anew")
        )
    kind, _, query, document, target, source = cells
    tokens = [int(token) for token in target.split()]
    return Pair(source, tokens, cast(Kind, kind), query or None, document)


def load(folder: Path, kinds: Sequence[Kind] = KINDS) -> Iterator[Pair]:
    """Stored pairs, kind by kind and file by file, verified.

    Raises:
      ArtifactError: If the folder is missing or not what was written.
    """
    manifest = artifacts.read_manifest(folder, kind=KIND, schema_version=SCHEMA_VERSION)
    shards = int(manifest.facts["shards"])
    for kind in kinds:
        for shard in range(shards):
            path = folder / shard_name(kind, shard, shards)
            with path.open(encoding="utf-8", newline="\n") as file:
                for number, line in enumerate(file, start=1):
                    yield _parsed(path, number, line)
