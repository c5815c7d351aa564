"""Run and judgement files: round trips, and every fault of the bad-input list."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr_jax.core import errors
from gr_jax.evaluate import trec

GOOD = "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1.5 tag\n"


def read(tmp_path, text, **options):
    path = tmp_path / "run.trec"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return trec.read_run(path, **options)


def test_reads_what_is_there(tmp_path):
    found = read(tmp_path, GOOD)
    assert found.run == {"q1": [("d1", 2.5), ("d2", 1.5)]}
    assert (found.tag, found.ties, found.skipped) == ("tag", 0, 0)


IDS = st.text(st.characters(blacklist_categories=("Z", "C")), min_size=1, max_size=6)
SCORES = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=4), min_size=1
    )
)
@pytest.mark.parametrize("suffix", [".trec", ".trec.gz"])
def test_runs_read_back_equal(tmp_path_factory, suffix, table):
    path = tmp_path_factory.mktemp("run") / f"run{suffix}"
    run = {q: list(hits.items()) for q, hits in table.items()}
    trec.write_run(path, run)
    found = trec.read_run(path)
    assert {q: dict(hits) for q, hits in found.run.items()} == table
    for hits in found.run.values():
        assert hits == sorted(hits, key=lambda h: (-h[1], h[0]))


def test_bom_and_carriage_returns_are_stripped_and_ids_kept_as_bytes(tmp_path):
    found = read(tmp_path, b"\xef\xbb\xbf007 Q0 d1 1 2 t\r\n007 Q0 D1 2 1 t\r\n")
    assert found.run == {"007": [("d1", 2.0), ("D1", 1.0)]}


def test_ties_are_broken_by_id_and_counted(tmp_path):
    found = read(tmp_path, "q Q0 b 1 1 t\nq Q0 a 2 1 t\nq Q0 c 3 1 t\n")
    assert [d for d, _ in found.run["q"]] == ["a", "b", "c"]
    assert found.ties == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 d 1 2.0\n", "run.trec:1: columns"),
        ("q Q0 d 1 2.0 t more\n", "run.trec:1: columns"),
        ("q Q0 d 1 nan t\n", "run.trec:1: score: 'nan'"),
        ("q Q0 d 1 inf t\n", "score: 'inf'"),
        ("q Q0 d 1 1e999 t\n", "score: '1e999'"),
        ("q Q0 d 1 1_0 t\n", "score: '1_0'"),
        ("q Q0 d 1 high t\n", "score: 'high'"),
        ("q Q0 d one 1 t\n", "rank: 'one'"),
        (GOOD + "q1 Q0 d1 3 1 tag\n", "run.trec:3: document: 'd1': already at"),
        (GOOD + "q2 Q0 d1 1 1 other\n", "tag: 'other'"),
        ("q Q0 a 1 1 t\nq Q0 b 2 2 t\n", "ranks contradict scores"),
        ("q Q0 a 1 2 t\nq Q0 b 1 1 t\n", "used twice"),
        ("", "empty"),
        (b"q Q0 \xff 1 1 t\n", "byte 5"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    with pytest.raises(errors.InputError, match=r"run\.trec") as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert caught.value.exit_code == 3


def test_too_many_hits(tmp_path):
    with pytest.raises(errors.InputError, match="at most 1"):
        read(tmp_path, GOOD, max_hits=1)


def test_faults_are_counted_and_skipped_when_lenient(tmp_path):
    text = GOOD + "bad\n" * 9
    with pytest.raises(errors.InputError) as caught:
        read(tmp_path, text)
    assert "9 in all" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 6
    found = read(tmp_path, text, strict=False)
    assert found.skipped == 9
    assert len(found.run["q1"]) == 2


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(errors.InputError, match="no such file"):
        trec.read_run(tmp_path / "none.trec")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(GOOD.encode() * 100)[:-12])
    with pytest.raises(errors.InputError, match="damaged gzip"):
        trec.read_run(cut)
    cut.write_bytes(GOOD.encode())
    with pytest.raises(errors.InputError, match="damaged gzip"):
        trec.read_run(cut)
    twice = tmp_path / "twice.gz"
    twice.write_bytes(
        gzip.compress(b"q Q0 a 1 2 t\n") + gzip.compress(b"q Q0 b 2 1 t\n")
    )
    assert len(trec.read_run(twice).run["q"]) == 2


@pytest.mark.parametrize("name", ["a b", "", "a\tb", "a\nb"])
def test_ids_with_white_space_are_not_written(tmp_path, name):
    path = tmp_path / "x"
    with pytest.raises(errors.InputError, match="white space"):
        trec.write_run(path, {name: [("d", 1.0)]})
    with pytest.raises(errors.InputError, match="white space"):
        trec.write_run(path, {"q": [(name, 1.0)]})
    with pytest.raises(errors.InputError, match="white space"):
        trec.write_qrels(path, {"q": {name: 1}})
    assert not path.exists()


def judge(tmp_path, text, **options):
    path = tmp_path / "qrels.tsv"
    path.write_text(text)
    return trec.read_qrels(path, **options)


@pytest.mark.parametrize("form", ["beir", "trec"])
def test_judgements_read_back_equal(tmp_path, form):
    qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": -1}}
    trec.write_qrels(tmp_path / "q.tsv", qrels, form=form)
    found = trec.read_qrels(tmp_path / "q.tsv")
    assert found.qrels == qrels
    assert found.form == form
    assert (found.negative, found.without_relevant) == (1, 1)


BEIR = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q\td\t1\n", "columns"),
        (BEIR + "q 0 d 1\n", "qrels.tsv:2: columns"),
        (BEIR + "q\td\t1.0\n", "grade: '1.0'"),
        (BEIR + "q\td\t99999999\n", "grades end"),
        (BEIR + "q\td\t1\nq\td\t2\n", "1 at "),
        (BEIR, "no judgement"),
        ("q 0 d high\n", "grade: 'high'"),
    ],
)
def test_judgement_faults_are_named(tmp_path, text, message):
    with pytest.raises(errors.InputError) as caught:
        judge(tmp_path, text)
    assert message in str(caught.value)


def test_equal_judgements_are_kept_once(tmp_path):
    found = judge(tmp_path, BEIR + "q\td\t1\nq\td\t1\n")
    assert (found.qrels, found.duplicates) == ({"q": {"d": 1}}, 1)
