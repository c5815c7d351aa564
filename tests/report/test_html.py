"""The page: whole, safe, traceable; and drawn by a browser that may fetch nothing."""

from __future__ import annotations

import html as html_module
import json
import re
import shutil
import subprocess
import urllib.parse
from html.parser import HTMLParser

import pytest

from gr_jax.report import contents, html, tables

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
# The probe runs inside a copy of the page: it notes what was asked for and refused.
PROBE = """<script>
window.refused = [];
document.addEventListener("securitypolicyviolation", (e) => refused.push(e.blockedURI));
window.addEventListener("error", (e) => refused.push("error: " + e.message));
const wait = setInterval(() => {
  const root = document.documentElement;
  if (!root.dataset.drawn && !root.dataset.failed) return;
  clearInterval(wait);
  const plots = [...document.querySelectorAll(".js-plotly-plot")];
  root.dataset.report = encodeURIComponent(JSON.stringify({
    drawn: Number(root.dataset.drawn), failed: root.dataset.failed || "",
    points: plots.map((p) => p.querySelectorAll(".point").length),
    marks: plots.map((p) => p.querySelectorAll(".point, .js-line, .js-fill").length),
    fetched: performance.getEntriesByType("resource").map((r) => r.name),
    title: document.title, refused,
  }));
  document.querySelector("#table-cells td.num[data-value]").click();
  root.dataset.drawer = encodeURIComponent(
    document.querySelector("#drawer.open pre").textContent);
}, 50);
</script>"""


@pytest.fixture(scope="module")
def page(study_folder):
    return html.page(contents.read(study_folder))


class Reader(HTMLParser):
    """Start tags with their attributes, and the ids that links point to."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def without_scripts(text):
    return re.sub(r"<script.*?</script>", "", text, flags=re.S)


@pytest.fixture(scope="module")
def tags(page):
    reader = Reader()
    reader.feed(without_scripts(page))
    return reader.tags


def test_nothing_is_loaded_from_anywhere(page, tags):
    for tag, attributes in tags:
        assert tag not in ("img", "iframe", "object", "embed")
        assert "src" not in attributes
        link = attributes.get("href", "#")
        assert link.startswith(("#", "data:"))
    assert "default-src 'none'" in page
    assert "@import" not in page.split("</style>")[0]
    assert len(page.encode()) < 10e6
    assert page.count("Copyright 2012") <= 2


def test_texts_of_a_collection_cannot_become_markup(page):
    body = without_scripts(page)
    assert "owned" in body
    assert '<script>document.title="owned"' not in page
    # One data block, one library, one page script: nothing closed one early.
    assert len(re.findall(r"<script[ >]", page)) == 3
    assert page.count("</script>") == 3


def test_numbers_are_traceable(page, tags, study_folder):
    study = contents.read(study_folder)
    numbers = [a for _, a in tags if "data-value" in a]
    assert len(numbers) > 300
    for attributes in numbers:
        assert attributes["data-source"]
        file = re.split(r"[:#]", attributes["data-source"])[0]
        assert (study_folder / file).is_file()
        if file != "records.jsonl" or "metrics." not in attributes["data-pointer"]:
            continue
        line = int(attributes["data-source"].split(":")[1])
        name = attributes["data-pointer"].removeprefix("metrics.")
        if name.startswith("controls"):
            continue
        measure = study.row_at(line).record.metrics[name]
        assert float(attributes["data-value"]) == measure.value


def test_embedded_records_are_those_of_the_file(page, study_folder):
    block = re.search(r'id="report-data">(.*?)</script>', page, flags=re.S).group(1)
    data = json.loads(block)
    lines = (study_folder / "records.jsonl").read_text().strip().split("\n")
    assert [data["records"][str(i + 1)] for i in range(len(lines))] == [
        json.loads(line) for line in lines
    ]
    assert set(data["figures"]) == set(re.findall(r'data-figure="([^"]+)"', page))
    fits = json.loads((study_folder / "fits.json").read_text())["fits"]
    assert data["files"]["fits.json#/fits/0"]["params"] == fits[0]["params"]


def test_every_section_and_refusal_is_there(page, tags, study_folder):
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in tags if t == "a" and a["href"].startswith("#")}
    assert targets <= set(ids)
    text = html_module.unescape(without_scripts(page))
    for fit in contents.read(study_folder).fits:
        if not fit.is_fitted:
            assert fit.reason in text


def test_same_study_same_page(page, study_folder):
    assert html.page(contents.read(study_folder)) == page


def test_write_leaves_page_tables_and_figures(study_folder, tmp_path):
    # One law is enough here: drawing every PNG is the slow part.
    for name in ("records.jsonl", "study.json"):
        shutil.copy(study_folder / name, tmp_path)
    stored = json.loads((study_folder / "fits.json").read_text())
    stored["fits"] = stored["fits"][:1]
    (tmp_path / "fits.json").write_text(json.dumps(stored))
    path = html.write(tmp_path)
    assert path == tmp_path / "report.html"
    names = sorted(p.name for p in (tmp_path / "report").iterdir())
    assert [n for n in names if n.endswith(".csv")] == [
        "cells.csv",
        "fits.csv",
        "retrieval.csv",
    ]
    assert sum(n.endswith(".png") for n in names) == 2
    text = path.read_text()
    assert "no baseline was run" in text


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_draws_every_figure_and_fetches_nothing(page, tmp_path, study_folder):
    copy = tmp_path / "report.html"
    copy.write_text(page.replace("</head>", f"{PROBE}</head>"), encoding="utf-8")
    command = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--proxy-server=127.0.0.1:9",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=60000",
        "--dump-dom",
        copy.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    found = re.search(r'data-report="([^"]+)"', done.stdout)
    assert found, done.stderr[-2000:]
    report = json.loads(urllib.parse.unquote(found.group(1)))
    study = contents.read(study_folder)
    # Every law, the overview, and the figure with free axes.
    assert report["failed"] == ""
    assert report["drawn"] == len(study.fits) + 2
    assert len(report["points"]) == len(study.fits) + 2
    assert all(marks > 0 for marks in report["marks"])
    assert report["points"][-1] > 0
    assert report["fetched"] == []
    assert report["refused"] == []
    assert report["title"] == "builtin:pydocs: scaling laws"
    drawer = re.search(r'data-drawer="([^"]+)"', done.stdout).group(1)
    record = json.loads(urllib.parse.unquote(drawer))
    assert record["cell"] == study.rows[0].record.cell


def test_best_rows_come_best_first(study_folder):
    study = contents.read(study_folder)
    values = [tables.headline_value(row) for row in tables.best_rows(study)]
    assert values == sorted(values, reverse=True)
