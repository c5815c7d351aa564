"""The verb evaluate, from flags to files and exit codes."""

from __future__ import annotations

import json

import pytest

from gr_jax.evaluate import results
from tools import cli

RUN = "q1 Q0 a 1 2 t\nq1 Q0 b 2 1 t\nq2 Q0 c 1 1 t\n"
OTHER = "q1 Q0 b 1 2 t\nq1 Q0 a 2 1 t\nq2 Q0 c 1 1 t\n"
QRELS = "query-id\tcorpus-id\tscore\nq1\tb\t1\nq2\tc\t1\n"


@pytest.fixture
def files(tmp_path):
    for name, text in (("a.trec", RUN), ("b.trec", OTHER), ("q.tsv", QRELS)):
        (tmp_path / name).write_text(text)
    return tmp_path


def evaluate(files, *flags):
    words = ["--run", str(files / "a.trec"), "--qrels", str(files / "q.tsv")]
    return cli.main(["evaluate", *words, *flags])


def test_prints_and_writes(files, capsys):
    assert evaluate(files, "--json", "--out", str(files / "out")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["metrics"]["mrr@10"]["value"] == 0.75
    assert shown["facts"]["queries_judged"] == 2
    assert results.read_metrics(files / "out")["recall@1"].value == 0.5
    assert results.read_per_query(files / "out")["q1"]["mrr@10"] == 0.5


def test_against_another_run(files, capsys):
    assert evaluate(files, "--json", "--against", str(files / "b.trec")) == 0
    compared = json.loads(capsys.readouterr().out)["against"]
    (found,) = [c for c in compared if c["metric"] == "mrr@10"]
    assert (found["wins"], found["losses"], found["ties"]) == (0, 1, 1)


def test_losses(files, capsys):
    rows = [
        {
            "query": q,
            "document": d,
            "is_positive": d == "p",
            "identifier_kind": "rq",
            "n": 0,
            "nll_sum_nats": 4.0,
            "target_tokens": 2,
        }
        for q in ("q1", "q2")
        for d in ("p", "n1", "n2")
    ]
    path = files / "losses.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert cli.main(["evaluate", "--losses", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["metrics"]
    assert shown["ce"]["value"] == pytest.approx(shown["ce_null"]["value"])


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ([], 2),
        (["--run", "x.trec"], 2),
        (["--run", "x.trec", "--qrels", "y.tsv"], 3),
        (["--losses", "none.jsonl"], 4),
    ],
)
def test_exit_codes(flags, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *flags]) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
