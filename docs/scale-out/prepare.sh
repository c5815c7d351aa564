#!/usr/bin/env bash
# DPR's 21 million passages, from its files to arrays to train on. `data.md` says what
# each step holds in memory. A step that is done is not done again.
set -euo pipefail

files="${FILES:?folder with psgs_w100.tsv.gz and the questions}"
work="${WORK:?folder to write, on a file system that all workers see}"
# Beam's own arguments; the local runner on every core unless told otherwise.
beam="${BEAM:---direct_running_mode=multi_processing --direct_num_workers=0}"
shards="${SHARDS:-256}"

[ -d "$work/wiki" ] || gr-jax corpus import --format dpr --out "$work/wiki" \
  --corpus "$files/psgs_w100.tsv.gz" \
  --queries train="$files/biencoder-nq-train.json.gz" \
  --queries test="$files/nq-test.qa.csv"
[ -d "$work/vocabulary" ] || gr-jax vocab --collection "$work/wiki" \
  --out "$work/vocabulary" --pieces 32000
[ -d "$work/ids" ] || gr-jax ids --collection "$work/wiki" \
  --vocabulary "$work/vocabulary" --kind title --out "$work/ids"
# Pairs while the passages stream by, then a tokenised copy of each of their files.
gr-jax cache --collection "$work/wiki" --identifiers "$work/ids" \
  --vocabulary "$work/vocabulary" --pairs "$work/pairs" --shards "$shards" \
  --cache-dir "$work/cached" --beam "$beam"
gr-jax cache --pairs "$work/pairs" --vocabulary "$work/vocabulary" \
  --cache-dir "$work/cached" --source-length 64 --export "$work/examples"
