"""Views from the command line: identifiers, index, pairs, decoding, errors."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import jax
import pytest

from gr_jax.core import artifacts
from gr_jax.data import corpus, pairs
from gr_jax.data import vocabulary as vocabularies
from gr_jax.evaluate import trec
from gr_jax.identifiers import codec
from gr_jax.model import config as model_config
from gr_jax.model import families, ladder
from gr_jax.testing import toy
from gr_jax.train import checkpoint
from tools import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection, a table with all views, its index, and an untrained model."""
    made = tmp_path_factory.mktemp("views")
    corpus.write_collection(made / "collection", toy.collection())
    words = toy.small_vocabulary(made / "vocabulary")
    assert _ids(made, "ids", "--queries", "train", "--option", f"views={ALL}") == 0
    index = ["index", "--identifiers", str(made / "ids"), "--out", str(made / "index")]
    assert cli.main(index) == 0
    config = ladder.build("t5", "30k", vocab_size=words.size + 2)
    checkpoint.save(
        made / "run",
        {"target": families.build(config).init(jax.random.key(0))},
        checkpoint.Progress(step=1),
        config={"run": {"model": model_config.to_json(config)}},
    )
    return made


ALL = "body+title+pseudo_query"


def _ids(folder: Path, out: str, *more: str) -> int:
    words = ["ids", "--kind", "ngram", "--collection", str(folder / "collection")]
    words += ["--vocabulary", str(folder / "vocabulary"), "--out", str(folder / out)]
    return cli.main([*words, *more])


def _decode(folder: Path, out: str, *more: str) -> int:
    words = ["decode", "--out", str(folder / out), "--model", str(folder / "run")]
    words += ["--identifiers", str(folder / "ids"), "--index", str(folder / "index")]
    words += ["--collection", str(folder / "collection"), "--beam", "12"]
    words += ["--vocabulary", str(folder / "vocabulary"), "--max-length", "3"]
    return cli.main([*words, "--json", *more])


def test_every_view_is_decoded_and_counts(folder: Path) -> None:
    assert _decode(folder, "all", "--views", f"{ALL}+unigrams*0.5") == 0
    beams = artifacts.read_jsonl(folder / "all" / "beams.jsonl")
    texts = {
        view: {row["text"] for row in beams if row["view"] == view}
        for view in ALL.split("+")
    }
    # More beams than titles: an untrained model writes them all.
    assert texts["title"] == {d.title for d in toy.collection().documents}
    asked = [q.text for id, q in toy.collection().queries.items() if id <= "q7"]
    assert texts["pseudo_query"] <= set(asked)
    assert texts["body"]
    run = trec.read_run(folder / "all" / "run.trec").run
    assert set(run) <= {"q10", "q11", "q12"}
    stored = artifacts.read_json(folder / "all" / artifacts.MANIFEST)
    assert stored["config"]["views"] == f"{ALL}+unigrams*0.5"


def test_titles_alone_rank_documents_by_their_probability(folder: Path) -> None:
    # Lifted, as an untrained model knows no title better than the collection does.
    assert _decode(folder, "bare", "--views", "title") == 0
    bare = artifacts.read_jsonl(folder / "bare" / "beams.jsonl")
    lift = -round(statistics.median(row["logprob"] for row in bare))
    assert _decode(folder, "titles", "--views", f"title^{lift}") == 0
    beams = artifacts.read_jsonl(folder / "titles" / "beams.jsonl")
    assert {row["view"] for row in beams} == {"title"}
    of_title = {d.title: d.id for d in toy.collection().documents}
    run = trec.read_run(folder / "titles" / "run.trec").run
    # Each title occurs once, and what is less likely than that adds nothing.
    share = (1 + 5) / (len(codec.load(folder / "ids").tokens_E) + 5)
    for query in ("q10", "q11", "q12"):
        nats = {
            of_title[row["text"]]: min(row["logprob"] + lift, -1.0)
            for row in beams
            if row["query"] == query
        }
        assert set(nats) == set(of_title.values())
        known = [name for name in nats if nats[name] > math.log(share)]
        known.sort(key=lambda name: (-nats[name], name))
        assert [name for name, _ in run.get(query, [])] == known


def test_body_alone_is_the_default(folder: Path) -> None:
    assert _decode(folder, "default") == 0
    assert _decode(folder, "body", "--views", "body") == 0
    first, second = (
        (folder / name / "run.trec").read_bytes() for name in ("default", "body")
    )
    assert first == second


def test_pairs_of_all_views_are_made(folder: Path) -> None:
    words = ["cache", "--pairs", str(folder / "pairs"), "--json"]
    for name in ("collection", "vocabulary"):
        words += [f"--{name}", str(folder / name)]
    assert cli.main([*words, "--identifiers", str(folder / "ids")]) == 0
    sources = [pair.source for pair in pairs.load(folder / "pairs")]
    assert sum(s.startswith("title: ") for s in sources) >= 8
    assert any(s.startswith("query: ") for s in sources)


def test_what_cannot_be_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for code, flags, said in (
        (2, ("--views", "tittle"), "each of body, title, pseudo_query, unigrams"),
        (2, ("--views", "title*-1"), "above 0"),
        (2, ("--views", "body+unigrams^2"), "no lift"),
    ):
        assert _decode(folder, "no", *flags) == code
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert _ids(folder, "no", "--option", "views=body+pseudo_query") == 3
    assert "no document has a query: name a split" in capsys.readouterr().err
    untitled = corpus.Collection(
        name="untitled",
        documents=[
            corpus.Document(d.id, "", d.text) for d in toy.collection().documents
        ],
        queries={},
        qrels={},
    )
    corpus.write_collection(folder / "other" / "collection", untitled)
    (folder / "other" / "vocabulary").symlink_to(folder / "vocabulary")
    assert _ids(folder / "other", "ids", "--option", "views=body+title") == 3
    error = capsys.readouterr().err
    assert "no document has a title" in error
    assert error.count("\n") == 1
    assert _ids(folder, "plain") == 0
    capsys.readouterr()
    plain = ["--identifiers", str(folder / "plain"), "--views", "body+title"]
    assert _decode(folder, "no", *plain) == 2
    assert "build them with views=body+title" in capsys.readouterr().err
    assert not (folder / "no").exists()


def test_the_table_says_what_it_was_made_of(folder: Path) -> None:
    stored = json.loads((folder / "ids" / artifacts.MANIFEST).read_text())
    assert stored["config"] == {
        "kind": "ngram",
        "options": {"views": ALL},
        "queries": "train",
    }
    assert codec.load(folder / "ids").vocabulary_size == (
        vocabularies.load(folder / "vocabulary").size + 2
    )
