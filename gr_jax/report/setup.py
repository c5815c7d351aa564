"""What the page says of artefacts, machines, measuring, and the survey's checklist."""

from __future__ import annotations

import json
from typing import Any, cast

from gr_jax.core import artifacts
from gr_jax.report import checklist, contents, markup, notation

escape = markup.escape


def _artifact(artifact: contents.Artifact) -> str:
    manifest = artifact.manifest
    told = cast("dict[str, Any]", manifest.get("facts") or {})
    seeds = cast("dict[str, int]", manifest.get("seeds") or {})
    facts = [(k.replace("_", " "), escape(notation.told(v))) for k, v in told.items()]
    facts += [(f"seed, {k}", escape(v)) for k, v in seeds.items()]
    digest = artifacts.content_hash(manifest.get("files") or {})[:16]
    facts += [("files", escape(len(manifest.get("files") or {})))]
    facts += [("digest of files", f"<code>{digest}</code>")]
    facts += [("commit", f"<code>{escape(manifest.get('commit', ''))}</code>")]
    return (
        f'<div class="card"><h3>{escape(artifact.path)} '
        f"{markup.tag(str(manifest.get('kind', '')))}</h3>{markup.facts(facts)}</div>"
    )


def artefacts(study: contents.Study) -> str:
    """Artefacts with their facts, then configuration and machines."""
    records = [row.record for row in study.rows]
    run = [
        ("devices", escape("; ".join(sorted({r.device for r in records})))),
        ("commits", escape("; ".join(sorted({r.commit for r in records})))),
        ("splits", escape("; ".join(sorted({r.split for r in records})))),
        ("seeds", escape(", ".join(map(str, sorted({r.seed for r in records}))))),
    ]
    found = [a.manifest.get("versions") for a in study.artifacts]
    versions = cast("dict[str, str]", ([v for v in found if v] or [{}])[0])
    run += [(f"version of {k}", escape(v)) for k, v in versions.items()]
    config = escape(json.dumps(study.config, indent=2, ensure_ascii=False))
    cards = "".join(map(_artifact, study.artifacts))
    return (
        f'<div class="grid2"><div class="card"><h3>Runs</h3>{markup.facts(run)}</div>'
        f"{cards}</div>"
        f'<div class="card"><details><summary><h3>Configuration (study.json)</h3>'
        f'</summary><pre class="mono" style="white-space:pre-wrap">{config}</pre>'
        "</details></div>"
    )


def how_measured(study: contents.Study) -> str:
    """How each number was made: what is counted, in which order, over what."""
    record = study.rows[0].record
    queries = max((m.n for m in record.metrics.values()), default=0)
    rows = [
        ("queries", f"{queries} of split <code>{escape(record.split)}</code>; one that "
         "a run lacks scores 0, one without a relevant document is left out"),
        ("order", "by score; equal scores by document id, before any metric sees them"),
        ("Recall@k", "share of a query's relevant documents among the first k"),
        ("MRR@10, nDCG@10", "reciprocal rank of the first relevant document; linear "
         "gain, ideal over all judged documents"),
        ("CGL", "&minus;ln(S&#8315;/(S&#8315;+L&#8314;)): L&#8314; least loss of the "
         "positives, S&#8315; sum of the negatives' losses, nats a token, padding "
         f"excluded; {record.negatives} seeded negatives shared by all models. &rho; "
         "is L&#8314; over the mean negative loss; null values are drawn in grey"),
        ("contrastive entropy", "&minus;ln softmax of the positive among negatives, "
         "on summed log-probabilities, temperature 1, one term for each positive pair; "
         "calibrated: temperature from the other half of the queries"),
        ("intervals", "95%, percentiles of bootstrap resamples of queries"),
        ("paired tests", "Fisher randomisation on per-query differences, Holm's "
         "correction over the metrics of a pair"),
        ("controls", "the same retrieval with the model's probability replaced by a "
         "constant: what remains is not the model's"),
    ]  # fmt: skip
    return f'<div class="card">{markup.facts(rows)}</div>'


def form(study: contents.Study) -> str:
    """The survey's checklist, answered."""
    rows = [(question, escape(answer)) for question, answer in checklist.answers(study)]
    return f'<div class="card">{markup.facts(rows)}</div>'
